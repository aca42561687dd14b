"""### Classify users and items by engagement, every day.

At 06:15 UTC this DAG counts what users (and items) did in the configured periods, assigns each to a segment of the
model in use, and fills the table `analytics.cubo_engajamento` anew: in one transaction, so that whoever reads it sees
the former cube or the new one, and never none.

| task | does |
|---|---|
| `classify_segments` | counts, assigns by the existing models, joins the labels, replaces the cube |

It trains nothing: `train_segments` does, by hand. **The log says when that is due**: when the parameters are newer than
a model, or a model is older than 90 days.

**A red run is a fault**, and leaves the cube as it was; the log ends with what was wrong and what to do.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import dag, task

from ltr_pipeline.airflow.callbacks import run_failed
from ltr_pipeline.airflow.links import see_also
from ltr_pipeline.airflow.runtime import run_settings
from ltr_pipeline.airflow.tasks import task_defaults
from ltr_pipeline.schedule import SEGMENTS


@dag(
    dag_display_name="Classify segments, daily",
    description="Fill the cube of engagement anew by the models in use",
    doc_md=__doc__ + see_also(["segments.md"], ["segments"]),
    schedule=SEGMENTS,
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=2),
    on_failure_callback=run_failed,
    tags=["ltr", "segments"],
    default_args=task_defaults(),
)
def classify_segments_daily() -> None:
    """Classify users and items by engagement."""

    @task(doc_md="Counts, assigns by the existing models, joins the labels, and replaces the cube in one transaction.")
    def classify_segments() -> dict[str, Any]:
        from ltr_pipeline.jobs import segments

        return segments.as_json(segments.classify(run_settings()))

    classify_segments()


classify_segments_daily()
