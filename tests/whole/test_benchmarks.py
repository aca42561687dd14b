"""The programs that print the figures of the README start: what they import is there."""

from __future__ import annotations

import subprocess
import sys

from support.programs import CHECKOUT

ASKED = """
import contextlib, io, runpy, sys

sys.path.insert(0, sys.argv[1])  # as `python benchmarks/x.py` does
for path in sys.argv[2:]:
    sys.argv, said = [path, "--help"], io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        assert not end.code, path
    print(said.getvalue().splitlines()[0])
"""
"""Asks each program for its help, in one process: together they import for as long as one of them alone."""


def test_every_program_says_what_it_measures() -> None:
    folder = CHECKOUT / "benchmarks"
    programs = sorted(path for path in folder.glob("*.py") if path.stem != "common")  # what they share
    done = subprocess.run(
        [sys.executable, "-c", ASKED, folder, *programs], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["usage:", path.name] for path in programs]
