"""Say why each key of a draft is as it is, and what is unsure."""

from __future__ import annotations

from dataclasses import dataclass, field

from ltr_pipeline.draft import columns
from ltr_pipeline.draft.columns import Found, of_count
from ltr_pipeline.draft.features import Features
from ltr_pipeline.draft.roles import Roles
from ltr_pipeline.draft.tables import Path, dotted, listed, unnameable
from ltr_pipeline.draft.words import kind_leaning
from ltr_pipeline.mapping import FEATURES, Mapping
from ltr_pipeline.schema import PROTECTED_GROUP, USER_ID

__all__ = ["Notes", "about_features", "about_kinds", "about_the_rest"]


@dataclass(slots=True)
class Notes:
    """Reasons by the name of the key, such as ``fields.query_id``, and doubts as sentences."""

    reasons: dict[str, str] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)

    def about_field(self, name: str, found: Found) -> None:
        """Say why a column is where it is."""
        self.reasons[f"fields.{name}"] = found.why
        self.doubts += found.doubts


def about_kinds(found: Roles, notes: Notes, *, whole: bool) -> None:
    """Say which kinds there are, and which are what."""
    groups = found.partition.groups
    counts = [f"{kind} ({len(rows):,})" for kind, rows in groups.items()]
    notes.reasons["kind"] = f"kinds in the sample: {listed(counts)}"
    if not found.partition.paths:
        notes.reasons["kind"] = "no field tells the kind of a message, so that one has to be added"
        notes.doubts.append("No field tells whether a message is an impression or feedback.")
    where = f"lists in {dotted(found.shown.items)}" if found.shown.items else "one item each"
    notes.reasons["impression_kinds"] = f"{where}, with ids and numbers: {found.shown.rows.rows:,} items"
    notes.reasons["items"] = (
        f"{found.shown.rows.rows:,} items in {found.shown.messages.rows:,} messages" if found.shown.items else ""
    )
    joined = of_count(found.keys.joined, found.answers)
    sampled = "" if whole else " in this sample, which lacks what was shown before it"
    notes.reasons["feedback_kinds"] = f"{joined} name a query and an item that were shown{sampled}"
    if not found.feedback:
        notes.reasons["feedback_kinds"] = "no kind names a query and an item that were shown"
        notes.doubts.append("No message seems to be feedback: what users did with what they saw has to be logged.")
    elif not found.keys.joined:
        notes.doubts.append(
            "No feedback names a query and an item that were shown, by whatever fields; look at its ids."
        )
    elif not found.is_convincing:
        notes.doubts.append(f"Only {joined} interactions name a query and an item that were shown{sampled}.")


def about_the_rest(found: Roles, mapping: Mapping, notes: Notes) -> None:
    """Say what is ignored, what is missing, and what nobody but the log's owner can know."""
    ignored = found.ignored if found.partition.paths else {}
    lost = [f"{kind} ({count:,})" for kind, count in ignored.items() if kind_leaning(kind) < 0]
    if lost:
        what = "are called as feedback is, and ignored, as they name no query and item that were shown"
        notes.doubts.append(f"Messages of these kinds {what}: {listed(lost)}.")
    others = [f"{kind} ({count:,})" for kind, count in ignored.items() if kind_leaning(kind) >= 0]
    if others:
        notes.doubts.append(f"Messages of these kinds are ignored: {listed(others)}. Are they all something else?")
    tables = (found.shown.messages, found.shown.rows, *found.feedback.values())
    paths = [path for table in tables for path in table.columns if not _is_feature(path, mapping)]
    if unnamed := unnameable(paths):
        notes.doubts.append(f"{unnamed[:1].upper()}{unnamed[1:]}.")
    if PROTECTED_GROUP not in mapping.fields:
        notes.doubts += columns.groups(found)
    if USER_ID not in mapping.fields:
        likely = [dotted(path) for path in found.keys.others]
        which = f"; is it {' or '.join(likely)}?" if likely else "."
        notes.doubts.append(f"No field is called a user's, by whom intervals cluster{which}")
    notes.doubts.append("Were all features known before the list was shown? What came later must not be among them.")


def about_features(numbers: Features, notes: Notes) -> None:
    """Say where features are, and which numbers are none."""
    where = f"in {dotted(numbers.path)}" if numbers.path else "beside the other fields"
    notes.reasons["fields.features"] = f"{len(numbers.names)} numbers stand {where}"
    why = [f"{name} {reason}" for name, reason in numbers.left_out.items()]
    notes.reasons["features"] = f"left out: {listed(why, '; ')}" if why else "every number that is no id, place or time"
    if numbers.flags:
        notes.reasons["flags"] = f"true or false: {listed(numbers.flags)}; such lines are read 17 times as slowly"
    if numbers.pairs:
        notes.reasons["features_as"] = 'each is an object of "name" and "value"'
    notes.doubts += [
        f"The number {name} is left out: it {reason}."
        for name, reason in numbers.left_out.items()
        if _is_doubtful(reason)
    ]


def _is_feature(path: Path, mapping: Mapping) -> bool:
    return path[-1] in mapping.features and dotted(path[:-1]) in mapping.paths(FEATURES)


def _is_doubtful(reason: str) -> bool:
    return reason.startswith(
        ("is text", "is a number written", "has a name", "tells", "is called an outcome", "stands")
    )
