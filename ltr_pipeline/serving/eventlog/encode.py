"""From an answered request to the messages that a nightly run reads: the mapping, the other way round.

A shown list becomes one message where the mapping knows lists, else one message for each item, its columns where the
`layout` has them. A column that is left without a path is not written (`Encoder.left_out`).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final
from uuid import uuid4

import msgspec

from ltr_pipeline.errors import RequestError
from ltr_pipeline.mapping import FEATURES, PAIR
from ltr_pipeline.mapping import Mapping as EventMapping
from ltr_pipeline.schema import (
    ACTION,
    AS_SERVED,
    EVENT_ID,
    ITEM_ID,
    POLICY,
    POSITION,
    PROPENSITY,
    PROTECTED_GROUP,
    QUERY_ID,
    RANKING_ID,
    RATING,
    SHADOW,
    TEAM,
    TIME,
    USER_ID,
)
from ltr_pipeline.scoring.kernel import fastest
from ltr_pipeline.scoring.reading import Rows
from ltr_pipeline.scoring.requests import is_list
from ltr_pipeline.serving import wire
from ltr_pipeline.serving.eventlog.layout import (
    ITEMS,
    KIND,
    OF_FEEDBACK,
    OF_ITEM,
    OF_LIST,
    Path,
    column_paths,
    layout_of,
    messages,
    one_message,
    placed_paths,
    shortest_first,
)

__all__ = ["AnsweredList", "Encoder", "Interaction", "columns_of", "new_request_id", "query_of"]

LONGEST_MESSAGE: Final = 900_000
"""Largest message in bytes: brokers take a megabyte with its envelope; a longer list is written in parts."""


_PLAIN: Final = {*OF_LIST, *OF_ITEM, *OF_FEEDBACK} - {
    QUERY_ID,
    RANKING_ID,
    ITEM_ID,
    USER_ID,
    EVENT_ID,
    ACTION,
    FEATURES,
}


_REQUEST_ID: Final = re.compile(r"[0-9a-f]{32}\.([A-Za-z0-9_-]+)")
_encode = msgspec.json.Encoder().encode
_numbers = msgspec.json.Decoder(dict[str, float | None]).decode


class AnsweredList(msgspec.Struct, frozen=True, kw_only=True):
    """A ranked list that the service gave as an answer.

    Attributes
    ----------
    request_id
        Id of the answer; becomes the ranking_id.
    event_id
        Lets a list that is delivered twice count once.
    seconds
        When it was answered, in seconds since 1970.
    policy
        What decided the order: a version, or how two orders were mixed.
    shadow
        Whether no user saw the list, or it was shown for a test: then it never trains a model.
    candidates
        The returned candidates, best first.
    features
        Names of the model's features, for candidates that give a list.
    propensities, teams
        One for each candidate, see `order.Mixed`.
    columns
        Other columns of the request, see `columns_of`.
    """

    request_id: str
    event_id: str
    query_id: str
    user_id: str | None
    seconds: float
    policy: str
    shadow: bool
    candidates: Sequence[wire.RankCandidate]
    features: tuple[str, ...]
    propensities: Sequence[float] | None = None
    teams: Sequence[str] | None = None
    columns: dict[str, Any] = {}

    def only(self, items: Sequence[str]) -> AnsweredList:
        """Return the list as it was really shown: these items in this order; RequestError for items that are not in it.

        Propensities hold when every item stands where it was returned; otherwise they are left out.
        """
        rows = {candidate.item_id: row for row, candidate in enumerate(self.candidates)}
        if unknown := [item for item in items if item not in rows]:
            raise RequestError(f"{unknown[:5]} are not among the {len(rows)} items of request {self.request_id}")
        chosen = [rows[item] for item in dict.fromkeys(items)]
        in_place = chosen == list(range(len(chosen)))
        return msgspec.structs.replace(
            self,
            candidates=[self.candidates[row] for row in chosen],
            propensities=self.propensities[: len(chosen)] if self.propensities and in_place else None,
            teams=[self.teams[row] for row in chosen] if self.teams else None,
        )


class Interaction(msgspec.Struct, frozen=True, kw_only=True):
    """Something a user did with an item; `request_id` is None when only the query is known.

    Attributes
    ----------
    action
        None where the user only rated.
    columns
        Other columns of the feedback, see `columns_of`.
    """

    event_id: str
    query_id: str
    request_id: str | None
    item_id: str
    user_id: str | None
    action: str | None
    seconds: float
    columns: dict[str, Any] = {}


def columns_of(given: wire.RankRequest | wire.RankCandidate | wire.FeedbackItem) -> dict[str, Any]:
    """Return the columns that have a field of their name there, and are written as it says."""
    return {name: getattr(given, name) for name in _plain_fields(type(given))}


@cache
def _plain_fields(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    return tuple(name for name in kind.__struct_fields__ if name in _PLAIN)


def new_request_id(query_id: str, unique: str | None = None) -> str:
    """Make a new id for an answer. It holds the query's id, so that feedback needs to name nothing else.

    Parameters
    ----------
    unique
        32 hexadecimal digits that make the id new; drawn when they are not given.

    >>> query_of(new_request_id("case-123"))
    'case-123'
    """
    return f"{unique or uuid4().hex}.{base64.urlsafe_b64encode(query_id.encode()).decode().rstrip('=')}"


def query_of(request_id: str) -> str | None:
    """Return the query in a request id; None for an id that no such service made."""
    match = _REQUEST_ID.fullmatch(request_id)
    if match is None:
        return None
    try:
        return base64.urlsafe_b64decode(match[1] + "=" * (-len(match[1]) % 4)).decode() or None
    except (binascii.Error, ValueError):
        return None


class Encoder:
    """Writes messages in the form that a mapping reads.

    Attributes
    ----------
    left_out
        Columns that have no path in the mapping, or only paths that are taken.
    actions
        Actions that feedback may name.
    rates
        Whether feedback can carry a rating.

    Raises
    ------
    SettingsError
        A column that every message needs has no path of its own.
    """

    def __init__(self, mapping: EventMapping) -> None:
        paths = column_paths(mapping)
        self.mapping = mapping
        self._in_lists = bool(mapping.items)
        if self._in_lists:
            of_list = placed_paths(OF_LIST, paths)
            own = column_paths(mapping, of_items=True)
            of_item = placed_paths(OF_ITEM, {name: shortest_first(name, own[name]) for name in OF_ITEM})
        else:
            of_list = {}
            of_item = placed_paths([name for name in (*OF_LIST, *OF_ITEM) if name != ITEMS], paths)
        of_feedback = placed_paths(OF_FEEDBACK, paths)
        self._list, self._item, self._feedback = map(layout_of, (of_list, of_item, of_feedback))
        self._features_beside = of_item[FEATURES] == ()
        self._kind_is_action = ACTION not in of_feedback and of_feedback[KIND] in paths[ACTION]
        self.actions = self._allowed(of_feedback)
        self.rates = bool(mapping.feedback_kinds) and RATING in of_feedback
        self.left_out = [name for name in (*OF_LIST, *OF_ITEM) if name not in {*of_list, *of_item, ITEMS}]
        self._reserved = {path[0] for found in paths.values() for path in found if path} - set(mapping.features)

    def _allowed(self, placed: Mapping[str, Path]) -> tuple[str, ...]:
        """Return the actions that a message can carry; where its kind is the action, only feedback kinds."""
        kinds, actions = self.mapping.feedback_kinds, self.mapping.relevance
        if self._kind_is_action:
            return tuple(name for name in actions if name in kinds)
        return tuple(actions) if kinds and ACTION in placed else ()

    def takes(self, action: str | None) -> bool:
        """Tell whether a rating can be written beside an action, or without one, that the mapping gives no relevance.

        Where the kind of a message is the action, it has to be one of the kinds of feedback.
        """
        return not self._kind_is_action or action in self.mapping.feedback_kinds

    @property
    def marks_shadow(self) -> bool:
        """Whether a list can be marked so that it never trains a model; where not, such lists are not written."""
        return SHADOW not in self.left_out

    def impressions(self, listed: AnsweredList) -> tuple[list[bytes], int]:
        """Write the messages of a shown list, without line ends, and count the items too long for any message."""
        message = self._columns(listed)
        if self._in_lists:
            lines = self._lists(message, self._items(listed, {}))
            return [line for line in lines if line], lines.count(b"")
        count = len(listed.candidates)
        shared: dict[str, Sequence[Any]] = {name: [value] * count for name, value in message.items()}
        shared[EVENT_ID] = [f"{listed.event_id}#{place}" for place in range(count)]
        lines = list(map(_one_line, self._items(listed, shared)))
        fit = [line for line in lines if len(line) <= LONGEST_MESSAGE]
        return fit, len(lines) - len(fit)

    def feedback(self, answered: Interaction) -> bytes:
        """Write the message of an interaction, without a line end."""
        columns = {
            KIND: answered.action if self._kind_is_action else self.mapping.feedback_kinds[0],
            ACTION: answered.action,
            QUERY_ID: answered.query_id,
            RANKING_ID: answered.request_id,
            ITEM_ID: answered.item_id,
            USER_ID: answered.user_id,
            EVENT_ID: answered.event_id,
            TIME: self._time(answered.seconds),
            **answered.columns,
        }
        return _encode(one_message(self._feedback, columns))

    def _columns(self, listed: AnsweredList) -> dict[str, Any]:
        return {
            KIND: self.mapping.impression_kinds[0],
            TIME: self._time(listed.seconds),
            QUERY_ID: listed.query_id,
            USER_ID: listed.user_id,
            RANKING_ID: listed.request_id,
            EVENT_ID: listed.event_id,
            POLICY: listed.policy,
            SHADOW: listed.shadow or None,
            AS_SERVED: True,
            **listed.columns,
        }

    def _time(self, seconds: float) -> str | float:
        match self.mapping.time_unit:
            case "RFC 3339":
                return _rfc3339(seconds)
            case "seconds":
                return round(seconds, 3)
            case "milliseconds":
                return round(seconds * 1000)

    def _lists(self, message: dict[str, Any], items: Sequence[Any]) -> list[bytes]:
        """Write the message, or several with parts of the list; an empty one for an item that is too long for any."""
        if not items:
            return []
        line = _one_line(one_message(self._list, message | {ITEMS: items}))
        if len(line) <= LONGEST_MESSAGE:
            return [line]
        if len(items) == 1:
            return [b""]
        half = len(items) // 2
        parts = {"a": items[:half], "b": items[half:]}  # under ids of their own: equal ones would be duplicates
        return [
            line
            for part, some in parts.items()
            for line in self._lists(message | {EVENT_ID: f"{message[EVENT_ID]}{part}"}, some)
        ]

    def _items(self, listed: AnsweredList, shared: Mapping[str, Sequence[Any]]) -> Sequence[Any]:
        """Return the message part of each item, with the columns that are `shared`."""
        candidates, served = listed.candidates, _served(listed.candidates, listed.features)
        pairs = self.mapping.features_as == "pairs"
        columns: dict[str, Sequence[Any] | None] = {
            ITEM_ID: [candidate.item_id for candidate in candidates],
            FEATURES: list(map(_as_pairs, served)) if pairs else served,
            POSITION: range(1, len(candidates) + 1),
            PROPENSITY: listed.propensities,
            TEAM: listed.teams,
            PROTECTED_GROUP: [candidate.group for candidate in candidates],
        }
        for name in _plain_fields(wire.RankCandidate):
            columns[name] = [getattr(candidate, name) for candidate in candidates]
        items = messages(self._item, {**shared, **{name: column for name, column in columns.items() if column}})
        return self._with_features(items, served) if self._features_beside else items

    def _with_features(self, items: Sequence[Any], served: Sequence[msgspec.Raw]) -> list[dict[str, Any]]:
        """Put the features beside the other fields of an item, but never in place of one of them."""
        return [
            {name: value for name, value in _numbers(features).items() if name not in self._reserved}
            | msgspec.to_builtins(item)
            for item, features in zip(items, served, strict=True)
        ]


def _served(candidates: Sequence[wire.RankCandidate], names: tuple[str, ...]) -> list[msgspec.Raw]:
    """Return the features as they came, by name where they came as a list."""
    features = [candidate.features for candidate in candidates]
    if not (lists := [row for row, given in enumerate(features) if is_list(given)]):
        return features
    given, rows = [features[row] for row in lists], _rows(names)
    written = (rows and rows.write(given)) or [_by_name(values, names) for values in given]
    for row, by_name in zip(lists, written, strict=True):
        features[row] = by_name
    return features


def _by_name(values: msgspec.Raw, names: tuple[str, ...]) -> msgspec.Raw:
    """Turn a list that a model has read into an object, as text: a third of the time of reading it again."""
    parts = _around(names).copy()
    parts[1::2] = bytes(values)[1:-1].split(b",")
    return msgspec.Raw(b"".join(parts))


def _as_pairs(features: msgspec.Raw) -> list[dict[str, Any]]:
    return [dict(zip(PAIR, pair, strict=True)) for pair in _numbers(features).items()]


@cache
def _rows(names: tuple[str, ...]) -> Rows | None:
    return Rows.of(names, fastest())


@cache
def _around(names: tuple[str, ...]) -> list[bytes]:
    """Return the text before, between and behind the values of an object, with room for them."""
    keys = [part for name in names for part in (b"," + _encode(name) + b":", b"")]
    return [b"{" + keys[0][1:], *keys[1:], b"}"]


def _one_line(message: msgspec.Struct | dict[str, Any]) -> bytes:
    """Encode as JSON without line ends: strings hold none, and those in features become spaces."""
    line = _encode(message)
    return line.replace(b"\n", b" ").replace(b"\r", b" ") if b"\n" in line or b"\r" in line else line


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
