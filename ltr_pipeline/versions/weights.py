"""The weights document: one self-contained JSON file is a whole model.

Written once as canonical bytes: UTF-8, no white space, members in the order declared here, the keys of maps sorted.
The last member, ``content_sha256``, is the SHA-256 of the document without that member, so that any altered byte is
noticed; anybody can check it by cutting the end off::

    {"schema_version":1, ... }                            hashed
    {"schema_version":1, ... ,"content_sha256":"<hex>"}   written

The hash protects against accidents, not against an attacker, who can compute one. With a key (`signing`) the same bytes
are signed as well::

    {"schema_version":1, ... ,"content_sha256":"<hex>","signature":"ed25519:<hex>"}

A reader with keys refuses a document that none of them has signed; a reader without keys ignores signatures.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Annotated, Any, Final

import msgspec

from ltr_pipeline import signing
from ltr_pipeline.errors import WeightsError
from ltr_pipeline.scoring.calibration import Calibration
from ltr_pipeline.scoring.linear import Linear
from ltr_pipeline.signing import Key, as_keys, signing_keys
from ltr_pipeline.versions.ids import PATTERN

__all__ = [
    "SCHEMA_VERSION",
    "Data",
    "Fallback",
    "Feature",
    "Golden",
    "Model",
    "Weights",
    "Window",
    "decode",
    "encode",
    "signing_keys",
]

SCHEMA_VERSION: Final = 1
SUM_TOLERANCE: Final = 1e-9  # of the linear weights' sum: a thousand rounded doubles are off by less

Sha256 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Utc = Annotated[datetime, msgspec.Meta(tz=True)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class Feature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One column of the model, in the model's order.

    Attributes
    ----------
    missing
        How the model reads a missing value: LightGBM reads NaN as 0 in a feature that had no NaN in training, and as a
        category it has not seen in one whose values are categories (``as an unknown category``).
    """

    name: Annotated[str, msgspec.Meta(min_length=1)]
    missing: str


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The LightGBM model itself.

    Attributes
    ----------
    text
        Text of ``Booster.model_to_string()``; never a pickle.
    sha256
        Hash of `text` in UTF-8.
    trees
        How many trees `text` has.
    importance
        Share of the total gain by feature; a feature that no tree uses may be left out.
    """

    format: Annotated[str, msgspec.Meta(pattern=r"\Alightgbm\Z")] = "lightgbm"
    text: str
    sha256: Sha256
    trees: Count
    importance: dict[str, float]


class Window(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A half-open stretch of event time, ``[start, end)``, UTC."""

    start: Utc
    end: Utc


class Data(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The data that the model was made of.

    Attributes
    ----------
    window
        Event time that the dataset was built from; its end orders runs (a backfill ends before the promoted version).
    train, valid, test
        The parts of the window.
    counts
        Counts of records, rankings, dropped rows and the like.
    hashes
        SHA-256 of each table and of the mapping, by name.
    """

    window: Window
    train: Window
    valid: Window
    test: Window
    counts: dict[str, Count]
    hashes: dict[str, Sha256]

    @property
    def seen_until(self) -> datetime:
        """End of the days that the model was trained and chosen on; a refresh learns from days after the validation."""
        return max(self.train.end, self.valid.end)


class Golden(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request and the scores that the model gave it; every reader must get the same within 1e-9.

    Attributes
    ----------
    items
        Features by name, one map per candidate; null = missing. The values are exact in float32.
    scores
        One per item, in the same order.
    """

    query_id: str
    items: list[dict[str, float | None]]
    scores: list[float]


class Fallback(Linear, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Linear weights that rank where the model cannot, and how well they do on the test days.

    Attributes
    ----------
    ndcg_at_5
        ``{"value", "low", "high", "n", ...}``.
    against_random
        ``{"value", "low", "high", "n"}``: their nDCG@5 minus that of random order; null with too few users to tell.
    """

    ndcg_at_5: dict[str, Any]
    against_random: dict[str, Any] | None

    @property
    def beats_random(self) -> bool:
        """Return whether they rank better than chance: the whole interval is above 0."""
        return self.against_random is not None and self.against_random.get("low", 0.0) > 0


class Weights(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole published model in one document.

    Attributes
    ----------
    version
        ``YYYYMMDD_HHMM`` (UTC), perhaps followed by ``_2``, ``_3``, ....
    created_at
        When the document was written, UTC.
    features
        Features in model order.
    label_gain
        Gain of relevance 0, 1, 2, ... in training.
    relevance
        Relevance of each feedback action.
    metrics
        Metrics by name, each ``{"value", "low", "high", "n", ...}``; ``ndcg_at_5`` must be there (with a null value
        when it could not be evaluated).
    gate
        Every check with threshold, observed value and verdict.
    champion
        Version that the model was compared with, and the difference; null when there was none.
    lineage, libraries, latency
        Parent and mode of training, versions of libraries, measured latency in ms. The parent is the nightly version
        that a refresh was refit from; null for a nightly version.
    golden
        Golden requests, at least one.
    linear_weights
        Weights for consumers that cannot load the model: one per feature, not negative, with sum 1.
    linear
        What ranks in a service where the model cannot; documents of former releases have none.
    calibration
        From the model's scores to the probability of a relevance; documents of former releases have none, nor has one
        whose validation days had too little to tell.
    """

    schema_version: int = SCHEMA_VERSION
    version: Annotated[str, msgspec.Meta(pattern=rf"\A{PATTERN}\Z")]
    created_at: Utc
    model: Model
    features: list[Feature]
    label_gain: list[float]
    relevance: dict[str, Count]
    data: Data
    metrics: dict[str, dict[str, Any]]
    gate: dict[str, Any]
    champion: dict[str, Any] | None
    lineage: dict[str, Any]
    libraries: dict[str, str]
    latency: dict[str, Any]
    golden: Annotated[list[Golden], msgspec.Meta(min_length=1)]
    linear_weights: dict[str, float]
    linear: Fallback | msgspec.UnsetType = msgspec.UNSET
    calibration: Calibration | msgspec.UnsetType = msgspec.UNSET

    @property
    def feature_names(self) -> list[str]:
        """Names of the features in model order."""
        return [feature.name for feature in self.features]

    @property
    def parent(self) -> str | None:
        """The nightly version that this one was refit from; None for a nightly version."""
        parent: str | None = self.lineage.get("parent")
        return parent

    @property
    def ndcg_at_5(self) -> float | None:
        """The headline metric; None when no test ranking was eligible."""
        value: float | None = self.metrics["ndcg_at_5"]["value"]
        return value

    @property
    def identity(self) -> str:
        """SHA-256 of model, features, labels and data, without version, times and measurements.

        Two documents with one identity are the same result, whenever and however often it was computed.
        """
        parts = (self.model.sha256, self.features, self.label_gain, self.relevance, self.data)
        return hashlib.sha256(_encode(parts)).hexdigest()


def encode(weights: Weights, keys: Sequence[Key | bytes] = ()) -> bytes:
    """Write a document as canonical bytes with its hash at the end; equal documents and keys give equal bytes.

    Parameters
    ----------
    keys
        The first one that can sign signs; bytes are a shared secret.

    Raises
    ------
    WeightsError
        The document contradicts itself, or holds NaN, infinity or a value that JSON cannot express.
    """
    try:
        for path in _not_finite(msgspec.to_builtins(weights), "$"):
            raise WeightsError(f"{weights.version}: {path} is NaN or infinite; write null where there is no number")
        content = _encode(weights)
    except (TypeError, RecursionError, msgspec.MsgspecError) as error:
        raise WeightsError(f"{weights.version}: {error}; use plain JSON values only") from error
    signature = signing.sign(content, as_keys(keys))
    if keys and signature is None:
        raise WeightsError(f"{weights.version} cannot be signed: LTR_VERIFY_KEYS only verify; set LTR_SIGNING_KEY")
    data = content[:-1] + _tail(content, signature)
    decode(data, where=weights.version, keys=keys)
    return data


def decode(data: bytes, *, where: str = "weights document", keys: Sequence[Key | bytes] = ()) -> Weights:
    """Read a document from `data` and check it whole, except for the scores of its golden requests (`golden`).

    Parameters
    ----------
    data
        Bytes exactly as `encode` wrote them.
    where
        Name of the document in error messages, such as its address.
    keys
        One of them must have signed the document; without keys, signatures are ignored.

    Raises
    ------
    WeightsError
        The bytes were altered or cut, are no weights document or one of another schema, or none of the keys signed
        them, or the parts of the document contradict each other.
    """
    content = _content(data, where, as_keys(keys))
    try:
        schema_version = msgspec.json.decode(content, type=_Envelope).schema_version
        if schema_version != SCHEMA_VERSION:
            raise WeightsError(
                f"{where}: schema_version {schema_version}, but this library reads {SCHEMA_VERSION}; "
                "use the library version that wrote it"
            )
        weights = msgspec.json.decode(content, type=Weights)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WeightsError(f"{where} is not a weights document: {error}") from error
    if problems := list(_contradictions(weights)):
        raise WeightsError(
            f"{where} contradicts itself: {'; '.join(problems)}; publish the model again or use another version"
        )
    return weights


class _Envelope(msgspec.Struct):
    schema_version: int


_encode = msgspec.json.Encoder(order="deterministic").encode
_TAIL = re.compile(
    rf',"content_sha256":"(?P<sha256>[0-9a-f]{{64}})"(?:,"signature":"(?P<signature>{signing.SIGNATURE})")?}}\Z'.encode()
)
_LONGEST_TAIL: Final = 400


def _tail(content: bytes, signature: str | None) -> bytes:
    signed = f',"signature":"{signature}"' if signature else ""
    return f',"content_sha256":"{hashlib.sha256(content).hexdigest()}"{signed}}}'.encode()


def _content(data: bytes, where: str, keys: Sequence[Key]) -> bytes:
    """Check the tail, which has the hash of the rest and, with keys, a signature, and return the rest."""
    tail = _TAIL.search(data[-_LONGEST_TAIL:])
    content = data[: len(data) - len(tail[0])] + b"}" if tail else b""
    if not tail or tail["sha256"].decode() != hashlib.sha256(content).hexdigest():
        raise WeightsError(
            f"{where} was altered or truncated, or is no weights document: it does not end with the content_sha256 of "
            "its bytes; restore it from a copy or use another version"
        )
    if keys and not tail["signature"]:
        raise WeightsError(
            f"{where} is not signed, but there are {signing.KEYS_SET}; use a version that was published since"
        )
    if keys and not signing.signed(content, tail["signature"].decode(), keys):
        raise WeightsError(
            f"{where} is signed by none of the {signing.KEYS_SET}: do not use it unless you know whose key it was; "
            "when keys were changed, add the former one behind the new one"
        )
    return content


def _not_finite(value: Any, path: str) -> Iterator[str]:  # noqa: ANN401
    """Yield the paths of numbers that JSON cannot express."""
    if isinstance(value, float) and not math.isfinite(value):
        yield path
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _not_finite(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _not_finite(item, f"{path}[{index}]")


def _contradictions(weights: Weights) -> Iterator[str]:
    names = weights.feature_names
    yield from _model_problems(weights.model, names)
    for golden in weights.golden:
        yield from _golden_problems(golden, set(names))
    yield from _linear_problems(weights.linear_weights, names)
    if weights.linear:
        yield from _fallback_problems(weights.linear, names)
    if weights.calibration:
        yield from _calibration_problems(weights.calibration)
    yield from _time_problems(weights)
    if len(weights.label_gain) <= (highest := max(weights.relevance.values(), default=0)):
        yield f"{len(weights.label_gain)} label gains do not cover relevance {highest}"
    if not isinstance(weights.metrics.get("ndcg_at_5", {}).get("value", ""), float | int | None):
        yield "metrics.ndcg_at_5.value is not there or not a number"
    parent = weights.lineage.get("parent")
    if parent is not None and not (isinstance(parent, str) and re.fullmatch(PATTERN, parent)):
        yield f"lineage.parent is {parent!r}, which is no version"


def _model_problems(model: Model, names: Sequence[str]) -> Iterator[str]:
    if hashlib.sha256(model.text.encode()).hexdigest() != model.sha256:
        yield "model.sha256 is not the hash of model.text"
    header = dict(re.findall(r"^(feature_names|max_feature_idx)=(.*)$", model.text.partition("\n\n")[0], re.MULTILINE))
    if header.get("feature_names", "").split(" ") != list(names):
        yield f"features are {list(names)}, but the model was trained on {header.get('feature_names', 'nothing')!r}"
    if header.get("max_feature_idx") != str(len(names) - 1):
        yield f"{len(names)} features, but the model's max_feature_idx is {header.get('max_feature_idx')}"
    if (trees := f"\n{model.text}".count("\nTree=")) != model.trees:
        yield f"model.trees is {model.trees}, but model.text has {trees}"
    if unknown := set(model.importance) - set(names):
        yield f"model.importance names {sorted(unknown)}, which are not features"


def _golden_problems(golden: Golden, names: set[str]) -> Iterator[str]:
    if not golden.items or len(golden.items) != len(golden.scores):
        yield f"golden request {golden.query_id} has {len(golden.items)} items and {len(golden.scores)} scores"
    for wrong in (names.symmetric_difference(item) for item in golden.items):
        if wrong:
            yield f"golden request {golden.query_id} and the features differ in {sorted(wrong)}"


def _linear_problems(linear: dict[str, float], names: Sequence[str]) -> Iterator[str]:
    if wrong := set(linear).symmetric_difference(names):
        yield f"linear_weights and the features differ in {sorted(wrong)}"
    if negative := [name for name, weight in linear.items() if weight < 0]:
        yield f"linear_weights of {negative} are negative"
    if abs(math.fsum(linear.values()) - 1) > SUM_TOLERANCE:
        yield f"linear_weights sum to {math.fsum(linear.values())}, not 1"


def _fallback_problems(linear: Fallback, names: Sequence[str]) -> Iterator[str]:
    for part in ("weights", "means", "scales"):
        if wrong := set(getattr(linear, part)).symmetric_difference(names):
            yield f"linear.{part} and the features differ in {sorted(wrong)}"
    if flat := [name for name, scale in linear.scales.items() if scale <= 0]:
        yield f"linear.scales of {flat} are not above 0"
    if not isinstance((linear.against_random or {}).get("low", 0.0), float | int):
        yield "linear.against_random.low is not a number"


def _calibration_problems(calibration: Calibration) -> Iterator[str]:
    x, y, error = calibration.x, calibration.y, calibration.error
    if not x or len(x) != len(y):
        yield f"calibration has {len(x)} scores and {len(y)} probabilities"
    if any(right <= left for left, right in pairwise(x)):
        yield "calibration.x does not rise"
    if any(right < left for left, right in pairwise(y)) or not all(0 <= value <= 1 for value in y):
        yield "calibration.y falls, or leaves 0 to 1"
    if error is not None and not 0 <= error <= 1:
        yield f"calibration.error is {error}, not from 0 to 1"
    if calibration.positive < 1:
        yield f"calibration.positive is {calibration.positive}, which every item has"


def _time_problems(weights: Weights) -> Iterator[str]:
    data = weights.data
    windows = {"window": data.window, "train": data.train, "valid": data.valid, "test": data.test}
    times = {"created_at": weights.created_at}
    times |= {f"data.{name}.{side}": getattr(w, side) for name, w in windows.items() for side in ("start", "end")}
    for name, time in times.items():
        if time.utcoffset() != timedelta(0):
            yield f"{name} is not UTC"
    for name, window in windows.items():
        if window.start > window.end:
            yield f"data.{name} ends before it starts"
