"""A mapping drafted from a sample of a log."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, cast

import msgspec

from ltr_pipeline.draft import actions, columns, features, jq, nothing, rankings, roles, times
from ltr_pipeline.draft.columns import Found, of_count
from ltr_pipeline.draft.features import Features
from ltr_pipeline.draft.jq import ANSWERED, SHOWN
from ltr_pipeline.draft.notes import Notes, about_features, about_kinds, about_the_rest
from ltr_pipeline.draft.roles import Roles
from ltr_pipeline.draft.sample import Sample
from ltr_pipeline.draft.tables import Path, dotted, listed
from ltr_pipeline.draft.words import worth
from ltr_pipeline.errors import DraftError, MappingError
from ltr_pipeline.events.decoding.shape import shape_of
from ltr_pipeline.mapping import FEATURES, Mapping, TimeUnit
from ltr_pipeline.schema import (
    ACTION,
    COLUMNS,
    EVENT_ID,
    ITEM_ID,
    LABEL,
    POSITION,
    QUERY_ID,
    RANKING_ID,
    RATING,
    TIME,
    USER_ID,
)

__all__ = ["Draft", "draft"]

RARE: Final = 0.002  # of the interactions; a rarer action of which nothing is known seems to be a mistake
SEVERAL: Final = 0.05  # of the queries of a day; fewer that seem to be several lists are left alone
NO_FEEDBACK: Final = "click"  # stands in relevance, which has to have an action
_ORDER: Final = (QUERY_ID, RANKING_ID, ITEM_ID, USER_ID, TIME, POSITION, FEATURES, ACTION, *(c.name for c in COLUMNS))
"""Fields in the order in which they are written."""

_NUMBERED: Final = frozenset(column.name for column in COLUMNS if column.may_be_number)


@dataclass(slots=True)
class Draft:
    """A mapping and what speaks for it.

    Attributes
    ----------
    mapping
        The mapping.
    reasons
        Why each key of it is as it is, by its name, such as ``fields.query_id``.
    doubts
        What whoever knows the log should look at, in sentences.
    program
        For jq, where the log has to be altered before any mapping can read it.
    """

    mapping: Mapping
    reasons: dict[str, str] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)
    program: str = ""


def draft(sample: Sample) -> Draft:
    """Draft a mapping.

    Raises
    ------
    DraftError
        The log holds nothing that could be learned from; the message says what was looked for, and what was seen.
    """
    found = roles.assign(sample.messages) if sample.messages else None
    if found is None:
        raise DraftError(nothing.shown(sample))
    return _Drafting(found, whole=sample.whole).drafted()


class _Drafting:
    """A draft under way: each step adds to what is to be said of it."""

    def __init__(self, found: Roles, *, whole: bool) -> None:
        self.roles = found
        self.whole = whole
        self.notes = Notes()

    def drafted(self) -> Draft:
        """Take every step."""
        placed, form = self._placed()
        path, relevance = self._actions()
        numbers = self._features(placed, path, relevance)
        mapping = self._needed(placed, path, relevance, numbers)
        remedy = times.NOT_READ.get(form)
        unit = remedy.unit if remedy else cast("TimeUnit", form)
        if unit != "RFC 3339":
            self.notes.reasons["time_unit"] = f"of {', '.join(placed[TIME].paths)}"
        mapping = msgspec.structs.replace(mapping, time_unit=unit)
        for name, column in placed.items():
            mapping = self._with_column(mapping, name, column)
        mapping = self._with_gap(self._with_ids(mapping, placed), placed, form)
        about_the_rest(self.roles, mapping, self.notes)
        steps = ["" if self.roles.partition.paths else jq.adding_kinds(self.roles)]
        if remedy:
            steps += [
                jq.altering(path, remedy.filter) for path in dict.fromkeys(path for _, path in placed[TIME].places)
            ]
        fields = {name: mapping.fields[name] for name in _ORDER if name in mapping.fields}
        mapping = msgspec.structs.replace(mapping, fields=fields)
        return Draft(mapping, self.notes.reasons, [*dict.fromkeys(self.notes.doubts)], " | ".join(filter(None, steps)))

    def _placed(self) -> tuple[dict[str, Found], str]:
        """Find where every column is, and the form of times."""
        when = columns.time(self.roles)
        if when is None:
            raise DraftError(nothing.that_tells_time(self.roles))
        placed = columns.keys_of(self.roles) | {TIME: when[0]}
        for name, found in (
            (USER_ID, columns.user(self.roles)),
            (RANKING_ID, rankings.find(self.roles)),
            (EVENT_ID, columns.event_id(self.roles)),
            (RATING, columns.rating(self.roles)),
            *columns.of_items(self.roles),
        ):
            if found is not None:
                placed.setdefault(name, found)
        return placed, when[1]

    def _actions(self) -> tuple[Path | None, dict[str, int]]:
        """Find what was done, and propose what it is worth."""
        feedback = self.roles.feedback
        path = actions.field_of(feedback)
        found = actions.found(feedback, path)
        if found and path is None and not self.roles.partition.paths:
            found = Counter({ANSWERED: found.total()})
        odd = [name for name, n in found.items() if worth(name) is None and n < RARE * found.total()]
        for name in odd:
            count = found.pop(name)
            self.notes.doubts.append(
                f"The action {name} ({count:,}) is left out: if it is no mistake, add it to relevance."
            )
        proposed = actions.relevance(found)
        for name, value in proposed.items():
            known = "" if worth(name) is not None else "; its name says nothing, so that this is a guess"
            self.notes.reasons[f"relevance.{name}"] = f"{found[name]:,} interactions{known}"
            if known:
                self.notes.doubts.append(
                    f"What is the action {name} worth? Its name says nothing; relevance has {value}."
                )
        self.notes.reasons[f"fields.{ACTION}"] = (
            f"what was done in {found.total():,} interactions: {listed([*proposed])}"
        )
        return path, proposed

    def _features(self, placed: dict[str, Found], action: Path | None, relevance: dict[str, int]) -> Features:
        rows = self.roles.shown.rows
        taken = {path for found in placed.values() for table, path in found.places if table is rows}
        taken |= self.roles.keys.others.keys() if self.roles.shown.items is None else set()
        found = features.find(rows, taken, self._answered(action, relevance))
        if found is None:
            raise DraftError(nothing.learnable(self.roles))
        return found

    def _answered(self, action: Path | None, relevance: dict[str, int]) -> dict[int, bool]:
        """Tell which items of lists with feedback have some that is worth something."""
        keys, shown = self.roles.keys, self.roles.shown
        pairs = set()
        for kind, link in keys.links.items():
            table = self.roles.feedback[kind]
            acts = table.columns[action].ids if action else {}
            items, queries = table.columns[link.item].ids, table.columns[link.query].ids
            pairs |= {(queries.get(row), item) for row, item in items.items() if relevance.get(acts.get(row, kind), 1)}
        queries, items = shown.messages.columns[keys.query].ids, shown.rows.columns[keys.item].ids
        shown_pairs = {row: (queries.get(shown.rows.owner[row]), item) for row, item in items.items()}
        some = {pair[0] for pair in shown_pairs.values() if pair in pairs}
        return {row: pair in pairs for row, pair in shown_pairs.items() if pair[0] in some}

    def _needed(
        self, placed: dict[str, Found], action: Path | None, relevance: dict[str, int], numbers: Features
    ) -> Mapping:
        """Return a mapping of what no mapping can do without."""
        about_kinds(self.roles, self.notes, whole=self.whole)
        about_features(numbers, self.notes)
        shown, paths = self.roles.shown, [dotted(path) for path in self.roles.partition.paths]
        fields = {name: placed[name].paths for name in (QUERY_ID, ITEM_ID, TIME)}
        fields[FEATURES] = (dotted(numbers.path),)
        if self.roles.feedback:
            fields[ACTION] = (dotted(action),) if action else tuple(paths or [jq.kind_field(self.roles)])
        mapping = Mapping(
            kind=tuple(paths or [jq.kind_field(self.roles)]),
            impression_kinds=shown.kinds if paths else (SHOWN,),
            feedback_kinds=tuple(self.roles.feedback) if paths else (ANSWERED,) * bool(self.roles.feedback),
            items=() if shown.items is None else (dotted(shown.items),),
            features=tuple(numbers.names),
            features_as="pairs" if numbers.pairs else "object",
            flags="1 or 0" if numbers.flags else "refused",
            fields=fields,
            relevance=relevance or {NO_FEEDBACK: 1},
        )
        try:
            shape_of(mapping)
        except MappingError as error:
            raise DraftError(f"no mapping can be drafted: {error}") from error
        for name in (QUERY_ID, ITEM_ID, TIME):
            self.notes.about_field(name, placed[name])
        return mapping

    def _with_column(self, mapping: Mapping, name: str, found: Found) -> Mapping:
        """Add a column, where that contradicts nothing."""
        if name in mapping.fields or not found.paths:
            self.notes.doubts += found.doubts
            return mapping
        if name == LABEL and (high := self._highest(found)) > mapping.max_relevance:
            if self.roles.feedback:
                self.notes.doubts.append(f"The label is left out: it reaches {high}, more than any action is worth.")
                return mapping
            mapping = msgspec.structs.replace(mapping, relevance={LABEL: high})
        wider = msgspec.structs.replace(mapping, fields=mapping.fields | {name: found.paths})
        try:
            shape_of(wider)
        except MappingError as error:
            self.notes.doubts.append(f"{name} is left out, though it seems to be in {', '.join(found.paths)}: {error}.")
            return mapping
        self.notes.about_field(name, found)
        return wider

    def _highest(self, found: Found) -> int:
        return int(max(value for table, path in found.places for value in table.columns[path].numbers.values()))

    def _with_ids(self, mapping: Mapping, placed: dict[str, Found]) -> Mapping:
        """Let ids be numbers, where some are."""
        chosen = [(name, found) for name, found in placed.items() if name in _NUMBERED and name in mapping.fields]
        numbered = [
            name for name, found in chosen if any(table.columns[path].types["whole"] for table, path in found.places)
        ]
        if not numbered:
            return mapping
        self.notes.reasons["ids"] = f"numbers: {listed(numbered)}; lines with some are read 17 times as slowly"
        return msgspec.structs.replace(mapping, ids="text or number")

    def _with_gap(self, mapping: Mapping, placed: dict[str, Found], form: str) -> Mapping:
        """Tell lists of a query apart by its user and time, where no ranking has an id and that is needed."""
        if RANKING_ID in mapping.fields:
            return mapping
        user = placed[USER_ID].places[0][1] if USER_ID in mapping.fields else None
        several, days = rankings.merged(self.roles, placed[TIME].places[0][1], form, user)
        if several <= SEVERAL * days:
            self.notes.reasons["fields.query_id"] += (
                "; no query is shown twice on a day, so that it stands for its list, too"
            )
            return mapping
        what = f"{of_count(several, days)} pairs of query and day hold several lists"
        if user is None:
            self.notes.doubts.append(
                f"{what}, which count as one: log a ranking_id, or map user_id and set session_gap_minutes."
            )
            return mapping
        self.notes.reasons["session_gap_minutes"] = f"{what}, and no field is the id of one"
        self.notes.doubts.append(
            f"{what}: are {rankings.GAP:g} minutes without anything shown the end of one? Best is a ranking_id."
        )
        return msgspec.structs.replace(mapping, session_gap_minutes=rankings.GAP)
