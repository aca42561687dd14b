"""Nights of which one was published, two were kept for a person to decide, and one failed a check."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ltr_pipeline.jobs.chain import finish
from ltr_pipeline.settings import Settings
from support.small import DAY, LENIENT, NIGHT, RUN, UNDECIDED, WHO, simulate, small_settings, up_to

__all__ = ["FAILED", "KEPT", "KEPT_TOO", "some_nights"]

KEPT: Final = "20250716_0215"
KEPT_TOO: Final = "20250717_0215"
FAILED: Final = "20250718_0215"

VARIABLES: Final = (
    LENIENT,
    UNDECIDED,
    UNDECIDED | {"ltr_regression_max": "0.02"},
    UNDECIDED | {"ltr_ndcg_min": "0.99"},
)
"""Of the nights, in their order."""


def some_nights(folder: Path) -> Settings:
    """Run them in a folder, and return the settings that name it."""
    simulate(folder)
    settings = small_settings(folder)
    for number, variables in enumerate(VARIABLES):
        date = NIGHT + number * DAY
        if number:
            simulate(folder, date - DAY, 1)
        finish(up_to("quality_gate", settings, date, variables), WHO, settings)
    assert settings.registry.promoted() == RUN
    return settings
