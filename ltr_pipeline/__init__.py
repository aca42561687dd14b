"""A nightly learning-to-rank pipeline: train, gate, publish, roll back."""

from importlib.metadata import version

__version__ = version("ltr-pipeline")
