"""The words that an address asks a page with, read and checked."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Final, Generic, NamedTuple, TypeVar
from urllib.parse import parse_qs

from ltr_pipeline.errors import RequestError

__all__ = ["FURTHEST", "LONGEST_FORM", "PERIODS", "Asked", "Page", "asked", "day", "fields", "paged", "whole"]

T = TypeVar("T")

PERIODS: Final = (30, 90, 365)
"""Days that a page can show at once."""

LONGEST: Final = 256  # characters of a version's name
FURTHEST: Final = 1_000_000  # pages
FURTHEST_RUN: Final = 2**63 - 1
LONGEST_FORM: Final = 256 * 1024  # bytes: the ids of all rows of a page, and the rest
MOST_FIELDS: Final = 200


class Asked(NamedTuple):
    """What is asked of a page.

    Attributes
    ----------
    days
        How many days its graphics show.
    until
        Their last; None = the newest.
    page
        Of its list, from 1.
    date
        Day to tell of; None = the newest.
    version
        Version to tell of; empty = all.
    run
        Number of the run of batch scoring to tell of; None = the one that matters most.
    one, other
        Versions to compare; empty = those that suggest themselves.
    """

    days: int = PERIODS[0]
    until: dt.date | None = None
    page: int = 1
    date: dt.date | None = None
    version: str = ""
    run: int | None = None
    one: str = ""
    other: str = ""


def asked(words: Mapping[str, str]) -> Asked:
    """Read what an address asks; RequestError says which word is wrong."""
    days = whole(words, "days", PERIODS[0])
    if days not in PERIODS:
        raise RequestError(f"days must be one of {', '.join(map(str, PERIODS))}")
    version, one, other = (_version(words, name) for name in ("version", "one", "other"))
    run = whole(words, "run", 1, FURTHEST_RUN) if "run" in words else None
    at = day(words, "until"), whole(words, "page", 1), day(words, "date")
    return Asked(days, *at, version, run, one, other)


def _version(words: Mapping[str, str], name: str) -> str:
    version = words.get(name, "")
    if len(version) > LONGEST:
        raise RequestError(f"{name} must have at most {LONGEST} characters")
    return version


def whole(words: Mapping[str, str], name: str, default: int, most: int = FURTHEST) -> int:
    """Return a whole number from 1; RequestError for anything else.

    >>> whole({"page": "2"}, "page", 1)
    2
    """
    given = words.get(name)
    if given is None:
        return default
    if not (given.isascii() and given.isdecimal() and len(given) <= len(str(most)) and 1 <= int(given) <= most):
        raise RequestError(f"{name} must be a whole number from 1 to {most}")
    return int(given)


def day(words: Mapping[str, str], name: str) -> dt.date | None:
    """Return a day; RequestError when it is none."""
    given = words.get(name)
    if given is None:
        return None
    try:
        found = dt.date.fromisoformat(given)
    except ValueError:
        raise RequestError(f"{name} must be a day such as 2025-07-15") from None
    if found.isoformat() != given:
        raise RequestError(f"{name} must be a day such as 2025-07-15")
    return found


def fields(body: bytes, longest: int) -> dict[str, list[str]]:
    """Return the fields of a form that was sent; RequestError where it is larger than `longest` bytes, or has too many.

    >>> fields(b"who=Ana&row=1&row=2", 100)
    {'who': ['Ana'], 'row': ['1', '2']}
    """
    if len(body) > longest:
        raise RequestError(f"the form is larger than {longest} bytes")
    try:
        return parse_qs(body.decode(errors="replace"), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        raise RequestError(f"the form has more than {MOST_FIELDS} fields") from None


class Page(NamedTuple, Generic[T]):
    """One page of a list.

    Attributes
    ----------
    items
        What stands on it.
    number, of
        Which page it is, and how many there are, at least 1.
    total
        Items on all pages.
    """

    items: Sequence[T]
    number: int
    of: int
    total: int


def paged(items: Sequence[T], number: int, size: int) -> Page[T]:
    """Return a page of a list; one behind the last is empty.

    >>> paged("abcde", 2, 2)
    Page(items='cd', number=2, of=3, total=5)
    """
    pages = max(1, -(-len(items) // size))
    return Page(items[(number - 1) * size : number * size], number, pages, len(items))
