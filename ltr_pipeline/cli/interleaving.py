"""Who wins where two rankers share a list."""

from __future__ import annotations

import datetime as dt

import msgspec
import polars as pl
from rich.markup import escape

from ltr_pipeline.cli.console import console, print_json, print_line, print_table
from ltr_pipeline.cli.events import day
from ltr_pipeline.cli.settings import load_settings
from ltr_pipeline.dataset.build import first_shown, rankings
from ltr_pipeline.dataset.windows import Windows
from ltr_pipeline.errors import SettingsError, SourceError
from ltr_pipeline.events.chain import partitions_for
from ltr_pipeline.events.partitions import newest
from ltr_pipeline.metrics.interleaving import PAIR
from ltr_pipeline.metrics.preference import LEVEL, Preference, drafted_lists, preferences
from ltr_pipeline.report.wording import NONE
from ltr_pipeline.settings import Settings

__all__ = ["interleave_report"]

DAY = dt.timedelta(days=1)


class _Report(msgspec.Struct, frozen=True, kw_only=True):
    """The days whose lists were compared, both inclusive, and what came of it."""

    since: dt.date
    until: dt.date
    preferences: list[Preference]


def interleave_report(since: str | None, until: str | None, relevance: int, as_json: bool) -> None:
    """Print which of two interleaved versions users prefer; an item counts from `relevance` on."""
    settings = load_settings()
    windows = _windows(settings, since, until)
    partitions = partitions_for(settings.data, windows.cutoff.date(), windows.start, settings.trusted_keys)
    tables = rankings(settings.data, partitions, settings.mapping, windows)
    lists = pl.concat([drafted_lists(table, relevance) for table in tables])
    report = _Report(
        since=windows.start.date(),
        until=windows.mature_end.date() - DAY,
        preferences=preferences(lists),
    )
    if as_json:
        print_json(report)
    else:
        _print(report)


def _windows(settings: Settings, since: str | None, until: str | None) -> Windows:
    """Return the days of the lists that are compared: their feedback must have had its time."""
    landed = newest(settings.data)
    if landed is None:
        raise SourceError(f"nothing has landed in {settings.data.uri()}; `ltr run` lands events")
    attribution = settings.attribution_days * DAY
    latest = landed.date - attribution - DAY
    last = min(day(until), latest) if until else latest
    first = day(since) if since else _began(settings, last)
    if first > last:
        raise SettingsError(
            f"no day from {first} has all its feedback: the last that has is {latest}, "
            f"{settings.attribution_days} days (LTR_ATTRIBUTION_DAYS) before the newest landed events; "
            "choose an earlier --since"
        )
    cutoff = last + DAY + attribution
    return Windows(
        cutoff=dt.datetime.combine(cutoff, dt.time(), dt.UTC),
        window_days=(cutoff - first).days,
        attribution_days=settings.attribution_days,
    )


def _began(settings: Settings, last: dt.date) -> dt.date:
    """Return the day of the first interleaved list: the evidence is that of all lists since, not of a sliding window.

    Where none was shown by the last day, it is as long before as training looks back.
    """
    partitions = partitions_for(settings.data, last + DAY, keys=settings.trusted_keys)
    found = first_shown(settings.data, partitions, PAIR, settings.window_days)
    if found is not None and found.date() <= last:
        return found.date()
    return last - (settings.window_days - settings.attribution_days - 1) * DAY


def _print(report: _Report) -> None:
    console.print(f"Lists shown from {report.since} to {report.until}, feedback within its attribution window\n")
    if not report.preferences:
        console.print("No list was interleaved; set LTR_INTERLEAVE_VERSION and LTR_INTERLEAVE_SHARE of the service.")
        return
    header = ("First", "Second", "Lists", "First wins", "Second wins", "Ties", "Users", "Share", "95 % CI", "Evidence")
    print_table(header, [_row(found) for found in report.preferences])
    console.print()
    for found in report.preferences:
        print_line(_sentence(found))
    console.print()
    print_line(
        f"Read it as often as you like: that any line ever names a winner between equal rankers has a probability of "
        f"{100 * LEVEL:g} % at most."
    )


def _row(found: Preference) -> tuple[str, ...]:
    counts = (found.rankings, found.wins, found.losses, found.ties, found.users)
    return (
        escape(found.first),
        escape(found.second),
        *(f"{count:,}" for count in counts),
        NONE if found.share is None else f"{found.share:.3f}",
        NONE if found.low is None or found.high is None else f"{found.low:.3f} to {found.high:.3f}",
        f"{_rounded(found.evidence)} of {_rounded(found.needed)}",
    )


def _rounded(evidence: float) -> str:
    """Write evidence, or what is needed of it, to two digits.

    >>> [_rounded(value) for value in (0.0421, 31.25, 3750.0, 2.5e9)]
    ['0.042', '31', '3,800', '2.5e+09']
    """
    return f"{float(f'{evidence:.2g}'):,g}" if evidence < 1e6 else f"{evidence:.1e}"


def _sentence(found: Preference) -> str:
    if found.winner:
        loser = found.second if found.winner == found.first else found.first
        return f"{found.winner} wins against {loser}."
    pair = f"{found.first} or {found.second}: no winner yet"
    if found.further is None:
        return f"{pair}, and no estimate of how many more lists are needed."
    return f"{pair}; if the share stays as it is, about {found.further:,} more lists are needed."
