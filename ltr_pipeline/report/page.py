"""The page: what a run tells, its verdict, and which sections it has something to say in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache, partial
from typing import Any, Final, NamedTuple

import jinja2
import msgspec
from markupsafe import Markup, escape

from ltr_pipeline.gate.evidence import Evidence
from ltr_pipeline.metrics.fairness import Fairness
from ltr_pipeline.ranker.train import Chooser, Trained
from ltr_pipeline.report import rows, text
from ltr_pipeline.report.artefacts import EVIDENCE, INPUTS, TRAINED
from ltr_pipeline.report.night import Night
from ltr_pipeline.report.rows import Change
from ltr_pipeline.report.scale import Scale
from ltr_pipeline.report.verdict import LOOK_FIRST, headline
from ltr_pipeline.report.wording import NONE, STATUS, figure, interval, label, limit, observed, side
from ltr_pipeline.scoring.calibration import MAX_ERROR
from ltr_pipeline.scoring.latency import Latency

__all__ = ["render"]

HASHES: Final = "Hashes (SHA-256)"
MOST_ROWS: Final = 60
MOST_FACTS: Final = 32
"""Rows of the longest tables and lists; the artefacts of the run have the rest."""


def render(night: Night) -> str:
    """Render the report as HTML: about 100 kB, and below 1 MB for any number of features, groups and slices."""
    return _page().render(
        night=night,
        headline=headline(night),
        tiles=_tiles(night),
        sections=_sections(night),
        changes=list(_changes(night)),
        provenance=_provenance(night),
    )


class Tile(NamedTuple):
    """One headline figure."""

    label: str
    value: str
    note: str


def _tiles(night: Night) -> list[Tile]:
    evidence = night.evidence
    if evidence is None:
        return []
    ndcg, champion, fair, latency = evidence.judged.ndcg_at_5, evidence.champion, evidence.fairness, evidence.latency
    if evidence.untrained and champion.version:
        return _tiles_of_the_version_in_use(evidence, champion.version)
    gain = champion.delta.value if champion.delta else None
    against = "the legacy linear weights" if champion.kind == "legacy_linear" else champion.version or "no version yet"
    return [
        _tile("nDCG@5", figure(ndcg.value), text.between(ndcg), f"{ndcg.n:,} rankings"),
        _tile("Change in nDCG@5", figure(gain, "delta"), text.between(champion.delta, "delta"), f"against {against}"),
        _fairness_tile(fair, evidence.champion_fairness),
        _latency_tile(latency),
    ]


def _tiles_of_the_version_in_use(evidence: Evidence, version: str) -> list[Tile]:
    """Show how it does on the test days, as there is no new model."""
    ndcg, fair = evidence.judged.ndcg_at_5, evidence.champion_fairness
    random = evidence.baselines.get("random")
    return [
        _tile("nDCG@5", figure(ndcg.value), text.between(ndcg), f"{ndcg.n:,} rankings", f"by {version}"),
        _tile("nDCG@5 of random order", figure(random.ndcg_at_5.value if random else None), "exact expectation"),
        _fairness_tile(fair, None) if fair else _tile("Fairness gap", figure(None), "not measured"),
        _latency_tile(evidence.champion_latency),
    ]


def _fairness_tile(fair: Fairness, champion: Fairness | None) -> Tile:
    beside = f"champion {figure(champion.corrected_gap)}" if champion and champion.corrected_gap is not None else NONE
    return _tile(
        "Fairness gap", figure(fair.corrected_gap), "noise-corrected" if fair.evaluable else "not evaluable", beside
    )


def _latency_tile(latency: Latency | None) -> Tile:
    if latency is None:
        return _tile("Latency p95", figure(None), "no request to measure")
    candidates = f"{latency.candidates_p50:,.0f} candidates"
    clock = NONE if latency.wall_p95_ms is None else f"{figure(latency.wall_p95_ms, 'ms')} by the clock"
    return _tile("Latency p95", figure(latency.p95_ms, "ms"), candidates, f"{latency.trees:,} trees", clock)


def _tile(name: str, value: str, *notes: str) -> Tile:
    return Tile(name, value, ", ".join(note for note in notes if note != NONE))


def _sections(night: Night) -> list[tuple[str, str]]:
    """Yield id and title of the sections in which this run has something to say."""
    evidence, dataset = night.evidence, night.dataset
    measured = evidence if evidence and not evidence.untrained else None
    ranked = measured or (evidence and evidence.champion.metrics)
    present = {
        "findings": (LOOK_FIRST, night.findings),
        "gate": ("The gate", night.decision),
        "quality": ("Ranking quality", ranked),
        "examples": ("Example rankings", night.examples and night.examples.examples),
        "exploration": ("Exploration", measured and measured.coins),
        "changes": ("Since the run before", list(_changes(night))),
        "slices": ("Slices", evidence and evidence.slices),
        "fairness": ("Fairness", measured or (evidence and evidence.champion_fairness)),
        "calibration": ("Calibration", measured and measured.reliability),
        "features": ("Features", night.trained),
        "audit": ("Feature audit", evidence and evidence.audit),
        "data": ("Data", dataset or night.landing),
        "labels": ("Labels and positions", dataset),
        "latency": ("Latency", evidence and (evidence.latency or evidence.champion_latency)),
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
        "Run": {"Run": night.run, "Version": night.version, "In use": night.latest, _why(night): night.because},
        "Lineage": night.lineage,
        "Libraries": night.libraries,
        "Model": _model(night.trained) if night.trained else {},
        "Policy": msgspec.to_builtins(night.decision.policy) if night.decision else {},
        HASHES: night.hashes,
    }
    return [(title, _facts(values)) for title, values in blocks.items() if values]


def _why(night: Night) -> str:
    return "Not trained" if night.evidence and not night.evidence.due else "Trained"


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


def _code(text: str) -> Markup:
    """Return text as HTML, what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - it was escaped


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
        "code": _code,
        "count": partial(figure, kind="count"),
        "day": text.day,
        "minute": text.minute,
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
        "INPUTS": INPUTS,
        "MAX_ERROR": MAX_ERROR,
        "MOST": MOST_ROWS,
        "NONE": NONE,
        "STATUS": STATUS,
        "TRAINED": TRAINED,
        "Scale": Scale,
        "rows": rows,
    }
    return environment.get_template("report.html.j2")
