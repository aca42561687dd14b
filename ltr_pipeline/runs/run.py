"""One run's folder: what it was asked for, what each task left there, and its line in every log.

The folders of nights lie in one folder, those of hourly refreshes in another, so that whoever lists nights sees no
other. A run is named after its moment, ``YYYYMMDD_HHMM`` (UTC), and so is the version it may publish. Its artefacts are
written whole or not at all; what one task hands to the next is a small reference: address, sha256, a few counts.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
import structlog

from ltr_pipeline.calendar import Occasion
from ltr_pipeline.errors import LtrError, NotFoundError, SourceError
from ltr_pipeline.events.manifest import Landed
from ltr_pipeline.events.partitions import Partition
from ltr_pipeline.runs.logs import run_log
from ltr_pipeline.runs.names import DECISION_FILE, NIGHTS
from ltr_pipeline.runs.outcome import Outcome
from ltr_pipeline.schedule import EVERY_NIGHT
from ltr_pipeline.settings import Settings, load_settings
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.versions.ids import Version

__all__ = [
    "Artefact",
    "Inputs",
    "Json",
    "Outcome",
    "Reference",
    "Run",
    "RunRequest",
    "judged",
    "logged",
    "opened",
    "task",
]

log = structlog.get_logger(__name__)

T = TypeVar("T")
Json = dict[str, Any]


class RunRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The request that starts a run.

    Attributes
    ----------
    moment
        The run's logical date, or when it was triggered; names the run and its version.
    window_days
        Instead of ``LTR_WINDOW_DAYS``.
    dry_run
        Judge, but publish nothing.
    last_try
        The first task will not be tried again: what it needs and cannot reach is done without, where it can be.
    retrain
        Train, whether it is due or not.
    by_hand
        Somebody asked for the run, instead of the schedule.
    """

    moment: dt.datetime
    window_days: Annotated[int, msgspec.Meta(ge=9, le=365)] | None = None
    dry_run: bool = False
    last_try: bool = True
    retrain: bool = False
    by_hand: bool = False


class Reference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where an artefact is and what it must hash to."""

    run: str
    uri: str
    sha256: str
    counts: Json = {}
    verdict: str | None = None
    kind: str = NIGHTS


class Inputs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The inputs of a run, frozen when it starts.

    Attributes
    ----------
    run
        Name of the run, its folder and its version: ``YYYYMMDD_HHMM``.
    partitions
        Folders of the landed partitions the dataset is built from.
    manifests
        SHA-256 of each partition's manifest; empty in runs of releases before 0.2.
    landed
        What arrived in the 24 hours up to this run; None for a backfill, which reads no source.
    arrived
        Folders of the partitions that brought it, oldest first; empty in runs of releases that landed once a night.
    champion, best_recent
        Versions to compare with.
    simulated
        Whether the event log was a simulated one.
    trains, because
        Whether a model is trained, and why, or why not, in words; of releases before 0.2 every run trained.
    by_hand
        Whether somebody asked for the run, instead of the schedule.
    occasions
        Declared events of the window, as the calendar had them.
    night, mode
        Of an hourly refresh of `champion`: the night on whose test days it is judged, and how it is made; None of a
        night.
    """

    run: str
    date: dt.date
    window_days: int
    dry_run: bool
    partitions: list[str]
    landed: Landed | None
    champion: str | None
    best_recent: str | None
    manifests: dict[str, str] = {}
    simulated: bool = False
    trains: bool = True
    because: str = EVERY_NIGHT
    by_hand: bool = False
    occasions: tuple[Occasion, ...] = ()
    arrived: list[str] = []
    night: str | None = None
    mode: Literal["refit", "full"] | None = None

    @property
    def landings(self) -> list[str]:
        """Return the folders of the partitions that `landed` counts; none for a backfill."""
        if self.landed is None:
            return []
        return self.arrived or [Partition.of_night(self.date).folder]


@dataclass(frozen=True)
class Artefact(Generic[T]):
    """One file of a run's folder.

    Attributes
    ----------
    name
        Of the file.
    kind
        What it holds: a record, as JSON, or bytes as they are.
    """

    name: str
    kind: type[T]

    def encode(self, content: T) -> bytes:
        """Return the bytes of the file."""
        if isinstance(content, bytes):
            return content
        return msgspec.json.format(msgspec.json.encode(content, order="deterministic"))

    def decode(self, data: bytes) -> T:
        """Return the content of the file; msgspec.DecodeError when it is no such record."""
        return msgspec.convert(data, self.kind) if self.kind is bytes else msgspec.json.decode(data, type=self.kind)


class Run:
    """The artefacts of one run.

    Parameters
    ----------
    kind
        Folder of the runs of its kind: `names.NIGHTS` or `names.REFRESHES`.
    """

    def __init__(self, name: str, settings: Settings, kind: str = NIGHTS) -> None:
        self.name = name
        self.settings = settings
        self.kind = kind
        self.folder = f"{kind}/{name}"
        self.storage: Storage = settings.data

    def key(self, name: str) -> str:
        """Return the storage key of a file or folder of the run."""
        return f"{self.folder}/{name}"

    def uri(self, artefact: Artefact[Any]) -> str:
        """Return the address of an artefact."""
        return self.storage.uri(self.key(artefact.name))

    def write(self, artefact: Artefact[T], content: T, **about: Any) -> Json:  # noqa: ANN401 - see Reference
        """Write an artefact; the reference to hand on, with the fields `about` it."""
        data = artefact.encode(content)
        self.storage.put(self.key(artefact.name), data)
        return self._reference(artefact.name, data, **about)

    def reference(self, name: str) -> Json:
        """Return the reference to an artefact as it is; NotFoundError when its task has not run."""
        return self._reference(name, self.storage.get(self.key(name)))

    def _reference(self, name: str, data: bytes, **about: Any) -> Json:  # noqa: ANN401
        reference = Reference(
            run=self.name,
            uri=self.storage.uri(self.key(name)),
            sha256=hashlib.sha256(data).hexdigest(),
            kind=self.kind,
            **about,
        )
        return dict(msgspec.to_builtins(reference))

    def read(self, artefact: Artefact[T]) -> T:
        """Read an artefact; NotFoundError when its task has not run."""
        return artefact.decode(self.storage.get(self.key(artefact.name)))

    def read_if_there(self, artefact: Artefact[T]) -> T | None:
        """Read an artefact, if its task has run."""
        try:
            return self.read(artefact)
        except NotFoundError:
            return None

    def read_if_readable(self, artefact: Artefact[T]) -> T | None:
        """Read an artefact of another run, or give None: another release may have written it in another form."""
        try:
            return self.read_if_there(artefact)
        except msgspec.DecodeError:
            return None

    def verified(self, artefact: Artefact[T], sha256: str) -> T:
        """Read an artefact; SourceError when it is no longer the one that its task wrote."""
        data = self.storage.get(self.key(artefact.name))
        if hashlib.sha256(data).hexdigest() != sha256:
            raise SourceError(f"{self.uri(artefact)} changed since its task wrote it; clear that task and all after it")
        return artefact.decode(data)


@contextmanager
def task(name: str, handed: Json, artefact: Artefact[T], settings: Settings | None) -> Iterator[tuple[Run, T]]:
    """Open the run for one of its tasks, and read what the task before left there.

    Parameters
    ----------
    name
        Of the task.
    handed
        Reference to the artefact, as the task before gave it.
    settings
        None = those of the environment.

    Raises
    ------
    SourceError
        The artefact is no longer the one that the task before wrote.
    """
    reference = opened(handed)
    with logged(reference.run, settings, name, reference.kind) as run:
        yield run, run.verified(artefact, reference.sha256)


@contextmanager
def logged(name: str, settings: Settings | None, task: str, kind: str = NIGHTS) -> Iterator[Run]:
    """Open the run, with its name, date and task on every log line, and log the end of the task.

    Without `settings` those of the environment are taken.
    """
    settings = settings or load_settings()
    date = f"{Version.parse(name).time:%Y-%m-%d}"
    with run_log(settings.log_folder, style=settings.log_format, run=name, date=date, task=task):
        log.info("task started", world=settings.world)
        try:
            yield Run(name, settings, kind)
        except LtrError as error:
            log.error("task failed", error=str(error), kind=type(error).__name__)  # noqa: TRY400 - the message says it all
            raise
        log.info("task finished")


def opened(reference: Json) -> Reference:
    """Parse the reference that a task was handed."""
    return msgspec.convert(reference, Reference)


def judged(name: str, settings: Settings) -> Json:
    """Return the reference to the decision of an earlier run, to take it up again where it ended.

    Raises
    ------
    SourceError
        No run of that name has been judged.
    """
    Version.parse(name)
    run = Run(name, settings)
    try:
        return run.reference(DECISION_FILE)
    except NotFoundError as error:
        raise SourceError(
            f"run {name} has not been judged: {error}; the folders below {settings.data.uri('runs')} are the runs"
        ) from error
