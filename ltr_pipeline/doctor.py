"""Whether a night would go well: broker, topic, event log, storage and registry, examined and said in plain words."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Final, Literal
from uuid import uuid4

import msgspec

from ltr_pipeline import variables as airflow_variables
from ltr_pipeline.calendar import Calendar
from ltr_pipeline.dataset.features.source import Sources, checked
from ltr_pipeline.dataset.windows import Windows
from ltr_pipeline.errors import LtrError, SourceError, SourceUnavailableError
from ltr_pipeline.events import landing
from ltr_pipeline.events.manifest import manifest_of
from ltr_pipeline.events.partitions import landed
from ltr_pipeline.events.sources.files import find
from ltr_pipeline.events.worlds import check_one_world
from ltr_pipeline.kafka.brokers import Brokers, connected
from ltr_pipeline.kafka.connection import KafkaConnection
from ltr_pipeline.printable import counted
from ltr_pipeline.ranker.train import check_parameters
from ltr_pipeline.report.nights import nights
from ltr_pipeline.schedule import newest_night
from ltr_pipeline.scoring.kernel import load
from ltr_pipeline.settings import Settings, unread
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.variables import VARIABLES, Found
from ltr_pipeline.versions.ids import Version

__all__ = ["Finding", "examine"]

Status = Literal["ok", "warning", "problem"]

SHORT: Final = dt.timedelta(days=3)
"""A topic that keeps messages for less loses some when a weekend's nights fail."""


KEPT_IN_A_ROW: Final = 3
"""Nights without a new version after which somebody should look."""

OLD: Final = dt.timedelta(days=2)
"""The newest night is seldom older: one was missed."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One finding of the examination: whether one thing is as a night needs it."""

    subject: str
    status: Status
    text: str


Findings = Iterator[tuple[Status, str]]


def examine(
    settings: Settings,
    kind: type[Settings] = Settings,
    variables: Callable[[], Found | None] = lambda: None,
    database: Callable[[Settings], Findings] = lambda _: iter(()),
) -> Iterator[Finding]:
    """Examine everything a night needs; nothing is changed but for an object that is written and removed again.

    Parameters
    ----------
    kind
        Class that has all settings there are, by which misspelt ones are known.
    variables
        Returns the nights' Variables in Airflow; None where there is none.
    database
        Looks at the database; what does knows every room's tables.
    """
    checks: list[tuple[str, Callable[[Settings], Findings]]] = [
        ("environment", lambda _: _environment(kind)),
        ("world", _world),
        ("mapping", _mapping),
        ("calendar", _calendar),
        ("feature tables", _feature_tables),
        ("parameters", _parameters),
        ("scoring", lambda _: _scoring()),
        ("gate", lambda _: _gate(variables())),
        ("Kafka", _kafka),
        ("event log", _files),
        ("landing zone", _landed),
        ("data", lambda settings: _writable(settings.data)),
        ("registry", _registry),
        ("last night", _nights),
        ("database", database),
    ]
    for subject, check in checks:
        try:
            for status, text in check(settings):
                yield Finding(subject=subject, status=status, text=text)
        except LtrError as error:
            yield Finding(subject=subject, status="problem", text=str(error))


def _environment(kind: type[Settings]) -> Findings:
    misspelt = unread(kind)
    for text in misspelt:
        yield "warning", text
    if not misspelt:
        yield "ok", "a setting reads every variable LTR_… that is set"


def _gate(found: Found | None) -> Findings:
    """Tell which of its Variables a night would refuse, or not read at all."""
    if found is None:
        yield "ok", "no Airflow here: `ltr variables` shows the nights' Variables where it is"
        return
    said: list[tuple[Status, str]] = [("warning", text) for text in airflow_variables.unread(found)]
    for variable, has in zip(VARIABLES, found.variables, strict=True):
        if text := airflow_variables.remark(variable, has):
            status: Status = "warning" if airflow_variables.allowed(variable, has) else "problem"
            said.append((status, f"{variable.name} is {has.value!r}: {text}"))
    yield from said or [("ok", f"the {len(VARIABLES)} Variables have values that a night takes")]


def _world(settings: Settings) -> Findings:
    yield "ok", settings.world
    since = dt.datetime.now(dt.UTC) - dt.timedelta(days=settings.window_days)
    check_one_world(settings.data, since, settings.mapping, simulated=settings.simulated)


def _mapping(settings: Settings) -> Findings:
    mapping = settings.mapping
    kinds = ", ".join((*mapping.impression_kinds, *mapping.feedback_kinds))
    yield "ok", f"{len(mapping.model_features)} features; messages read: {kinds}"


def _calendar(settings: Settings) -> Findings:
    if settings.calendar_path is None:
        yield "ok", "no declared events (LTR_CALENDAR is empty)"
        return
    calendar, now = settings.calendar, dt.datetime.now(dt.UTC)
    coming = calendar.next(now.date())
    then = f"the next is {coming.name} from {coming.first} ({coming.treatment})" if coming else "none is to come"
    yield "ok", f"{_declared(calendar)}; {then}"
    start, end = now.date() - dt.timedelta(days=settings.window_days), now.date() - dt.timedelta(days=1)
    windows = Windows(
        cutoff=dt.datetime.combine(now, dt.time(), dt.UTC),
        window_days=settings.window_days,
        attribution_days=settings.attribution_days,
        occasions=tuple(calendar.between(start, end)),
    )
    held_out = settings.attribution_days + settings.test_days + settings.valid_days
    if (left_out := len(windows.left_out)) + held_out >= settings.window_days:
        yield (
            "warning",
            f"it leaves no day to train on: {left_out} of the {settings.window_days} days of the window are left out, "
            f"and {held_out} are held out; weigh days instead (weight = 0.2), or raise LTR_WINDOW_DAYS",
        )


def _declared(calendar: Calendar) -> str:
    holidays = f"the holidays of {calendar.holidays.country}" if calendar.holidays else ""
    events = counted(len(calendar.declared), "declared event") if calendar.declared or not holidays else ""
    return " and ".join(filter(None, [events, holidays]))


def _feature_tables(settings: Settings) -> Findings:
    for table in settings.mapping.feature_tables:
        try:
            checked(table, Sources(settings.s3, settings.database))
        except LtrError as error:
            yield "problem", str(error)
        else:
            yield "ok", f"{table.name} has its columns: {', '.join(table.features)} of each {table.entity}"


def _parameters(settings: Settings) -> Findings:
    check_parameters(settings.parameters, settings.mapping.model_features)
    own = ", ".join(settings.parameters)
    yield "ok", f"LTR_PARAMETERS sets {own}" if own else "LTR_PARAMETERS is empty: training has its defaults"


def _scoring() -> Findings:
    try:
        kernel = load()
    except OSError as error:
        yield (
            "warning",
            "numpy scores models, which takes several times as long as the compiled kernel; install a C compiler and "
            f"call `.venv/bin/python deploy/kernel.py` in a checkout, or build the wheel again ({error})",
        )
    else:
        yield "ok", f"the compiled kernel scores models, {kernel.lanes} rows at once"


def _kafka(settings: Settings) -> Findings:
    connection = settings.kafka
    if connection is None:
        yield "ok", "not configured (KAFKA_BOOTSTRAP_SERVERS is empty): events come from files"
        return
    with connected(connection) as brokers:
        topic_id, partitions = brokers.topic()
        begins, ends = brokers.begins(partitions), brokers.ends(partitions)
        kept = _kept(brokers, settings.window_days)
    held = sum(ends[part] - begins[part] for part in partitions)
    yield (
        "ok",
        f"{connection.topic} has {len(partitions)} partitions with {held:,} messages, read by {connection.reads_with}",
    )
    yield kept
    yield from _lag(connection, settings.data, topic_id, begins, ends)


def _kept(brokers: Brokers, window_days: int) -> tuple[Status, str]:
    """Return how long the topic keeps its messages; nothing where the user may not see that."""
    try:
        return _retention(brokers.retention(), window_days)
    except SourceUnavailableError:
        raise
    except SourceError as error:
        return "warning", f"how long the topic keeps messages is not known: {error}"


def _retention(retention: dt.timedelta | None, window_days: int) -> tuple[Status, str]:
    if retention is None:
        return "ok", "the topic keeps messages without a time limit"
    days = retention / dt.timedelta(days=1)
    if retention < SHORT:
        return (
            "problem",
            f"the topic keeps messages for {days:.3g} days: nights that fail lose some; raise retention.ms",
        )
    if days < window_days:
        return (
            "warning",
            f"the topic keeps messages for {days:.3g} days, less than the window of {window_days}: the first nights "
            "see less; later ones do not, as the landing zone keeps what has landed",
        )
    return "ok", f"the topic keeps messages for {days:.3g} days, the window is {window_days}"


def _lag(
    connection: KafkaConnection, data: Storage, topic_id: str, begins: dict[int, int], ends: dict[int, int]
) -> Findings:
    landed = landing.cursor(data, "kafka")
    cursor = {part.partition: part.end for part in landed if part.identity.get("topic_id") == topic_id}
    if not landed:
        yield "ok", "nothing has landed from it yet: the first night reads back to the beginning of the window"
        return
    if not cursor:
        yield "warning", f"{connection.topic} was recreated since the last night: it will be read from its beginning"
    new = sum(end - max(cursor.get(part, 0), begins[part]) for part, end in ends.items())
    yield "ok", f"{new:,} messages have arrived since the last night that read it"
    if lost := sum(max(0, begins[part] - cursor.get(part, 0)) for part in ends if cursor):
        yield "problem", f"{lost:,} messages were removed by retention before they were read; raise retention.ms"


def _files(settings: Settings) -> Findings:
    try:
        files = find(settings.events_path)
    except LtrError as error:
        if settings.kafka is None:
            raise
        yield "warning", f"no fallback when Kafka is away: {error}"
        return
    size = sum(path.stat().st_size for path in files) / 1e6
    use = "the fallback when Kafka is away" if settings.kafka else "the source of events"
    yield "ok", f"{counted(len(files), 'file')}, {size:,.1f} MB at {settings.events_path}: {use}"


def _landed(settings: Settings) -> Findings:
    partitions = landed(settings.data)
    if not partitions:
        yield "ok", "nothing has landed yet"
        return
    last = partitions[-1]
    manifest, nights = manifest_of(settings.data, last.folder), len({one.date for one in partitions})
    often = f" in {len(partitions)} landings" if len(partitions) > nights else ""
    which = last.name if often else last.date
    yield (
        "ok",
        f"{counted(nights, 'night')} landed{often}, the last for {which} with {manifest.impressions:,} impressions",
    )
    if manifest.fallback:
        yield "warning", f"that night read files instead of Kafka: {manifest.fallback}"
    if (late := (newest_night(dt.datetime.now(dt.UTC)) - last.date).days) > 0:
        due = counted(late, "night")
        yield "warning", f"{due} due since did not land; is the DAG toggled on, and is its scheduler running?"


def _nights(settings: Settings) -> Findings:
    newest = nights(settings, KEPT_IN_A_ROW)
    if not newest:
        yield "ok", "no night has run yet"
        return
    last = newest[0]
    report = f"; report: {last.report}" if last.report else ""
    yield "warning" if last.verdict == "unfinished" else "ok", f"{last.run} {last.verdict}: {last.reason}{report}"
    if len(newest) == KEPT_IN_A_ROW and all(night.verdict == "kept" for night in newest):
        yield "warning", f"the last {KEPT_IN_A_ROW} nights all kept the former version; `ltr runs` says why"
    age = dt.datetime.now(dt.UTC) - Version.parse(last.run).time
    if age > OLD:
        yield "warning", f"that was {age.days} days ago; is the DAG toggled on, and is its scheduler running?"


def _writable(storage: Storage) -> Findings:
    key, content = f"doctor/{uuid4().hex}", b"examined"
    storage.create(key, content)
    try:
        if storage.get(key) != content:
            yield "problem", f"{storage.uri(key)} reads differently from what was written"
            return
    finally:
        storage.delete(key)
    yield "ok", f"{storage.uri()} can be written and read"


def _registry(settings: Settings) -> Findings:
    registry = settings.registry
    yield from _writable(registry.storage)
    if settings.s3_bucket and not settings.signing_key:
        yield (
            "warning",
            "documents are not signed: who can write to the bucket can change the model; set LTR_SIGNING_KEY",
        )
    head = registry.ledger.head()
    if head is None:
        yield "ok", "nothing is published yet"
        return
    broken = [found for found in registry.verify() if not found.ok]
    pin = ", pinned: `ltr unpin` lets the next publish move it" if head.pin else ""
    yield ("warning" if head.pin else "ok"), f"latest is {head.to}{pin}"
    for found in broken:
        yield "problem", f"{found.version}: {found.problem}"
