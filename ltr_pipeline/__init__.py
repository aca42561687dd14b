"""A nightly learning-to-rank pipeline: train, gate, publish, roll back."""

import os
from importlib import import_module

# OpenMP reads this once, when LightGBM is loaded. By default its idle threads spin, and then two busy processes on one
# machine slow each other down a hundredfold.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_FORMER = {"outcomes": "ltr_pipeline.jobs"}
"""Modules by the names that DAG files copied from release 0.1 import them by."""


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version  # asked for too seldom to be looked up by every import

        return version("ltr-pipeline")
    if name in _FORMER:
        return import_module(_FORMER[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
