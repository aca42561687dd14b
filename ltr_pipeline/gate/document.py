"""The weights document that may be published, made of a run's artefacts."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping as Table
from collections.abc import Sequence
from importlib.metadata import version as library_version
from typing import Any

import msgspec

from ltr_pipeline.dataset.load import Dataset
from ltr_pipeline.dataset.manifest import DatasetManifest
from ltr_pipeline.dataset.windows import Span
from ltr_pipeline.errors import WeightsError
from ltr_pipeline.gate import measure
from ltr_pipeline.gate.decision import Decision
from ltr_pipeline.gate.evidence import Evidence, Fallback, Refreshed
from ltr_pipeline.mapping import Mapping
from ltr_pipeline.metrics.reliability import Reliability
from ltr_pipeline.ranker.train import Trained, label_gain
from ltr_pipeline.scoring.calibration import Calibration
from ltr_pipeline.scoring.linear import Linear
from ltr_pipeline.scoring.scorer import Scorer
from ltr_pipeline.signing import Key
from ltr_pipeline.versions import weights
from ltr_pipeline.versions.weights import Weights

__all__ = ["frozen", "hashes", "libraries", "lineage", "weights_document"]

GOLDEN_REQUESTS = 5
LIBRARIES = ("lightgbm", "ltr-pipeline", "numpy", "polars", "pyarrow")


def weights_document(
    version: str,
    model_text: str,
    *,
    mapping: Mapping,
    manifest: DatasetManifest,
    test: Dataset,
    trained: Trained,
    found: Evidence,
    decision: Decision,
    seed: int,
    fresh: DatasetManifest | None = None,
) -> Weights:
    """Collect everything a reader of the model needs in one record.

    Parameters
    ----------
    manifest
        Of the night's dataset; of a refresh, of the night that it is judged on the test days of.
    fresh
        The fresh rankings that a refresh was made from; None for a nightly model.
    test
        Where the golden requests are taken from; at least one ranking.
    seed
        Of training and resampling.
    """
    return Weights(
        version=version,
        created_at=dt.datetime.now(dt.UTC),
        model=weights.Model(
            text=model_text, sha256=trained.model_sha256, trees=trained.trees, importance=trained.importance
        ),
        features=[weights.Feature(name=name, missing=trained.missing_rules[name]) for name in manifest.features],
        label_gain=label_gain(mapping.max_relevance),
        relevance=mapping.relevance,
        data=_data(manifest, mapping) if fresh is None else _refreshed_data(manifest, fresh, found, mapping),
        metrics=msgspec.to_builtins(found.metrics),
        gate=msgspec.to_builtins(decision),
        champion=msgspec.to_builtins(found.champion),
        lineage=lineage(seed, found.refreshed) | {"parameters": trained.parameters} | _joined(mapping),
        libraries=libraries(),
        latency=msgspec.to_builtins(found.latency) if found.latency else {},
        golden=_golden(test, Scorer.from_model(model_text, manifest.features)),
        linear_weights=trained.linear_weights,
        linear=_fallback(trained.linear, found.fallback),
        calibration=_calibration(trained.calibration, found.reliability),
    )


def _fallback(linear: Linear | None, measured: Fallback | None) -> weights.Fallback | msgspec.UnsetType:
    if linear is None or measured is None:
        return msgspec.UNSET
    return weights.Fallback(
        **msgspec.structs.asdict(linear),
        ndcg_at_5=msgspec.to_builtins(measured.metrics.ndcg_at_5),
        against_random=msgspec.to_builtins(measured.against_random),
    )


def _calibration(fitted: Calibration | None, measured: Reliability | None) -> Calibration | msgspec.UnsetType:
    if fitted is None:
        return msgspec.UNSET
    return msgspec.structs.replace(fitted, error=measured.error if measured else None)


def lineage(seed: int, refreshed: Refreshed | None = None) -> dict[str, Any]:
    """Describe how a model of a nightly run came to be, or one that was refreshed since."""
    if refreshed is None:
        return {"mode": "daily", "parent": None, "seed": seed}
    return {"mode": refreshed.mode, "parent": refreshed.parent, "seed": seed, "debiased": refreshed.debiased}


def _joined(mapping: Mapping) -> dict[str, Any]:
    """Say which features were joined as of the moment a list was shown, and from where."""
    tables = [msgspec.to_builtins(table) for table in mapping.feature_tables]
    return {"feature_tables": tables} if tables else {}


def hashes(manifest: DatasetManifest, mapping: Mapping) -> dict[str, str]:
    """Return the SHA-256 of all that a model was made from: the dataset's tables, the mapping, declared events."""
    snapshots = {f"feature table {name}": use.snapshot.sha256 for name, use in manifest.feature_tables.items()}
    declared = msgspec.json.encode(manifest.windows.occasions)
    calendar = {"declared events": hashlib.sha256(declared).hexdigest()} if manifest.windows.occasions else {}
    return manifest.tables | snapshots | {"mapping": mapping.sha256} | calendar


def libraries() -> dict[str, str]:
    """List the versions of the libraries that a model's scores depend on."""
    return {name: library_version(name) for name in LIBRARIES}


def frozen(former: bytes | None, new: Weights, keys: Sequence[Key] = ()) -> bytes:
    """Return the bytes of `new`, or of an earlier attempt's document that is the same result, judged the same way.

    Measurements and times differ from attempt to attempt; keeping the first bytes makes a retried publish publish
    what the first try would have. With `keys` the document is signed, and an earlier one without their signature is
    not kept.
    """
    if former is not None:
        try:
            document = weights.decode(former, keys=keys)
        except WeightsError:
            return weights.encode(new, keys)
        if _result(document) == _result(new):
            return former
    return weights.encode(new, keys)


def _result(document: Weights) -> tuple[object, ...]:
    return document.identity, document.calibration, _judgement(document.gate)


def _judgement(decision: Table[str, Any]) -> tuple[object, ...]:
    return decision["verdict"], decision["policy"], [(check["name"], check["status"]) for check in decision["checks"]]


def _golden(test: Dataset, scorer: Scorer) -> list[weights.Golden]:
    return [
        weights.Golden(
            query_id=request.query_id,
            items=[msgspec.json.decode(candidate.features) for candidate in request.candidates],
            scores=scorer.score(scorer.read(request.candidates).matrix).tolist(),
        )
        for request in measure.requests(test, GOLDEN_REQUESTS)
    ]


def _data(manifest: DatasetManifest, mapping: Mapping) -> weights.Data:
    parts = {"train": manifest.train, "valid": manifest.valid, "test": manifest.test}
    counts = {f"{name}_impressions": part.rows for name, part in parts.items()}
    counts |= {f"{name}_rankings": part.rankings for name, part in parts.items()}
    return weights.Data(
        window=weights.Window(start=manifest.windows.start, end=manifest.windows.cutoff),
        **{name: _window(part) for name, part in parts.items()},
        counts=counts,
        hashes=hashes(manifest, mapping),
    )


def _refreshed_data(
    manifest: DatasetManifest, fresh: DatasetManifest, found: Evidence, mapping: Mapping
) -> weights.Data:
    """Describe what a refresh was made of: fresh rankings, and where it was trained anew the night's, too."""
    night, end = _data(manifest, mapping), fresh.windows.end
    anew = found.refreshed is not None and found.refreshed.mode == "full"
    learned = {"train_impressions": found.train_impressions, "train_rankings": fresh.train.rankings}
    if anew:
        learned["train_rankings"] += manifest.train.rankings
    return msgspec.structs.replace(
        night,
        window=weights.Window(start=manifest.windows.start, end=end),
        train=weights.Window(start=(manifest if anew else fresh).train.start, end=end),
        counts=night.counts | learned,
        hashes=night.hashes | {f"fresh {name}": sha256 for name, sha256 in hashes(fresh, mapping).items()},
    )


def _window(span: Span) -> weights.Window:
    return weights.Window(start=span.start, end=span.end)
