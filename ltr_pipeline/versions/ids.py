"""Ids of versions: the minute of the run that made them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from ltr_pipeline.errors import RegistryError, UnknownVersionError
from ltr_pipeline.schedule import minute_name

__all__ = ["PATTERN", "Version", "hourly"]

PATTERN: Final = r"([0-9]{4})([0-9]{2})([0-9]{2})_([0-9]{2})([0-9]{2})(?:_([1-9][0-9]{0,5}))?"
"""Year, month, day, hour, minute, and a number from 2 up."""


@dataclass(frozen=True, order=True)
class Version:
    """Version id: the run's minute in UTC, and a number from 2 up when that minute was taken.

    >>> str(Version.parse("20250714_0215_2"))
    '20250714_0215_2'
    >>> Version.parse("20250714_0215_2") < Version.parse("20250714_0215_10")
    True
    """

    time: datetime
    number: int = 1

    def __str__(self) -> str:
        base = minute_name(self.time)
        return base if self.number == 1 else f"{base}_{self.number}"

    @classmethod
    def of(cls, time: datetime) -> Version:
        """Return the first version of a run at `time`, without seconds; RegistryError without a time zone."""
        if time.tzinfo is None:
            raise RegistryError(f"{time.isoformat()} has no time zone, so it names no version; give it in UTC")
        return cls(time.astimezone(UTC).replace(second=0, microsecond=0))

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read a version from exactly the text that ``str`` gives; UnknownVersionError for anything else."""
        unknown = f"{text!r} is no version id; ids look like 20250714_0215, and `ltr versions` lists them"
        parts = re.fullmatch(PATTERN, text)
        if not parts or parts[6] == "1":
            raise UnknownVersionError(unknown)
        year, month, day, hour, minute, number = (int(part or 1) for part in parts.groups())
        try:
            return cls(datetime(year, month, day, hour, minute, tzinfo=UTC), number)
        except ValueError as error:
            raise UnknownVersionError(f"{unknown} ({error})") from error


def hourly(parent: str | None) -> str:
    """Say of a refresh which nightly version it was refit from; nothing of a nightly one, which has no parent.

    >>> hourly("20250714_0215"), hourly(None)
    ('hourly, of 20250714_0215', '')
    """
    return f"hourly, of {parent}" if parent else ""
