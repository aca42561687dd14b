"""40 nights in a row, unattended, through the real DAG: each night's verdict and the trend of nDCG@5.

The simulated world has weekends, an event day, a day without events, a day whose feedback is lost and a day with
one broken message in twenty; the operator rolls back once and unpins three nights later. After every night the
promises are checked: `latest` loads and scores as recorded, every record is accounted for, what was kept or
published is what the gate said, a bad day is kept, a pinned `latest` stays, and the followers of the Asset
`ltr_weights` are told when `latest` moved and only then. Exits 1 when one is broken.

    python benchmarks/soak.py [--nights 40] [--folder DIR]
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import sys
import tempfile
from pathlib import Path

from rich.console import Console

DAY = dt.timedelta(days=1)
FIRST_NIGHT = dt.date(2026, 3, 2)  # a Monday
HISTORY_DAYS = 29
SILENT, NO_FEEDBACK, MALFORMED = 9, 15, 22  # nights after the first whose day before is bad
ROLLBACK, UNPIN = 27, 30


def main() -> None:
    """Parse the command line, run all nights, say what was broken."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nights", type=int, default=40)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="ltr-soak-"))
    _configure(folder)
    sys.exit(_soak(folder, arguments.nights))


def _configure(folder: Path) -> None:
    """An Airflow, a log and a registry of its own, set before anything of them is imported."""
    os.environ |= {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parents[1] / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "LTR_EVENTS_PATH": str(folder / "audit.log"),
        "LTR_DATA_URI": str(folder / "data"),
        "LTR_REGISTRY_URI": str(folder / "registry"),
        "LTR_LOG_FOLDER": str(folder),
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def _soak(folder: Path, nights: int) -> int:
    from airflow.utils.db import initdb

    from ltr_pipeline.airflow.once import run_once
    from ltr_pipeline.settings import load_settings
    from ltr_pipeline.simulate.log import write_log
    from ltr_pipeline.simulate.world import World

    console = Console(file=sys.__stdout__, width=150, highlight=False)
    initdb()
    settings = load_settings()
    registry = settings.registry
    bad = {SILENT: "silent", NO_FEEDBACK: "no_feedback", MALFORMED: "malformed"}
    world = World(
        legacy_weights=settings.mapping.legacy_weights,
        outages={FIRST_NIGHT + (night - 1) * DAY: outage for night, outage in bad.items()},
    )
    log = Path(settings.events_path)
    write_log(log, world, FIRST_NIGHT - HISTORY_DAYS * DAY, HISTORY_DAYS)
    broken, scores = 0, []
    for night in range(nights):
        date = FIRST_NIGHT + night * DAY
        if night:
            write_log(log, world, date - DAY, 1, append=True)
        if night == ROLLBACK:
            registry.rollback(who="soak", why="drill")
        if night == UNPIN:
            registry.unpin(who="soak", why="drill over")
        history, told = registry.history(), _asset_events()
        green = run_once("train_ltr_daily", {"date": date.isoformat()})
        problems = [] if green else ["the run is red"]
        note = bad.get(night, "event day" if world.is_event_day(date - DAY) else "")
        line, score = _told(settings, registry, date, history, problems, bad=night in bad)
        moved = [("ltr_weights", move.to) for move in registry.history()[len(history) :] if move.moved]
        if _asset_events()[len(told) :] != moved:
            problems.append("the followers of the Asset were not told what moved")
        scores.append(score)
        broken += len(problems)
        console.print(f"{date} {date:%a}  {line}  {note}", *problems, markup=False)
    console.print(_trend(scores), markup=False)
    console.print(f"{broken} broken promises in {nights} nights; everything is in {folder}", markup=False)
    return 1 if broken else 0


def _asset_events() -> list[tuple[str, str]]:
    """Asset and version of everything the followers were told."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    told = select(AssetModel.name, AssetEvent.extra).join(AssetModel, AssetModel.id == AssetEvent.asset_id)
    with create_session() as session:
        return [(name, extra["version"]) for name, extra in session.execute(told.order_by(AssetEvent.id))]


def _told(settings, registry, date, history, problems, *, bad):  # noqa: ANN001, ANN202 - types would import before _configure
    """One line of a night, its nDCG@5, and what is broken, added to `problems`."""
    from ltr_pipeline.events.manifest import read_manifest
    from ltr_pipeline.report.artefacts import DATASET, DECISION, EVIDENCE, OUTCOME
    from ltr_pipeline.runs.run import Run
    from ltr_pipeline.schedule import night_of

    run = Run(f"{date:%Y%m%d}_0215", settings)
    decision, evidence, outcome, dataset = (run.read(each) for each in (DECISION, EVIDENCE, OUTCOME, DATASET))
    landed, latest, pinned = read_manifest(settings.data, night_of(date)), registry.promoted(), registry.ledger.head()
    if landed.read != landed.impressions + landed.feedback + landed.quarantined + landed.ignored:
        problems.append("landing does not add up")
    for account in (dataset.impressions, dataset.feedback):
        if account.landed != account.used + account.duplicates + sum(account.dropped.values()):
            problems.append("the dataset does not add up")
    if (decision.verdict == "publish") != (outcome.version is not None):
        problems.append("the outcome is not the gate's")
    if bad and decision.verdict != "keep":
        problems.append("a bad day was not kept")
    before, was_pinned = (history[-1].to, history[-1].pin) if history else (None, False)
    if latest != before and (decision.verdict == "keep" or was_pinned):
        problems.append("latest moved although the model was rejected or latest was pinned")
    if latest:
        registry.load(latest)
        if settings.registry.storage.get("latest/ltr_weights.json") != settings.registry.storage.get(
            f"{latest}/ltr_weights.json"
        ):
            problems.append("latest is not the promoted document")
    score = evidence.metrics.ndcg_at_5.value
    why = decision.reasons[0] if decision.reasons else outcome.reason if not outcome.moved else ""
    pin = " pinned" if pinned and pinned.pin else ""
    return (
        f"{landed.impressions:6,} shown  nDCG@5 {score:.3f}  {decision.verdict:7}  latest {latest}{pin}  {why}",
        score,
    )


def _trend(scores: list[float]) -> str:
    blocks, low, high = "▁▂▃▄▅▆▇█", min(scores), max(scores)
    steps = [int((score - low) / (high - low or 1) * (len(blocks) - 1)) for score in scores]
    return f"nDCG@5 {low:.3f} {''.join(blocks[step] for step in steps)} {high:.3f}"


if __name__ == "__main__":
    main()
