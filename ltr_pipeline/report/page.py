"""The page: what a run tells, its verdict, and which sections it has something to say in."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Final, NamedTuple

import jinja2
import msgspec

from ltr_pipeline.dataset.manifest import DatasetManifest
from ltr_pipeline.events.manifest import Manifest
from ltr_pipeline.gate.checks import Decision
from ltr_pipeline.gate.evidence import Evidence
from ltr_pipeline.ranker.train import Chooser, Trained
from ltr_pipeline.report import rows, text
from ltr_pipeline.report.artefacts import EVIDENCE, TRAINED
from ltr_pipeline.report.diagnosis import Finding
from ltr_pipeline.report.rows import Change
from ltr_pipeline.report.scale import Scale
from ltr_pipeline.report.wording import NONE, STATUS, figure, interval, label, limit, observed, side
from ltr_pipeline.scoring.latency import Latency
from ltr_pipeline.versions.weights import Weights

__all__ = ["Night", "render"]

HASHES: Final = "Hashes (SHA-256)"
MOST_ROWS: Final = 60
MOST_FACTS: Final = 32
"""Rows of the longest tables and lists; the artefacts of the run have the rest."""


@dataclass(frozen=True, kw_only=True)
class Night:
    """All that one run has to tell; None where it did not get that far.

    Attributes
    ----------
    run, date
        The run's id and the UTC day it stands for.
    simulated
        Whether its events were simulated.
    landing, dataset, trained, evidence, decision
        What each step left behind.
    version
        The version that was published; None when none was.
    promoted
        Whether ``latest`` moved to it.
    latest
        The version in use after the run.
    findings
        What stands out in the events, the largest first.
    note
        One sentence for the reader, such as why `latest` did not move or why nothing could be judged.
    former
        Document of the version in use before the run.
    yesterday, yesterday_dataset
        Evidence and manifest of the run before.
    hashes, lineage, libraries
        Small print: SHA-256 by artefact, parent and mode of training, versions of libraries.
    """

    run: str
    date: dt.date
    simulated: bool = False
    landing: Manifest | None = None
    dataset: DatasetManifest | None = None
    trained: Trained | None = None
    evidence: Evidence | None = None
    decision: Decision | None = None
    version: str | None = None
    promoted: bool = False
    latest: str | None = None
    findings: Sequence[Finding] = ()
    note: str = ""
    former: Weights | None = None
    yesterday: Evidence | None = None
    yesterday_dataset: DatasetManifest | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)
    lineage: Mapping[str, Any] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)


def render(night: Night) -> str:
    """Render the report as HTML: about 100 kB, and below 1 MB for any number of features, groups and slices."""
    return _page().render(
        night=night,
        headline=_headline(night),
        tiles=_tiles(night),
        sections=_sections(night),
        changes=list(_changes(night)),
        provenance=_provenance(night),
    )


class Headline(NamedTuple):
    """The verdict; `status` is that of a check and gives its colour and symbol."""

    status: str
    title: str
    lead: str
    reasons: list[str]


def _headline(night: Night) -> Headline:
    decision = night.decision
    in_use = f"{night.latest} stays in use." if night.latest else "No version is in use yet."
    if decision is None:
        return Headline("not_evaluable", "Not judged", _sentences(in_use, night.note), [])
    checks = _tally(decision)
    if night.version and night.promoted:
        lead = _sentences(f"{night.version} passed the gate and is now in use.", checks, night.note)
        return Headline("pass", f"Published {night.version}", lead, decision.reasons)
    status, title = _unpromoted(night.version, decision)
    return Headline(status, title, _sentences(in_use, checks, night.note), decision.reasons)


def _unpromoted(version: str | None, decision: Decision) -> tuple[str, str]:
    """Return the status and the title of a run that did not change which version is in use."""
    if version:
        return "pass", "Published, latest unchanged"
    if decision.verdict == "publish":
        return "pass", "Passes the gate, not published"
    if decision.mode == "dry_run":
        return "skipped", "Judged in a dry run"
    return _worst(decision), "Not published"


def _sentences(*texts: str) -> str:
    return " ".join(text.sentence(part) for part in texts if part)


def _tally(decision: Decision) -> str:
    """Say how many checks passed, failed, and so on."""
    counts = Counter[str](check.status for check in decision.checks)
    if set(counts) == {"pass"}:
        return f"All {len(decision.checks)} checks passed"
    outcomes = (f"{counts[status]} {_OUTCOMES.get(status, name)}" for status, name in STATUS.items() if counts[status])
    return f"Of {len(decision.checks)} checks: {', '.join(outcomes)}"


_OUTCOMES = {"pass": "passed", "fail": "failed"}


def _worst(decision: Decision) -> str:
    statuses = {check.status for check in decision.checks}
    return next((status for status in ("fail", "inconclusive", "not_evaluable") if status in statuses), "skipped")


class Tile(NamedTuple):
    """One headline figure."""

    label: str
    value: str
    note: str


def _tiles(night: Night) -> list[Tile]:
    evidence = night.evidence
    if evidence is None:
        return []
    ndcg, champion, fair, latency = evidence.metrics.ndcg_at_5, evidence.champion, evidence.fairness, evidence.latency
    gain = champion.delta.value if champion.delta else None
    against = "the legacy linear weights" if champion.kind == "legacy_linear" else champion.version or "no version yet"
    return [
        _tile("nDCG@5", figure(ndcg.value), text.between(ndcg), f"{ndcg.n:,} rankings"),
        _tile("Change in nDCG@5", figure(gain, "delta"), text.between(champion.delta, "delta"), f"against {against}"),
        _tile("Fairness gap", figure(fair.corrected_gap), "noise-corrected" if fair.evaluable else "not evaluable"),
        _latency_tile(latency),
    ]


def _latency_tile(latency: Latency | None) -> Tile:
    if latency is None:
        return _tile("Latency p95", figure(None), "no request to measure")
    candidates = f"{latency.candidates_p50:,.0f} candidates"
    return _tile("Latency p95", figure(latency.p95_ms, "ms"), candidates, f"{latency.trees:,} trees")


def _tile(name: str, value: str, *notes: str) -> Tile:
    return Tile(name, value, ", ".join(note for note in notes if note != NONE))


def _sections(night: Night) -> list[tuple[str, str]]:
    """Yield id and title of the sections in which this run has something to say."""
    evidence, dataset = night.evidence, night.dataset
    measured = evidence if evidence and not evidence.untrained else None
    present = {
        "findings": ("What to look at first", night.findings),
        "gate": ("The gate", night.decision),
        "quality": ("Ranking quality", measured),
        "changes": ("Since the run before", list(_changes(night))),
        "slices": ("Slices", evidence and evidence.slices),
        "fairness": ("Fairness", measured),
        "features": ("Features", night.trained),
        "data": ("Data", dataset or night.landing),
        "labels": ("Labels and positions", dataset),
        "latency": ("Latency", evidence and evidence.latency),
    }
    return [(name, title) for name, (title, content) in present.items() if content]


def _changes(night: Night) -> Iterator[Change]:
    if night.yesterday and night.evidence:
        yield from rows.evidence_changes(night.yesterday, night.evidence)
    if night.yesterday_dataset and night.dataset:
        yield from rows.dataset_changes(night.yesterday_dataset, night.dataset)


def _provenance(night: Night) -> list[tuple[str, list[tuple[str, str]]]]:
    """Yield the small print: a title, and pairs of name and value."""
    blocks: dict[str, Mapping[str, Any]] = {
        "Run": {"Run": night.run, "Version": night.version, "In use": night.latest},
        "Lineage": night.lineage,
        "Libraries": night.libraries,
        "Model": _model(night.trained) if night.trained else {},
        "Policy": msgspec.to_builtins(night.decision.policy) if night.decision else {},
        HASHES: night.hashes,
    }
    return [(title, _facts(values)) for title, values in blocks.items() if values]


def _model(trained: Trained) -> dict[str, Any]:
    chosen = {
        "trees": trained.trees,
        "number of trees chosen by": _chooser(trained.chosen_by) if trained.chosen_by else "",
        "nDCG@5 on validation days": figure(trained.valid_ndcg_at_5),
    }
    return chosen | {"training": f"{trained.seconds:.1f} s"} | trained.parameters


def _chooser(chosen_by: Chooser) -> str:
    """Say which rankings chose the number of trees."""
    match chosen_by.source:
        case "validation":
            return f"{chosen_by.rankings:,} rankings of the validation days"
        case "training":
            return (
                f"{chosen_by.rankings:,} training rankings, held out until it was chosen; "
                "on the validation days nothing was preferred"
            )
        case "none":
            return "nobody; all trees were kept"


def _facts(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [(str(name), str(value)) for name, value in values.items() if value not in (None, "")]
    more = len(facts) - MOST_FACTS
    return [*facts[:MOST_FACTS], ("and", f"{more} more in the run's artefacts")] if more > 0 else facts


@cache
def _page() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ltr_pipeline.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "between": text.between,
        "count": partial(figure, kind="count"),
        "day": text.day,
        "days": text.days,
        "difference": text.difference,
        "interval": interval,
        "joined": text.joined,
        "label": label,
        "limit": limit,
        "ms": partial(figure, kind="ms"),
        "observed": observed,
        "percent": text.percent,
        "score": figure,
        "sentence": text.sentence,
        "share": partial(figure, kind="share"),
        "side": side,
        "spoken": text.spoken,
    }
    environment.globals |= {
        "EVIDENCE": EVIDENCE,
        "HASHES": HASHES,
        "MOST": MOST_ROWS,
        "NONE": NONE,
        "STATUS": STATUS,
        "TRAINED": TRAINED,
        "Scale": Scale,
        "rows": rows,
    }
    return environment.get_template("report.html.j2")
