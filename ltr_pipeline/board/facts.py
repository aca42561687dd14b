"""The facts that the pages tell: the history, the ledger, and which nights have a report, read again and again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, cast

import msgspec

from ltr_pipeline.errors import LtrError, NotFoundError, UnknownVersionError
from ltr_pipeline.monitoring.records import (
    KINDS,
    Alert,
    BatchRun,
    DriftReport,
    NightRecord,
    Outcomes,
    PostedMetrics,
    SegmentsTrained,
)
from ltr_pipeline.monitoring.store import History
from ltr_pipeline.runs.names import NIGHTS, REFRESHES, REPORT_FILE
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.versions.ledger import Move
from ltr_pipeline.versions.registry import Registry
from ltr_pipeline.versions.weights import Weights

__all__ = ["DAYS", "ByReference", "DriftDay", "Facts", "FeatureDay", "Reader"]

DAYS: Final = 400
"""Days that the pages look back."""


class ByReference(msgspec.Struct, frozen=True, gc=False):
    """A distance from each reference; None where there is none."""

    trailing: float | None = None
    weekday: float | None = None

    @property
    def largest(self) -> float | None:
        """The larger of the two."""
        known = [value for value in (self.trailing, self.weekday) if value is not None]
        return max(known, default=None)


class FeatureDay(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of a `FeatureDrift`: all but its distribution."""

    name: str
    status: str
    reason: str = ""
    importance: float | None = None
    psi: ByReference = ByReference()
    ks: ByReference = ByReference()
    missing: float | None = None
    reference_missing: float | None = None


class DriftDay(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="drift"):
    """What is remembered of a `DriftReport`: a year of whole ones has no room in a worker of the service."""

    date: dt.date
    status: str
    reason: str = ""
    rows: int = 0
    rankings: int = 0
    features: list[FeatureDay] = []
    alerts: list[Alert] = []
    events: list[str] = []

    @property
    def alerted(self) -> tuple[str, ...]:
        """Names of the features that differ from both references."""
        return tuple(feature.name for feature in self.features if feature.status == "alert")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that the pages tell, as it was at one moment; records are in the order of their days.

    Attributes
    ----------
    at
        When they were read (UTC).
    moves
        The ledger, oldest entry first.
    reported
        Runs that have a report.
    looked
        When data or users were last looked at; None = never.
    unreadable
        How many records could not be read.
    problem
        What could not be reached, in a sentence; empty when all could.
    """

    at: dt.datetime
    nights: Sequence[NightRecord] = ()
    drift: Sequence[DriftDay] = ()
    outcomes: Sequence[Outcomes] = ()
    batches: Sequence[BatchRun] = ()
    segments: Sequence[SegmentsTrained] = ()
    posted: Sequence[PostedMetrics] = ()
    moves: Sequence[Move] = ()
    reported: frozenset[str] = frozenset()
    looked: dt.datetime | None = None
    unreadable: int = 0
    problem: str = ""

    @cached_property
    def events(self) -> Mapping[dt.date, Sequence[str]]:
        """Declared events by day."""
        return {day.date: day.events for day in self.drift if day.events}

    @cached_property
    def rollbacks(self) -> Sequence[Move]:
        """Moves of `latest` back to a former version."""
        return [move for move in self.moves if move.move == "rollback" and move.moved]

    @cached_property
    def matured(self) -> Sequence[Outcomes]:
        """Outcomes whose feedback is complete."""
        return [one for one in self.outcomes if one.matured]

    @property
    def promoted(self) -> str | None:
        """The version that `latest` is."""
        return self.moves[-1].to if self.moves else None

    @cached_property
    def since(self) -> Move | None:
        """The move that made `latest` what it is."""
        return next((move for move in reversed(self.moves) if move.moved), None)


@dataclass
class Reader:
    """Reads the facts, each record once.

    Parameters
    ----------
    data
        Storage of the landing zone.
    registry
        Whose ledger is told; None = of no registry.
    """

    data: Storage
    registry: Registry | None = None
    history: History = field(init=False)
    _moves: Sequence[Move] = field(init=False, default=())
    _reported: frozenset[str] = field(init=False, default=frozenset())

    def __post_init__(self) -> None:
        self.history = History(self.data, {DriftReport: DriftDay})

    def facts(self, now: dt.datetime | None = None) -> Facts:
        """Read what is new; of a ledger or runs that cannot be read, what was read before stays.

        Raises
        ------
        StorageError
            The history cannot be read.
        """
        history, problem = self.history, self._look()
        at = now or dt.datetime.now(dt.UTC)
        newest = max((day for kind in KINDS.values() for day in history.dates(kind)[-1:]), default=at.date())
        since = min(newest, at.date()) - dt.timedelta(days=DAYS - 1)  # the nights of an old log are told, too
        return Facts(
            at=at,
            nights=history.read(NightRecord, since),
            drift=cast("list[DriftDay]", history.read(DriftReport, since)),
            outcomes=history.read(Outcomes, since),
            batches=history.read(BatchRun, since),
            segments=history.read(SegmentsTrained, since),
            posted=history.read(PostedMetrics, since),
            moves=self._moves,
            reported=self._reported,
            looked=_latest((history.written(DriftReport), history.written(Outcomes))),
            unreadable=len(history.unreadable),
            problem=problem,
        )

    def moves(self) -> Sequence[Move]:
        """Return the ledger as it is now, oldest entry first; RegistryError, StorageError."""
        if self.registry is not None:
            ledger = self.registry.ledger
            self._moves = [*ledger.backwards(ledger.head(), anew=False)][::-1]
        return self._moves

    def drift(self, date: dt.date | None) -> DriftReport | None:
        """Return the whole report of a day, by default the newest; None without one. StorageError."""
        return self.history.newest(DriftReport, date)

    def report(self, run: str) -> bytes:
        """Return the report of a night, else of the refresh of that name; NotFoundError, StorageError."""
        try:
            return self.data.get(f"{NIGHTS}/{run}/{REPORT_FILE}")
        except NotFoundError:
            return self.data.get(f"{REFRESHES}/{run}/{REPORT_FILE}")

    def weights(self, version: str) -> Weights:
        """Return the document of a version; UnknownVersionError, WeightsError, StorageError."""
        if self.registry is None:
            raise UnknownVersionError("there is no registry here")
        return self.registry.documents.stored(version).weights

    def _look(self) -> str:
        """Look at ledger and runs, and say what could not be read."""
        try:
            self.moves()
            keys = self.data.keys(NIGHTS)
            self._reported = frozenset(key.split("/")[1] for key in keys if key.endswith(f"/{REPORT_FILE}"))
        except LtrError as error:
            return str(error)
        return ""


def _latest(moments: Iterable[dt.datetime | None]) -> dt.datetime | None:
    return max((moment for moment in moments if moment), default=None)
