"""The loop, shown: users, service, nightly run, reload, users again; and what it gains, by the simulator's truth."""

from __future__ import annotations

import datetime as dt
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ltr_pipeline.cli.console import console, print_table
from ltr_pipeline.cli.nightly import run_dag
from ltr_pipeline.cli.progress import Steps
from ltr_pipeline.gate.figures import signed
from ltr_pipeline.jobs import chain
from ltr_pipeline.local.standalone import airflow_home
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.metrics.quality import hit, ndcg
from ltr_pipeline.metrics.rankings import Rankings
from ltr_pipeline.report.artefacts import DATASET, OUTCOME
from ltr_pipeline.runs.names import run_name
from ltr_pipeline.runs.run import Run
from ltr_pipeline.schedule import newest_night, night_of
from ltr_pipeline.simulate import draw
from ltr_pipeline.simulate.debiasing import WAYS, by_utility
from ltr_pipeline.simulate.draw import Visits
from ltr_pipeline.simulate.stage import Stage
from ltr_pipeline.simulate.world import World

__all__ = ["demo"]

FIRST_DAYS, NEXT_DAYS = 21, 7
"""Of visits before the first night, and before the second."""

VARIABLES: Final = {"ltr_on_inconclusive": "publish", "ltr_fairness_max": "0.1", "ltr_regression_max": "0.05"}
"""The gate is more lenient than by default: a night of so few lists is often inconclusive, and then nothing moves."""

EXPLORED: Final = 0.3
"""Share of the lists that are explored in the worlds that compare ways of debiasing."""

METRICS: Final = ("Hit@3", "nDCG@5")
STEPS: Final = ("legacy weights", "first model", "second model", "after rollback")

STAGES: Final = {
    "legacy weights": "start the service and measure the legacy weights",
    "first visits": f"{FIRST_DAYS} days of visits",
    "first night": "the first night",
    "first model": "reload and measure the first model",
    "second visits": f"{NEXT_DAYS} days of visits",
    "second night": "the second night",
    "second model": "reload and measure the second model",
    "rollback": "roll back and measure again",
}
"""Steps of each world, in this order."""


class Quality(NamedTuple):
    """Means over the panel's eligible lists."""

    hit: float
    ndcg: float


class Shown(NamedTuple):
    """The figures of one seed: version and quality of each step, and where the service's events went."""

    versions: list[str]
    quality: list[Quality]
    account: str


def demo(seeds: int, visits: int, panel: int, dags: int, folder: Path | None) -> None:
    """Show the loop in as many worlds as there are `seeds`; the nights of the first `dags` run in Airflow."""
    root = folder or Path(tempfile.mkdtemp(prefix="ltr-demo-"))
    console.print(_preface(seeds, visits, panel, dags, root), markup=False)
    found = []
    for seed in range(seeds):
        with Steps([(name,) for name in STAGES], STAGES, about=f"seed {seed}, ") as steps:
            shown = _one(root / f"seed-{seed}", seed, visits, panel, steps, in_airflow=seed < dags)
        found.append(shown)
        told = ", ".join(
            f"{version} {quality.ndcg:.3f}" for version, quality in zip(shown.versions, shown.quality, strict=True)
        )
        console.print(f"seed {seed}: nDCG@5 {told}\n        {shown.account}", markup=False)
    _print_means(found)
    _print_differences(found)
    _print_debiasing(seeds, visits * (FIRST_DAYS + NEXT_DAYS), 5 * panel)


def _preface(seeds: int, visits: int, panel: int, dags: int, root: Path) -> str:
    variables = ", ".join("=".join(pair) for pair in VARIABLES.items())
    return (
        f"{seeds} simulated worlds. In each, clients use the real service over HTTP: {visits} lists a day for "
        f"{FIRST_DAYS} days under\nthe legacy weights, then a nightly run trains on what the service logged; the "
        f"service reloads by itself; {NEXT_DAYS} more\ndays under the first model, another night, and in the end a "
        f"rollback. After each step a panel of {panel:,} further\nlists, the same at every step, asks the service as a "
        "test, which trains nothing. Its quality is by the truth: what the\nclients would do if they looked at every "
        "lawyer.\n"
        "The days pass quickly: events are logged with the present time, and the demonstration moves each to its\n"
        "simulated day before a night reads them. Nothing else of them is changed.\n"
        f"So few lists are often inconclusive; the gate's Variables are {variables}.\n"
        f"The nights of the first {dags} run as the DAG in Airflow, the others call the same tasks in this process.\n"
        f"Everything is kept in {root}\n"
    )


def _one(folder: Path, seed: int, visits: int, panel: int, steps: Steps, *, in_airflow: bool) -> Shown:
    night = newest_night(dt.datetime.now(dt.UTC))
    first = night - dt.timedelta(days=FIRST_DAYS + NEXT_DAYS)
    world = World(legacy_weights=load_mapping().legacy_weights, seed=seed)
    judged = draw.visits(world, panel, world.rng(2000), day=night)
    steps.begin("legacy weights")
    with Stage(folder, world, first) as stage:
        measured = [("legacy", _measured(stage, judged))]
        for days, name in ((FIRST_DAYS, "first"), (NEXT_DAYS, "second")):
            steps.begin(f"{name} visits")
            stage.pass_days(days, visits)
            stage.turn()
            steps.begin(f"{name} night")
            version = _night(stage, in_airflow=in_airflow)
            steps.end(chain.rows_of(_last_run(stage), "build_dataset"))
            steps.begin(f"{name} model")
            stage.await_version(version)
            measured.append((version, _measured(stage, judged)))
        account = _account(stage)
        steps.begin("rollback")
        if len(stage.settings.registry.versions()) > 1:
            stage.settings.registry.rollback(who="demo", why="to show it")
        version = stage.settings.registry.promoted() or "legacy"
        stage.await_version(version)
        measured.append((version, _measured(stage, judged)))
    versions, quality = zip(*measured, strict=True)
    return Shown(list(versions), list(quality), account)


def _measured(stage: Stage, judged: Visits) -> Quality:
    rankings = Rankings(judged.relevance, -stage.panel(judged), judged.group)
    return Quality(hit=float(np.nanmean(hit(rankings))), ndcg=float(np.nanmean(ndcg(rankings))))


def _night(stage: Stage, *, in_airflow: bool) -> str:
    """Run the night of the stage's day; the version that is promoted after it."""
    if in_airflow:
        variables = {f"AIRFLOW_VAR_{name.upper()}": value for name, value in VARIABLES.items()}
        run_dag(stage.day, airflow_home() / "demo.log", stage.environment | variables, stage.folder)
    else:
        _run_tasks(stage)
    return stage.settings.registry.promoted() or "legacy"


def _run_tasks(stage: Stage) -> None:
    judged = chain.judge({"moment": night_of(stage.day).isoformat()}, VARIABLES, stage.settings)
    chain.finish(judged, "demo", stage.settings)


def _last_run(stage: Stage) -> Run:
    return Run(run_name(night_of(stage.day)), stage.settings)


def _account(stage: Stage) -> str:
    """Return where the service's events went, as of the last night."""
    run = _last_run(stage)
    manifest, outcome = run.read(DATASET), run.read(OUTCOME)
    shown, did = manifest.impressions, manifest.feedback
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in shown.dropped.items())
    return (
        f"the service logged {stage.counts['impressions']:,} lists and {stage.counts['feedback']:,} answers; by the "
        f"second night {shown.landed:,} impressions landed, {shown.used:,} used ({dropped}); {did.landed:,} answers "
        f"landed, {did.used:,} used; {outcome.reason}"
    )


def _print_means(found: list[Shown]) -> None:
    console.print(f"\nMeans over {len(found)} seeds, by the truth:")
    rows = []
    for step, name in enumerate(STEPS):
        values = np.array([shown.quality[step] for shown in found])
        rows.append((name, *(f"{value:.4f}" for value in values.mean(axis=0))))
    print_table(("", *METRICS), rows)


def _print_differences(found: list[Shown]) -> None:
    console.print("\nPaired differences, with their 95 % intervals over seeds (t):")
    values = np.array([shown.quality for shown in found])  # (seeds, steps, metrics)
    pairs = [(1, 0), (2, 1), (2, 0), (3, 2), (3, 1), (3, 0)]
    rows = [
        (
            f"{STEPS[new]} - {STEPS[old]}",
            *(_interval(values[:, new, metric] - values[:, old, metric]) for metric in (0, 1)),
        )
        for new, old in pairs
    ]
    print_table(("", *METRICS), rows)


def _print_debiasing(seeds: int, lists: int, judged: int) -> None:
    """Compare the ways of LTR_DEBIAS in worlds that explore, without the service."""
    console.print(
        f"\nThe ways of LTR_DEBIAS: in {seeds} worlds, coins swap neighbours in {EXPLORED:.0%} of {lists:,} lists, on\n"
        "which a model is trained in each way. The gain in nDCG@5 on false, by the truth of\n"
        f"{judged:,} other lists, seed by seed, and its mean with the 95 % interval (t):",
        markup=False,
    )
    found = []
    for seed in range(seeds):
        world = World(legacy_weights=load_mapping().legacy_weights, seed=seed, explored_share=EXPLORED)
        with console.status(f"seed {seed}: training in {len(WAYS)} ways"):
            found.append(by_utility(world, seed, lists, judged))
    rows = []
    for way in WAYS[1:]:
        gains = np.array([each[way] - each[False] for each in found])
        rows.append((str(way).lower(), ", ".join(signed(gain, 3) for gain in gains), _interval(gains)))
    print_table(("LTR_DEBIAS", "by seed", "mean"), rows)


def _interval(differences: NDArray[np.float64]) -> str:
    mean, count = differences.mean(), len(differences)
    half = stats.t.ppf(0.975, count - 1) * differences.std(ddof=1) / np.sqrt(count)
    return f"{signed(mean, 4)} ({signed(mean - half, 4)} to {signed(mean + half, 4)})"
