"""A month as teams live it: a world in which something happens on most weeks, and what people did about it."""

from __future__ import annotations

import datetime as dt
from typing import Final, NamedTuple

from ltr_pipeline.simulate.world import World

__all__ = ["DAYS", "Month", "month_until"]

DAYS: Final = 31
"""Nights of the month."""

WARM_UP: Final = 14
"""Days of events before its first night, for that to learn from."""

RANKINGS_PER_DAY: Final = 120
HALVED: Final = "S"
"""Feature that is logged in another unit from the day of the drift on."""


class Month(NamedTuple):
    """A simulated month.

    Attributes
    ----------
    world
        Its world.
    first_day
        The log begins on it.
    nights
        Days of its nights, oldest first.
    event
        Day on which clients act in another way; it is declared.
    noise
        Days whose answers mean nothing, so that a night learns and judges by noise.
    rolled_back, unpinned
        Nights after which somebody rolls back, and lets go on.
    drift
        First day on which `HALVED` is logged as half of what it is.
    """

    world: World
    first_day: dt.date
    nights: list[dt.date]
    event: dt.date
    noise: tuple[dt.date, ...]
    rolled_back: dt.date
    unpinned: dt.date
    drift: dt.date

    @property
    def calendar(self) -> str:
        """Return the TOML file that declares the event day."""
        return (
            "# The day on which the simulated clients act in another way.\n\n"
            f'[[events]]\nname = "Open day"\nfirst = "{self.event}"\ntreatment = "leave_out"\n'
        )


def month_until(newest: dt.date, legacy_weights: dict[str, float], seed: int = 7) -> Month:
    """Return the month whose last night is `newest`."""
    nights = [newest - dt.timedelta(days=back) for back in range(DAYS - 1, -1, -1)]
    noise = (nights[11], nights[12], nights[13])
    drift = nights[26]
    event = nights[7]
    first_day = nights[0] - dt.timedelta(days=WARM_UP)
    world = World(
        legacy_weights=legacy_weights,
        seed=seed,
        rankings_per_day=RANKINGS_PER_DAY,
        event_day=event.day,
        event_effect=0.8,
        explored_share=0.05,
        start=first_day,
        outages=dict.fromkeys(noise, "noise"),
        halved={HALVED: drift},
    )
    return Month(world, first_day, nights, event, noise, nights[20], nights[22], drift)
