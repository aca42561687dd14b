"""Two versions on the same rankings, which neither was trained on: a night's own comparison, or one made now.

A version's document says how it compared with the version in use in its night. Of any other two the newer one's test
rankings tell, as long as its run's folder has them; a child measures (`apart`), as that takes more memory than who
shows a page has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ltr_pipeline.board.child import Place, answer, serve
from ltr_pipeline.errors import NotFoundError, StorageError
from ltr_pipeline.monitoring.records import Figure
from ltr_pipeline.runs.names import DATASET_FILE, NIGHTS, run_name
from ltr_pipeline.settings import Settings
from ltr_pipeline.versions.ids import Version
from ltr_pipeline.versions.weights import Weights

__all__ = ["Duel", "apart", "in_order", "recorded"]

CHILD_SECONDS: Final = 90.0
REFRESH: Final = "a refresh is compared with its parent alone, in its own hour"
FAILED: Final = "it could not be measured"
KEYS: Final = ("value", "low", "high", "n")


class Duel(msgspec.Struct, frozen=True, kw_only=True):
    """The difference of two versions on the rankings of a night that neither was trained on.

    Attributes
    ----------
    newer, older
        Versions; the night is the newer one's.
    delta
        nDCG@5 of the newer minus that of the older, ranking by ranking; None where it cannot be had.
    reason
        Why it cannot.
    """

    newer: str
    older: str
    delta: Figure | None = None
    reason: str = ""

    def of(self, version: str) -> Figure | None:
        """Return the difference as this version minus the other."""
        delta = self.delta
        if delta is None or version == self.newer:
            return delta
        low, high = (None if end is None else -end for end in (delta.high, delta.low))
        return Figure(value=None if delta.value is None else -delta.value, low=low, high=high, n=delta.n)


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The question that a child gets by its standard input."""

    place: Place
    newer: Weights
    older: Weights


def in_order(one: Weights, other: Weights) -> tuple[Weights, Weights]:
    """Return the newer version, by its test days, and the older one."""
    if (one.data.test.end, one.version) >= (other.data.test.end, other.version):
        return one, other
    return other, one


def recorded(one: Weights, other: Weights) -> Duel | None:
    """Return what the night of one of them has found of the two; None where it compared with another."""
    for newer, older in (in_order(one, other), in_order(one, other)[::-1]):
        against: Mapping[str, Any] = newer.champion or {}
        if against.get("version") == older.version and (delta := against.get("delta")):
            return Duel(newer=newer.version, older=older.version, delta=Figure(**{key: delta[key] for key in KEYS}))
    return None


def apart(settings: Settings, one: Weights, other: Weights) -> Duel:
    """Compare two versions by a process of its own; where they cannot be, its `reason` says why.

    Parameters
    ----------
    settings
        Where the data is, whose ``runs/`` may have the newer one's test rankings.
    """
    newer, older = in_order(one, other)
    duel = Duel(newer=newer.version, older=older.version)
    asked = _Asked(place=Place.of(settings.data_uri, settings.s3), newer=newer, older=older)
    if newer.parent or older.parent:
        return _unknown(duel, REFRESH)
    try:
        if not settings.data.exists(f"{_run(newer)}/{DATASET_FILE}"):
            return _unknown(duel, _gone(newer))
        return msgspec.json.decode(answer("ltr_pipeline.board.duel", asked, CHILD_SECONDS, FAILED), type=Duel)
    except StorageError as error:
        return _unknown(duel, str(error))


def _run(weights: Weights) -> str:
    """Return the folder of the night that made a version."""
    return f"{NIGHTS}/{run_name(Version.parse(weights.version).time)}"


def _unknown(duel: Duel, reason: str) -> Duel:
    return msgspec.structs.replace(duel, reason=reason)


def _gone(newer: Weights) -> str:
    return f"the test rankings of {newer.version} are no longer kept"


def _measured(asked: _Asked) -> Duel:
    """Score the newer one's test rankings by both."""
    from ltr_pipeline.dataset.load import load_part
    from ltr_pipeline.gate import measure
    from ltr_pipeline.gate.rivals import Rival, Rivals
    from ltr_pipeline.report.artefacts import DATASET, TABLES, TRAINED
    from ltr_pipeline.scoring.scorer import Scorer

    data, newer, older = asked.place.open(), asked.newer, asked.older
    run = _run(newer)
    duel = Duel(newer=newer.version, older=older.version)
    try:
        manifest = DATASET.decode(data.get(f"{run}/{DATASET.name}"))
        trained = TRAINED.decode(data.get(f"{run}/{TRAINED.name}"))
        if trained.model_sha256 != newer.model.sha256:
            return _unknown(duel, f"the night of {newer.version} was repeated since")
        test = load_part(data, f"{run}/{TABLES}", manifest, "test")
    except (NotFoundError, msgspec.DecodeError):
        return _unknown(duel, _gone(newer))
    scorers = [Scorer.from_model(weights.model.text, weights.feature_names) for weights in (newer, older)]
    rival = Rival(version=older.version, scorer=scorers[1], seen_until=older.data.seen_until)
    days = measure.HeldOut(
        test=test, manifest=manifest, trained_on=test.ids.select(measure.TRAINED_ON), seed=1, group_share_min=0.0
    )
    found = measure.against(measure.Contest(days, scorers[0], Rivals(champion=rival)), rival, "champion")
    if found.delta is None:
        return _unknown(duel, found.reason or "too few users answered to tell")
    delta = msgspec.to_builtins(found.delta)
    return msgspec.structs.replace(duel, delta=Figure(**{key: delta[key] for key in KEYS}))


if __name__ == "__main__":
    serve(_Asked, _measured)
