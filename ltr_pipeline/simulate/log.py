"""The log that a world would have left: messages in the wire format, in order of arrival.

The lines of a day are a pure function of world and day, so a log that is continued a day at a time equals one that was
written at once. A day's lines are what *arrives* on it, feedback on lists of earlier days included.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
import polars as pl

from ltr_pipeline.errors import StorageError
from ltr_pipeline.schema import (
    AVAILABLE,
    EVENT_ID,
    ITEM_ID,
    POSITION,
    PROTECTED_GROUP,
    QUERY_ID,
    RANKING_ID,
    RATING,
    RATINGS,
    RELEVANCE,
    TIME,
    USER_ID,
)
from ltr_pipeline.simulate.draw import rankings_on
from ltr_pipeline.simulate.world import ACTIONS, FEATURES, GROUPS, Ranker, ShownLists, World

__all__ = ["HORIZON_DAYS", "Rankers", "Summary", "arrivals", "truth", "write_log"]

HORIZON_DAYS: Final = 10
"""Nothing arrives later than this after its list was shown: a week of feedback, two days late, one redelivered."""

LATEST_HOURS: Final = 48.0
REDELIVERY_HOURS: Final = 24.0
BROKEN_SHARE: Final = 0.05  # on a day with the outage "malformed"
ARRIVAL: Final = "arrival"
LEGACY: Final = "legacy"

Rankers: TypeAlias = Callable[[date], Ranker | None]
"""What ranked the lists of a day; None = the legacy weights."""

KINDS: Final = pl.Enum(["impression", "feedback", "malformed", "unrelated"])

CONTENT: Final = 0.25  # utility that is rated 3 on average
_TIMES, _DELIVERY, _RATINGS = 100, 101, 102  # streams of random numbers
_US = pl.Datetime("us", "UTC")


def by_legacy(_day: date) -> Ranker | None:
    """Say that the legacy weights ranked the lists of a day."""
    return None


class Summary(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Counts of the messages written. `lines` is the sum of the five counts after it."""

    first: date
    days: int
    lines: int
    impressions: int
    feedback: int
    duplicates: int
    malformed: int
    unrelated: int


def write_log(
    path: Path, world: World, first: date, days: int, *, append: bool = False, rankers: Rankers = by_legacy
) -> Summary:
    """Write what arrives on `days` days from `first` on, as JSON lines.

    Appending a later day gives the same bytes as writing all days at once.

    Parameters
    ----------
    rankers
        What ranked the lists of each day; the legacy weights where it says None.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    counts: Counter[str] = Counter()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab" if append else "wb") as file:
            for log in arrivals(world, first, days, rankers):
                log.select("line").write_csv(file, include_header=False, quote_style="never")
                counts.update(_counts(log))
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}; check the path, its permissions and space") from error
    return Summary(
        first=first,
        days=days,
        lines=counts.total(),
        impressions=counts["impression"],
        feedback=counts["feedback"],
        duplicates=counts["duplicate"],
        malformed=counts["malformed"],
        unrelated=counts["unrelated"],
    )


def arrivals(world: World, first: date, days: int, rankers: Rankers = by_legacy) -> Iterator[pl.DataFrame]:
    """Yield one frame a day, in order of arrival.

    Columns: `arrival` (datetime), `kind` (`KINDS`), `duplicate` (bool: redelivered) and `line` (str).
    """
    earlier = [first - timedelta(days=back) for back in range(HORIZON_DAYS, 0, -1)]
    pending = [_messages(world, day, rankers(day)) for day in earlier]
    for day in (first + timedelta(days=ahead) for ahead in range(days)):
        midnight = _midnight(day + timedelta(days=1))
        pending = [
            log.filter(pl.col(ARRIVAL) >= _midnight(day)) for log in [*pending, _messages(world, day, rankers(day))]
        ]
        arrived = pl.concat(pending).filter(pl.col(ARRIVAL) < midnight).sort(ARRIVAL, maintain_order=True)
        yield _without_lost(arrived, world, day)
        pending = pending[-HORIZON_DAYS:]


def truth(world: World, first: date, days: int) -> pl.DataFrame:
    """Return each impression shown on `days` days from `first` on, unavailable ones too, with the truth about it.

    Columns: `query_id`, `ranking_id`, `item_id`, `user_id`, `time`, `position`, `protected_group`, `available`,
    `utility` (float64), `relevance` (int8, inside three days) and `event_id`.
    """
    columns = [QUERY_ID, RANKING_ID, ITEM_ID, USER_ID, TIME, POSITION, PROTECTED_GROUP, AVAILABLE, EVENT_ID]
    every = []
    for day in (first + timedelta(days=ahead) for ahead in range(days)):
        shown = rankings_on(world, day)
        labels = pl.Series(RELEVANCE, shown.relevance(), dtype=pl.Int8)
        every.append(_shown(world, day, shown).select(columns).with_columns(labels, utility=pl.Series(shown.utility)))
    return pl.concat(every)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _counts(log: pl.DataFrame) -> dict[str, int]:
    named = pl.when("duplicate").then(pl.lit("duplicate")).otherwise(pl.col("kind").cast(pl.String)).alias("kind")
    return dict(log.group_by(named).len().iter_rows())


def _without_lost(log: pl.DataFrame, world: World, day: date) -> pl.DataFrame:
    outage = world.outages.get(day)
    if outage == "silent":
        return log.clear()
    return log.filter(pl.col("kind") != "feedback") if outage == "no_feedback" else log


def _shown(world: World, day: date, shown: ShownLists) -> pl.DataFrame:
    """Give impressions their identifiers and times; lists are numbered in the order of the day."""
    rng, name = world.rng(_TIMES, day.toordinal()), f"{day:%Y%m%d}"
    seconds = np.sort((86_400 * rng.beta(3.0, 2.6, size=len(shown.group))).astype(np.int64))  # most by daylight
    ranking, rows = shown.ranking, np.arange(len(shown.item))
    frame = pl.DataFrame(
        {
            "case": shown.case[ranking],
            "ranking": ranking,
            ITEM_ID: shown.item,
            USER_ID: shown.user[ranking],
            TIME: seconds[ranking],
            POSITION: shown.position,
            AVAILABLE: shown.available,
            "row": rows,
        }
    )
    return frame.select(
        pl.format("case-{}", "case").alias(QUERY_ID),
        pl.format(f"r{name}-{{}}", "ranking").alias(RANKING_ID),
        pl.format("lawyer-{}", ITEM_ID).alias(ITEM_ID),
        pl.format("u-{}", USER_ID).alias(USER_ID),
        (pl.lit(_midnight(day), dtype=_US) + pl.duration(seconds=TIME)).alias(TIME),
        POSITION,
        _named(PROTECTED_GROUP, GROUPS, shown.protected_group),
        AVAILABLE,
        pl.format(f"i{name}-{{}}", "row").alias(EVENT_ID),
    )


def _messages(world: World, day: date, ranker: Ranker | None) -> pl.DataFrame:
    """Return all messages that lists shown on `day` will ever send, whenever they arrive."""
    shown = rankings_on(world, day, ranker)
    frame, rng = _shown(world, day, shown), world.rng(_DELIVERY, day.toordinal())
    sound = pl.concat(
        [
            _impressions(frame, shown, ranker.version if ranker else LEGACY),
            _feedback(frame, shown, _ratings(world, day, shown)),
        ]
    )
    late = np.where(rng.random(len(sound)) < world.late_share, _hours(rng, len(sound), LATEST_HOURS), 0)
    sound = _delayed(sound, late)
    again = sound.filter(rng.random(len(sound)) < world.duplicate_share).with_columns(duplicate=True)
    again = _delayed(again, _hours(rng, len(again), REDELIVERY_HOURS))
    share = BROKEN_SHARE if world.outages.get(day) == "malformed" else world.malformed_share
    broken = _malformed(sound[: len(frame)], rng, int(rng.poisson(share * len(sound))), f"x{day:%Y%m%d}")
    return pl.concat([sound, again, broken, _unrelated(world, day, rng, len(sound))])


def _hours(rng: np.random.Generator, count: int, most: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Draw delays in hours, exponential, float64 (count,)."""
    return (0.2 + most / 5 * rng.standard_exponential(count)).clip(max=most)


def _seconds(hours: np.ndarray[Any, Any]) -> pl.Expr:
    """Return durations, cut to whole seconds."""
    return pl.duration(seconds=pl.lit(pl.Series((3600.0 * hours).astype(np.int64))))


def _named(column: str, names: Sequence[str], codes: np.ndarray[Any, Any]) -> pl.Series:
    """Name of each code; -1 is null."""
    return pl.Series(column, [*names, None], dtype=pl.String).gather(codes.astype(np.int64) % (len(names) + 1))


def _delayed(log: pl.DataFrame, hours: np.ndarray[Any, Any]) -> pl.DataFrame:
    return log.with_columns(pl.col(ARRIVAL) + _seconds(hours))


def _encoded(frame: pl.DataFrame, kind: str, message: str, context: list[pl.Expr]) -> pl.DataFrame:
    """Write the rows of `frame` as lines of JSON that arrive when they happen."""
    stamp = pl.col(TIME).dt.to_string("%Y-%m-%dT%H:%M:%SZ").alias("timestamp")
    event = pl.struct(stamp, pl.lit(message).alias("message"), pl.struct(context).alias("context"))
    return frame.select(
        pl.col(TIME).alias(ARRIVAL),
        pl.lit(kind, dtype=KINDS).alias("kind"),
        pl.lit(False).alias("duplicate"),
        event.struct.json_encode().alias("line"),
    )


_IDENTIFIERS: Final = [
    pl.col(EVENT_ID).alias("event_id"),
    pl.col(QUERY_ID).alias("case_id"),
    pl.col(RANKING_ID).alias("ranking_id"),
    pl.col(ITEM_ID).alias("lawyer_id"),
    pl.col(USER_ID).alias("user_id"),
]


def _impressions(frame: pl.DataFrame, shown: ShownLists, version: str) -> pl.DataFrame:
    features = [pl.Series(name, shown.features[:, index]) for index, name in enumerate(FEATURES)]
    context = [
        *_IDENTIFIERS,
        pl.col(POSITION).alias("rank_position"),
        pl.struct(pl.col(name).fill_nan(None) for name in FEATURES).alias("features"),
        pl.col(PROTECTED_GROUP).alias("group"),
        pl.col(AVAILABLE).alias("available"),
        pl.lit("balanced").alias("preset"),
        *_policy(shown, version),
    ]
    return _encoded(frame.with_columns(features), "impression", "match_recommendation", context)


def _policy(shown: ShownLists, version: str) -> list[pl.Expr]:
    """Say what decided the order, and where coins did, the propensity; a world that never explores has none."""
    plain, explored = pl.lit(version), ~np.isnan(shown.propensity)
    if not explored.any():
        return [plain.alias("algorithm_version")]
    policy = pl.when(pl.lit(pl.Series(explored))).then(pl.lit(f"{version}+explore")).otherwise(plain)
    return [policy.alias("algorithm_version"), pl.lit(pl.Series(shown.propensity)).fill_nan(None).alias("propensity")]


def _ratings(world: World, day: date, shown: ShownLists) -> pl.Series:
    """Draw what clients think of those that they answered, int8 (n,), 1 to 5; null where nobody says.

    Of a stream of its own, so that the rest of the world is the same without ratings.
    """
    rng = world.rng(_RATINGS, day.toordinal())
    said = (rng.random(len(shown.item)) < world.rated_share) & (shown.answer >= 0)
    felt = 3 + 2 * (shown.utility - CONTENT) + 0.8 * rng.normal(size=len(shown.item))
    rating = pl.Series(RATING, felt.round().clip(*RATINGS), dtype=pl.Int8)
    return rating.zip_with(pl.Series(said), pl.Series([None], dtype=pl.Int8))


def _feedback(frame: pl.DataFrame, shown: ShownLists, ratings: pl.Series) -> pl.DataFrame:
    """Return the answers; what a client thinks of it comes with the last one."""
    steps = [(shown.answer, shown.answer_hours), (shown.outcome, shown.outcome_hours)]
    ended = pl.Series(shown.outcome >= 0)
    rated = [frame.with_columns(ratings.zip_with(last, pl.Series([None], dtype=pl.Int8))) for last in (~ended, ended)]
    done = [
        _interactions(frame, action, hours, number)
        for number, (frame, (action, hours)) in enumerate(zip(rated, steps, strict=True), start=1)
    ]
    log = _encoded(pl.concat(done), "feedback", "offer_feedback", [*_IDENTIFIERS, pl.col("action"), pl.col(RATING)])
    return log.with_columns(pl.col("line").str.replace(f',"{RATING}":null', "", literal=True))


def _interactions(
    frame: pl.DataFrame, action: np.ndarray[Any, Any], hours: np.ndarray[Any, Any], number: int
) -> pl.DataFrame:
    """Return the `number`-th answers to impressions, at their own times and with their own event ids."""
    return frame.with_columns(
        pl.col(TIME) + _seconds(hours),
        pl.format(f"{{}}-f{number}", EVENT_ID).alias(EVENT_ID),
        _named("action", ACTIONS, action),
    ).filter(pl.col("action").is_not_null())


def _malformed(impressions: pl.DataFrame, rng: np.random.Generator, count: int, name: str) -> pl.DataFrame:
    """Add broken variants of `count` messages to the sound ones, so that the truth stays whole."""
    if not len(impressions):
        return impressions
    chosen = impressions[rng.integers(len(impressions), size=count)]
    ways = [list(_BREAK)[way] for way in rng.integers(len(_BREAK), size=count)]
    lines = [_broken(line, way, f"{name}-{i}") for i, (line, way) in enumerate(zip(chosen["line"], ways, strict=True))]
    kind = pl.lit("malformed", dtype=KINDS).alias("kind")
    return chosen.with_columns(kind, pl.Series("line", lines, dtype=pl.String))


_BREAK: Final[dict[str, Callable[[dict[str, Any]], object]]] = {
    "wrong type": lambda context: context.update(features="none"),
    "missing id": lambda context: context.pop("case_id"),
    "impossible position": lambda context: context.update(rank_position=0),
    "unknown action": lambda context: context.update(action="shrugged"),
    "truncated": dict.copy,  # cut below
}


def _broken(line: str, way: str, event_id: str) -> str:
    event = msgspec.json.decode(line)
    event["context"]["event_id"] = event_id
    _BREAK[way](event["context"])
    if way == "unknown action":
        event["message"] = "offer_feedback"
    text = msgspec.json.encode(event).decode()
    return text[: len(text) * 2 // 3] if way == "truncated" else text


def _unrelated(world: World, day: date, rng: np.random.Generator, sound: int) -> pl.DataFrame:
    """Draw messages of other parts of the site in the same log."""
    count = int(rng.poisson(world.unrelated_share * sound))
    frame = pl.DataFrame({USER_ID: rng.integers(world.clients, size=count), TIME: rng.integers(86_400, size=count)})
    frame = frame.with_columns((pl.lit(_midnight(day), dtype=_US) + pl.duration(seconds=TIME)).alias(TIME))
    return _encoded(frame, "unrelated", "user_login", [pl.format("u-{}", USER_ID).alias("user_id")])
