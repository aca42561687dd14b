"""### Score the rows of your database by the published version.

At 05:15 UTC, and whenever a night has published a version, this DAG does the jobs of the file `LTR_SCORING`: it fills
the score of rows that have none, and recommends items for queries (docs/database.md). Each job is a task of its own.

| task | does |
|---|---|
| `choose_jobs` | reads which jobs this occasion is for (`when` of each job) |
| `score_job` | scores one job's rows, a batch a transaction; its log has a line for each |

**Killed and started again**, nothing is left without a score, nothing is scored twice: a batch is written whole or not
at all, and rows that have a score are passed over.

**A red task is a fault**: the database is away, a table does not fit its job, or more rows than the job allows cannot
be scored. `score_rejects` has the reason of each, `score_runs` and `score_batches` have every run; `ltr doctor` looks
at database and jobs.

**A newly published version** scores only rows without a score, unless a job says `rescore = true`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Asset, AssetOrTimeSchedule, CronTriggerTimetable, dag, get_current_context, task

from ltr_pipeline.airflow.links import see_also
from ltr_pipeline.airflow.runtime import run_settings, scoring_occasion
from ltr_pipeline.airflow.tasks import task_defaults
from ltr_pipeline.schedule import SCORING


@dag(
    dag_display_name="Score rows, daily",
    description="Fill the scores of rows that have none, and recommend items, by the published version",
    doc_md=__doc__ + see_also(["database.md"], ["batches", "recommendations"]),
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable(SCORING, timezone="UTC"), assets=[Asset("ltr_weights")]
    ),
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    tags=["ltr", "database"],
    default_args=task_defaults(timedelta(hours=5)),
)
def score_rows_daily() -> None:
    """Score the rows of your database by the published version."""

    @task(doc_md="Reads which jobs of `LTR_SCORING` this occasion is for.")
    def choose_jobs() -> list[str]:
        from ltr_pipeline.jobs import batch

        return batch.scoring_jobs(run_settings(), scoring_occasion(get_current_context()))

    @task(doc_md="Scores one job's rows by the version that is published now.", map_index_template="{{ job }}")
    def score_job(name: str) -> dict[str, Any]:
        from ltr_pipeline.jobs import batch

        context = get_current_context()
        context["job"] = name  # type: ignore[typeddict-unknown-key] # for the name of the mapped task
        return batch.score_job(name, scoring_occasion(context), run_settings())

    score_job.expand(name=choose_jobs())


score_rows_daily()
