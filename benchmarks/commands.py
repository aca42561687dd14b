"""What a command costs before it does anything: CPU seconds against those of a bare Python.

    python benchmarks/commands.py [--repeats 5] [--project FOLDER]

Each command is a process of its own; they take turns with ``python -c pass``. Printed are medians of the user and
system time of the process, and the median of each turn's ratio, with its range.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

LTR = str(Path(sys.executable).with_name("ltr"))
BARE = (sys.executable, "-c", "pass")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""A user's Python keeps what it has compiled."""
COMMANDS = ("--help", "--version", "versions", "history", "run --help")


def cpu_seconds(command: tuple[str, ...], folder: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def turn(folder: str) -> list[float]:
    """CPU seconds of a bare Python and of every command, one after the other."""
    return [cpu_seconds(command, folder) for command in (BARE, *((LTR, *words.split()) for words in COMMANDS))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--project", help="folder whose registry is listed; default: an empty one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as empty:
        folder = options.project or empty
        turn(folder)  # what Python compiles once
        turns = [turn(folder) for _ in range(options.repeats)]
    bare, *columns = zip(*turns, strict=True)
    print(f"{'python -c pass':16} {statistics.median(bare):6.3f} s of CPU")
    for name, column in zip(COMMANDS, columns, strict=True):
        ratios = sorted(ours / theirs for ours, theirs in zip(column, bare, strict=True))
        spread = f"{statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})"
        print(f"ltr {name:12} {statistics.median(column):6.3f} s of CPU, times a bare Python: {spread}")


if __name__ == "__main__":
    main()
