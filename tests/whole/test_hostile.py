"""Hostile lines land, are quarantined or ignored, each accounted for: the program that says so, on fewer lines."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.programs import CHECKOUT


@pytest.mark.parametrize("lines", [5_000, pytest.param(200_000, marks=pytest.mark.long)])
def test_every_record_of_hostile_lines_is_accounted_for(lines: int) -> None:
    command = [sys.executable, CHECKOUT / "benchmarks" / "hostile.py", "--lines", str(lines), "--seed", "11"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert "every record is accounted for" in done.stdout
