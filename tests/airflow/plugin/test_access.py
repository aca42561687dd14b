"""Where a form is from, and what its seal holds for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltr_pipeline.airflow.plugin.access import SECONDS, Seal, not_from_us, sealed, unsealed

SEAL = Seal("otto", "rollback", ("20250714_0215", "", "7", ""))
HTTPS = {"host": "inside:8080", "origin": "https://airflow.example"}
PLAIN = {"host": "airflow.lan:8080", "origin": "http://airflow.lan:8080"}


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        (HTTPS | {"sec-fetch-site": "same-origin"}, "https://airflow.example/tools"),  # a proxy that asks another host
        (PLAIN | {"sec-fetch-site": "same-origin"}, "http://airflow.lan:8080"),
        (PLAIN, ""),  # without https, browsers do not say from which site; the seal decides
    ],
)
def test_our_own_pages_may_send_forms(headers: dict[str, str], base: str) -> None:
    assert not_from_us(headers, base) == ""


@pytest.mark.parametrize(
    "headers",
    [
        HTTPS,
        HTTPS | {"sec-fetch-site": "cross-site"},
        HTTPS | {"origin": "https://evil.example", "sec-fetch-site": "same-origin"},
        PLAIN | {"origin": "http://airflow.lan:8000"},
        PLAIN | {"origin": "null"},
        PLAIN | {"origin": ""},
        PLAIN | {"origin": "http://airflow.lan:8080@evil.example"},
        PLAIN | {"origin": "file://airflow.lan:8080"},
        {"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:8080"},
        {"host": "localhost:8080", "origin": "http://localhost:8080"},
        {"host": "[::1]:8080", "origin": "http://[::1]:8080"},
        {},
    ],
    ids=str,
)
def test_all_others_are_refused(headers: dict[str, str]) -> None:
    assert not_from_us(headers, "https://airflow.example") != ""


def test_a_seal_holds_for_an_hour() -> None:
    given_seal = sealed(SEAL, lambda: 1000.0)
    assert unsealed(given_seal, SEAL, lambda: 1000.0 + SECONDS - 1)
    assert unsealed(given_seal, SEAL, lambda: 1000.0 + SECONDS) is None


def test_each_page_has_an_identity_of_its_own() -> None:
    found = {unsealed(sealed(SEAL), SEAL) for _ in range(3)}
    assert len(found) == 3
    assert None not in found


@pytest.mark.parametrize(
    "other",
    [
        SEAL._replace(user="ada"),
        SEAL._replace(act="pin"),
        SEAL._replace(shown=("20250713_0215", "", "7", "")),
        SEAL._replace(shown=("20250714_0215", "", "8", "")),
        SEAL._replace(shown=("", "20250714_0215", "7", "")),
    ],
)
def test_a_seal_holds_for_one_person_one_act_and_what_was_shown(other: Seal) -> None:
    assert unsealed(sealed(SEAL), other) is None


@given(st.text() | st.from_regex(r"\d{1,20}\.[0-9a-f]{0,40}\.[0-9a-f]{0,64}", fullmatch=True))
def test_nothing_else_is_a_seal(text: str) -> None:
    assert unsealed(text, SEAL) is None


@given(st.lists(st.text(), min_size=4, max_size=4), st.lists(st.text(), min_size=4, max_size=4))
def test_no_two_pages_share_a_seal(one: list[str], other: list[str]) -> None:
    known = unsealed(sealed(SEAL._replace(shown=one)), SEAL._replace(shown=other))
    assert (known is not None) == (one == other)
