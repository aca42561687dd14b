"""Variants: versions beside the served one, loaded in the background, that shadow and interleaving compare it with."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from ltr_pipeline.errors import LtrError, RankerError, WeightsError
from ltr_pipeline.serving import prometheus
from ltr_pipeline.serving.settings import LEGACY, NEWEST
from ltr_pipeline.serving.weights.models import Loaded, Models, load
from ltr_pipeline.versions.registry import Registry

__all__ = ["Variants"]

log = structlog.get_logger(__name__)


class Variants:
    """Keeps the models of some versions. Whatever is wrong with one, requests go on without it.

    Parameters
    ----------
    names
        Version ids, ``newest`` or ``legacy``; empty ones are left out.
    registry
        Registry that has the versions.
    models
        The served model, and the legacy ranker.
    """

    def __init__(self, names: Iterable[str], registry: Registry, models: Models) -> None:
        self._names = sorted({*names} - {""})
        self._registry = registry
        self._models = models
        self._loaded: dict[str, Loaded] = {LEGACY: models.legacy}
        self._refused: set[str] = set()
        self._problems: dict[str, str] = {}

    def get(self, name: str) -> Loaded | None:
        """Return the model of a name; None while it is not loaded."""
        return self._loaded.get(name)

    def poll(self) -> None:
        """Load the versions that are missing, and ``newest`` again when another version was published."""
        for name in self._names:
            try:
                self._look(name)
                self._problems.pop(name, None)
            except LtrError as error:
                prometheus.VARIANT_LOADS.labels("failed").inc()
                self._tell(name, str(error))

    def _look(self, name: str) -> None:
        version = self._registry.newest() if name == NEWEST else name
        known = self._loaded.get(name)
        if version is None or version in self._refused or (known and known.version == version):
            return
        there = (model for model in (self._models.current, *self._loaded.values()) if model.version == version)
        self._loaded[name] = next(there, None) or self._load(version)
        log.info("version to compare with loaded", name=name, version=version)

    def _load(self, version: str) -> Loaded:
        data = self._registry.documents.read(version)
        try:
            model = load(data, where=self._registry.storage.uri(version), keys=self._registry.documents.keys)
        except (WeightsError, RankerError):
            self._refused.add(version)  # its document never changes
            raise
        prometheus.VARIANT_LOADS.labels("loaded").inc()
        return model

    def _tell(self, name: str, problem: str) -> None:
        """Log a problem once, not at every poll."""
        if self._problems.get(name) != problem:
            self._problems[name] = problem
            log.warning("version to compare with cannot be loaded", name=name, error=problem)
