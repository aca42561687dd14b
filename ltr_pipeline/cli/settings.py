"""Settings of a command, which says whose data it shows."""

from __future__ import annotations

from ltr_pipeline import settings
from ltr_pipeline.cli.console import print_error
from ltr_pipeline.folders import REAL, SIMULATED
from ltr_pipeline.settings import Settings

__all__ = ["load_settings"]


def load_settings(**overrides: object) -> Settings:
    """Load the settings, and say on standard error which data they name where LTR_DATA_URI does not."""
    loaded = settings.load_settings(**overrides)
    if loaded.data_uri in (REAL.data, SIMULATED.data):
        print_error(f"({loaded.world})")
    return loaded
