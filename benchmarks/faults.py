"""Nights on a real broker and a real S3 server, disturbed at every task, and whether they end like undisturbed ones.

    python benchmarks/faults.py [--kills 100] [--rounds 5] [--seed 7] [--errors]

Every task is a process of its own that shares nothing with the others but the servers. It is killed, its connections
are cut, delayed or silent, the servers are stopped and started in mid-transfer, S3 answers 500 and 503, the disk is
full, events come twice and in any order. Then the task is tried again, as Airflow does. After each fault: every record
is accounted for, ``latest`` is whole, the artefacts are those of an undisturbed night, byte for byte but for
measurements; after each night: every version verifies, and the ledger has one move of the run. Prints a table, and all
that was broken; exits 1 then.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(1, str(Path(__file__).parents[1]))
os.environ |= {"AIRFLOW_HOME": tempfile.mkdtemp(prefix="ltr-faults-"), "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"}

from deploy.native.kafka import KafkaServer
from deploy.native.minio import S3Server
from support import webhook
from support.disturbances import KILLED, ON_SERVERS, Tally, arriving, disturb, redelivered, small_disk
from support.disturbed import Site


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5, help="times that each other fault happens")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--errors", action="store_true", help="print what the tasks said, too")
    chosen = parser.parse_args()
    begin = perf_counter()
    with tempfile.TemporaryDirectory(prefix="ltr-faults-") as folder, webhook.running(webhook.Server()) as hook:
        kafka, s3 = KafkaServer(Path(folder) / "kafka"), S3Server(Path(folder) / "s3")
        try:
            kafka.start()
            s3.start()
            s3.make_bucket()
            site = Site(kafka, s3, Path(folder), f"json://127.0.0.1:{hook.port}")
            tallies = _disturbed(site, Path(folder), chosen)
            site.close()
        finally:
            kafka.stop()
            s3.stop()
    print("| fault | times | the task did not fail | retried | promises broken |\n|---|---|---|---|---|")
    for tally in tallies:
        print(f"| {tally.fault} | {tally.injected} | {tally.unnoticed} | {tally.retried} | {len(tally.broken)} |")
    killed = (
        f"{task} {times}" for tally in tallies if tally.fault == KILLED.name for task, times in tally.tasks.items()
    )
    print(f"\nkilled: {', '.join(sorted(killed))}\nseed {chosen.seed}, {perf_counter() - begin:.0f} s")
    broken = [f"{tally.fault}: {what}" for tally in tallies for what in tally.broken]
    print(*(broken or ["no promise was broken"]), sep="\n")
    if chosen.errors:
        print(*(f"{tally.fault}: {error}" for tally in tallies for error in tally.errors), sep="\n")
    sys.exit(1 if broken else 0)


def _disturbed(site: Site, folder: Path, chosen: argparse.Namespace) -> list[Tally]:
    chance = random.Random(chosen.seed)
    tallies = disturb(site, [KILLED] * chosen.kills, chance)
    tallies += disturb(site, [fault for fault in ON_SERVERS for _ in range(chosen.rounds)], chance)
    disk = folder / "disk"
    disk.mkdir()
    with small_disk(disk) as full:
        tallies += disturb(site, [full] * chosen.rounds, chance, disk)
    return [*tallies, redelivered(site, chance), arriving(site, chance)]


if __name__ == "__main__":
    main()
