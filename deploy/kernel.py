"""Compile the scoring kernel: into a wheel that is being built, or into this checkout.

    python deploy/kernel.py

It takes a C compiler: the one that CC names, else ``cc``. Without one there is no kernel, and numpy scores; ``CC=none``
makes a wheel for every machine that way. hatchling loads this file when it builds a wheel (pyproject.toml).
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PLACE = "ltr_pipeline/scoring"
SOURCES = ("kernel.c", "reading.c")
FLAGS = ("-O3", "-fPIC", "-shared", "-Wall", "-Wextra")
WIDTHS = {4: (), 8: ("-mavx2",), 16: ("-mavx512f",)}
"""Rows scored at once, and what tells the compiler of the instructions for so many; those of 4 every processor has."""


class CompilerError(Exception):
    """There is no compiler, or it fails."""


def compile_kernel(place: Path, folder: Path, *flags: str) -> list[Path]:
    """Compile the sources of a place for each width into the folder, under the names that `kernel.py` looks for.

    A library that is in use stays whole for whoever uses it: the new one takes its name when it is ready.
    """
    compiler = shlex.split(os.environ.get("CC") or "cc")
    if not shutil.which(compiler[0]):
        raise CompilerError(f"there is no C compiler here ({compiler[0]})")
    sources = [place / name for name in SOURCES]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    made = []
    for lanes, instructions in WIDTHS.items():
        if instructions and platform.machine() not in ("x86_64", "AMD64"):
            continue
        library = folder / f"kernel-{digest}-{lanes}.so"
        new = library.with_suffix(f".{os.getpid()}")
        command = [*compiler, *FLAGS, *flags, *instructions, f"-DLANES={lanes}", *map(str, sources), "-o", str(new)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            new.unlink(missing_ok=True)
            raise CompilerError(f"{compiler[0]} fails: {done.stderr.strip()}")
        made.append(new.replace(library))
    return made


class KernelHook(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the libraries into the wheel, which is then for machines like this one; without them it is for all."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; an editable installation finds the libraries in the checkout."""
        place = Path(self.root, PLACE)
        self.made = tempfile.TemporaryDirectory(prefix="ltr-kernel-")  # until the wheel is written
        try:
            libraries = compile_kernel(place, place if version == "editable" else Path(self.made.name))
        except CompilerError as error:
            self.app.display_warning(f"This wheel has no compiled kernel, numpy scores models: {error}")
            return
        if version != "editable":
            build_data["force_include"] |= {str(path): f"{PLACE}/{path.name}" for path in libraries}
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def main() -> None:
    """Compile into the checkout; exit with 1 and a sentence where that cannot be."""
    place = Path(__file__).resolve().parents[1] / PLACE
    try:
        made = compile_kernel(place, place)
    except CompilerError as error:
        sys.exit(str(error))
    for old in set(place.glob("kernel-*.so")) - set(made):
        old.unlink()


if __name__ == "__main__":
    main()
