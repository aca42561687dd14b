"""A nightly learning-to-rank pipeline: train, gate, publish, roll back."""

import os
from importlib.metadata import version

__version__ = version("ltr-pipeline")

# OpenMP reads this once, when LightGBM is loaded. By default its idle threads spin, and then two busy processes on one
# machine slow each other down a hundredfold.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
