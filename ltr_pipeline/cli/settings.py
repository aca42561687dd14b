"""Settings of a command, which says whose data it shows and which variables of the environment are misspelt."""

from __future__ import annotations

from ltr_pipeline import settings
from ltr_pipeline.cli.console import print_error
from ltr_pipeline.folders import REAL, SIMULATED
from ltr_pipeline.serving.settings import ServingSettings
from ltr_pipeline.settings import Settings

__all__ = ["load_settings", "load_unwarned"]


def load_settings(**overrides: object) -> Settings:
    """Load the settings; before, say on standard error which variables no setting reads."""
    for misspelt in settings.unread(ServingSettings):
        print_error(f"warning: {misspelt}", "yellow")
    return load_unwarned(**overrides)


def load_unwarned(**overrides: object) -> Settings:
    """Load the settings, and say on standard error which data they name where LTR_DATA_URI does not."""
    loaded = settings.load_settings(**overrides)
    if loaded.data_uri in (REAL.data, SIMULATED.data):
        print_error(f"({loaded.world})")
    return loaded
