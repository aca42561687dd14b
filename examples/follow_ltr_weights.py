"""### Follow what is published.

A DAG of your own that runs whenever `train_ltr_daily` has moved `latest` to another version. It logs what was
published; replace that by what should happen then, such as warming a cache or telling another system.

| task | does |
|---|---|
| `log_published` | logs version and metrics of each event that began the run |

Copy the file to your DAGs folder; it needs Airflow alone. A run that is triggered by hand has no events, and says so.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Asset, dag, task

WEIGHTS = Asset("ltr_weights")

log = logging.getLogger(__name__)


@dag(
    dag_display_name="Follow the ranker",
    description="Runs when another version is published, and logs it",
    doc_md=__doc__,
    schedule=[WEIGHTS],
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["ltr", "example"],
)
def follow_ltr_weights() -> None:
    """Log what was published."""

    @task(doc_md="Logs version and metrics of each event that began the run.")
    def log_published(triggering_asset_events: Any = None) -> list[str]:  # noqa: ANN401 - Airflow's own
        # By the Asset, and again by the alias through which they were emitted: the key decides which.
        events = triggering_asset_events[WEIGHTS] if WEIGHTS in (triggering_asset_events or {}) else []
        if not events:
            log.info("nothing was published: this run was triggered by hand")
        for event in events:
            metrics = ", ".join(f"{name} {value:.4g}" for name, value in event.extra["metrics"].items() if value)
            log.info("version %s is in use now: %s (%s)", event.extra["version"], event.extra["reason"], metrics)
        return [event.extra["version"] for event in events]

    log_published()


follow_ltr_weights()
