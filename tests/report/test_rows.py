"""What the report's tables say of a record."""

from __future__ import annotations

import pytest

from ltr_pipeline.metrics.outcomes import Told
from ltr_pipeline.report.rows import audit_rows
from support.nights import audited

KNOWS = Told(known=0.7, impressions=412, relevant=1.0, low=0.98, usual=0.3)


@pytest.mark.parametrize(
    ("as_served", "said"),
    [
        (0.0, "z knows the outcome: "),
        (1.0, "logged by the service when it answered"),
        (0.98, "among them; logged by the service when it answered for 98.0 % of the impressions"),
    ],
)
def test_a_feature_that_the_service_logged_says_so(as_served: float, said: str) -> None:
    (row,) = audit_rows([audited("z", gain=0.4, was=0.4, told=KNOWS, as_served=as_served)], None)
    assert said in row.state
    assert ("knows the outcome" in row.state) == (as_served < 0.99)
