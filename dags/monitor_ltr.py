"""### Watch data, models and outcomes, every morning.

At 07:15 UTC this DAG looks at the nights that have landed since it looked last: whether the data of the day is like
that of the weeks before, and what people did with what was shown to them. What it finds becomes the history that the
board, the API and the retrain policy read (docs/monitoring.md).

| task | does |
|---|---|
| `choose_nights` | finds the landed nights that nobody has watched yet, or the Param `night` |
| `watch_data` | compares the data of the day before each night with the weeks before it |
| `watch_outcomes` | measures what came of the lists that each version has shown |
| `conclude` | fills the database's tables, removes what is too old, tells the channels of new alerts |

**An alert is no fault**: the run is green, the channels of `LTR_NOTIFY_URLS` are told once and again after a week, and
the board shows the alert until it is gone. It changes nothing by itself; with the Variable `ltr_retrain` set to
`policy`, the next nights train when outcomes have fallen.

**A red run is a fault**; the log ends with what was wrong and what to do. Nights that were missed are watched by the
next run.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from ltr_pipeline.airflow.callbacks import run_failed
from ltr_pipeline.airflow.links import see_also
from ltr_pipeline.airflow.runtime import run_settings
from ltr_pipeline.airflow.tasks import task_defaults
from ltr_pipeline.schedule import MONITORING

PARAMS = {
    "night": Param(
        None,
        type=["null", "string"],
        format="date",
        title="Night to watch again",
        description="Landed night (UTC) that is watched again, YYYY-MM-DD. Default: none, all that nobody has watched.",
    ),
}


@dag(
    dag_display_name="Watch the ranker, daily",
    description="Compare data with the weeks before, measure outcomes by version, tell what should be looked at",
    doc_md=__doc__ + see_also(["monitoring.md"], ["drift", "outcomes", "predictions"]),
    schedule=MONITORING,
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=3),
    on_failure_callback=run_failed,
    params=PARAMS,
    tags=["ltr", "monitoring"],
    default_args=task_defaults(),
)
def monitor_ltr() -> None:
    """Watch data, models and outcomes."""

    @task(doc_md="Finds the landed nights that nobody has watched yet, or the one of the Param `night`.")
    def choose_nights() -> list[str]:
        from ltr_pipeline.jobs import monitor

        return monitor.due(run_settings(), get_current_context()["params"].get("night"))

    @task(doc_md="Compares the data of the day before each night with the weeks before it, and keeps a report.")
    def watch_data(nights: list[str]) -> list[dict[str, Any]]:
        from ltr_pipeline.jobs import monitor

        return monitor.watch_data(nights, run_settings())

    @task(doc_md="Measures what came of the lists that each version has shown, matured and after 24 hours.")
    def watch_outcomes(nights: list[str]) -> list[dict[str, Any]]:
        from ltr_pipeline.jobs import monitor

        return monitor.watch_outcomes(nights, run_settings())

    @task(doc_md="Fills the database's tables, removes what is too old, and tells the channels of new alerts.")
    def conclude(nights: list[str]) -> dict[str, Any]:
        from ltr_pipeline.jobs import monitor

        return monitor.conclude(nights, run_settings())

    nights = choose_nights()
    [watch_data(nights), watch_outcomes(nights)] >> conclude(nights)


monitor_ltr()
