"""Where this checkout is, and modules of this folder run as programs of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parents[2]
SEARCHED: Final = (CHECKOUT / "tests", CHECKOUT)


def python_path() -> str:
    """``PYTHONPATH`` by which another process finds what tests find."""
    return os.pathsep.join([*map(str, SEARCHED), *filter(None, [os.environ.get("PYTHONPATH")])])


def run(
    module: str, *arguments: object, environment: Mapping[str, str] | None = None, timeout: float | None = None
) -> None:
    """Run ``support.<module>`` and wait for it; CalledProcessError when it fails."""
    command = [sys.executable, "-m", f"support.{module}", *map(str, arguments)]
    found = os.environ | dict(environment or {}) | {"PYTHONPATH": python_path()}
    subprocess.run(command, env=found, timeout=timeout, check=True)
