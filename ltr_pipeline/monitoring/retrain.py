"""When a night trains: every night, or when the policy says that it is due. Pure: no clock, no files.

With the policy a night trains once a month, when the version in use fell short of its promise, or when somebody asks.

- A fall is believed when it is seen on two of the last five days and on the newest of them: chance makes a day look bad
  now and then. A cooldown keeps it from training again before the new version has shown what it can do.
- A model that is trained soon after a change has hardly a changed day to learn from, as the newest days are held out;
  one more training follows as soon as they are not any longer.
- Where three trainings in a row did not help, the promise is off, or something that no model mends: the next waits for
  its month.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from ltr_pipeline import tuning
from ltr_pipeline.errors import UnknownVersionError
from ltr_pipeline.monitoring.records import NightRecord, Outcomes
from ltr_pipeline.printable import counted
from ltr_pipeline.schedule import EVERY_NIGHT
from ltr_pipeline.tuning import variables_of
from ltr_pipeline.versions.ids import Version

__all__ = ["ASKED_FOR", "FELL", "LOOKED_AT", "UNCURED", "VARIABLES", "WINDOWS", "Due", "Retrain", "due"]

WINDOWS: Final = 5
"""Newest days with matured outcomes that are looked at."""

FELL: Final = 2
"""The version in use fell on so many of them, the newest with them: then a training is due."""

UNCURED: Final = 3
"""After so many trainings in a row that replaced a version that fell, another one does not help."""

RECENT: Final = dt.timedelta(days=14)
"""Outcomes that were complete before that say nothing of tonight."""

LOOKED_AT: Final = dt.timedelta(days=120)
"""Nights and outcomes that are needed of the history."""

ASKED_FOR: Final = "somebody asked for it"


class Retrain(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When a night trains. Each field is set by an Airflow Variable: ``ltr_`` and its name."""

    retrain: Annotated[
        Literal["nightly", "policy"],
        Meta(description="train every night, or when it is due: monthly, when outcomes fell, when asked for"),
    ] = "nightly"
    retrain_days: Annotated[
        int, Meta(ge=1, le=365, description="policy: days after which the version in use is trained anew")
    ] = 30
    retrain_cooldown_days: Annotated[
        int, Meta(ge=0, le=365, description="policy: fewest days from one training to the next, unless asked for")
    ] = 7

    @classmethod
    def from_variables(cls, values: Mapping[str, str]) -> Retrain:
        """Read it from the Airflow Variables that are set, name → text; other names are ignored.

        Raises
        ------
        SettingsError
            A value is not allowed; every wrong one is named.
        """
        return tuning.read(cls, values)


VARIABLES: Final = variables_of(Retrain)
"""Every Airflow Variable that says when a night trains."""


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a night trains, and why, or why not, in words."""

    trains: bool
    because: str


def due(
    date: dt.date,
    rule: Retrain,
    version: str | None,
    nights: Iterable[NightRecord] = (),
    outcomes: Iterable[Outcomes] = (),
    *,
    held_out: int = 0,
    asked: bool = False,
    trouble: str = "",
) -> Due:
    """Decide whether the night of `date` trains.

    Parameters
    ----------
    version
        In use; None where nothing is published.
    nights
        What the history has of the nights before; without any, the version's own id says when it was trained.
    outcomes
        What it has of the days before; only matured ones of `version` count, where they could be judged.
    held_out
        Newest days that a training does not learn from.
    asked
        Whether somebody asked for a training.
    trouble
        Why the history, or a part of it, cannot be read.
    """
    if asked:
        return Due(trains=True, because=ASKED_FOR)
    if rule.retrain == "nightly":
        return Due(trains=True, because=EVERY_NIGHT)
    if version is None:
        return Due(trains=True, because="no version is in use yet")
    outcomes, made = list(outcomes), _made_on(version)
    trained = sorted((night for night in nights if _trained(night, date)), key=lambda night: night.date)
    good = [night for night in trained if _holds(night, version)]
    age = _days(date, [*made, *(night.date for night in good)])
    pause = _days(date, [*made, *(night.date for night in trained)])
    days = _windows(date, version, outcomes)
    monthly, fell = age is None or age >= rule.retrain_days, _fell(days)
    uncured = _uncured(trained, outcomes)
    every = f"{_ago(age)}, and one is due every {counted(rule.retrain_days, 'day')}"
    early = _too_early(date, good[-1], outcomes, held_out) if good else ""
    if not monthly and (uncured >= UNCURED or not (fell or early)):
        no_cure = f"{uncured} trainings in a row have not helped" if fell and uncured >= UNCURED else ""
        return Due(trains=False, because=_joined(every, _seen(version, days), no_cure, trouble))
    why = _joined(every if monthly else "", _seen(version, days) if fell else early, trouble)
    if pause is not None and pause < rule.retrain_cooldown_days:
        wait = f"but the last training was {counted(pause, 'day')} ago, and {rule.retrain_cooldown_days} have to pass"
        return Due(trains=False, because=_joined(why, wait))
    return Due(trains=True, because=why)


def _trained(night: NightRecord, date: dt.date) -> bool:
    """Tell whether a night before trained a model that was meant to be used."""
    return night.trained and not night.dry_run and night.date <= date


def _holds(night: NightRecord, version: str) -> bool:
    """Tell whether what a night published is still good: in use, or kept out of use by a pin alone."""
    return night.version is not None and (night.version == version or not night.moved)


def _made_on(version: str) -> list[dt.date]:
    """Return the day that a version was trained on, by its id; none where the id is of another kind."""
    try:
        return [Version.parse(version).time.date()]
    except UnknownVersionError:
        return []


def _days(date: dt.date, before: list[dt.date]) -> int | None:
    """Return the days since the newest of some dates; None without any."""
    return (date - max(before)).days if before else None


def _windows(date: dt.date, version: str, outcomes: Iterable[Outcomes]) -> list[Outcomes]:
    """Return the newest days before `date` on which a version's matured outcomes could be judged, oldest first."""
    found = [
        day
        for day in outcomes
        if day.version == version
        and day.matured
        and day.status != "not_evaluable"
        and day.date < date <= day.date + dt.timedelta(hours=day.age_hours) + RECENT
    ]
    by_date = {day.date: day for day in sorted(found, key=lambda day: (day.date, day.age_hours))}
    return list(by_date.values())[-WINDOWS:]


def _fell(days: Sequence[Outcomes]) -> bool:
    """Tell whether the version fell on enough of its days, and on the newest."""
    return _had_fallen(days) and days[-1].status == "fell"


def _had_fallen(days: Sequence[Outcomes]) -> bool:
    return sum(day.status == "fell" for day in days) >= FELL


def _too_early(date: dt.date, last: NightRecord, outcomes: Sequence[Outcomes], held_out: int) -> str:
    """Say that the newest training came right after a fall, whose days can be learned from by now; else nothing."""
    if (date - last.date).days < held_out or not _for_a_fall(last, outcomes):
        return ""
    return f"{last.champion} had fallen before the training of {last.date}, which could not learn from those days yet"


def _uncured(trained: Sequence[NightRecord], outcomes: Sequence[Outcomes]) -> int:
    """Count the newest trainings that passed, in a row, each of which replaced a version that had fallen."""
    replaced = (night for night in reversed(trained) if night.version is not None)
    return len(list(takewhile(lambda night: _for_a_fall(night, outcomes), replaced)))


def _for_a_fall(night: NightRecord, outcomes: Sequence[Outcomes]) -> bool:
    """Tell whether the version that a night replaced had fallen."""
    return night.champion is not None and _had_fallen(_windows(night.date, night.champion, outcomes))


def _ago(age: int | None) -> str:
    if age is None:
        return "when the version in use was trained is not known"
    return f"the newest good model was trained {counted(age, 'day')} ago"


def _seen(version: str, days: Sequence[Outcomes]) -> str:
    """Say what the newest days show of a version."""
    if not days:
        return f"the history has no matured outcomes of {version} yet"
    fell = [str(day.date) for day in days if day.status == "fell"]
    newest = f"up to {days[-1].date}"
    if fell:
        newest = f"{', '.join(fell)}: {'the newest among them' if days[-1].status == 'fell' else 'not the newest'}"
    on = f"on {len(fell) or 'none'} of its last {counted(len(days), 'matured day')} ({newest})"
    return f"{version} fell short of its promise {on}"


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
