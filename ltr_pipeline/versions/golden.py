"""Golden requests, which a model must score as it did where it was trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ltr_pipeline.errors import WeightsError
from ltr_pipeline.versions.weights import Weights

if TYPE_CHECKING:
    from ltr_pipeline.scoring.scorer import Scorer

__all__ = ["GOLDEN_TOLERANCE", "check_golden"]

GOLDEN_TOLERANCE: Final = 1e-9


def check_golden(weights: Weights) -> Scorer:
    """Load the model, and check that it scores the golden requests as recorded.

    Returns
    -------
    The loaded model.

    Raises
    ------
    WeightsError
        A score is more than 1e-9 from the recorded one.
    RankerError
        The model cannot be loaded.
    """
    # Only here: LightGBM takes seconds to import, and to list versions or to read settings no model is scored.
    from ltr_pipeline.scoring.requests import Candidate, Request
    from ltr_pipeline.scoring.scorer import Scorer, rank

    scorer = Scorer.from_model(weights.model.text, weights.feature_names)
    for golden in weights.golden:
        candidates = [Candidate.of(str(row), item) for row, item in enumerate(golden.items)]
        ranked = rank(Request(query_id=golden.query_id, candidates=candidates), scorer)
        off = [abs(one.score - golden.scores[int(one.item_id)]) for one in ranked]
        if not all(delta <= GOLDEN_TOLERANCE for delta in off):
            raise WeightsError(
                f"{weights.version}: golden request {golden.query_id} scores {max(off):.3g} off, so the model does not "
                "rank here as it did where it was trained; compare the library versions in the document"
            )
    return scorer
