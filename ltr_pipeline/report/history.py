"""The history's record of a judged night, or of an hourly refresh, made of what the run left behind."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from typing import Literal

import msgspec
import structlog

from ltr_pipeline.errors import LtrError
from ltr_pipeline.gate.decision import Decision
from ltr_pipeline.gate.evidence import Comparison, Evidence
from ltr_pipeline.metrics.quality import Delta, Estimate, Metrics
from ltr_pipeline.monitoring.records import Figure, NightRecord, RefreshRecord
from ltr_pipeline.monitoring.store import History, remember
from ltr_pipeline.report.artefacts import DECISION, EVIDENCE, INPUTS, OUTCOME
from ltr_pipeline.report.outcome import asking, heard
from ltr_pipeline.runs.names import NIGHTS, REFRESHES, moment_of
from ltr_pipeline.runs.run import Inputs, Outcome, Run
from ltr_pipeline.scoring.latency import Latency
from ltr_pipeline.settings import Settings
from ltr_pipeline.versions.ids import Version

__all__ = ["night_record", "refill", "refresh_record", "remember_run"]

log = structlog.get_logger(__name__)


def remember_run(run: Run) -> None:
    """Write a run that has ended to the history; no failure of that ends the run, and `refill` makes up for a night."""
    try:
        record = refresh_record(run) if run.kind == REFRESHES else night_record(run)
    except LtrError as error:
        log.warning("the history lacks this run", run=run.name, error=str(error))
        return
    if record is not None:
        remember(run.settings.data, record)


def refill(settings: Settings, since: dt.date | None = None) -> list[str]:
    """Write every judged night that the history lacks, of former releases, too, and return their names.

    Parameters
    ----------
    since
        First day; None = all runs there are.

    Raises
    ------
    StorageError
        The runs or the history cannot be read, or a record cannot be written.
    """
    history = History(settings.data)
    known, first = history.subjects(NightRecord), since or dt.date.min
    ended = {key.split("/")[1] for key in settings.data.keys(NIGHTS) if key.endswith(f"/{OUTCOME.name}")}
    missing = sorted(run for run in ended - known if moment_of(run) is not None and _day(run) >= first)
    records = {run: night_record(Run(run, settings)) for run in missing}
    for record in filter(None, records.values()):
        history.write(record)
    return [run for run, record in records.items() if record is not None]


def _day(run: str) -> dt.date:
    return Version.parse(run).time.date()


def night_record(run: Run) -> NightRecord | None:
    """Return the record of a night; None where it was not judged, has not ended, or cannot be read here."""
    inputs, outcome = run.read_if_readable(INPUTS), run.read_if_readable(OUTCOME)
    evidence, decision = run.read_if_readable(EVIDENCE), run.read_if_readable(DECISION)
    if inputs is None or outcome is None or evidence is None or decision is None:
        return None
    answer = asking(run).answer()
    record = _record(run.name, inputs, evidence, decision, outcome)
    return msgspec.structs.replace(
        record,
        asked=decision.verdict == "ask",
        answer=heard(run, decision),
        answered_by=answer.who if answer else "",
        answer_reason=answer.why if answer else "",
    )


def refresh_record(run: Run) -> RefreshRecord | None:
    """Return the record of an hourly refresh; None where it has not ended, or cannot be read here."""
    inputs, outcome = run.read_if_readable(INPUTS), run.read_if_readable(OUTCOME)
    evidence, decision = run.read_if_readable(EVIDENCE), run.read_if_readable(DECISION)
    if outcome is None:
        return None
    landed = inputs.landed if inputs else None
    beside = evidence.refreshed if evidence else None
    return RefreshRecord(
        run=run.name,
        date=_day(run.name),
        verdict=_verdict(decision, outcome) if decision else "none",
        parent=inputs.champion if inputs else None,
        mode=inputs.mode if inputs else None,
        version=outcome.version,
        moved=outcome.moved,
        latest=outcome.latest,
        reason=outcome.reason,
        positives=beside.positives if beside else 0,
        ndcg_at_5=_figure(evidence.metrics.ndcg_at_5) if evidence else None,
        delta=_figure(evidence.champion.delta) if evidence else None,
        fresh_delta=_figure(beside.delta) if beside else None,
        checks={check.name: check.status for check in decision.checks} if decision else {},
        impressions=landed.impressions if landed else 0,
        feedback=landed.feedback if landed else 0,
        quarantined=landed.records_quarantined if landed else 0,
        simulated=bool(inputs and inputs.simulated),
        dry_run=bool(inputs and inputs.dry_run),
    )


def _record(name: str, inputs: Inputs, evidence: Evidence, decision: Decision, outcome: Outcome) -> NightRecord:
    trained, champion, landed = not evidence.untrained, evidence.champion, inputs.landed
    known = champion if champion.kind == "champion" else None
    return NightRecord(
        run=name,
        date=inputs.date,
        trained=trained,
        because=_because(inputs, evidence),
        verdict=_verdict(decision, outcome) if trained else "none",
        version=outcome.version,
        moved=outcome.moved,
        latest=outcome.latest,
        champion=inputs.champion,
        reason=outcome.reason,
        ndcg_at_5=_figure(evidence.metrics.ndcg_at_5) if trained else None,
        champion_ndcg_at_5=_figure(known.metrics.ndcg_at_5) if known and known.metrics else None,
        delta=_figure(known.delta) if known else None,
        checks={check.name: check.status for check in decision.checks},
        limits={check.name: check.threshold for check in decision.checks if check.threshold is not None},
        metrics={name: value for name, value in _metrics(evidence) if value is not None and math.isfinite(value)},
        impressions=landed.impressions if landed else 0,
        feedback=landed.feedback if landed else 0,
        quarantined=landed.records_quarantined if landed else 0,
        by_hand=inputs.by_hand,
        simulated=inputs.simulated,
        dry_run=decision.mode == "dry_run",
    )


def _verdict(decision: Decision, outcome: Outcome) -> Literal["publish", "keep"]:
    """Return what came of the gate's verdict, where that was a person's to decide."""
    return "publish" if decision.verdict == "publish" or outcome.version else "keep"


def _because(inputs: Inputs, evidence: Evidence) -> str:
    """Say why the night trained, or why it did not."""
    unlearned = evidence.untrained if inputs.trains else ""
    return f"{inputs.because}, but there was nothing to learn: {unlearned}" if unlearned else inputs.because


def _figure(found: Estimate | Delta | None) -> Figure | None:
    return Figure(value=found.value, low=found.low, high=found.high, n=found.n) if found else None


def _metrics(evidence: Evidence) -> Iterator[tuple[str, float | None]]:
    """Yield what was measured beside the figures that have a field of their own; the champion's by that name."""
    if not evidence.untrained:
        yield from _companions("", evidence.metrics)
        yield "trees", evidence.trees
        yield "fairness_gap", evidence.fairness.corrected_gap
        yield "exposure_gap", evidence.fairness.exposure_gap
    if evidence.champion.kind == "champion":
        yield from _companions("champion_", evidence.champion.metrics)
    if evidence.champion_fairness:
        yield "champion_fairness_gap", evidence.champion_fairness.corrected_gap
    yield from _latency("", evidence.latency)
    yield from _latency("champion_", evidence.champion_latency)
    for name, measured in evidence.baselines.items():
        yield f"{name}_ndcg_at_5", measured.ndcg_at_5.value
    yield from _deltas(evidence)
    yield "train_impressions", evidence.train_impressions
    yield "test_queries", evidence.test_queries
    yield "unjoined_share", evidence.unjoined / evidence.joinable if evidence.joinable else None
    yield "calibration_error", evidence.reliability.error if evidence.reliability else None
    yield "fallback_ndcg_at_5", evidence.fallback.metrics.ndcg_at_5.value if evidence.fallback else None


def _companions(whose: str, metrics: Metrics | None) -> Iterator[tuple[str, float | None]]:
    if metrics:
        yield f"{whose}linear_ndcg_at_5", metrics.linear_ndcg_at_5.value
        yield f"{whose}mrr", metrics.mrr.value
        yield f"{whose}hit_at_3", metrics.hit_at_3.value


def _latency(whose: str, latency: Latency | None) -> Iterator[tuple[str, float | None]]:
    if latency:
        yield f"{whose}latency_p50_ms", latency.p50_ms
        yield f"{whose}latency_p95_ms", latency.p95_ms
        yield f"{whose}latency_p99_ms", latency.p99_ms


def _deltas(evidence: Evidence) -> Iterator[tuple[str, float | None]]:
    """Yield challenger minus others."""
    others: dict[str, Delta | None] = {"random": evidence.against_random}
    rivals: dict[str, Comparison | None] = {"champion": evidence.champion, "best_recent": evidence.best_recent}
    for name, rival in rivals.items():
        if rival and rival.kind != "champion":  # that one has a field of its own
            others[rival.kind] = rival.delta
        if rival and rival.unbiased:
            yield f"unbiased_delta_{name}", rival.unbiased.value
    if evidence.refreshed:
        others["parent"] = evidence.refreshed.delta
    for name, delta in others.items():
        yield f"delta_{name}", delta.value if delta else None
