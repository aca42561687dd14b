"""Find out what stands out in the events of a run, and say what to do about it: the same sentences wherever told.

A gate says that a model is not good enough; here is said what in the events made it so: what was refused, what did not
fit together, what is missing. Each finding has the share of what it concerns, and the largest comes first.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final

import msgspec
import structlog

from ltr_pipeline.dataset.labels import DROPPED_FEEDBACK, DROPPED_IMPRESSIONS, Account
from ltr_pipeline.dataset.manifest import DatasetManifest
from ltr_pipeline.errors import LtrError
from ltr_pipeline.events import reasons
from ltr_pipeline.events.manifest import Manifest, account_of, manifest_of, read_quarantine
from ltr_pipeline.events.source import Quarantined
from ltr_pipeline.mapping import Mapping
from ltr_pipeline.names import nearest
from ltr_pipeline.report.artefacts import DATASET, INPUTS
from ltr_pipeline.report.remedies import LARGE_DROPS, UNREAD, of_refusal
from ltr_pipeline.report.text import percent, sentence
from ltr_pipeline.runs.run import Run
from ltr_pipeline.schema import USER_ID
from ltr_pipeline.settings import Settings

__all__ = ["Finding", "diagnose", "of_run", "serious"]

log = structlog.get_logger(__name__)

SAMPLED: Final = 100_000
"""Quarantined records that are looked at, the first of a night."""

COMMONEST: Final = 3  # reasons why records were refused
NOTEWORTHY: Final = 0.02
SERIOUS: Final = 0.1
"""Shares of what is concerned, from which on something is said, and is said to whoever is notified."""

FEWEST_DAYS: Final = 3  # one of attribution, one to train on, one to test on
MOST_NAMES: Final = 10
_VALUE: Final = re.compile(r"(?<= is ).+?(?=; expected )|\d[\d,.]*")


class Finding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that stands out.

    Attributes
    ----------
    what, remedy
        What was found, and what to do about it, in sentences.
    count, share
        How many records, rankings or days it concerns, and their share of all of these; findings are sorted by it.
    place, excerpt
        Where an example stands, and how it begins; the excerpt may hold what users typed, so it is for the terminal
        alone.
    """

    what: str
    remedy: str
    count: int
    share: float
    place: str = ""
    excerpt: str = ""

    def __str__(self) -> str:
        return f"{self.what} {self.remedy}".strip()


def of_run(run: Run) -> list[Finding]:
    """Diagnose a run by what it has left behind so far; where that cannot be read, find nothing and log why."""
    try:
        return _of_run(run)
    except (LtrError, msgspec.DecodeError) as error:  # it explains a run and must not fail one
        log.warning("the events were not diagnosed", error=str(error))
        return []


def _of_run(run: Run) -> list[Finding]:
    inputs, dataset, data = run.read(INPUTS), run.read_if_readable(DATASET), run.settings.data
    landing = account_of(data, inputs.landings) if inputs.landed else None
    refused = chain.from_iterable(read_quarantine(data, folder) for folder in inputs.landings)
    first = None
    if dataset and _unjudgeable(dataset):
        times = (manifest_of(data, folder).first_time for folder in inputs.partitions)
        first = min((time for time in times if time), default=None)
    return diagnose(landing, refused, dataset, run.settings, first)


def diagnose(
    landing: Manifest | None,
    refused: Iterable[Quarantined],
    dataset: DatasetManifest | None,
    settings: Settings,
    first: dt.datetime | None = None,
) -> list[Finding]:
    """Say what stands out, by share.

    Parameters
    ----------
    landing
        What arrived for a run; None for a backfill.
    refused
        Its quarantined records; the first are looked at.
    dataset
        What was built for the run; None where it did not get that far.
    first
        Time of the earliest landed event of the window, if it is known.
    """
    found: list[Finding] = []
    if landing:
        found += _of_landing(landing, settings.mapping, list(islice(refused, SAMPLED)))
    if dataset:
        users_hidden = bool(landing and USER_ID in landing.shadowed)
        found += _of_dataset(dataset, settings, users_hidden=users_hidden)
        if first and not any(finding.share > 0.5 for finding in found):  # else it is not the days that are missing
            found += _days(dataset, first)
    return sorted(found, key=lambda finding: -finding.share)


def serious(findings: Sequence[Finding]) -> list[Finding]:
    """Return those that concern so much that they may be why a model is not published."""
    return [finding for finding in findings if finding.share >= SERIOUS]


def _of_landing(landing: Manifest, mapping: Mapping, refused: Sequence[Quarantined]) -> Iterator[Finding]:
    for column, count in landing.shadowed.items():  # first, as it may be the cause of the others
        yield _shadowed(column, count, landing, mapping)
    refusals = list(_refused(landing, refused))
    if not landing.impressions:
        yield _no_impression(landing, mapping, refusals)
    yield from refusals
    if landing.impressions and landing.unknown_kinds:
        count = landing.ignored_reasons.get(reasons.UNRELATED, 0)
        what = f"Messages of these kinds are ignored: {_names(landing.unknown_kinds)}."
        remedy = "If some are impressions or feedback, add them to impression_kinds or feedback_kinds in the mapping."
        yield Finding(what=what, remedy=remedy, count=count, share=0)
    if landing.unknown_features:
        unlisted = landing.unknown_features
        near = [_like(name, mapping.model_features) for name in unlisted[:MOST_NAMES]]
        what = f"The mapping does not list these features: {_names(near + unlisted[MOST_NAMES:])}."
        remedy = "Add those to its features that are known before a list is shown."
        yield Finding(what=what, remedy=remedy, count=len(landing.unknown_features), share=0)
    if landing.future:
        landed = landing.impressions + landing.feedback
        what = (
            f"{landing.future:,} of {landed:,} landed records are from the future: later than {landing.date} by a day."
        )
        remedy = "They are not used; check the clocks of whoever writes them."
        yield _finding(what, remedy, landing.future, landed)
    if lost := landing.records_lost:
        what = f"{lost:,} of {lost + landing.read:,} records were gone before they were read."
        remedy = "Keep rotated logs, or the topic's messages, for longer than nights may fail to run."
        yield _finding(what, remedy, lost, lost + landing.read)


def _no_impression(landing: Manifest, mapping: Mapping, refusals: list[Finding]) -> Finding:
    """Say why there is none: nothing was read, what was recognised was refused or is old, or nothing was recognised.

    The commonest of the `refusals` becomes this finding where it is the cause.
    """
    known = sum(n for reason, n in landing.quarantine_reasons.items() if reason not in UNREAD)
    if refusals and (known or landing.quarantined == landing.read):
        first = refusals.pop(0)
        return msgspec.structs.replace(first, what=f"No impression landed: {first.what}", share=1)
    if not landing.read:
        what, remedy = "No record was read.", "Are events written to where LTR_EVENTS_PATH or KAFKA_TOPIC says?"
    elif old := landing.ignored_reasons.get(reasons.TOO_OLD):
        what = f"No impression landed: {old:,} records are from before the window, which begins {landing.since:%F}."
        remedy = "Log newer events, or raise LTR_WINDOW_DAYS."
    else:
        seen = f" Kinds of message seen: {_names(landing.unknown_kinds)}." if landing.unknown_kinds else ""
        what = f"No record is an impression: none is of a kind that the mapping names.{seen}"
        kinds = f"{' or '.join(mapping.kind)} is {' or '.join(mapping.impression_kinds)}"
        remedy = f"Does LTR_MAPPING fit this log? By it, a message is an impression where {kinds}."
    return Finding(what=what, remedy=remedy, count=landing.read, share=1)


def _shadowed(column: str, count: int, landing: Manifest, mapping: Mapping) -> Finding:
    paths = ", ".join(f'"{_of_message(path)}"' for path in mapping.paths(column))
    what = f"{count:,} items of lists have a {column} of their own, which hides that of their message."
    remedy = f"If their message's is meant, write {column} = [{paths}] under [fields] in the mapping."
    return _finding(what, remedy, count, landing.impressions)


def _of_message(path: str) -> str:
    return path if path.startswith("$.") else f"$.{path}"


def _refused(landing: Manifest, refused: Sequence[Quarantined]) -> Iterator[Finding]:
    """Yield the commonest reasons of the quarantined records, each with its first place."""
    first: dict[tuple[str, str], Quarantined] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for record in refused:
        kind = (record.reason, _VALUE.sub("…", record.detail))
        first.setdefault(kind, record)
        counts[kind] += 1
    for kind, count in counts.most_common(COMMONEST):
        yield _refusal(first[kind], count * landing.quarantined // len(refused), landing)


def _refusal(record: Quarantined, count: int, landing: Manifest) -> Finding:
    said, remedy = record.detail, ""
    if "; expected " not in said:  # then what follows is what to do
        said, _, remedy = said.partition("; ")
    about = "about " if landing.quarantined > SAMPLED else ""
    were = "were refused" if record.reason in UNREAD else "were recognised, but refused"
    return Finding(
        what=f"{about}{count:,} of {landing.read:,} records {were} ({record.reason}): {said}.",
        remedy=sentence(remedy[:1].upper() + remedy[1:]) or of_refusal(record.reason),
        count=count,
        share=count / landing.read,
        place=f"{record.source}:{record.offset}",
        excerpt=record.excerpt,
    )


def _of_dataset(dataset: DatasetManifest, settings: Settings, *, users_hidden: bool) -> Iterator[Finding]:
    if dataset.impressions.landed and sum(dataset.unjoined.values()) > NOTEWORTHY * dataset.joinable:
        yield _unjoined(dataset, settings)
    if dataset.skewed > NOTEWORTHY * dataset.joinable:
        yield _skewed(dataset)
    yield from _nothing_relevant(dataset, settings.mapping)
    yield from _merged(dataset, 0 if users_hidden else dataset.several_users)
    yield from _left_out(dataset)
    yield from _dropped("impressions", dataset.impressions, DROPPED_IMPRESSIONS)
    yield from _dropped("interactions", dataset.feedback, DROPPED_FEEDBACK)


def _unjoined(dataset: DatasetManifest, settings: Settings) -> Finding:
    days, seconds = settings.attribution_days, settings.feedback_skew_seconds
    cases = dataset.differ_in_case
    compare = "Compare query_id, item_id and ranking_id of feedback with those of impressions."
    case = f"{cases:,} of them name ids that were shown but for case or white space: write ids in one way."
    told = {
        "no_impression": ("name an item that was not shown for their query", case if cases else compare),
        "before_impression": (
            "are stamped before it was shown",
            f"If clocks differ by more than {seconds:g} seconds, raise LTR_FEEDBACK_SKEW_SECONDS.",
        ),
        "too_late": (
            f"came more than {days} days after it was shown",
            "If they should count, raise LTR_ATTRIBUTION_DAYS.",
        ),
    }
    found = dataset.unjoined
    count = sum(found.values())
    parts = ", ".join(f"{n:,} {told[reason][0]}" for reason, n in found.items())
    share = percent(count / dataset.joinable)
    what = f"{count:,} of {dataset.joinable:,} interactions ({share}) belong to no impression"
    remedy = " ".join(told[reason][1] for reason in found)
    return _finding(f"{what}: {parts}.", remedy, count, dataset.joinable)


def _skewed(dataset: DatasetManifest) -> Finding:
    share, seconds = percent(dataset.skewed / dataset.joinable), dataset.windows.skew_seconds
    what = f"{dataset.skewed:,} of {dataset.joinable:,} interactions ({share}) are stamped before their impression"
    return _finding(
        f"{what}, by at most {seconds:g} seconds, and belong to it all the same: two clocks seem to differ.",
        "Set the clocks alike, or stamp both by one; what differs by more than LTR_FEEDBACK_SKEW_SECONDS is not used.",
        dataset.skewed,
        dataset.joinable,
    )


def _nothing_relevant(dataset: DatasetManifest, mapping: Mapping) -> Iterator[Finding]:
    """Say why no ranking prefers one item to another, where it is not that feedback joins nothing."""
    if any(part.eligible for part in (dataset.train, dataset.valid, dataset.test)) or not dataset.impressions.landed:
        return
    if not dataset.feedback.landed:
        kinds = " or ".join(mapping.feedback_kinds) or "nothing, as feedback_kinds is empty"
        what = "No feedback landed, so nothing tells which items were good."
        remedy = f"Is feedback logged? By the mapping, a message is feedback where its kind is {kinds}."
        yield Finding(what=what, remedy=remedy, count=0, share=1)
    elif dataset.feedback.used:
        what = f"None of {dataset.feedback.used:,} interactions made an item more relevant than others of its list."
        remedy = "Do actions of users who were content have more than 0 under [relevance] in the mapping?"
        yield Finding(what=what, remedy=remedy, count=dataset.feedback.used, share=1)


def _merged(dataset: DatasetManifest, several_users: int) -> Iterator[Finding]:
    count = max(dataset.repeated_positions, several_users)
    if count > NOTEWORTHY * dataset.rankings:
        found = {
            "hold two items at one position": dataset.repeated_positions,
            "were shown to several users": several_users,
        }
        told = " and ".join(f"{n:,} {what}" for what, n in found.items() if n)
        what = f"Of {dataset.rankings:,} rankings, {told}: these look like several lists."
        remedy = "Map ranking_id, or set session_gap_minutes, such as 30, in the mapping."
        yield _finding(what, remedy, count, dataset.rankings)


def _left_out(dataset: DatasetManifest) -> Iterator[Finding]:
    """Say that declared events leave too little, where they do; else they are no surprise to who declared them."""
    count = dataset.impressions.dropped.get("left_out", 0)
    if not count or not _unjudgeable(dataset):
        return
    names = list(dict.fromkeys(one.name for one in dataset.windows.occasions if one.weight == 0))
    part = "test" if dataset.train.rankings else "training"
    days = len(dataset.windows.left_out)
    what = (
        f"The calendar leaves no {part} ranking: {days} {'day' if days == 1 else 'days'} of the window, with {count:,} "
        f"impressions, {'is' if days == 1 else 'are'} left out ({_names(names)})."
    )
    remedy = "In the file that LTR_CALENDAR names, weigh such days (weight = 0.2) instead, or raise LTR_WINDOW_DAYS."
    yield Finding(what=what, remedy=remedy, count=count, share=1)


def _dropped(table: str, account: Account, why: dict[str, str]) -> Iterator[Finding]:
    for reason, remedy in LARGE_DROPS.items():
        count = account.dropped.get(reason, 0)
        if reason in why and count > SERIOUS * account.landed:
            what = f"{count:,} of {account.landed:,} {table} are not used: {why[reason]}."
            yield _finding(what, remedy, count, account.landed)
    if account.duplicates > SERIOUS * account.landed:
        what = f"{account.duplicates:,} of {account.landed:,} {table} are duplicates: of one event_id, or equal in all."
        remedy = "Is a log read twice, under two names, or one event_id given to several events?"
        yield _finding(what, remedy, account.duplicates, account.landed)


def _unjudgeable(dataset: DatasetManifest) -> bool:
    return not (dataset.train.rankings and dataset.test.rankings)


def _days(dataset: DatasetManifest, first: dt.datetime) -> Iterator[Finding]:
    """Say how many days are missing, and which settings do with those that there are."""
    windows = dataset.windows
    days = (windows.cutoff.date() - max(first, windows.start).date()).days
    needed = windows.attribution_days + windows.test_days + windows.valid_days + 1
    if not _unjudgeable(dataset) or days >= needed:
        return
    what = (
        f"The events cover {days} {'day' if days == 1 else 'days'}, and the settings ask for {needed}: "
        f"{windows.attribution_days} of attribution, {windows.test_days} for the test, {windows.valid_days} for "
        "validation and one to train on."
    )
    if days < FEWEST_DAYS:
        remedy = f"It takes at least {FEWEST_DAYS}: one to train on, one to test on, and one in which feedback comes."
    else:
        attribution = min(windows.attribution_days, days - 2)
        remedy = (
            f"To judge this log as it is, set LTR_ATTRIBUTION_DAYS={attribution} LTR_TEST_DAYS=1 LTR_VALID_DAYS=1; "
            "feedback that comes later does not count then."
        )
    yield _finding(what, remedy, needed - days, needed)


def _finding(what: str, remedy: str, count: int, of: int) -> Finding:
    return Finding(what=what, remedy=remedy, count=count, share=min(1.0, count / max(of, 1)))


def _like(name: str, features: Sequence[str]) -> str:
    """Return an unlisted feature with the listed one that is spelt almost the same: either may be the wrong one."""
    near = nearest(name, features)
    return f"{name} (it lists {near}: is one of the two misspelt?)" if near else name


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"{', '.join(names[:MOST_NAMES])}{more}"
