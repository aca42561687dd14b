"""How far the probabilities that scores are calibrated to are off, in simulated worlds.

    python benchmarks/calibration.py --seeds 4

Trains and judges as a night does, on 28 simulated days for each seed and each of some later days, and measures the
expected calibration error on the test days. Prints it for every night, with the number of knots, the mean probability
and the share of positives; the last line has the largest error. `--most` makes a larger one a failure.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import structlog

from ltr_pipeline.jobs.chain import CHAIN
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.report.artefacts import EVIDENCE, TRAINED
from ltr_pipeline.runs.run import Run
from ltr_pipeline.settings import load_settings
from ltr_pipeline.simulate.log import write_log
from ltr_pipeline.simulate.world import World

FIRST, DAYS = dt.date(2025, 6, 2), 28
STEPS = ("extract_events", "build_dataset", "train_ranker", "evaluate_ranker")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--nights", type=int, default=3, help="of each seed, three days apart")
    parser.add_argument("--rankings", type=int, default=480, help="lists a day")
    parser.add_argument("--most", type=float, default=1.0, help="error above which the program fails")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("warning"))
    started, errors = time.monotonic(), []
    print("| seed | night | knots | stated | observed | error |")
    print("|---|---|---|---|---|---|")
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            for night in range(options.nights):
                errors.append(measured(Path(folder), seed, night, options.rankings))
                print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)
    print(f"mean {np.mean(errors):.4f}, largest {max(errors):.4f} of {len(errors)} nights")
    return int(max(errors) > options.most)


def measured(folder: Path, seed: int, night: int, rankings: int) -> float:
    """Run the night up to its evidence, print its row, and return its error."""
    world = World(legacy_weights=load_mapping().legacy_weights, seed=seed, rankings_per_day=rankings)
    first, days = (FIRST, DAYS) if night == 0 else (FIRST + dt.timedelta(DAYS + 3 * (night - 1)), 3)
    write_log(folder / "audit.log", world, first, days, append=True)
    settings = load_settings(
        events_path=str(folder / "audit.log"), data_uri=str(folder / "data"), registry_uri=str(folder / "registry")
    )
    moment = dt.datetime.combine(first + dt.timedelta(days), dt.time(2, 15), dt.UTC)
    handed = {"moment": moment.isoformat()}
    for step in STEPS:
        handed = CHAIN[step](handed, {}, settings)
    run = Run(f"{moment:%Y%m%d_%H%M}", settings)
    found, knots = run.read(EVIDENCE).reliability, run.read(TRAINED).calibration
    assert found is not None
    assert knots is not None
    assert found.error is not None
    stated = sum(each.stated * each.rows for each in found.bins) / found.rows
    observed = found.relevant / found.rows
    print(f"| {seed} | {night + 1} | {len(knots.x)} | {stated:.4f} | {observed:.4f} | {found.error:.4f} |", flush=True)
    return found.error


if __name__ == "__main__":
    sys.exit(main())
