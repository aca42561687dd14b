"""A calendar of declared events: what it says of a day, and what is said of a file that is wrong."""

from __future__ import annotations

import datetime as dt
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltr_pipeline.calendar import Calendar, DeclaredEvent, Occasion, load_calendar, weight_on
from ltr_pipeline.errors import CalendarError

DAY = dt.timedelta(days=1)
EXAMPLE = """
[[events]]
name = "Black Friday"
days = [2024-11-29, "2025-11-28"]
treatment = "leave_out"

[[events]]
name = "Christmas"
first = "12-24"
last = "01-01"
weight = 0.2

[[events]]
name = "Price war"
first = 2025-11-24
last = 2025-12-07
weight = 0.5

[[events]]
name = "Price war"
first = 2026-03-02
"""


def day(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


def load(folder: Path, text: str) -> Calendar:
    (path := folder / "events.toml").write_text(text)
    return load_calendar(path)


@pytest.fixture
def calendar(tmp_path: Path) -> Calendar:
    return load(tmp_path, EXAMPLE)


def names(occasions: list[Occasion]) -> list[str]:
    return [one.name for one in occasions]


def test_the_example_of_the_documentation_is_a_calendar(tmp_path: Path) -> None:
    section = Path("docs/monitoring.md").read_text().partition("\n## Declared events\n")[2].partition("\n## ")[0]
    (example,) = re.findall(r"```toml\n(.*?)```", section, re.DOTALL)
    calendar = load(tmp_path, example)
    assert [calendar.weight(day(when)) for when in ("2025-11-28", "2031-12-25", "2025-03-12")] == [0, 0.2, 1]
    assert names(calendar.on(day("2025-07-09"))) == ["Revolução Constitucionalista"]


def test_without_a_file_no_day_is_an_event() -> None:
    calendar = load_calendar(None)
    today = day("2025-11-28")
    assert (calendar.on(today), calendar.weight(today), calendar.former(today)) == ([], 1.0, [])
    assert (calendar.next(today), calendar.previous(today)) == (None, None)


def test_an_empty_file_declares_nothing(tmp_path: Path) -> None:
    assert load(tmp_path, "# nothing yet\n").between(dt.date.min, dt.date.max) == []


def test_the_events_of_a_day(calendar: Calendar) -> None:
    assert names(calendar.on(day("2025-11-27"))) == ["Price war"]
    assert names(calendar.on(day("2025-11-28"))) == ["Price war", "Black Friday"]
    assert calendar.on(day("2025-12-08")) == []
    christmas = Occasion(name="Christmas", first=day("2025-12-24"), last=day("2026-01-01"), weight=0.2)
    assert calendar.on(day("2025-12-24")) == calendar.on(day("2026-01-01")) == [christmas]  # over the year's end
    assert calendar.on(day("2026-01-02")) == []


@pytest.mark.parametrize(
    ("when", "weight"),
    [
        ("2025-11-23", 1.0),
        ("2025-11-24", 0.5),
        ("2025-11-28", 0.0),  # of several the least
        ("2025-12-31", 0.2),
        ("1999-12-31", 0.2),
    ],
)
def test_what_a_ranking_of_a_day_counts_for(calendar: Calendar, when: str, weight: float) -> None:
    assert calendar.weight(day(when)) == weight
    assert weight_on(day(when), calendar.between(day(when) - 30 * DAY, day(when) + 30 * DAY)) == weight


def test_treatments_in_words(calendar: Calendar) -> None:
    assert [one.treatment for one in calendar.on(day("2025-11-28"))] == ["weighs 0.5 in training", "left out"]
    assert Occasion(name="Fair", first=day("2025-05-01"), last=day("2025-05-01")).treatment == "annotated"


def test_events_are_annotated_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    one, other = '[[events]]\nname = "One"\nfirst = 2025-05-01\n', '[[events]]\nname = "Other"\nfirst = "05-01"\n'
    calendar = load(tmp_path, one + 'treatment = "annotate"\n' + other)
    assert names(calendar.on(day("2025-05-01"))) == ["One", "Other"]
    assert calendar.weight(day("2025-05-01")) == 1.0


def test_an_occasion_is_whole_wherever_the_days_that_are_asked_for_begin(calendar: Calendar) -> None:
    (one,) = calendar.between(day("2025-12-01"), day("2025-12-02"))
    assert (one.first, one.last) == (day("2025-11-24"), day("2025-12-07"))
    (over,) = calendar.between(day("2026-01-01"), day("2026-01-31"))
    assert over.first == day("2025-12-24")


def test_days_that_follow_each_other_are_one_occasion(tmp_path: Path) -> None:
    calendar = load(tmp_path, '[[events]]\nname = "Fair"\ndays = ["05-02", "05-01", "05-04", 2025-07-02, 2025-07-01]\n')
    found = calendar.between(day("2025-01-01"), day("2025-12-31"))
    assert [f"{one.first:%m%d}-{one.last:%m%d}" for one in found] == ["0501-0502", "0504-0504", "0701-0702"]


def test_the_same_day_of_former_years(calendar: Calendar) -> None:
    assert calendar.former(day("2025-12-25"), years=2) == [day("2024-12-25"), day("2023-12-25")]
    assert calendar.former(day("2026-01-01"), years=1) == [day("2025-01-01")]
    assert calendar.former(day("2025-11-27")) == []  # a price war without one before
    assert calendar.former(day("2025-11-28")) == [day("2024-11-29")]
    assert calendar.former(day("2024-11-29")) == []
    assert calendar.former(day("2025-06-01")) == []


def test_the_former_day_is_at_the_same_place_of_the_event(tmp_path: Path) -> None:
    text = '[[events]]\nname = "Week"\nfirst = {}\nlast = {}\n'
    calendar = load(tmp_path, text.format("2024-11-25", "2024-11-30") + text.format("2025-11-24", "2025-11-30"))
    assert calendar.former(day("2025-11-24")) == [day("2024-11-25")]
    assert calendar.former(day("2025-11-29")) == [day("2024-11-30")]
    assert calendar.former(day("2025-11-30")) == []  # it was a day shorter then


def test_of_two_events_on_a_day_each_has_former_days(tmp_path: Path) -> None:
    sale, fair = ('[[events]]\nname = "Sale"\ndays = [2024-03-05, 2025-03-06]\n', '[[events]]\nname = "Fair"\n')
    calendar = load(tmp_path, sale + fair + "days = [2023-03-01, 2025-03-06]\n")
    assert calendar.former(day("2025-03-06")) == [day("2024-03-05"), day("2023-03-01")]


def test_an_event_of_every_month_is_compared_with_the_months_before(tmp_path: Path) -> None:
    calendar = load(tmp_path, f'[[events]]\nname = "Sale"\ndays = {[f"{month:02d}-18" for month in range(1, 13)]}\n')
    assert calendar.former(day("2025-07-18"))[:2] == [day("2025-06-18"), day("2025-05-18")]


def test_the_next_event_and_the_one_before(calendar: Calendar) -> None:
    (war, friday) = calendar.on(day("2025-11-28"))
    assert calendar.next(day("2025-11-23")) == war
    assert calendar.next(day("2025-11-24")) == friday
    assert calendar.next(day("2025-11-28")) == calendar.on(day("2025-12-24"))[0]
    assert calendar.previous(day("2025-11-28")) == calendar.on(day("2025-01-01"))[0]
    assert calendar.previous(day("2025-11-29")) == friday
    assert calendar.previous(day("2025-12-08")) == war
    assert calendar.next(dt.date.max) is None


def test_29_february_comes_in_leap_years(tmp_path: Path) -> None:
    calendar = load(tmp_path, '[[events]]\nname = "Leap"\nfirst = "02-29"\n[[events]]\nname = "x"\nfirst = 2021-01-01')
    found = calendar.between(day("2096-01-01"), day("2104-12-31"))
    assert [str(one.first) for one in found] == ["2096-02-29", "2104-02-29"]
    assert calendar.next(day("2096-03-01")) == found[1]


@pytest.mark.parametrize(
    ("first", "last", "days"), [("02-29", "03-02", 2), ("02-27", "02-29", 2), ("02-28", "03-01", 2)]
)
def test_in_other_years_what_29_february_begins_or_ends_is_a_day_shorter(tmp_path: Path, first, last, days) -> None:
    calendar = load(tmp_path, f'[[events]]\nname = "Fair"\nfirst = "{first}"\nlast = "{last}"\n')
    (in_2025,) = calendar.between(day("2025-01-01"), day("2025-12-31"))
    (in_2024,) = calendar.between(day("2024-01-01"), day("2024-12-31"))
    assert ((in_2025.last - in_2025.first).days + 1, (in_2024.last - in_2024.first).days + 1) == (days, days + 1)


@given(st.dates(), st.integers(1, 400), st.dates(dt.date(2000, 1, 1), dt.date(2000, 12, 31)), st.integers(0, 300))
def test_what_is_said_of_days_together_is_what_is_said_of_each(since, length, begin, days) -> None:
    yearly = DeclaredEvent(name="a", first=f"{begin:%m-%d}", last=f"{begin + days * DAY:%m-%d}")
    calendar = Calendar([yearly, DeclaredEvent(name="b", first=str(since))])
    until = min(since, dt.date.max - length * DAY) + length * DAY
    every = calendar.between(since, until)
    assert every == sorted(every, key=lambda one: (one.first, one.last, one.name))
    for one in (since, until):
        assert [occasion for occasion in every if one in occasion] == calendar.on(one)


def test_a_name_is_text_whatever_it_looks_like(tmp_path: Path) -> None:
    calendar = load(tmp_path, "[[events]]\nname = '<b onclick=\"x()\">Día & Ñ</b>'\nfirst = 2025-05-01\n")
    assert names(calendar.on(day("2025-05-01"))) == ['<b onclick="x()">Día & Ñ</b>']


# A country's holidays

BRAZIL = '[holidays]\ncountry = "BR"\n'


def test_holidays_of_a_country_are_declared_by_its_name(tmp_path: Path) -> None:
    calendar = load(tmp_path, BRAZIL)
    assert names(calendar.on(day("2025-09-07"))) == ["Independência do Brasil"]
    assert calendar.weight(day("2025-09-07")) == 1.0
    assert calendar.on(day("2025-07-09")) == []
    good_friday = day("2025-04-18")  # it moves with Easter
    assert calendar.former(good_friday, years=2) == [day("2024-03-29"), day("2023-04-07")]
    assert names([calendar.next(day("2025-12-26"))]) == ["Confraternização Universal"]


def test_holidays_of_a_part_of_a_country_and_their_treatment(tmp_path: Path) -> None:
    calendar = load(tmp_path, BRAZIL + 'subdivision = "SP"\ntreatment = "leave_out"\n')
    assert (names(calendar.on(day("2025-07-09"))), calendar.weight(day("2025-07-09"))) == (
        ["Revolução Constitucionalista"],
        0,
    )
    assert load(tmp_path, BRAZIL + "weight = 0.5\n").weight(day("2025-12-25")) == 0.5


def test_a_declared_event_takes_the_place_of_the_holiday_of_its_name(tmp_path: Path) -> None:
    calendar = load(tmp_path, '[[events]]\nname = "Natal"\nfirst = "12-20"\nlast = "12-26"\nweight = 0.3\n' + BRAZIL)
    (natal,) = calendar.on(day("2025-12-25"))
    assert (natal.first, natal.weight) == (day("2025-12-20"), 0.3)


def test_holidays_that_follow_each_other_are_one_occasion(tmp_path: Path) -> None:
    calendar = load(tmp_path, '[holidays]\ncountry = "CN"\n')
    (festival,) = calendar.on(day("2025-01-30"))
    assert (festival.first, festival.last) == (day("2025-01-29"), day("2025-01-31"))
    assert calendar.former(day("2025-01-30"))[0] == day("2024-02-11")


ASKED = """
import datetime as dt, pathlib, sys
from ltr_pipeline.calendar import load_calendar
from ltr_pipeline.errors import CalendarError
try:
    calendar = load_calendar(pathlib.Path(sys.argv[1]))
    print([one.name for one in calendar.on(dt.date(2025, 9, 7))])
except CalendarError as error:
    print(error)
"""


def said_of(path: Path, code: str = "", **environment: str) -> str:
    """Holidays of a day, or what is wrong, in a process of its own."""
    script = f"{code}\n{ASKED}"
    done = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=True, env=os.environ | environment
    )
    return done.stdout.strip()


def test_without_the_library_a_file_that_asks_for_a_country_says_what_to_install(tmp_path: Path) -> None:
    (path := tmp_path / "events.toml").write_text(BRAZIL)
    absent = "import sys; sys.modules['holidays'] = None"
    assert said_of(path, absent) == (
        f"{path}: holidays: the holidays of 'BR' need the package holidays: pip install 'ltr-pipeline[calendar]' "
        "(in a checkout: make setup)"
    )
    path.write_text('[[events]]\nname = "Independence"\nfirst = "09-07"\n')
    assert said_of(path, absent) == "['Independence']"


@pytest.mark.parametrize("language", ["en_US", "de", ""])
def test_names_of_holidays_do_not_depend_on_the_language_of_the_machine(tmp_path: Path, language: str) -> None:
    (path := tmp_path / "events.toml").write_text(BRAZIL)
    assert said_of(path, LANGUAGE=language, LC_ALL="C.UTF-8") == "['Independência do Brasil']"


# Bad input


def event(*lines: str) -> str:
    return "\n".join(["[[events]]", 'name = "Sale"', *lines, ""])


ONCE = "first = 2025-05-01"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (event(), "event 'Sale': it has no day: give first, or days"),
        (event("days = []"), "event 'Sale': it has no day: give first, or days"),
        (event("last = 2025-05-01"), "event 'Sale': it has a last day, but no first"),
        (event(ONCE, "last = 2025-04-30"), "event 'Sale': its last day, 2025-04-30, is before its first, 2025-05-01"),
        (event(ONCE, "days = [2025-05-03]"), "event 'Sale': give either first and last, or days"),
        (
            event(ONCE, 'last = "05-02"'),
            "event 'Sale': first, 2025-05-01, and last, 05-02, both have a year, or neither",
        ),
        (
            event('first = "2025-02-30"'),
            "event 'Sale': '2025-02-30' is no day: write 2025-11-28, or 12-25 for that day",
        ),
        (event('first = "02-30"'), "event 'Sale': '02-30' is no day"),
        (event('first = "20250501"'), "event 'Sale': '20250501' is no day"),
        (event('first = "next Friday"'), "event 'Sale': 'next Friday' is no day"),
        (event(f'first = "{"9" * 1000}"'), f"event 'Sale': '{'9' * 64}…' is no day"),
        (event("first = 2025-05-01T10:00:00"), "event 'Sale': '2025-05-01T10:00:00' is no day"),
        (event("first = 20250501"), "event 'Sale': Expected `str | null`, got `int` - at `$.first`"),
        (event("days = [2025-05-01, 3]"), "event 'Sale': Expected `str`, got `int` - at `$.days[1]`"),
        (event("days = [2025-05-01, 2025-05-01]"), "event 'Sale': 2025-05-01 is there twice"),
        (event('days = ["05-01", "05-01"]'), "event 'Sale': 05-01 is there twice"),
        (
            event(ONCE, "weight = 0"),
            "event 'Sale': weight is 0; give one above 0 and at most 1, or treatment = \"leave_",
        ),
        (event(ONCE, "weight = -1"), "event 'Sale': weight is -1; give one above 0 and at most 1"),
        (event(ONCE, "weight = 2"), "event 'Sale': weight is 2; give one above 0 and at most 1"),
        (event(ONCE, "weight = nan"), "event 'Sale': weight is nan; give one above 0 and at most 1"),
        (event(ONCE, 'weight = "little"'), "event 'Sale': Expected `float | null`, got `str` - at `$.weight`"),
        (
            event(ONCE, 'treatment = "leaveout"'),
            "event 'Sale': treatment is 'leaveout'; did you mean leave_out? There are",
        ),
        (event(ONCE, 'treatment = "drop"'), "event 'Sale': treatment is 'drop'. There are annotate and leave_out"),
        (event(ONCE, "weight = 0.5", 'treatment = "annotate"'), "event 'Sale': give either treatment or weight"),
        (event(ONCE, "weigth = 0.5"), "event 'Sale': unknown key 'weigth'; did you mean weight? The known keys are"),
        (f"[[events]]\n{ONCE}\n", "event 1: Object missing required field `name`"),
        (f'[[events]]\nname = ""\n{ONCE}\n', "event 1: Expected `str` of length >= 1 - at `$.name`"),
        (f'[[events]]\nname = "  "\n{ONCE}\n', "event '  ': a name is a line of text"),
        (f'[[events]]\nname = "a\\nb"\n{ONCE}\n', r"event 'a\nb': a name is a line of text"),
        (f'[[events]]\nname = "\\u001b[31m"\n{ONCE}\n', r"event '\x1b[31m': a name is a line of text"),
        (f'[[events]]\nname = "{"x" * 101}"\n{ONCE}\n', f"event '{'x' * 64}…': Expected `str` of length <= 100"),
        (f"[[events]]\nname = 3\n{ONCE}\n", "event 1: Expected `str`, got `int` - at `$.name`"),
        (event(ONCE) * 2, "event 'Sale' takes 2025-05-01 twice: each of its days is declared once"),
        (event(ONCE, "last = 2025-05-09") + event("first = 2025-05-09"), "event 'Sale' takes 2025-05-09 twice"),
        (event(ONCE) + event('first = "04-28"', 'last = "05-02"'), "event 'Sale' takes 2025-05-01 twice"),
        (event('first = "12-24"', 'last = "01-02"') + event('first = "01-01"'), "event 'Sale' takes 2024-01-01 twice"),
        (event('first = "02-29"') + event('days = ["02-28", "02-29"]'), "event 'Sale' takes 2024-02-29 twice"),
        ('[[event]]\nname = "Sale"\n', "unknown key 'event'; did you mean events? The known keys are events, holidays"),
        ('[events]\nname = "Sale"\n', "Expected `array`, got `object` - at `$.events`"),
        ("[holidays]\n", "holidays: Object missing required field `country`"),
        ('[holidays]\ncountry = "br"\n', "holidays: country is 'br'; did you mean BR? Give its code of ISO 3166"),
        (
            '[holidays]\ncountry = "Atlantis"\n',
            "holidays: country is 'Atlantis'. Give its code of ISO 3166, such as BR",
        ),
        (BRAZIL + 'subdivision = "sp"\n', "holidays: subdivision is 'sp'; did you mean SP? The library has AC, AL"),
        (BRAZIL + "weight = 3\n", "holidays: weight is 3; give one above 0"),
        (BRAZIL + 'region = "SP"\n', "holidays: unknown key 'region'"),
        ("[[events]\n", "Expected ']]' at the end of an array declaration (at line 1, column 9)"),
        (event("first = 2025-02-30"), "Invalid date or datetime (at line 3, column 9)"),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(CalendarError, match=re.escape(f"{tmp_path / 'events.toml'}: {problem}")) as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_one_day_may_have_events_of_two_names_and_an_event_may_come_twice(tmp_path: Path) -> None:
    text = event(ONCE) + event("first = 2025-05-02") + event(ONCE).replace("Sale", "Fair")
    assert names(load(tmp_path, text).on(day("2025-05-01"))) == ["Fair", "Sale"]


def test_a_file_that_cannot_be_read_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(CalendarError, match=r"no\.toml: No such file or directory; check LTR_CALENDAR"):
        load_calendar(tmp_path / "no.toml")
    with pytest.raises(CalendarError, match="Is a directory; check LTR_CALENDAR"):
        load_calendar(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CalendarError, match=r"binary\.toml: "):
        load_calendar(tmp_path / "binary.toml")
