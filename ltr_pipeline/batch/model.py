"""The published version, loaded for a run: every row of the run is scored by it, whatever is published meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

from ltr_pipeline.errors import ScoringError
from ltr_pipeline.scoring.calibration import Calibration
from ltr_pipeline.scoring.scorer import Scorer
from ltr_pipeline.versions.golden import check_golden
from ltr_pipeline.versions.registry import Registry

__all__ = ["Model", "published"]


@dataclass(frozen=True)
class Model:
    """A version that scores.

    Attributes
    ----------
    version
        Its id.
    scorer
        Its model, as gate and service score by it.
    calibration
        From scores to probabilities, where these can be trusted.
    """

    version: str
    scorer: Scorer
    calibration: Calibration | None


def published(registry: Registry) -> Model:
    """Load the version that `latest` is.

    Raises
    ------
    ScoringError
        Nothing is published.
    WeightsError
        The document was altered, or does not score here as it did where it was trained.
    """
    version = registry.promoted()
    if version is None:
        raise ScoringError(
            f"no version is published in {registry.storage.uri()}, so nothing can be scored: `ltr run` trains and "
            "publishes one"
        )
    document = registry.load(version)
    calibration = document.calibration if document.calibration and document.calibration.trusted else None
    return Model(version=version, scorer=check_golden(document), calibration=calibration)
