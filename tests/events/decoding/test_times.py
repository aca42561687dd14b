"""Times as RFC 3339 and docs/events.md have them, against Python's own parser."""

from __future__ import annotations

import datetime as dt
import re

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ltr_pipeline.events.decoding.decode import Decoder
from ltr_pipeline.events.decoding.times import parse_times
from ltr_pipeline.mapping import load_mapping
from support.messages import block, shown

MICROSECOND = dt.timedelta(microseconds=1)
GRAMMAR = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d+))?)?)?([Zz]|[+-]\d\d(?::?[0-5]\d)?)", re.ASCII
)

offsets = st.sampled_from(
    ["Z", "z", "+00:00", "-00:00", "+02:00", "+0200", "-0530", "+02", "-23:59", "+24:00", "+02:60", ""]
)
fractions = st.one_of(st.just(""), st.from_regex(r"\.[0-9]{1,15}", fullmatch=True), st.sampled_from([".", ",5"]))
clocks = st.builds(
    "{:02}:{:02}:{:02}".format,
    st.sampled_from([0, 8, 15, 23, 24]),
    st.sampled_from([0, 29, 59, 60]),
    st.sampled_from([0, 1, 59, 60, 61]),
)
days = st.sampled_from(
    [
        "2000-01-01",
        "2016-12-31",
        "2017-01-01",
        "2024-02-29",
        "2025-02-29",
        "2025-04-31",
        "2025-7-15",
        "20250715",
        "2099-12-31",
    ]
)
written = st.builds(
    "{}{}{}{}{}".format,
    days,
    st.sampled_from(["T", "t", " ", "", "_"]),
    st.one_of(clocks, clocks.map(lambda clock: clock[:5]), clocks.map(lambda clock: clock[:2])),
    fractions,
    offsets,
)


def expected(text: str) -> dt.datetime | None:
    """What a text means, read one at a time and by nothing that the reader uses."""
    found = GRAMMAR.fullmatch(text)
    if not found:
        return None
    day, hour, minute, second, digits, offset = found.groups()
    offset = "+00:00" if offset in "Zz" else offset
    micros = (digits or "")[:6].ljust(6, "0")
    leap = second == "60"
    try:
        time = dt.datetime.fromisoformat(
            f"{day}T{hour}:{minute or '00'}:{'59' if leap else second or '00'}.{micros}{offset}"
        )
    except ValueError:
        return None
    if not leap:
        return time.astimezone(dt.UTC)
    last = time.replace(microsecond=999_999).astimezone(dt.UTC)
    next_day = last + MICROSECOND
    return last if (next_day.day, next_day.time()) == (1, dt.time()) else None


@given(st.lists(st.one_of(written, st.text(max_size=30)), min_size=1, max_size=8))
@example(["2016-12-31T23:59:60Z", "2016-12-31t15:59:60.25-08:00"])
@example(["2025-07-15T10:30:00.123456789012z"])
@example(["2025-07-15T10:30:00Z\n"])
@example(["2025-07-15T10:30:00+02:60"])
def test_times_are_as_another_parser_has_them_whatever_stands_beside_them(texts: list[str]) -> None:
    alone = [parse_times(pa.array([text]))[0].as_py() for text in texts]
    assert alone == [expected(text) for text in texts]
    assert parse_times(pa.array(texts)).to_pylist() == alone


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2025-07-15T10:30:00.123456789012Z", "2025-07-15T10:30:00.123456"),
        ("2025-07-15t10:30:00z", "2025-07-15T10:30:00"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999999"),
        ("2017-01-01T00:59:60.5+01:00", "2016-12-31T23:59:59.999999"),
        ("2025-07-15 10:30:00+0200", "2025-07-15T08:30:00"),
        ("2025-07-15T10:30:00-05", "2025-07-15T15:30:00"),
        ("2025-07-15T10Z", "2025-07-15T10:00:00"),
        ("2025-07-15T10:30Z", "2025-07-15T10:30:00"),
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_a_message_lands_at_its_time_by_either_reader(text: str, utc: str, strict: bool) -> None:
    decoded = Decoder(load_mapping(), strict=strict).decode(block(shown(time=text), shown()))
    assert decoded.impressions["time"][0].as_py() == dt.datetime.fromisoformat(utc).replace(tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "text", ["2025-07-15T10:30:60Z", "2025-07-15T10:30:00", "20250715T103000Z", "2025-07-15T10:30:00,5Z"]
)
def test_what_is_no_such_time_is_refused_by_name(text: str) -> None:
    decoded = Decoder(load_mapping()).decode(block(shown(time=text), shown()))
    assert [record.reason for record in decoded.quarantined] == ["bad time"]
    assert text in decoded.quarantined[0].detail
