"""Run a night, refresh its model, try a log, simulate one, publish what a night has judged."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import polars as pl
import typer

from ltr_pipeline.cli.console import console, print_error, print_line
from ltr_pipeline.cli.events import day as day_of
from ltr_pipeline.cli.progress import Steps
from ltr_pipeline.cli.results import print_findings, print_gate, print_growth, print_manifest
from ltr_pipeline.cli.settings import load_settings
from ltr_pipeline.errors import LtrError, SettingsError
from ltr_pipeline.events.landing import land
from ltr_pipeline.events.manifest import Manifest, read_manifest
from ltr_pipeline.events.partitions import landed_at, newest
from ltr_pipeline.events.source import Source
from ltr_pipeline.events.sources.files import FileSource
from ltr_pipeline.gate.policy import VARIABLES
from ltr_pipeline.jobs import approval, chain, hourly, nightly
from ltr_pipeline.local.foreground import follow
from ltr_pipeline.local.lock import held
from ltr_pipeline.local.standalone import airflow_home
from ltr_pipeline.names import did_you_mean
from ltr_pipeline.registry import me
from ltr_pipeline.report import diagnosis
from ltr_pipeline.report.artefacts import DATASET, DECISION, INPUTS, OUTCOME, REPORT
from ltr_pipeline.report.champion import alarm
from ltr_pipeline.report.outcome import write_outcome
from ltr_pipeline.report.text import joined
from ltr_pipeline.runs.names import REFRESHES, run_name
from ltr_pipeline.runs.run import Json, Outcome, Run, judged
from ltr_pipeline.schedule import newest_night, night_of
from ltr_pipeline.schema import TIME
from ltr_pipeline.settings import Settings
from ltr_pipeline.simulate import growing
from ltr_pipeline.storage.uri import open_storage
from ltr_pipeline.versions.latest import LATEST

__all__ = ["approve", "passes", "publish", "refresh", "run", "run_dag", "simulate", "try_log"]

DAG = "train_ltr_daily"
REFUSED = 2  # exit code of a run that was not begun; why stands in its last line
INTERRUPTED = 130  # what a shell says of a program that was stopped by Ctrl-C
LAST = dt.datetime(9999, 1, 1, tzinfo=dt.UTC)  # later than any event, and with days after it to count from


def run(date: str | None, *, retrain: bool = False) -> None:
    """Run the DAG train_ltr_daily once: for the next unprocessed day, or again for the given one."""
    settings = load_settings()
    home = airflow_home()
    with held(home / "run.lock", "another run at hand"):
        day = day_of(date) if date else _next_day(settings)
        nightly.check_date(day, settings)
        with console.status("simulating"):
            print_growth(growing.up_to(settings, day))
        log = home / f"{DAG}.log"
        print_line(f"Running {DAG} for {day} (log: {log})")
        night = Run(run_name(night_of(day)), settings)
        with Steps([("airflow",), *chain.PLACES], _TITLES, partial(chain.rows_of, night)) as steps:
            steps.begin("airflow")
            run_dag(day, log, retrain=retrain, begun=steps.begin)
    console.print()
    _print_run(night)
    console.print("\nGo on: `make run` for the next day, `make up` for Airflow's UI, `ltr versions`, `ltr history`.")


def _next_day(settings: Settings) -> dt.date:
    """Return the day after the last landed one; of a real log the newest night, as a run reads all that arrived."""
    night, landed = newest_night(dt.datetime.now(dt.UTC)), newest(settings.data)
    if settings.simulated:
        return landed.date + dt.timedelta(days=1) if landed else night - dt.timedelta(days=1)
    if landed and landed.moment >= night_of(night + dt.timedelta(days=1)):
        night = landed.date  # somebody has run a night that is to come
    elif not _is_processed(night, settings):
        return night
    raise SettingsError(f"{night} is processed and the next night has not come; `make run DATE={night}` repeats it")


def _is_processed(night: dt.date, settings: Settings) -> bool:
    """Tell whether a night has landed its events, or what landed after it was due has been frozen for it."""
    moment = night_of(night)
    return (
        landed_at(settings.data, moment) is not None
        or Run(run_name(moment), settings).read_if_there(INPUTS) is not None
    )


_TITLES: Final = {"airflow": "start Airflow", "read": "find the newest event"} | chain.TITLES


def run_dag(
    day: dt.date,
    log: Path,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    *,
    retrain: bool = False,
    begun: Callable[[str], object] = lambda _: None,
) -> None:
    """Run the DAG in a process of its own.

    Parameters
    ----------
    log
        File that gets what the process prints.
    environment, folder
        Of the process; by default this one's.
    retrain
        Train, whether it is due or not.
    begun
        Is told the name of each task that begins.

    Raises
    ------
    LtrError
        The run failed.
    """
    command = [sys.executable, "-m", "ltr_pipeline.airflow.once", DAG]
    failed = last = ""
    with log.open("w", buffering=1) as file:

        def read(line: str) -> None:
            nonlocal failed, last
            file.write(line)
            last = line.strip() or last
            if started := re.search(r"\[DAG TEST\] starting task_id=(\w+)", line):
                begun(started[1])
            if error := re.search(r"task failed.*?error=(?:'(.*?)'|\"(.*?)\")", line):
                failed = error[1] or error[2]

        params = json.dumps({"date": day.isoformat()} | ({"retrain": True} if retrain else {}))
        ended = follow([*command, params, str(os.getpid())], read, environment, folder)
        if ended.code < 0:  # it was killed, and could not tell Airflow itself
            follow(command, read, environment, folder)
    again = f"is marked as failed; `ltr run --date {day}` repeats it"
    if ended.code and ended.asked:
        print_error(f"The run was stopped and {again}.")
        raise typer.Exit(INTERRUPTED)
    if ended.code < 0:
        raise LtrError(f"the run was killed by {signal.Signals(-ended.code).name} and {again}; log: {log}")
    if ended.code == REFUSED:
        raise LtrError(last)
    if ended.code:
        raise LtrError(f"the run failed: {failed or 'see its log'}; the former model stays; log: {log}")


def _print_run(night: Run) -> None:
    decision, outcome, inputs = night.read(DECISION), night.read(OUTCOME), night.read(INPUTS)
    landed = inputs.landed
    if landed and landed.fallback:
        print_line(f"Events were read from files: {landed.fallback}")
        console.print()
    registry = night.settings.registry
    latest = registry.promoted()
    print_gate(decision)
    if unfair := alarm(decision, latest, outcome.version):
        print_line(f"\n{unfair}")
    _print_events(night)
    console.print()
    print_line(f"Run {night.name}: {outcome.reason}")
    if inputs.trains:
        print_line(f"trained: {inputs.because}")
    if latest:
        print_line(f"latest:  {latest}  {registry.storage.uri(LATEST)}")
    print_line(f"report:  {night.uri(REPORT)}")


def _print_events(night: Run) -> None:
    console.print(f"\n{joined(night.read(DATASET))}")
    print_findings(diagnosis.of_run(night))


def refresh(pairs: Sequence[str], *, dry_run: bool) -> None:
    """Refresh the nightly model once, as the DAG train_ltr_hourly does, without Airflow, and print how that ended."""
    settings, moment = load_settings(), dt.datetime.now(dt.UTC)
    request = {"moment": moment.isoformat(), "by_hand": True, "dry_run": dry_run}
    outcome = hourly.refresh(request, _variables(pairs), me(), settings)
    if outcome["report"]:
        print_gate(Run(outcome["run"], settings, REFRESHES).read(DECISION))
        console.print()
    print_line(f"Refresh {outcome['run']}: {outcome['reason']}")
    if outcome["report"]:
        print_line(f"report:  {outcome['report']}")


def _variables(pairs: Sequence[str]) -> dict[str, str]:
    """Return the gate's Variables: those of the environment, as Airflow reads them, and over them the pairs."""
    found = {each.name: os.environ.get(f"AIRFLOW_VAR_{each.name.upper()}") for each in VARIABLES}
    return {name: value for name, value in found.items() if value is not None} | _pairs(pairs)


def _pairs(pairs: Sequence[str]) -> dict[str, str]:
    variables = dict(_pair(text) for text in pairs)
    known = [variable.name for variable in VARIABLES]
    if unknown := sorted(set(variables) - set(known)):
        raise SettingsError(
            f"--variable {unknown[0]}: no such Variable{did_you_mean(unknown[0], known) or '.'} "
            f"There are {', '.join(known)}"
        )
    return variables


def try_log(log: Path, mapping: Path | None, pairs: Sequence[str], folder: Path | None) -> None:
    """Print whether a log would pass the gate with the Variables in `pairs`; exit with 1 if it would not."""
    if not passes(log, mapping, pairs, folder):
        raise typer.Exit(1)


def passes(log: Path, mapping: Path | None, pairs: Sequence[str] = (), folder: Path | None = None) -> bool:
    """Print whether a log would pass the gate, read by a mapping file or by LTR_MAPPING, and return it."""
    variables = _pairs(pairs)
    if folder and folder.exists() and any(folder.iterdir()):
        raise SettingsError(f"--folder {folder} is not empty; name a new one")
    scratch = folder or Path(tempfile.mkdtemp(prefix="ltr-try-"))
    settings = load_settings(
        events_path=str(log),
        data_uri=str(scratch / "data"),
        registry_uri=str(scratch / "registry"),
        s3_bucket=None,
        notify_urls=(),
        **({"mapping_path": mapping} if mapping else {}),
    )
    night = _tried_run(settings, variables)
    decision = night.read(DECISION)
    print_gate(decision)
    _print_events(night)
    console.print()
    print_line(f"report:  {night.uri(REPORT)}")
    return decision.verdict == "publish"


def _tried_run(settings: Settings, variables: dict[str, str]) -> Run:
    """Run every task but publishing, as of the day after the newest event, and print where the records went."""
    source = FileSource(settings.events_path, closed=True)
    with Steps([("read",), *((task,) for task in chain.CHAIN)], _TITLES) as steps:
        steps.begin("read")
        newest, future, rows = _newest(source, settings)
        steps.end(rows)
        moment = night_of(newest.date() + dt.timedelta(days=1))
        night = Run(run_name(moment), settings)
        steps.rows = partial(chain.rows_of, night)
        steps.begin("extract_events")
        inputs = nightly.extract_events({"moment": moment.isoformat()}, variables, settings, source)
        steps.end()
        _print_landing(read_manifest(settings.data, moment), future)
        try:
            chain.judge(inputs, variables, settings, after="extract_events", begun=steps.begin)
        except LtrError:
            print_findings(diagnosis.of_run(night))
            raise
    reason = "tried only, nothing is published"
    write_outcome(night, Outcome(run=night.name, version=None, moved=False, latest=None, reason=reason))
    console.print()
    return night


def _print_landing(manifest: Manifest, future: int) -> None:
    print_manifest(manifest)
    if future > manifest.future:  # else it is among what stands out
        console.print(f"{future:,} of these are from the future and are not used")


def _newest(source: Source, settings: Settings) -> tuple[dt.datetime, int, int]:
    """Land everything; return the time of the newest event that is not from the future, how many are, and all."""
    now = dt.datetime.now(dt.UTC)
    with tempfile.TemporaryDirectory(prefix="ltr-try-") as folder:
        since = dt.datetime(1, 1, 1, tzinfo=dt.UTC)
        land(open_storage(folder), LAST, source, settings.mapping, buckets=1, since=since)
        landed = [pl.read_parquet(path, columns=[TIME])[TIME] for path in Path(folder).rglob("*.parquet")]
    times = pl.concat(landed)
    past = times.filter(times <= now)
    newest = past.max()
    return newest if isinstance(newest, dt.datetime) else now, len(times) - len(past), len(times)


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise SettingsError(f"--variable {text}: write it as name=value")
    return name, value


def simulate(days: int | None, first: str | None, path: Path | None, **world: float | None) -> None:
    """Write a simulated event log, by default of a month that ends now; None leaves the `World` as it is."""
    days = days or growing.DAYS
    settings = load_settings(**({"events_path": str(path)} if path else {}))
    begin = day_of(first) if first else dt.datetime.now(dt.UTC).date() - dt.timedelta(days=days)
    with console.status("simulating"):
        print_growth(growing.start(settings, begin, days, **world))


def publish(run: str) -> None:
    """Publish what the gate of a run has passed, or somebody has approved."""
    settings = load_settings()
    _print_published(nightly.publish_weights(judged(run, settings), me(), settings))


def approve(run: str, reason: str) -> None:
    """Approve what the gate of a run could not decide, and publish it."""
    _print_published(approval.approve(run, me(), reason, load_settings()))


def _print_published(outcome: Json) -> None:
    print_line(f"{outcome['version']}: {outcome['reason']}; latest is {outcome['latest']}")
