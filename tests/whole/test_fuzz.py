"""Fuzzed requests to a real service: the program that sends a hundred thousand, on fewer."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.programs import CHECKOUT


@pytest.mark.parametrize("requests", [3_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_no_fuzzed_request_is_an_error_of_the_service(requests: int) -> None:
    command = [sys.executable, CHECKOUT / "benchmarks" / "fuzz.py", "--requests", str(requests), "--seed", "11"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert "nothing is wrong" in done.stdout
