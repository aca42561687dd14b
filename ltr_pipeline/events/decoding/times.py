"""RFC 3339 times, many at once.

Arrow reads most of them, and faster than anything else. What RFC 3339 has and Arrow does not read (a lower-case ``t``
or ``z``, more than nine digits, leap seconds) is rewritten for it, together with few others around it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["UTC", "parse_times"]

UTC: Final = pa.timestamp("us", "UTC")

SAMPLED: Final = 16
"""Where one of so many is not read by Arrow, all are rewritten: it tells slowly which."""

TOGETHER: Final = 64
"""Texts with one among them that Arrow does not read are rewritten; parts of fewer take longer to find."""

TIME: Final = (
    r"^(\d{4}-\d\d-\d\d)[Tt ]"
    r"(?:(\d\d(?::\d\d(?::\d\d)?)?)|(\d\d:\d\d:\d\d\.\d{1,6})\d*)"  # minutes and seconds may be left out
    r"([Zz]|[+-]\d\d(?::?\d\d)?)$"
)
PARTS: Final = r"\1T\2\3\4"

LEAP: Final = r"^([^:]*:\d\d):60(?:\.\d+)?([^:.\d].*)$"
LAST: Final = r"\1:59.999999\2"
"""The last microsecond before a leap second stands for it, so that it stays in its day."""


def parse_times(texts: pa.Array) -> pa.Array:
    """Parse RFC 3339 times as ``timestamp[us, UTC]``, null where a text is not one or lacks its offset from UTC.

    Digits beyond microseconds are cut off.

    >>> parse_times(pa.array(["2025-07-15T12:30:00.123456789+02:00", "yesterday"])).is_null().to_pylist()
    [False, True]
    >>> str(parse_times(pa.array(["2016-12-31t23:59:60z"]))[0])
    '2016-12-31 23:59:59.999999+00:00'
    """
    sample = texts[:: 1 + len(texts) // SAMPLED]
    often = any(times is None for _, times in _parts(sample, SAMPLED))
    return _rewritten(texts) if often else _joined(texts, TOGETHER, _rewritten)


def _cast(texts: pa.Array) -> pa.Array:
    return texts.cast(pa.timestamp("ns", "UTC")).cast(UTC, safe=False)


def _rewritten(texts: pa.Array) -> pa.Array:
    """Parse times of which Arrow does not read one as it is written."""
    looks_right = pc.match_substring_regex(texts, TIME)
    plain = pc.replace_substring_regex(pc.if_else(looks_right, texts, None), TIME, PARTS)
    leap = pc.match_substring_regex(plain, LEAP)
    times = _joined(pc.utf8_upper(pc.replace_substring_regex(plain, LEAP, LAST)), 1, _none)
    if not pc.any(leap).as_py():
        return times
    after = pc.add(times, pa.scalar(1, pa.duration("us")))
    possible = pc.equal(after, pc.floor_temporal(after, unit="month"))
    return pc.if_else(pc.or_(pc.invert(leap), possible), times, None)


def _joined(texts: pa.Array, few: int, otherwise: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """Parse all at once; what Arrow does not read, with at most a `few` around it, goes another way together."""
    parts = [*_parts(texts, few)]
    unread = [part for part, times in parts if times is None]
    rest, at = otherwise(pa.concat_arrays(unread)) if unread else pa.nulls(0, UTC), 0
    found = []
    for part, times in parts:
        found.append(rest[at : at + len(part)] if times is None else times)
        at += len(part) if times is None else 0
    return pa.concat_arrays(found) if len(found) > 1 else found[0]


def _parts(texts: pa.Array, few: int) -> Iterator[tuple[pa.Array, pa.Array | None]]:
    """Yield the texts, in order, in parts that Arrow reads, each with its times, and parts of a `few` with None."""
    try:
        yield texts, _cast(texts)
    except pa.ArrowInvalid:
        if len(texts) <= few:
            yield texts, None
        else:
            half = len(texts) // 2
            yield from _parts(texts[:half], few)
            yield from _parts(texts[half:], few)


def _none(texts: pa.Array) -> pa.Array:
    return pa.nulls(len(texts), UTC)
