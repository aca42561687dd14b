"""### Train segments of engagement, by hand.

Fits K-Means on what users (and items) did in the configured periods, and names the clusters from
`engajamento excelente` to `sem engajamento` by the order of their centroids. It has no schedule: segments that change
by themselves cannot be followed over time. `classify_segments_daily` applies the models every day.

| task | does |
|---|---|
| `train_segments` | trains each active level, compares the new model with the former one, and puts it in use |

**A former model may stay in use**: where the new one puts users together too differently (ARI below 0.8), it is kept
beside the former one and the log says so. Trigger the DAG with the Param `replace` to take it nevertheless.

What is trained on stands in the tables `config.segment_parameters`, `config.segment_levels` and
`config.segment_labels`, which may be edited in SQL (docs/segments.md).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from ltr_pipeline.airflow.callbacks import run_failed
from ltr_pipeline.airflow.links import see_also
from ltr_pipeline.airflow.runtime import run_settings
from ltr_pipeline.airflow.tasks import task_defaults

PARAMS = {
    "replace": Param(
        False,
        type="boolean",
        title="Replace the former models",
        description="On: put the new models in use, however little they agree with the former ones. Default: off.",
    ),
}


@dag(
    dag_display_name="Train segments",
    description="Fit segments of engagement and name them; by hand, never by itself",
    doc_md=__doc__ + see_also(["segments.md"], ["segments"]),
    schedule=None,
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=2),
    on_failure_callback=run_failed,
    params=PARAMS,
    tags=["ltr", "segments"],
    default_args=task_defaults(),
)
def train_segments() -> None:
    """Train segments of engagement."""

    @task(doc_md="Trains each active level; a model that agrees too little with the former one is not put in use.")
    def train_segments() -> list[dict[str, Any]]:
        from ltr_pipeline.jobs import segments

        replace = bool(get_current_context()["params"]["replace"])
        return segments.as_json(segments.train(run_settings(), replace=replace))

    train_segments()


train_segments()
