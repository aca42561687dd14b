"""The declarative mapping from another domain's messages to impressions and feedback.

One TOML file says which field means what, which messages are impressions and which feedback, which features are
allowed in and what an action is worth. The package's default reads the lawyers-for-cases wire format.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from ltr_pipeline.errors import MappingError
from ltr_pipeline.names import misspelt, unknown_keys
from ltr_pipeline.schema import (
    ACTION,
    AVAILABLE,
    COLUMNS,
    EVENT_ID,
    ITEM_ID,
    LABEL,
    POLICY,
    POSITION,
    PROPENSITY,
    PROTECTED_GROUP,
    QUERY_ID,
    RANKING_ID,
    SHADOW,
    TEAM,
    TIME,
    USER_ID,
)

__all__ = ["MAX_RELEVANCE", "POSITIVE", "FeatureTable", "Mapping", "TimeUnit", "load_mapping"]

MAX_RELEVANCE: Final = 30  # LightGBM's label_gain is 2^relevance - 1 in a 32-bit integer
POSITIVE: Final = 2  # in the default mapping: accepted or won
MAX_GAP: Final = 24 * 60  # minutes; a longer gap would join the days that it is there to tell apart
MESSAGE: Final = "$."
"""How a path begins that is the message's even where an item of its list has a field of that name."""

FEATURES = "features"  # the field that holds the object of features
PAIR: Final = ("name", "value")
"""Fields of a feature that is written as a pair."""

_HASHED: Final = (
    *(QUERY_ID, ITEM_ID, TIME, FEATURES, USER_ID, POSITION, ACTION, LABEL, EVENT_ID, RANKING_ID, PROTECTED_GROUP),
    *(AVAILABLE, POLICY, PROPENSITY, TEAM, SHADOW),
)
"""Fields that have always been hashed, in that order: so a mapping keeps its hash when columns are added."""

_NOT_HASHED: Final = ("known_before", "positive", "feature_tables", "continues")
"""Fields that change nothing of what is read."""

_FEATURE_NAME = re.compile(r"[\w.-]+")

OPTIONS: Final = ("ids", "time_unit", "features_as", "flags", "session_gap_minutes")
"""Fields of a mapping that say how other domains write; at its default an option is not hashed."""

_ENTITIES: Final = {"item": ITEM_ID, "user": USER_ID, "query": QUERY_ID}

TimeUnit = Literal["RFC 3339", "seconds", "milliseconds"]


class FeatureTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of features that change: each row holds for one entity from its time on.

    Attributes
    ----------
    name
        Of the table, for reports and messages.
    address
        A Parquet or CSV file (a path or glob, or ``s3://bucket/key``), or ``sql:`` and a SELECT or the name of a table
        of the database.
    entity
        Which id of an impression the rows belong to.
    key
        The column with that id; None: ``item_id``, ``user_id`` or ``query_id``.
    time
        The column that says from when on a row is known; without a zone it is UTC.
    features
        Names of the features, and of their columns.
    tolerance_days
        A value that is older than that when a list is shown is missing.
    """

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    address: Annotated[str, msgspec.Meta(min_length=1)]
    entity: Literal["item", "user", "query"]
    time: str
    features: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    tolerance_days: Annotated[float, msgspec.Meta(gt=0, le=3660)]
    key: str | None = None

    @property
    def column(self) -> str:
        """Return the column of impressions that has the entity's id."""
        return _ENTITIES[self.entity]

    @property
    def key_column(self) -> str:
        """Return the column of the table that has the entity's id."""
        return self.key or self.column

    @property
    def tolerance(self) -> timedelta:
        """Return the age up to which a value counts."""
        return timedelta(days=self.tolerance_days)


class Mapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The meaning of messages: which fields hold which columns, and which messages are which events.

    Attributes
    ----------
    kind
        Paths of the field that tells a message's kind.
    impression_kinds, feedback_kinds
        Its values that make an impression or an interaction; every other message is ignored and counted.
    items
        Paths of the list in a message that shows a whole list at once.
    features
        Allow-list of the features that messages hold, in model order.
    feature_tables
        Tables of further features, which follow in the model's order; they are joined as of the moment a list was
        shown. Not hashed, as nothing that is read of messages depends on them.
    fields
        Dotted paths of each column of `schema.COLUMNS`, and of the object of features, tried in order; one that is not
        there is not in these messages. In a message that shows a list each is looked for in the item and then in the
        message, and one that begins with ``$.`` in the message alone.
    relevance
        Graded relevance of each feedback action.
    legacy_weights
        Weights of the linear ranker this one replaces, by feature; empty when there was none.
    ids
        Whether ids (`schema.Column.may_be_number`) are text alone, or also whole numbers, which stand for their text.
    time_unit
        How times are written: as RFC 3339 text, or as a number of seconds or milliseconds since 1970.
    features_as
        How features are written: as one object, or as a list of ``{"name": ..., "value": ...}``.
    flags
        What true and false are as the value of a feature: refused, or 1 and 0.
    session_gap_minutes
        Where a message names no ranking, a ranking is what one user was shown for one query without a longer gap; None:
        all that was shown for the query on that day (UTC).
    known_before
        Features that you know are known before a list is shown, whatever the feature audit makes of them. Not hashed.
    positive
        Least relevance whose probability the scores are calibrated to; None: `POSITIVE`, or the highest there is where
        that is less. Not hashed, as nothing that is read depends on it.
    continues
        How the SHA-256 of each mapping begins that this one revises: what landed under them is learned from, too. It is
        not hashed.
    """

    kind: tuple[str, ...]
    impression_kinds: tuple[str, ...]
    feedback_kinds: tuple[str, ...]
    features: tuple[str, ...]
    fields: dict[str, tuple[str, ...]]
    relevance: dict[str, int]
    items: tuple[str, ...] = ()
    legacy_weights: dict[str, float] = {}
    ids: Literal["text", "text or number"] = "text"
    time_unit: TimeUnit = "RFC 3339"
    features_as: Literal["object", "pairs"] = "object"
    flags: Literal["refused", "1 or 0"] = "refused"
    session_gap_minutes: float | None = None
    known_before: tuple[str, ...] = ()
    positive: Annotated[int, msgspec.Meta(ge=1, le=MAX_RELEVANCE)] | None = None
    feature_tables: tuple[FeatureTable, ...] = ()
    continues: tuple[Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{12,64}$")], ...] = ()

    @property
    def sha256(self) -> str:
        """Of its content, whatever the order of the keys.

        A column that is not in these messages adds nothing, and neither does an option that has its default.
        """
        named = sorted(name for name, paths in self.fields.items() if paths)
        fields = msgspec.structs.fields(self)
        plain = [field.name for field in fields if field.name in OPTIONS and getattr(self, field.name) == field.default]
        left_out = {*plain, *_NOT_HASHED}
        given = {name: value for name, value in msgspec.structs.asdict(self).items() if name not in left_out}
        content = given | {
            "fields": {name: self.paths(name) for name in dict.fromkeys((*_HASHED, *named))},
            "relevance": dict(sorted(self.relevance.items())),
            "legacy_weights": dict(sorted(self.legacy_weights.items())),
        }
        return hashlib.sha256(msgspec.json.encode(content)).hexdigest()

    @property
    def max_relevance(self) -> int:
        """Highest relevance any action has."""
        return max(self.relevance.values())

    @property
    def model_features(self) -> tuple[str, ...]:
        """Return all features of the model, in its order: those of messages, then those of each table."""
        return (*self.features, *(name for table in self.feature_tables for name in table.features))

    @property
    def least_positive(self) -> int:
        """Least relevance whose probability the scores are calibrated to."""
        return self.positive or max(1, min(POSITIVE, self.max_relevance))

    @property
    def session_gap(self) -> timedelta | None:
        """Return the longest time between two impressions of one unnamed ranking; None when its day is what counts."""
        return None if self.session_gap_minutes is None else timedelta(minutes=self.session_gap_minutes)

    def continues_from(self, sha256: str) -> bool:
        """Tell whether what landed under the mapping of this hash may be learned from, too."""
        return sha256 == self.sha256 or any(map(sha256.startswith, self.continues))

    def paths(self, column: str) -> tuple[str, ...]:
        """Return the dotted paths of a column; none when it is not in these messages."""
        return self.fields.get(column, ())


def load_mapping(path: Path | None = None) -> Mapping:
    """Return the mapping in a TOML file, or the package's default.

    Raises
    ------
    MappingError
        The file cannot be read, has unknown or missing keys, or contradicts itself.

    Examples
    --------
    >>> load_mapping().relevance["won"]
    3
    """
    where = str(path) if path else "the default mapping"
    try:
        data = path.read_bytes() if path else files(__package__).joinpath("default_mapping.toml").read_bytes()
        mapping = msgspec.toml.decode(data, type=Mapping)
    except OSError as error:
        raise MappingError(f"{where}: {error.strerror}; check LTR_MAPPING") from error
    except msgspec.ValidationError as error:
        raise MappingError(f"{where}: {unknown_keys(error, Mapping)}; {_COMPARE}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MappingError(f"{where}: {error}; {_COMPARE}") from error
    problems = _contradictions(mapping)
    if problems:
        raise MappingError(f"{where}: {'; '.join(problems)}")
    return mapping


_COMPARE: Final = "compare it with the default mapping in docs/events.md"


def _fields_problems(fields: dict[str, tuple[str, ...]]) -> Iterator[str]:
    known = {FEATURES, *(column.name for column in COLUMNS)}
    needed = [FEATURES, *(column.name for column in COLUMNS if column.needed)]
    if unknown := sorted(fields.keys() - known):
        yield f"fields has {misspelt(unknown, known)}, which are no columns; there are {', '.join(sorted(known))}"
    if missing := [name for name in needed if name not in fields]:
        yield f"fields lacks {missing}; say where they are"
    own = {FEATURES, *(column.name for column in COLUMNS if not column.inherited)}
    if wrong := sorted(name for name in own if any(path.startswith(MESSAGE) for path in fields.get(name, ()))):
        yield f"{wrong} belong to each item, so that their paths cannot begin with {MESSAGE}"


def _option_problems(mapping: Mapping) -> Iterator[str]:
    gap = mapping.session_gap_minutes
    if gap is not None and not 0 < gap <= MAX_GAP:
        yield f"session_gap_minutes must be above 0 and at most {MAX_GAP}"
    if gap is not None and not mapping.paths(USER_ID):
        yield "session_gap_minutes needs the path of user_id: a session is one user's"
    if mapping.features_as == "pairs" and "" in mapping.paths(FEATURES):
        yield 'features_as = "pairs" needs the path of the list; features has the empty path, the message'


def _feature_table_problems(mapping: Mapping) -> Iterator[str]:
    names = [table.name for table in mapping.feature_tables]
    if len(set(names)) != len(names):
        yield "feature_tables have one name twice"
    for table in mapping.feature_tables:
        if not mapping.paths(table.column):
            yield f"feature table {table.name} needs the path of {table.column}"
        if table.key_column == table.time or {table.key_column, table.time} & set(table.features):
            yield f"feature table {table.name} has key, time and features in columns of their own"


def _feature_problems(mapping: Mapping) -> Iterator[str]:
    features = mapping.model_features
    if not mapping.features or len(set(features)) != len(features):
        yield "features must name at least one feature, each once, those of feature_tables included"
    if unfit := [name for name in features if not _FEATURE_NAME.fullmatch(name)]:
        yield f"features {unfit} cannot be names in a LightGBM model; use letters, digits, '_', '.' and '-'"
    for field in ("legacy_weights", "known_before"):
        if unknown := sorted(set(getattr(mapping, field)) - set(features)):
            yield f"{field} names {misspelt(unknown, features)}, which are not features"


def _contradictions(mapping: Mapping) -> list[str]:
    problems = [*_fields_problems(mapping.fields)]
    if not mapping.impression_kinds:
        problems.append("impression_kinds is empty, so no message would be an impression")
    if both := set(mapping.impression_kinds) & set(mapping.feedback_kinds):
        problems.append(f"{sorted(both)} cannot be both impression and feedback")
    if not mapping.relevance or not all(0 <= r <= MAX_RELEVANCE for r in mapping.relevance.values()):
        problems.append(f"relevance must give each action a whole number from 0 to {MAX_RELEVANCE}")
    if (mapping.positive or 0) > max(mapping.relevance.values(), default=MAX_RELEVANCE):
        problems.append(f"positive is {mapping.positive}, but no action has a relevance that high")
    if not all(0 <= weight < math.inf for weight in mapping.legacy_weights.values()):
        problems.append("legacy_weights must be finite and not negative")
    return [
        *problems,
        *_feature_problems(mapping),
        *_feature_table_problems(mapping),
        *_option_problems(mapping),
    ]
