"""The calendar of declared events: Black Friday, holidays, a price war, on which people do not act as on other days.

One TOML file, named by ``LTR_CALENDAR``, declares them, each with its days and with what a ranking of these days counts
for in training: as any other (they are only annotated), less, or nothing (they are left out). Days are days in UTC.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final, NamedTuple, TypeAlias

import msgspec

from ltr_pipeline.errors import CalendarError
from ltr_pipeline.names import LONGEST, did_you_mean, unknown_keys

__all__ = ["Calendar", "DeclaredEvent", "Holidays", "Occasion", "load_calendar", "weight_on"]

DAY: Final = dt.timedelta(days=1)
ANNOTATE, LEAVE_OUT = "annotate", "leave_out"
TREATMENTS: Final = (ANNOTATE, LEAVE_OUT)

REACH: Final = 9
"""Years that are looked back or ahead for an occasion; 29 February may take eight to come again."""

FORMER_YEARS: Final = 5

_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_YEARLY: Final = re.compile(r"(\d{2})-(\d{2})")
_LEAP_YEAR: Final = 2024

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


class Occasion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The days that a declared event takes once.

    Attributes
    ----------
    name
        Of the event.
    first, last
        Its days, both inclusive.
    weight
        Of a ranking of these days in training: 1 = it counts as any other, 0 = it is left out.
    """

    name: str
    first: dt.date
    last: dt.date
    weight: float = 1.0

    def __contains__(self, day: dt.date) -> bool:
        """Tell whether the event takes this day."""
        return self.first <= day <= self.last

    @property
    def treatment(self) -> str:
        """Say in words what becomes of its days.

        >>> Occasion(name="Sale", first=dt.date(2025, 3, 1), last=dt.date(2025, 3, 2), weight=0.2).treatment
        'weighs 0.2 in training'
        """
        if self.weight == 0:
            return "left out"
        return "annotated" if self.weight == 1 else f"weighs {self.weight:g} in training"


def weight_on(day: dt.date, occasions: Iterable[Occasion]) -> float:
    """Return what a ranking of a day counts for in training, from 0 to 1: of several occasions, the least.

    >>> sale = Occasion(name="Sale", first=dt.date(2025, 3, 1), last=dt.date(2025, 3, 2), weight=0.2)
    >>> weight_on(dt.date(2025, 3, 2), [sale]), weight_on(dt.date(2025, 3, 3), [sale])
    (0.2, 1.0)
    """
    return min((occasion.weight for occasion in occasions if day in occasion), default=1.0)


class _Yearly(NamedTuple):
    """A day of every year."""

    month: int
    day: int


_Stretch: TypeAlias = tuple[dt.date, dt.date] | tuple[_Yearly, _Yearly]


class _Treated(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the days of something are treated: `treatment` or `weight`; neither annotates them."""

    treatment: str | None = None
    weight: float | None = None

    @property
    def counts_for(self) -> float:
        """Return the weight of a ranking of these days in training."""
        if self.weight is not None:
            return self.weight
        return 0.0 if self.treatment == LEAVE_OUT else 1.0

    def _treatment_problems(self) -> Iterator[str]:
        if self.treatment is not None and self.weight is not None:
            yield "give either treatment or weight"
        if self.treatment not in (None, *TREATMENTS):
            near = did_you_mean(self.treatment, TREATMENTS) or "."
            yield f"treatment is {_short(self.treatment)}{near} There are {' and '.join(TREATMENTS)}"
        if self.weight is not None and not 0 < self.weight <= 1:
            yield f'weight is {self.weight:g}; give one above 0 and at most 1, or treatment = "{LEAVE_OUT}"'


class DeclaredEvent(_Treated, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event as the file declares it. Several of one name are one event, at other times.

    Attributes
    ----------
    name
        For charts and reports.
    first, last
        Days, ``2025-11-28``, or ``12-25`` for that day of every year; without `last` it is one day.
    days
        Instead of them: days one by one. Those that follow each other are one occasion.
    treatment
        ``annotate`` (also where nothing is said) or ``leave_out``.
    weight
        Instead of it: what a ranking of these days counts for in training, above 0 and at most 1.
    """

    name: Name
    first: str | None = None
    last: str | None = None
    days: tuple[str, ...] = ()

    def problems(self) -> list[str]:
        """Say where the event contradicts itself."""
        found = [*self._name_problems(), *self._treatment_problems()]
        try:
            _ = self._stretches
        except ValueError as error:
            found.append(str(error))
        return found

    def occasions(self, since: int, until: int) -> Iterator[Occasion]:
        """Yield its occasions: all that have a year, and those of every year that begin in these years, inclusive."""
        for stretch in self._stretches:
            for first, last in _in_years(stretch, since, until):
                yield Occasion(name=self.name, first=first, last=last, weight=self.counts_for)

    def years(self) -> set[int]:
        """Return the years that it names."""
        return {day.year for stretch in self._stretches for day in stretch if isinstance(day, dt.date)}

    def _name_problems(self) -> Iterator[str]:
        if not self.name.strip() or not self.name.isprintable():
            yield "a name is a line of text"

    @property
    def _stretches(self) -> list[_Stretch]:
        """Return the days that it takes, from first to last; ValueError when they are none."""
        if self.days:
            if self.first or self.last:
                raise ValueError("give either first and last, or days")
            return _joined([_parsed(day) for day in self.days])
        if not self.first:
            raise ValueError("it has a last day, but no first" if self.last else "it has no day: give first, or days")
        first = _parsed(self.first)
        last = _parsed(self.last) if self.last else first
        if isinstance(first, dt.date) and isinstance(last, dt.date):
            if last < first:
                raise ValueError(f"its last day, {last}, is before its first, {first}")
            return [(first, last)]
        if isinstance(first, _Yearly) and isinstance(last, _Yearly):
            return [(first, last)]  # one that ends on an earlier day of the year ends in the next
        raise ValueError(f"first, {self.first}, and last, {self.last}, both have a year, or neither has")


class Holidays(_Treated, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The public holidays of a country, from the library `holidays`, under their names in its language.

    Attributes
    ----------
    country, subdivision
        Codes such as ``BR`` and ``SP`` (ISO 3166).
    treatment, weight
        As of a `DeclaredEvent`.
    """

    country: str
    subdivision: str | None = None

    def problems(self) -> list[str]:
        """Say where this contradicts itself, or what the library lacks."""
        found = [*self._treatment_problems()]
        try:
            _holidays_of(self.country, self.subdivision, _LEAP_YEAR)
        except CalendarError as error:
            found.append(str(error))
        return found

    def occasions(self, since: int, until: int) -> Iterator[Occasion]:
        """Yield the holidays of these years, inclusive."""
        for year in range(since, until + 1):
            for name, first, last in _holidays_of(self.country, self.subdivision, year):
                yield Occasion(name=name, first=first, last=last, weight=self.counts_for)


class Calendar:
    """Declared events by day.

    Parameters
    ----------
    declared
        Events, checked.
    holidays
        A country's holidays beside them; one of the same name as a declared event is not there.
    """

    def __init__(self, declared: Sequence[DeclaredEvent] = (), holidays: Holidays | None = None) -> None:
        self.declared, self.holidays = tuple(declared), holidays

    def between(self, first: dt.date, last: dt.date) -> list[Occasion]:
        """Return the occasions that take any of these days, both inclusive, in order of time; none is cut off."""
        since, until = max(first.year - 1, dt.MINYEAR), last.year
        every = (occasion for each in self.declared for occasion in each.occasions(since, until))
        found = {occasion for occasion in every if occasion.first <= last and occasion.last >= first}
        if self.holidays:
            public = self.holidays.occasions(since, until)
            found |= {
                one for one in public if one.first <= last and one.last >= first and one.name not in self._declared
            }
        return sorted(found, key=lambda one: (one.first, one.last, one.name))

    def on(self, day: dt.date) -> list[Occasion]:
        """Return the occasions that take a day."""
        return self.between(day, day)

    def weight(self, day: dt.date) -> float:
        """Return what a ranking of a day counts for in training, from 0 (left out) to 1 (`weight_on`)."""
        return weight_on(day, self.on(day))

    def former(self, day: dt.date, years: int = FORMER_YEARS) -> list[dt.date]:
        """Return the days to compare an event's day with instead of ordinary ones, newest first.

        They are the days at the same place, such as the second, of earlier occasions of the same events. A day without
        an event has none, nor has one whose event was not declared before.

        Parameters
        ----------
        years
            How many calendar years to look back.

        Examples
        --------
        >>> sale = DeclaredEvent(name="Black Friday", days=("2024-11-29", "2025-11-28"))
        >>> Calendar([sale]).former(dt.date(2025, 11, 28))
        [datetime.date(2024, 11, 29)]
        """
        every, oldest = self.between(_years_away(day, -years), day), max(day.year - years, dt.MINYEAR)
        found = {
            former.first + (day - now.first)
            for now in every
            if day in now
            for former in every
            if former.name == now.name and former.last < now.first and former.first + (day - now.first) <= former.last
        }
        return sorted((one for one in found if one.year >= oldest), reverse=True)

    def next(self, day: dt.date) -> Occasion | None:
        """Return the occasion that begins first after a day; None where none does within nine years."""
        ahead = (one for one in self.between(day, _years_away(day, REACH)) if one.first > day)
        return next(ahead, None)

    def previous(self, day: dt.date) -> Occasion | None:
        """Return the occasion that ended last before a day; None where none did within nine years."""
        over = (one for one in self.between(_years_away(day, -REACH), day) if one.last < day)
        return max(over, key=lambda one: (one.last, one.first), default=None)

    @cached_property
    def _declared(self) -> set[str]:
        return {each.name for each in self.declared}


def load_calendar(path: Path | None = None) -> Calendar:
    """Return the calendar in a TOML file; without one, that has no events.

    Raises
    ------
    CalendarError
        The file cannot be read, an event in it is wrong, or a country's holidays cannot be had: which, and what is.
    """
    if path is None:
        return Calendar()
    try:
        given = msgspec.toml.decode(path.read_bytes(), type=_File)
    except OSError as error:
        raise CalendarError(f"{path}: {error.strerror}; check LTR_CALENDAR") from error
    except msgspec.ValidationError as error:
        raise CalendarError(f"{path}: {unknown_keys(error, _File)}; {_COMPARE}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CalendarError(f"{path}: {error}; {_COMPARE}") from error
    declared = [_event(number, one, path) for number, one in enumerate(given.events, start=1)]
    _check_overlaps(declared, path)
    return Calendar(declared, _public(given.holidays, path) if given.holidays is not None else None)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    events: tuple[dict[str, object], ...] = ()
    holidays: dict[str, object] | None = None


_COMPARE: Final = "compare it with the example in docs/monitoring.md"


def _event(number: int, given: Mapping[str, object], path: Path) -> DeclaredEvent:
    name = given.get("name")
    where = f"{path}: event {_short(name) if isinstance(name, str) and name else number}"
    try:
        event = msgspec.convert(_as_text(given), DeclaredEvent)
    except msgspec.ValidationError as error:
        raise CalendarError(f"{where}: {unknown_keys(error, DeclaredEvent)}; {_COMPARE}") from error
    if problems := event.problems():
        raise CalendarError(f"{where}: {'; '.join(problems)}")
    return event


def _public(given: Mapping[str, object], path: Path) -> Holidays:
    try:
        holidays = msgspec.convert(given, Holidays)
    except msgspec.ValidationError as error:
        raise CalendarError(f"{path}: holidays: {unknown_keys(error, Holidays)}; {_COMPARE}") from error
    if problems := holidays.problems():
        raise CalendarError(f"{path}: holidays: {'; '.join(problems)}")
    return holidays


def _as_text(value: object) -> object:
    """Return what a file declares with its days, which TOML knows without quotes, too, as text."""
    match value:
        case dt.date() | dt.time():
            return value.isoformat()
        case dict():
            return {name: _as_text(one) for name, one in value.items()}
        case list():
            return [_as_text(one) for one in value]
    return value


def _check_overlaps(declared: Sequence[DeclaredEvent], path: Path) -> None:
    """Refuse an event that takes a day twice: a mistyped date, or two answers to how that day is treated."""
    years = {_LEAP_YEAR, _LEAP_YEAR + 1} | {year for each in declared for year in each.years()}
    for name in dict.fromkeys(each.name for each in declared):
        every = (each.occasions(min(years) - 1, max(years)) for each in declared if each.name == name)
        taken = sorted((one for found in every for one in found), key=lambda one: (one.first, one.last))
        for former, one in pairwise(taken):
            if one.first <= former.last:
                raise CalendarError(
                    f"{path}: event {_short(name)} takes {one.first} twice: each of its days is declared once; two "
                    "events on one day have two names"
                )


def _parsed(text: str) -> dt.date | _Yearly:
    """Read a day; ValueError when it is none."""
    try:
        if _DATE.fullmatch(text):
            return dt.date.fromisoformat(text)
        if yearly := _YEARLY.fullmatch(text):
            day = dt.date(_LEAP_YEAR, int(yearly[1]), int(yearly[2]))
            return _Yearly(day.month, day.day)
    except ValueError:
        pass
    raise ValueError(f"{_short(text)} is no day: write 2025-11-28, or 12-25 for that day of every year")


def _joined(days: Sequence[dt.date | _Yearly]) -> list[_Stretch]:
    """Return days as stretches; ValueError when one is there twice."""
    dated = [day for day in days if isinstance(day, dt.date)]
    yearly = [_in(_LEAP_YEAR, day) for day in days if isinstance(day, _Yearly)]
    every_year: list[_Stretch] = [
        (_Yearly(first.month, first.day), _Yearly(last.month, last.day)) for first, last in _runs(yearly, "%m-%d")
    ]
    return [*_runs(dated), *every_year]


def _runs(days: Iterable[dt.date], written: str = "%Y-%m-%d") -> list[tuple[dt.date, dt.date]]:
    """Return days as stretches; ValueError, which has it as it was written, when one is there twice."""
    found: list[tuple[dt.date, dt.date]] = []
    for day in sorted(days):
        if found and day == found[-1][1]:
            raise ValueError(f"{day:{written}} is there twice")
        if found and day == found[-1][1] + DAY:
            found[-1] = (found[-1][0], day)
        else:
            found.append((day, day))
    return found


def _in_years(stretch: _Stretch, since: int, until: int) -> Iterator[tuple[dt.date, dt.date]]:
    first, last = stretch
    if isinstance(first, dt.date) and isinstance(last, dt.date):
        yield first, last
        return
    assert isinstance(first, _Yearly)  # noqa: S101 - both have a year, or neither has
    assert isinstance(last, _Yearly)  # noqa: S101
    for year in range(max(since, dt.MINYEAR), min(until, dt.MAXYEAR - 1) + 1):
        # In most years 29 February is not there: what begins on it begins a day later, what ends on it, a day earlier.
        begin, end = _in(year, first, later=True), _in(year + (last < first), last)
        if begin <= end:
            yield begin, end


def _in(year: int, day: _Yearly, *, later: bool = False) -> dt.date:
    try:
        return dt.date(year, *day)
    except ValueError:
        return dt.date(year, 3, 1) if later else dt.date(year, 2, 28)


def _years_away(day: dt.date, years: int) -> dt.date:
    """Return the end of that year which is farther from a day."""
    year = min(max(day.year + years, dt.MINYEAR), dt.MAXYEAR)
    return dt.date(year, 1, 1) if years < 0 else dt.date(year, 12, 31)


@lru_cache(maxsize=64)
def _holidays_of(country: str, subdivision: str | None, year: int) -> list[tuple[str, dt.date, dt.date]]:
    """Return name, first and last day of each holiday of a year.

    Raises
    ------
    CalendarError
        The library is not there, or knows no such country or subdivision.
    """
    try:
        import holidays
    except ModuleNotFoundError as error:
        raise CalendarError(
            f"the holidays of {_short(country)} need the package {error.name}: pip install 'ltr-pipeline[calendar]' "
            "(in a checkout: make setup)"
        ) from error
    known = holidays.list_supported_countries()
    if country not in known:
        near = did_you_mean(country, known) or "."
        raise CalendarError(f"country is {_short(country)}{near} Give its code of ISO 3166, such as BR")
    if subdivision is not None and subdivision not in known[country]:
        parts = ", ".join(known[country]) or "none"
        near = did_you_mean(subdivision, known[country]) or "."
        raise CalendarError(f"subdivision is {_short(subdivision)}{near} The library has {parts} for {country}")
    # In the language of the country, not of whoever runs this: names tell which holiday is the same as last year's.
    language = holidays.country_holidays(country).default_language
    days = holidays.country_holidays(country, subdiv=subdivision, years=year, language=language)
    named: dict[str, list[dt.date]] = {}
    for day in sorted(days):
        for name in dict.fromkeys(days.get_list(day)):
            named.setdefault(name, []).append(day)
    return [(name, first, last) for name, its in named.items() for first, last in _runs(its)]


def _short(text: str) -> str:
    return repr(text if len(text) <= LONGEST else f"{text[:LONGEST]}…")
