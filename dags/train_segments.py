"""### Train segments of engagement, by hand.

Fits K-Means on what users (and items) did in the configured periods, and names the clusters from
`engajamento excelente` to `sem engajamento` by the order of their centroids. It has no schedule: segments that change
by themselves cannot be followed over time. `classify_segments_daily` applies the models every day.

| task | does |
|---|---|
| `train_segments` | trains each active level, compares the new model with the former one, and puts it in use |
| `approve_segments` | where a former model stays, asks whether to replace it, and waits without a worker (a branch) |
| `replace_segments`, `keep_segments` | does what was answered, and tells who decided, and why |

**A former model may stay in use**: where the new one puts users together too differently (ARI below 0.8), it is kept
beside the former one, and `approve_segments` asks under *Required Actions* whether to take it. *Replace* needs a
reason. Without an answer within the Variable `ltr_approval_minutes` the former one stays. What is approved is that very
model: if it was altered, or another training was faster, nothing changes. Trigger the DAG with the Param `replace` to
take new models without being asked.

What is trained on stands in the tables `config.segment_parameters`, `config.segment_levels` and
`config.segment_labels`, which may be edited in SQL (docs/segments.md).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from ltr_pipeline.airflow.asking import AskAboutSegments
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
    dagrun_timeout=timedelta(hours=6),  # with the time for an answer
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

    @task(doc_md="Puts in use what was approved, unless it was altered or another training was faster.")
    def replace_segments(trained: list[dict[str, Any]]) -> None:
        from ltr_pipeline.jobs import segment_approval

        segment_approval.replace(trained, run_settings())

    @task(doc_md="Leaves the former models in use, and tells why.")
    def keep_segments(trained: list[dict[str, Any]]) -> None:
        from ltr_pipeline.jobs import segment_approval

        segment_approval.keep(trained, run_settings())

    trained = train_segments()
    asked = AskAboutSegments(
        task_id="approve_segments",
        about=trained,
        approve="Replace",
        approved="replace_segments",
        kept="keep_segments",
        doc_md="Asks whether new models that agree too little with those in use take their place; waits without a "
        "worker, and keeps after `ltr_approval_minutes`. *Replace* needs a reason. Skips both where there is nothing "
        "to ask.",
    )
    asked >> [replace_segments(trained), keep_segments(trained)]


train_segments()
