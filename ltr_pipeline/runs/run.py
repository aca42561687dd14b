"""One run's folder: what it was asked for, what each task left there, and its line in every log.

A run is named after its moment, ``YYYYMMDD_HHMM`` (UTC), and so is the version it may publish. Its artefacts are
written whole or not at all; what one task hands to the next is a small reference: address, sha256, a few counts.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import msgspec
import structlog

from ltr_pipeline.errors import LtrError, NotFoundError, SourceError
from ltr_pipeline.events.manifest import Landed
from ltr_pipeline.runs.logs import run_log
from ltr_pipeline.settings import Settings
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.versions.ids import Version

__all__ = ["Inputs", "Json", "Outcome", "Reference", "Request", "Run", "judged", "logged", "opened"]

log = structlog.get_logger(__name__)

T = TypeVar("T")
Json = dict[str, Any]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a run was asked for.

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
    """

    moment: dt.datetime
    window_days: Annotated[int, msgspec.Meta(ge=9, le=365)] | None = None
    dry_run: bool = False
    last_try: bool = True


class Reference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where an artefact is and what it must hash to."""

    run: str
    uri: str
    sha256: str
    counts: Json = {}
    verdict: str | None = None


class Inputs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a run reads, frozen when it starts.

    Attributes
    ----------
    run
        Name of the run, its folder and its version: ``YYYYMMDD_HHMM``.
    partitions
        Folders of the landed partitions the dataset is built from.
    landed
        What arrived for this run; None for a backfill, which reads no source.
    champion, best_recent
        Versions to compare with.
    """

    run: str
    date: dt.date
    window_days: int
    dry_run: bool
    partitions: list[str]
    landed: Landed | None
    champion: str | None
    best_recent: str | None


class Outcome(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a run ended: the version it created, if any, and whether ``latest`` moved to it."""

    run: str
    version: str | None
    moved: bool
    reason: str
    latest: str | None


class Run:
    """The artefacts of one run."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.settings = settings
        self.storage: Storage = settings.data

    def key(self, artefact: str) -> str:
        """Storage key of an artefact."""
        return f"runs/{self.name}/{artefact}"

    def write(self, artefact: str, record: object, **about: Any) -> Json:  # noqa: ANN401 - see Reference
        """Write an artefact; the reference to hand on, with the fields `about` it."""
        data = msgspec.json.format(msgspec.json.encode(record, order="deterministic"))
        self.storage.put(self.key(artefact), data)
        return self._reference(artefact, data, **about)

    def reference(self, artefact: str) -> Json:
        """Reference to an artefact as it is; NotFoundError when its task has not run."""
        return self._reference(artefact, self.storage.get(self.key(artefact)))

    def _reference(self, artefact: str, data: bytes, **about: Any) -> Json:  # noqa: ANN401
        reference = Reference(
            run=self.name, uri=self.storage.uri(self.key(artefact)), sha256=hashlib.sha256(data).hexdigest(), **about
        )
        return dict(msgspec.to_builtins(reference))

    def read(self, artefact: str, kind: type[T]) -> T:
        """An artefact; NotFoundError when its task has not run."""
        return msgspec.json.decode(self.storage.get(self.key(artefact)), type=kind)

    def read_if_there(self, artefact: str, kind: type[T]) -> T | None:
        """An artefact, or None."""
        try:
            return self.read(artefact, kind)
        except NotFoundError:
            return None

    def read_if_readable(self, artefact: str, kind: type[T]) -> T | None:
        """An artefact of another run, or None: another release may have written it in another form."""
        try:
            return self.read_if_there(artefact, kind)
        except msgspec.DecodeError:
            return None

    def verified(self, artefact: str, reference: Reference, kind: type[T]) -> T:
        """The artefact, if it is still the one that the task before wrote."""
        return msgspec.json.decode(self.verified_bytes(artefact, reference.sha256), type=kind)

    def verified_bytes(self, artefact: str, sha256: str) -> bytes:
        """Bytes of an artefact; SourceError when they are not those that its task wrote."""
        data = self.storage.get(self.key(artefact))
        if hashlib.sha256(data).hexdigest() != sha256:
            uri = self.storage.uri(self.key(artefact))
            raise SourceError(f"{uri} changed since its task wrote it; clear that task and all after it")
        return data


@contextmanager
def logged(name: str, settings: Settings, task: str) -> Iterator[Run]:
    """The run, with its name, date and task on every log line, and the end of the task logged."""
    date = f"{name[:4]}-{name[4:6]}-{name[6:8]}"
    with run_log(settings.log_folder, style=settings.log_format, run=name, date=date, task=task):
        log.info("task started")
        try:
            yield Run(name, settings)
        except LtrError as error:
            log.error("task failed", error=str(error), kind=type(error).__name__)  # noqa: TRY400 - the message says it all
            raise
        log.info("task finished")


def opened(reference: Json) -> Reference:
    """The reference that a task was handed."""
    return msgspec.convert(reference, Reference)


def judged(name: str, settings: Settings) -> Json:
    """Reference to the decision of an earlier run, to take it up again where it ended.

    Raises
    ------
    SourceError
        No run of that name has been judged.
    """
    Version.parse(name)
    run = Run(name, settings)
    try:
        return run.reference("decision.json")
    except NotFoundError as error:
        raise SourceError(
            f"run {name} has not been judged: {error}; the folders below {settings.data.uri('runs')} are the runs"
        ) from error
