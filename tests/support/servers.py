"""Which real servers and programs the tests used, and which they had to do without."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NoReturn

import pytest

STATES: dict[str, str] = {}


def used(name: str, what: str) -> None:
    """Note that tests ran against the real thing."""
    STATES[name] = f"used: {what}"


def also(states: Mapping[str, str]) -> None:
    """Note what another process used; what one had to do without is not forgotten."""
    for name, state in states.items():
        if not STATES.get(name, "").startswith("skipped"):
            STATES[name] = state


def missing(name: str, remedy: str) -> NoReturn:
    """Skip the test, or fail it where everything has to be there (``LTR_REQUIRE_SERVICES=1``)."""
    STATES[name] = f"skipped: {remedy}"
    if os.environ.get("LTR_REQUIRE_SERVICES") == "1":
        pytest.fail(f"{name} is missing; {remedy}")
    pytest.skip(f"{name} is missing; {remedy}")
