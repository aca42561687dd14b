"""How long an hourly refresh takes beside a nightly model of a million rows, step by step.

    python benchmarks/hourly_time.py [--impressions 1000000] [--trees 100]

A month of events lands, a night trains, is judged and published, whatever its gate finds but a failure. Then a day of
events lands, and the refresh is made of those of its 24 hours: built, refitted, compared with its parent by
cross-fitting, measured on the night's test days, judged and written down. Nothing of the night is in memory.

Each step is timed by the clock and, in brackets, of a processor. Exits with 1 when the latter is more than 10 s in all,
landing included: on a busy machine the clock says more.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import structlog

from ltr_pipeline.dataset.build import build_fresh
from ltr_pipeline.dataset.load import IDS, load_part, thinned
from ltr_pipeline.dataset.windows import since_test
from ltr_pipeline.events.chain import arrived
from ltr_pipeline.events.manifest import Landed, account_of
from ltr_pipeline.gate import refresh
from ltr_pipeline.gate.decision import decide
from ltr_pipeline.gate.document import weights_document
from ltr_pipeline.gate.measure import TRAINED_ON, HeldOut
from ltr_pipeline.gate.policy import Policy
from ltr_pipeline.gate.rivals import Rivals, load_rival
from ltr_pipeline.jobs.chain import CHAIN, finish
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.ranker.refresh import MOST_ROWS, refit, refreshed
from ltr_pipeline.report.artefacts import DATASET, EVIDENCE, TABLES
from ltr_pipeline.runs import extract
from ltr_pipeline.runs.run import Run
from ltr_pipeline.schedule import night_of
from ltr_pipeline.scoring.scorer import Scorer
from ltr_pipeline.settings import Settings, load_settings
from ltr_pipeline.simulate.log import write_log
from ltr_pipeline.simulate.world import World
from ltr_pipeline.versions import weights

NIGHT = dt.date(2026, 9, 30)
DAY = dt.timedelta(days=1)
MOMENT = dt.datetime.combine(NIGHT, dt.time(23, 35), dt.UTC)
WINDOW_DAYS = 28
LISTED = 11.3  # impressions of a list
MOST_SECONDS = 10
LENIENT = {"ltr_on_inconclusive": "publish", "ltr_fairness_max": "0.3"}


class Clock:
    """Prints how long each step takes, by the clock and of a processor, and adds up."""

    total = busy = 0.0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        started, worked = time.perf_counter(), time.process_time()
        yield
        seconds, work = time.perf_counter() - started, time.process_time() - worked
        self.total += seconds
        self.busy += work
        print(f"  {name:28} {seconds:6.2f} s ({work:.2f} s)", flush=True)


def night(folder: Path, impressions: int, trees: int) -> tuple[Settings, str]:
    """Publish a nightly version, and let another day arrive."""
    settings = load_settings(
        events_path=str(folder / "audit.log"),
        data_uri=str(folder / "data"),
        registry_uri=str(folder / "registry"),
        window_days=WINDOW_DAYS,
        parameters={"num_iterations": trees, "early_stopping_round": 0},
    )
    first = NIGHT - WINDOW_DAYS * DAY
    lists = round(impressions / WINDOW_DAYS / LISTED)
    world = World(legacy_weights=load_mapping().legacy_weights, rankings_per_day=lists, start=first)
    for last, days in ((NIGHT - 5 * DAY, WINDOW_DAYS - 5), *((NIGHT - back * DAY, 1) for back in (4, 3, 2, 1))):
        write_log(Path(settings.events_path), world, last - days * DAY, days, append=True)
        extract.land(settings, night_of(last), night_of(first) - DAY, last_try=True)
    write_log(Path(settings.events_path), world, NIGHT - DAY, 1, append=True)
    handed = {"moment": f"{NIGHT}T02:15:00+00:00"}
    for task in CHAIN.values():
        handed = task(handed, LENIENT, settings)
    finish(handed, "benchmark", settings)
    write_log(Path(settings.events_path), world, NIGHT, 1, append=True)
    return settings, settings.registry.promoted() or ""


def make(settings: Settings, version: str, clock: Clock) -> None:
    """Make a refresh as an hourly run does."""
    run, keys, mapping = Run(f"{NIGHT:%Y%m%d}_0215", settings), settings.trusted_keys, settings.mapping
    with clock.step("land"):
        extract.land(settings, MOMENT, MOMENT - WINDOW_DAYS * DAY, last_try=True)
    with clock.step("build fresh rankings"):
        manifest = run.read(DATASET)
        windows = since_test(manifest.windows, manifest.test.end, MOMENT)
        lately = list(arrived(settings.data, MOMENT - DAY, MOMENT, keys))
        partitions = arrived(settings.data, windows.start - DAY, MOMENT, keys)
        fresh = build_fresh(settings.data, "refreshes/r/dataset", partitions, lately, mapping, windows)
    with clock.step("load"):
        data = thinned(load_part(settings.data, "refreshes/r/dataset", fresh, "train"), MOST_ROWS)
        valid, test, learned = (
            load_part(settings.data, run.key(TABLES), manifest, part, ids)
            for part, ids in (("valid", ()), ("test", IDS), ("train", TRAINED_ON))
        )
        parent = load_rival(settings.registry, version)
        document = settings.registry.documents.stored(version).weights
    with clock.step("refit"):
        again = partial(refit, document.model.text)
        parameters, positive = document.lineage["parameters"], mapping.least_positive
        text, trained = refreshed(document.model.text, data, valid, parameters=parameters, positive=positive)
    with clock.step("compare by cross-fitting"):
        beside = refresh.refreshed(version, parent.scorer, data, again, mode="refit", positive=positive, debiased=False)
    with clock.step("measure on the test days"):
        days = HeldOut(test, manifest, learned.ids, seed=settings.seed, group_share_min=settings.group_share_min)
        contest = refresh.contest(days, Scorer.from_model(text, manifest.features), Rivals(champion=parent))
        audit = refresh.audited(run.read(EVIDENCE).audit, trained.importance, parent.importance)
        landed = Landed.of(account_of(settings.data, lately))
        found = refresh.gather(contest, landed, trained, fresh, beside, audit)
    with clock.step("judge and write down"):
        decision = decide(found, Policy().unasked())
        made = weights_document(
            f"{MOMENT:%Y%m%d_%H%M}",
            text,
            mapping=mapping,
            manifest=manifest,
            test=test,
            trained=trained,
            found=found,
            decision=decision,
            seed=settings.seed,
            fresh=fresh,
        )
        weights.encode(made)
    print(
        f"  {manifest.train.rows:,} rows trained the parent; {len(contest.data.relevance):,} of {manifest.test.rows:,} "
        f"judge, {len(data.relevance):,} of {fresh.train.rows:,} are learned from; {trained.trees} trees; "
        f"verdict: {decision.verdict} {decision.reasons}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--impressions", type=int, default=1_000_000, help="of the night's window")
    parser.add_argument("--trees", type=int, default=100)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("warning"))
    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="ltr-hourly-") as folder:
        settings, version = night(Path(folder), options.impressions, options.trees)
        make(settings, version, clock)
    print(f"  {'all':28} {clock.total:6.2f} s ({clock.busy:.2f} s)")
    return int(clock.busy > MOST_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
