"""Training, validation and test rankings, built from what has landed.

Two phases, so that memory stays that of one bucket. First each hash bucket becomes a labelled table of its own
(`labels.label_bucket`) and is counted by day. Then the counts decide the split, whose parts are stretches of time and
so mere filters on the labelled tables.
"""

from __future__ import annotations

import math
import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from collections.abc import Mapping as Partitions
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import polars as pl

from ltr_pipeline.dataset.features.asof import as_of, known
from ltr_pipeline.dataset.features.snapshot import Snapshot, frozen
from ltr_pipeline.dataset.features.source import Sources
from ltr_pipeline.dataset.labels import (
    FEEDBACK_TYPES,
    Account,
    Answered,
    Joined,
    Labelled,
    answered_bucket,
    impression_types,
    joined,
    label_bucket,
    once_each,
    shown_once,
    spelling,
)
from ltr_pipeline.dataset.manifest import DatasetManifest, Part, TableUse
from ltr_pipeline.dataset.windows import Span, Windows, split
from ltr_pipeline.errors import DatasetError, NotFoundError, SourceError
from ltr_pipeline.events.chain import Chain
from ltr_pipeline.events.manifest import Manifest
from ltr_pipeline.events.partitions import Partition
from ltr_pipeline.mapping import FeatureTable, Mapping
from ltr_pipeline.schema import (
    FEEDBACK,
    IMPRESSIONS,
    ITEM_ID,
    LABELLED,
    POLICY,
    POSITION,
    QUERY_ID,
    RANKING_ID,
    RELEVANCE,
    TIME,
    USER_ID,
    feature_column,
    table_key,
)
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.storage.digest import file_sha256

__all__ = [
    "answered",
    "build",
    "build_fresh",
    "events",
    "first_shown",
    "joined_events",
    "rankings",
    "shown_features",
    "shown_times",
]


_MANY_UNSEEN: Final = 0.05
"""Share of interactions without an impression from which on their ids are looked for in other spellings: a second pass
over what was shown, which no healthy night needs."""

_WORKERS: Final = 2  # buckets at a time; their tables are too small to keep more than one core busy
_ROW_GROUP: Final = 2**14  # rows; tables are in order of time, so a part reads only its own row groups


def build(
    data: Storage,
    folder: str,
    partitions: Partitions[str, str],
    mapping: Mapping,
    windows: Windows,
    sources: Sources | None = None,
) -> DatasetManifest:
    """Label everything in the landed `partitions` and split it by time.

    Writes one labelled table a bucket below `folder`. The same landed tables give the same bytes again. Partitions
    that were landed in different numbers of buckets are joined in as many buckets as divide all of them. Without
    impressions or feedback the dataset is empty, and its manifest says so. The mapping's feature tables are frozen
    below `folder` when they are first read, and joined as of the moment each list was shown (`features.asof.as_of`).

    Parameters
    ----------
    partitions
        Folders of landed tables, such as ``events/date=2025-07-15``, and the SHA-256 of the manifest of each; empty =
        any.
    sources
        How feature tables are reached; None = files on disk, and S3 as boto3 finds it.

    Raises
    ------
    DatasetError
        No partition is given, one has not landed whole, a landed table cannot be read or was altered, or a feature
        table cannot be read or contradicts itself.
    """
    built = _built(data, folder, partitions, mapping, windows, sources)
    return _summary(built, mapping, windows, split(_questions_by_day(built.counts, windows), windows))


def build_fresh(
    data: Storage,
    folder: str,
    partitions: Partitions[str, str],
    lately: Collection[str],
    mapping: Mapping,
    windows: Windows,
    sources: Sources | None = None,
) -> DatasetManifest:
    """Label the rankings that an answer arrived for lately, whole, with what is known of them by now.

    All of them are the training part; nothing is held out. The feedback that is accounted for is what arrived lately.
    Else as `build`.

    Parameters
    ----------
    partitions
        Folders of all landed tables that may hold events of the window, and the SHA-256 of the manifest of each.
    lately
        Those of them whose answers are asked for.
    windows
        With the moment that labels are known by (`windows.since_test`).

    Raises
    ------
    DatasetError
        As `build`.
    """
    built = _built(data, folder, partitions, mapping, windows, sources, lately)
    everything, nothing = Span(start=windows.start, end=windows.cutoff), Span(start=windows.cutoff, end=windows.cutoff)
    return _summary(built, mapping, windows, (everything, nothing, nothing))


@dataclass(frozen=True)
class _Built:
    """All buckets of a dataset, before it is split."""

    landed: _LandedTables
    snapshots: Partitions[FeatureTable, Snapshot]
    buckets: Sequence[_Bucket]

    @cached_property
    def counts(self) -> pl.DataFrame:
        """The counts of all buckets, added up."""
        counts = pl.concat([bucket.counts for bucket in self.buckets])
        return counts.group_by(_COUNTED).agg(pl.col("n").sum())


def _built(
    data: Storage,
    folder: str,
    partitions: Partitions[str, str],
    mapping: Mapping,
    windows: Windows,
    sources: Sources | None,
    lately: Collection[str] | None = None,
) -> _Built:
    if not partitions:
        days = f"the {windows.window_days} days before {windows.cutoff:%Y-%m-%d}"
        raise DatasetError(f"nothing has landed for {days}; extract events first")
    landed = _LandedTables(data, partitions)
    snapshots = {
        table: frozen(table, sources or Sources(), data, folder, windows.start, windows.cutoff)
        for table in mapping.feature_tables
    }
    with ExitStack() as files, ThreadPoolExecutor(_WORKERS) as workers:
        tables = {table: files.enter_context(snapshot.local(data)) for table, snapshot in snapshots.items()}
        built = workers.map(
            lambda bucket: _build_bucket(landed, bucket, folder, mapping, windows, tables, lately),
            range(landed.buckets),
        )
        return _Built(landed, snapshots, list(built))


def _summary(dataset: _Built, mapping: Mapping, windows: Windows, spans: tuple[Span, Span, Span]) -> DatasetManifest:
    landed, built, counts = dataset.landed, dataset.buckets, dataset.counts
    feedback = sum((bucket.feedback for bucket in built), Account())
    unseen = pl.concat([bucket.unseen for bucket in built])
    train, valid, test = (_part(counts, span, windows.start, mapping.model_features) for span in spans)
    newest = next((part for part in (test, valid, train) if part.rows), train)
    return DatasetManifest(
        windows=windows,
        features=list(mapping.model_features),
        buckets=landed.buckets,
        impressions=sum((bucket.impressions for bucket in built), Account()),
        feedback=feedback,
        train=train,
        valid=valid,
        test=test,
        vanished=_without_value(newest),
        appeared=[name for name in _without_value(train) if newest.feature_missing[name] < 1],
        tables={bucket.table: bucket.sha256 for bucket in built},
        repeated_positions=_total(counts, "repeated_positions"),
        several_users=_total(counts, "several_users"),
        skewed=sum(bucket.skewed for bucket in built),
        feature_tables={table.name: _use(table, snapshot, built) for table, snapshot in dataset.snapshots.items()},
        differ_in_case=_differ_in_case(landed, unseen) if len(unseen) > _MANY_UNSEEN * feedback.landed else 0,
    )


@dataclass(frozen=True)
class _Bucket:
    """The counts and the hash of a bucket, kept once its table is written."""

    table: str
    sha256: str
    counts: pl.DataFrame
    impressions: Account
    feedback: Account
    unseen: pl.Series
    skewed: int
    without: dict[str, int]


def _build_bucket(
    landed: _LandedTables,
    bucket: int,
    folder: str,
    mapping: Mapping,
    windows: Windows,
    tables: Partitions[FeatureTable, Path],
    lately: Collection[str] | None,
) -> _Bucket:
    labelled = _label(landed, bucket, mapping, mapping.features, windows, lately)
    rows, without = labelled.table, {}
    for table, path in tables.items():
        rows, without[table.name] = as_of(rows, known(path, table, rows[table.column]), table)
    key = table_key(folder, LABELLED, bucket)
    return _Bucket(
        table=key.removeprefix(f"{folder}/"),
        sha256=_write(landed.data, key, rows),
        counts=_counts(rows, mapping.model_features, windows.start),
        impressions=labelled.impressions,
        feedback=labelled.feedback,
        unseen=labelled.unseen,
        skewed=labelled.skewed,
        without=without,
    )


def _use(table: FeatureTable, snapshot: Snapshot, built: Sequence[_Bucket]) -> TableUse:
    return TableUse(
        features=list(table.features),
        tolerance_days=table.tolerance_days,
        snapshot=snapshot,
        without=sum(bucket.without[table.name] for bucket in built),
    )


def rankings(
    data: Storage, partitions: Partitions[str, str], mapping: Mapping, windows: Windows
) -> Iterator[pl.DataFrame]:
    """Yield the labelled rankings of the landed `partitions`, without features, bucket after bucket.

    Which impressions and interactions count is as in training (`labels.label_bucket`); the rows are those of
    `labels.Labelled.table`.

    Parameters
    ----------
    mapping
        Its relevance of each action, and what it takes for one ranking.

    Raises
    ------
    DatasetError
        A partition has not landed whole, or a landed table cannot be read or was altered.
    """
    landed = _LandedTables(data, partitions)
    for bucket in range(landed.buckets):
        yield _label(landed, bucket, mapping, (), windows).table


def answered(data: Storage, partitions: Partitions[str, str], mapping: Mapping, windows: Windows) -> Iterator[Answered]:
    """Yield the lists that people saw, and what they made of them, bucket after bucket (`labels.answered_bucket`).

    Raises
    ------
    DatasetError
        As `rankings`.
    """
    landed = _LandedTables(data, partitions)
    for bucket in range(landed.buckets):
        yield answered_bucket(
            landed.read(IMPRESSIONS, bucket, impression_types(())),
            landed.read(FEEDBACK, bucket, FEEDBACK_TYPES),
            relevance=mapping.relevance,
            windows=windows,
            session_gap=mapping.session_gap,
        )


def events(
    data: Storage, partitions: Partitions[str, str], mapping: Mapping
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Yield the impressions that people saw and the interactions of the landed `partitions`, bucket after bucket.

    Each event is there once (`labels.once_each`).

    Raises
    ------
    DatasetError
        As `rankings`.
    """
    landed = _LandedTables(data, partitions)
    for bucket in range(landed.buckets):
        yield once_each(
            landed.read(IMPRESSIONS, bucket, impression_types(())),
            landed.read(FEEDBACK, bucket, FEEDBACK_TYPES),
            mapping.session_gap,
        )


def joined_events(
    data: Storage, partitions: Partitions[str, str], mapping: Mapping, span: Span, skew_seconds: float = 0.0
) -> Iterator[Joined]:
    """Yield the events of a stretch of time in the landed `partitions`, bucket after bucket (`labels.joined`).

    Raises
    ------
    DatasetError
        As `rankings`.
    """
    landed, inside = _LandedTables(data, partitions), _inside(span)
    for bucket in range(landed.buckets):
        yield joined(
            landed.read(IMPRESSIONS, bucket, impression_types(()), inside),
            landed.read(FEEDBACK, bucket, FEEDBACK_TYPES, inside),
            mapping.session_gap,
            skew_seconds,
        )


def shown_features(
    data: Storage, partitions: Partitions[str, str], mapping: Mapping, wanted: pl.Expr
) -> Iterator[pl.DataFrame]:
    """Yield some of the impressions that people saw, with the features of messages, bucket after bucket.

    Each is there once (`labels.shown_once`).

    Parameters
    ----------
    wanted
        Tells of each landed impression whether to read it; whole rankings where sessions are made of them.

    Raises
    ------
    DatasetError
        As `rankings`.
    """
    landed = _LandedTables(data, partitions)
    for bucket in range(landed.buckets):
        found = landed.read(IMPRESSIONS, bucket, impression_types(mapping.features), wanted)
        yield shown_once(found, mapping.features, mapping.session_gap)


def shown_times(data: Storage, partition: str) -> Iterator[pl.Series]:
    """Yield the times of all impressions of a landed partition, duplicates included, bucket after bucket.

    Raises
    ------
    DatasetError
        As `rankings`.
    """
    landed = _LandedTables(data, {partition: ""})
    for bucket in range(landed.buckets):
        yield landed.read(IMPRESSIONS, bucket, {TIME: impression_types(())[TIME]})[TIME]


def _inside(span: Span) -> pl.Expr:
    return pl.col(TIME).is_between(span.start, span.end, closed="left")


def first_shown(data: Storage, partitions: Partitions[str, str], policies: str, quiet: int) -> datetime | None:
    """Return when the first list of some policies was shown, going back until many landed days in a row have none.

    Parameters
    ----------
    policies
        Regular expression of their names.
    quiet
        How many days whose landings have no such list mean that what came before is another matter.

    Raises
    ------
    DatasetError
        As `rankings`.
    """
    found, without = None, 0
    for _, of_day in groupby(reversed(list(partitions)), key=lambda folder: Partition.of_folder(folder).date):
        landed = _LandedTables(data, {folder: partitions[folder] for folder in of_day})
        times = [
            landed.read(IMPRESSIONS, bucket, _SHOWN).filter(pl.col(POLICY).str.contains(policies))[TIME].min()
            for bucket in range(landed.buckets)
        ]
        known = [time for time in times if isinstance(time, datetime)]
        found = min([*known, *([found] if found else [])], default=None)
        without = 0 if known else without + 1
        if without == quiet:
            break
    return found


_SHOWN: Final[dict[Any, Any]] = {column: impression_types(())[column] for column in (POLICY, TIME)}


def _label(
    landed: _LandedTables,
    bucket: int,
    mapping: Mapping,
    features: Sequence[str],
    windows: Windows,
    lately: Collection[str] | None = None,
) -> Labelled:
    return label_bucket(
        landed.read(IMPRESSIONS, bucket, impression_types(features)),
        landed.read(FEEDBACK, bucket, FEEDBACK_TYPES),
        relevance=mapping.relevance,
        features=features,
        windows=windows,
        session_gap=mapping.session_gap,
        lately=None if lately is None else landed.read(FEEDBACK, bucket, FEEDBACK_TYPES, among=lately),
    )


class _LandedTables:
    """The landed tables of all partitions, seen as `buckets` buckets.

    A bucket of *k* is the hash modulo *k*, so where a partition has a multiple of `buckets`, every one of its tables
    belongs to a single bucket here.
    """

    def __init__(self, data: Storage, partitions: Partitions[str, str]) -> None:
        self.data = data
        self._buckets: dict[str, int] = {}
        self._sha256: dict[str, str] = {}
        for partition, sha256 in partitions.items():
            manifest = _manifest(data, partition, sha256)
            self._buckets[partition] = manifest.buckets
            self._sha256 |= {f"{partition}/{info.name}": info.sha256 for info in manifest.files}
        self.buckets = math.gcd(*self._buckets.values())

    def read(
        self,
        table: str,
        bucket: int,
        types: dict[str, Any],
        wanted: pl.Expr | None = None,
        among: Collection[str] | None = None,
    ) -> pl.DataFrame:
        """Read all rows of one bucket, or those that are wanted, partition after partition, as they landed.

        Parameters
        ----------
        among
            Partitions to read; None = all.
        """
        keys = [
            table_key(partition, table, landed)
            for partition, count in self._buckets.items()
            if among is None or partition in among
            for landed in range(bucket, count, self.buckets)
        ]
        if not keys:
            return pl.DataFrame(schema=types)
        try:
            with ExitStack() as files:
                rows = pl.scan_parquet(
                    [self._checked(key, files.enter_context(self.data.local_file(key))) for key in keys],
                    schema=types,
                    missing_columns="insert",
                    extra_columns="ignore",
                    hive_partitioning=False,
                )
                return (rows if wanted is None else rows.filter(wanted)).collect()
        except (pl.exceptions.PolarsError, NotFoundError, OSError) as error:
            raise DatasetError(
                f"bucket {bucket} of the landed {table} cannot be read: {error}; land the partition again"
            ) from error

    def _checked(self, key: str, path: Path) -> Path:
        if file_sha256(path) != self._sha256.get(key):
            raise DatasetError(
                f"{self.data.uri(key)} was altered since it landed; restore it from a copy, or accept what is there by "
                "`ltr amend DATE --reason …`"
            )
        return path


def _manifest(data: Storage, partition: str, sha256: str) -> Manifest:
    """Read the manifest of a partition, which must have this hash or have been amended since."""
    chain = Chain(data)
    try:
        link = chain.link(partition)
        if sha256 and link.sha256 not in (sha256, chain.current(sha256)):
            raise DatasetError(
                f"the manifest of {data.uri(partition)} was altered since the run began; restore it from a copy"
            )
    except (NotFoundError, SourceError) as error:
        raise DatasetError(f"{data.uri(partition)} has not landed whole: {error}; land the partition again") from error
    return link.manifest


def _write(data: Storage, key: str, table: pl.DataFrame) -> str:
    """Write a table; its SHA-256. Nothing in the file depends on when or where it is written."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "table.parquet"
        table.write_parquet(path, compression="lz4", row_group_size=_ROW_GROUP)
        data.put_file(key, path)
        return file_sha256(path)


def _counts(table: pl.DataFrame, features: Sequence[str], start: datetime) -> pl.DataFrame:
    """Count what the manifest tells by day, additive over buckets and days: columns (day, measure, value, n)."""
    rows = table.with_columns(((pl.col(TIME) - start).dt.total_days()).alias("day"))
    positions, users = pl.col(POSITION).drop_nulls(), pl.col(USER_ID).drop_nulls()
    rankings = rows.group_by(QUERY_ID, RANKING_ID, "day").agg(
        (pl.col(RELEVANCE).max() > pl.col(RELEVANCE).min()).alias("eligible"),
        pl.col(USER_ID).first(),
        (positions.n_unique() < positions.len()).alias("repeated_positions"),
        (users.n_unique() > 1).alias("several_users"),
    )
    missing = rows.group_by("day").agg(pl.col(feature_column(name)).is_nan().sum().alias(name) for name in features)
    measures = [
        rows.group_by("day", value=pl.lit("")).agg(n=pl.len(), measure=pl.lit("rows")),
        rankings.group_by("day", value=pl.lit("")).agg(n=pl.len(), measure=pl.lit("rankings")),
        *(
            rankings.group_by("day", value=pl.lit("")).agg(n=pl.col(measure).sum(), measure=pl.lit(measure))
            for measure in ("eligible", "repeated_positions", "several_users")
        ),
        rankings.filter("eligible")
        .group_by("day", value=pl.lit(""))
        .agg(n=pl.struct(USER_ID, QUERY_ID).n_unique(), measure=pl.lit("questions")),
        rows.group_by("day", value=RELEVANCE).agg(n=pl.len(), measure=pl.lit("labels")),
        rows.group_by("day", value=POSITION).agg(n=pl.len(), measure=pl.lit("positions")),
        missing.unpivot(index="day", variable_name="value", value_name="n").with_columns(measure=pl.lit("missing")),
    ]
    return pl.concat([m.select(*_COUNTED, "n").cast(_COUNT_TYPES) for m in measures])


_COUNTED: Final = ("day", "measure", "value")
_COUNT_TYPES: Final[dict[Any, Any]] = {"day": pl.Int64, "measure": pl.String, "value": pl.String, "n": pl.Int64}


def _questions_by_day(counts: pl.DataFrame, windows: Windows) -> list[int]:
    """Count the queries of users with an eligible ranking on each day."""
    asked = counts.filter(pl.col("measure") == "questions")
    by_day = dict(zip(asked["day"], asked["n"], strict=True))
    return [by_day.get(day, 0) for day in range(windows.window_days - windows.attribution_days)]


def _part(counts: pl.DataFrame, span: Span, start: datetime, features: Sequence[str]) -> Part:
    first, last = (span.start - start).days, (span.end - start).days
    inside = counts.filter(pl.col("day").is_between(first, last, closed="left"))
    summed = inside.group_by("measure", "value").agg(pl.col("n").sum()).sort("measure", "value")
    found: defaultdict[str, dict[str | None, int]] = defaultdict(dict)
    for measure, value, n in summed.iter_rows():
        found[measure][value] = n
    rows = found["rows"].get("", 0)
    return Part(
        start=span.start,
        end=span.end,
        rows=rows,
        rankings=found["rankings"].get("", 0),
        eligible=found["eligible"].get("", 0),
        labels=_histogram(found["labels"]),
        positions=_histogram(found["positions"]),
        feature_missing={name: found["missing"].get(name, 0) / max(rows, 1) for name in features},
    )


def _differ_in_case(landed: _LandedTables, unseen: pl.Series) -> int:
    """Count interactions whose item was shown for their query under another spelling of one of the ids."""
    sought, found = unseen.unique(), pl.Series(dtype=pl.UInt64)
    for bucket in range(landed.buckets):  # another spelling of the query is another bucket
        shown = landed.read(IMPRESSIONS, bucket, _PAIR).select(spelling().unique()).to_series()
        found = pl.concat([found, shown.filter(shown.is_in(sought))])
    return int(unseen.is_in(found.unique()).sum())


_PAIR: Final[dict[Any, Any]] = {QUERY_ID: pl.String, ITEM_ID: pl.String}


def _total(counts: pl.DataFrame, measure: str) -> int:
    return int(counts.filter(pl.col("measure") == measure)["n"].sum())


def _histogram(found: dict[str | None, int]) -> dict[str, int]:
    return {value or "0": found[value] for value in sorted(found, key=lambda value: int(value or 0))}


def _without_value(part: Part) -> list[str]:
    return [name for name, share in part.feature_missing.items() if share == 1]
