"""Segments: train them by hand, classify every day, and show the cube.

Both read the landed events alone. What takes long, counting and fitting, is done outside of a transaction; what is
written is one, so that nobody sees a part of it and what fails has changed nothing.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import polars as pl
import structlog

from ltr_pipeline.database.engine import Database, placed_name
from ltr_pipeline.database.tables import pending, ready, upgrade
from ltr_pipeline.dataset.build import events
from ltr_pipeline.errors import SegmentError
from ltr_pipeline.events.chain import partitions_for
from ltr_pipeline.events.manifest import manifest_of
from ltr_pipeline.events.partitions import landed
from ltr_pipeline.metrics.slices import UserSegments
from ltr_pipeline.monitoring.records import SegmentsTrained
from ltr_pipeline.monitoring.store import remember
from ltr_pipeline.segments import outcome, store
from ltr_pipeline.segments.comparison import compare
from ltr_pipeline.segments.engagement import ENTITY, Level, by_day, by_period
from ltr_pipeline.segments.model import notices
from ltr_pipeline.segments.outcome import Classified, Shown, TrainedLevel
from ltr_pipeline.segments.parameters import LevelParameters, Parameters
from ltr_pipeline.segments.periods import Granularity, Period, end_of, whole_periods
from ltr_pipeline.segments.store import Stored
from ltr_pipeline.segments.tables import TABLES
from ltr_pipeline.segments.training import train as fit
from ltr_pipeline.settings import Settings

__all__ = [
    "as_json",
    "check_unchanged",
    "classify",
    "init",
    "labelled",
    "opened",
    "show",
    "table_names",
    "train",
    "user_segments",
]

log = structlog.get_logger(__name__)

NUL: Final = "\0"  # PostgreSQL keeps no text with it


def as_json(found: object) -> Any:  # noqa: ANN401 - whatever JSON it is
    """Return what came of a job as plain values."""
    return msgspec.to_builtins(found, str_keys=True)


def init(settings: Settings, *, dry_run: bool = False) -> list[str]:
    """Make the tables with parameters to begin with, and return the statements that did, or with `dry_run` would."""
    with Database(settings.database) as database:
        return pending(database, [TABLES]) if dry_run else upgrade(database, [TABLES])


def train(settings: Settings, *, replace: bool = False, now: dt.datetime | None = None) -> list[TrainedLevel]:
    """Train a model for each active level, and put it in use unless it agrees too little with the former one.

    Parameters
    ----------
    replace
        Put it in use whatever the agreement.
    now
        When that is; default: now.

    Raises
    ------
    SegmentError
        The parameters cannot be used, or a level cannot be segmented; then no level gets a model.
    SourceError, DatasetError, DatabaseError
        Events cannot be read; the database cannot be had.
    """
    now = now or dt.datetime.now(dt.UTC)
    with opened(settings) as database:
        with database.begin(write=False) as connection:
            parameters = store.read_parameters(database, connection)
            former = {level.level: store.model_in_use(database, connection, level.level) for level in parameters.levels}
        periods = _periods(settings, parameters.granularity, parameters)
        counted, _ = _counted(settings, {level.level: periods for level in parameters.levels})
        made = []
        for level in parameters.levels:
            began = time.perf_counter()
            engagement = counted[level.level]
            model = fit(engagement, level, parameters, periods, seed=settings.seed, now=now)
            before = former[level.level]
            comparison = compare(engagement, model, before.model, before.version) if before else None
            made.append((model, comparison, time.perf_counter() - began))
        with database.begin() as connection:
            store.lock_models(database, connection)
            for model, _, _ in made:
                known = former[model.level]
                check_unchanged(store.model_in_use(database, connection, model.level), known.version if known else None)
            added = [
                store.add_model(database, connection, model, comparison, use=replace or outcome.agrees(comparison))
                for model, comparison, _ in made
            ]
            stored = [store.model_of(database, connection, one.model.level, one.version) for one in added]
    found = [
        outcome.trained(one, comparison, language=parameters.language, seconds=seconds, replace=replace)
        for one, (_, comparison, seconds) in zip(stored, made, strict=True)
    ]
    for one in found:
        log.info("segments trained", segmented=one.level, version=one.version, in_use=one.in_use, said=one.said)
    for one, (model, _, _) in zip(found, made, strict=True):
        places = pl.Series(model.assign(counted[one.level]))
        sizes = {label: int((places == place).sum()) for place, label in enumerate(one.labels)}
        remember(settings.data, _record(one, sizes, now.date()))
    return found


def _record(trained: TrainedLevel, sizes: dict[str, int], date: dt.date) -> SegmentsTrained:
    """Return what the history keeps of a training."""
    return SegmentsTrained(
        date=date,
        level=trained.level,
        version=trained.version,
        in_use=trained.in_use,
        entities=trained.entities,
        agreement=trained.comparison.ari if trained.comparison else None,
        silhouette=trained.silhouette,
        sizes=sizes,
        said=trained.said,
    )


def classify(settings: Settings, *, now: dt.datetime | None = None) -> Classified:
    """Classify every active level anew by the models in use, and replace the whole cube in one transaction.

    Raises
    ------
    SegmentError
        A level has no model, or there is nothing to classify; the cube stays as it is.
    SourceError, DatasetError, DatabaseError
        Events cannot be read; the database cannot be had. The cube stays as it is.
    """
    now, began = now or dt.datetime.now(dt.UTC), time.perf_counter()
    with opened(settings) as database:
        with database.begin(write=False) as connection:
            parameters = store.read_parameters(database, connection)
            models = {
                level.level: _needed(store.model_in_use(database, connection, level.level), level)
                for level in parameters.levels
            }
        periods = {level: _periods(settings, stored.model.granularity, parameters) for level, stored in models.items()}
        counted, left_out = _counted(settings, periods)
        for level, stored in models.items():
            centroids = pl.Series("centroid_id", stored.model.assign(counted[level]))
            counted[level] = counted[level].with_columns(centroids)
        with database.begin() as connection:
            cube = [
                labelled(
                    stored,
                    counted[level],
                    store.labels_of(database, connection, level, stored.version, parameters.language),
                )
                for level, stored in models.items()
            ]
            rows = store.replace_cube(database, connection, cube, now)
    said = _notices(models, parameters, now)
    for notice in said:
        log.warning("segments may be out of date", notice=notice)
    if left_out:
        log.warning("entities were left out, as no database keeps their ids", rows=left_out)
    levels = [outcome.classified(stored, table) for stored, table in zip(models.values(), cube, strict=True)]
    log.info("segments classified", rows=rows, levels={level.level: level.segments for level in levels})
    return Classified(levels=levels, notices=said, rows=rows, left_out=left_out, seconds=time.perf_counter() - began)


def show(settings: Settings, *, now: dt.datetime | None = None) -> Shown:
    """Return what is in the cube, and what its models are."""
    now = now or dt.datetime.now(dt.UTC)
    with opened(settings) as database, database.begin(write=False) as connection:
        parameters = store.read_parameters(database, connection)
        rows = store.counts(database, connection)
        levels = dict.fromkeys([level.level for level in parameters.levels] + [row.level for row in rows])
        models = {level: store.model_in_use(database, connection, level) for level in levels}
    shown = [
        outcome.shown(level, stored, [row for row in rows if row.level == level])
        for level, stored in models.items()
        if stored or any(row.level == level for row in rows)
    ]
    active = {level.level: stored for level in parameters.levels if (stored := models[level.level])}
    return Shown(levels=shown, notices=_notices(active, parameters, now))


def user_segments(settings: Settings, before: dt.date, users: pl.Series) -> UserSegments | None:
    """Return the segments of some users in the newest classified period that was over on a day.

    Where nothing has been classified there are none, and no table is made either.

    Parameters
    ----------
    before
        First day whose events must not have made the segments, as the first test day.
    users
        Their ids; null is no user.
    """
    with Database(settings.database) as database, database.begin(write=False) as connection:
        if not store.is_there(database, connection):
            return None
        periods = store.user_periods(database, connection)
        over = [one for one in periods if end_of(one[0], one[1]) <= before]
        if not over:
            return None
        granularity, period = max(over, key=lambda one: one[1])
        wanted = set(users.drop_nulls().to_list())
        found = [row for row in store.segments_of_users(database, connection, period, granularity) if row[0] in wanted]
    order = {label: None for _, _, label in sorted(found, key=lambda row: row[1])}
    return UserSegments(period=period, labels=list(order), of_user={user: label for user, _, label in found})


@contextmanager
def opened(settings: Settings) -> Iterator[Database]:
    """Open the database, with the tables of segments; errors name them as they are named there."""
    with Database(settings.database) as database:
        ready(database, [TABLES])
        try:
            yield database
        except SegmentError as error:
            raise SegmentError(table_names(settings, str(error))) from error


def table_names(settings: Settings, said: str) -> str:
    """Name tables of segments in a text as they are named in the database: SQLite has no schemas."""
    if settings.database.kind == "postgresql":
        return said
    for table in TABLES.metadata.tables.values():
        said = said.replace(table.fullname, placed_name(table))
    return said


def _periods(settings: Settings, granularity: Granularity, parameters: Parameters) -> list[Period]:
    """Return the configured periods, as far as what has landed covers them whole."""
    partitions = landed(settings.data)
    if not partitions:
        raise SegmentError(f"nothing has landed in {settings.data.uri()}; `ltr run` lands events")
    first, last = manifest_of(settings.data, partitions[0].folder), partitions[-1].date
    since = first.date if first.previous else first.since.date()
    until = min(parameters.until or last, last)
    found = [period for period in whole_periods(granularity, parameters.periods, until) if period.start >= since]
    if not found:
        raise SegmentError(
            f"no whole {granularity} has landed before {until}: events are there from {since} on; choose a shorter "
            "granularity or another until in config.segment_parameters, or wait"
        )
    return found


def _counted(settings: Settings, periods: Mapping[str, Sequence[Period]]) -> tuple[dict[str, pl.DataFrame], int]:
    """Count the engagement of each level in its periods, bucket after bucket; rows that no database keeps, too."""
    start = min(one[0].start for one in periods.values())
    end = max(one[-1].end for one in periods.values())
    midnight = dt.datetime.combine(start, dt.time(), dt.UTC)
    partitions = partitions_for(settings.data, end, midnight, settings.trusted_keys)
    relevance = settings.mapping.relevance
    days: dict[str, list[pl.DataFrame]] = {level: [] for level in periods}
    if partitions:
        for shown, answers in events(settings.data, partitions, settings.mapping):
            for level in periods:
                days[level].append(by_day(shown, answers, relevance, _as_level(level)))
    every = {level: by_period(days[level], periods[level]) for level in periods}
    kept = {level: table.filter(~pl.col(ENTITY).str.contains(NUL, literal=True)) for level, table in every.items()}
    for level, table in kept.items():
        if table.is_empty():
            raise _nothing(level, periods[level])
    return kept, sum(map(len, every.values())) - sum(map(len, kept.values()))


def _as_level(level: str) -> Level:
    return "user" if level == "user" else "item"


def _nothing(level: str, periods: Sequence[Period]) -> SegmentError:
    key = "user_id" if level == "user" else "item_id"
    return SegmentError(
        f"level {level}: no event from {periods[0].start} to {periods[-1].end} names one; say where {key} is in the "
        f"mapping, or switch the level off in config.segment_levels"
    )


def check_unchanged(now: Stored | None, before: int | None) -> None:
    """Raise SegmentError where another version is in use than before."""
    if (now and now.version) != before:
        raise SegmentError("another training put a model in use meanwhile; nothing was changed, train again")


def _needed(stored: Stored | None, level: LevelParameters) -> Stored:
    if stored is None:
        raise SegmentError(
            f"level {level.level} has no model in use: `ltr segments train` makes one; the cube stays as it is"
        )
    return stored


def labelled(stored: Stored, table: pl.DataFrame, labels: Mapping[int, str]) -> pl.DataFrame:
    """Give assigned rows their labels and everything else that the cube tells of them."""
    if lacking := sorted(set(table["centroid_id"].unique()) - labels.keys()):
        raise SegmentError(
            f"analytics.mapeamento_labels_engajamento has no label for centroid {lacking[0]} of version "
            f"{stored.version} of level {stored.model.level}; add it, or train again"
        )
    return table.with_columns(
        pl.col("centroid_id").replace_strict(dict(labels), return_dtype=pl.String).alias("label"),
        pl.lit(stored.model.level).alias("level"),
        pl.lit(stored.model.granularity).alias("granularity"),
        pl.lit(stored.version).alias("model_version"),
    )


def _notices(models: Mapping[str, Stored], parameters: Parameters, now: dt.datetime) -> list[str]:
    levels = {level.level: level for level in parameters.levels}
    return [
        notice for name, stored in models.items() for notice in notices(stored.model, levels[name], parameters, now)
    ]
