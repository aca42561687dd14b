"""The programs that print the figures of the README start: what they import is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.programs import CHECKOUT

PROGRAMS = sorted((CHECKOUT / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_a_program_says_what_it_measures(program: Path) -> None:
    done = subprocess.run([sys.executable, program, "--help"], capture_output=True, text=True, timeout=600, check=True)
    assert done.stdout.startswith(f"usage: {program.name}")
