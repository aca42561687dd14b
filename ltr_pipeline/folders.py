"""Where events, landed data and registry lie when no setting says so: real ones, and apart from them simulated ones.

The two never share a folder, so that what is learned from your own events never has simulated ones among it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["REAL", "SIMULATED", "Folders", "found", "is_simulated", "record_of"]


class Folders(NamedTuple):
    """Event log, data folder, folder of the registry, and where the service's events wait until they are delivered."""

    events: str
    data: str
    registry: str
    spool: str


REAL: Final = Folders("logs/audit.log", "var/data", "var/registry", "var/spool")
SIMULATED: Final = Folders(
    "var/simulated/audit.log", "var/simulated/data", "var/simulated/registry", "var/simulated/spool"
)

_LANDED: Final = "events/date=*/**/manifest.json"  # a partition; its room reads it, here it is only looked for


def found() -> Folders:
    """Return the real folders once there is a real log or a landed partition, else the simulated ones.

    It looks from the working directory, and is asked only where no setting says where events or data are.
    """
    real = Path(REAL.events).exists() or any(Path(REAL.data).glob(_LANDED))
    return REAL if real else SIMULATED


def record_of(log: str) -> Path:
    """Return where the world that a log is simulated from is kept: beside it."""
    return Path(f"{log}.world.json")


def is_simulated(log: str) -> bool:
    """Tell whether an event log is simulated, or will be when the next night asks for it."""
    return log == SIMULATED.events or record_of(log).exists()
