"""### Refresh the ranker, every hour.

At 35 minutes past each hour this DAG lands the events that arrived, and makes the nightly model new from the rankings
that were answered in the last 24 hours, so that a change at noon need not wait for the night. The quality gate judges
the refresh as it judges a night's model, and besides holds it against its parent; what passes is published under its
own version, and `latest` moves to it until the next night.

**It is off until you toggle it on**, and worth it where what users want changes within a day, and they give some
hundred positive answers a day: with fewer than 200 in the last 24 hours there is nothing to learn, and it keeps.

**The model**: new values for the trees of the **nightly** version in use (`LTR_HOURLY_MODE=refit`), never of another
refresh; or one trained anew (`full`), where that takes much less than the hour.

**The gate**: all of its checks on the test days of the newest night, and the difference to the parent on the fresh
rankings. It never asks a person: what it cannot decide is kept.

**`latest`** moves only from the parent, or from another refresh of it, and never where it is pinned. Where the next
night publishes, that takes its place; where the night is kept, `latest` moves back to the parent.

**The night** goes on as if this DAG were not there. The two take turns at landing, by a lease in the data storage that
ends by itself; this DAG waits a minute for it, and else keeps and says who lands.

**What is told**: the run's note and the report, always; the channels in `LTR_NOTIFY_URLS` only what is alarming or
failed, and that once.

**Kept is a normal outcome**: the run is green, and its note says why. **A red run is a fault**, which changes nothing:
its log ends with what to do, and an hour later there is another one.

**Roll back** with `ltr rollback --reason "…"`: from a refresh that goes to its parent, and pins it.

**Tune the gate** with the Airflow Variables of the nights:

"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Asset, AssetAlias, Metadata, Param, dag, get_current_context, task

from ltr_pipeline.airflow.callbacks import hour_failed, run_failed
from ltr_pipeline.airflow.keys import OUTCOME_KEY
from ltr_pipeline.airflow.links import see_also
from ltr_pipeline.airflow.runtime import GATE_TABLE, gate_variables, run_request, run_settings
from ltr_pipeline.airflow.tasks import task_defaults
from ltr_pipeline.schedule import HOURLY

WEIGHTS = Asset("ltr_weights")
WEIGHTS_MOVED = AssetAlias("ltr_weights_moved")
LONGEST = timedelta(minutes=20)

PARAMS = {
    "dry_run": Param(
        False,
        type="boolean",
        title="Dry run",
        description="On: judge, but publish nothing. Default: off, publish what passes the gate.",
    ),
}


@dag(
    dag_display_name="Refresh the ranker, hourly",
    description="Land events, refresh the nightly ranker, judge it, publish it or keep the former one",
    doc_md=__doc__ + GATE_TABLE + see_also(["hourly.md", "airflow.md", "gate.md"], ["overview"], reports=True),
    schedule=HOURLY,
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=True,
    dagrun_timeout=2 * LONGEST + timedelta(minutes=10),
    on_failure_callback=run_failed,
    params=PARAMS,
    tags=["ltr", "hourly"],
    default_args=task_defaults(LONGEST) | {"retries": 1, "on_failure_callback": hour_failed},
)
def train_ltr_hourly() -> None:
    """Refresh, gate and publish the ranker, every hour."""

    @task(
        outlets=[WEIGHTS_MOVED],
        doc_md="Lands what arrived, refreshes the nightly model, judges the refresh, and publishes it or keeps the "
        "former version. Emits the Asset if `latest` moved. A second try reads what the first had frozen.",
    )
    def refresh_ranker() -> Iterator[Metadata]:
        from ltr_pipeline.jobs import hourly

        context = get_current_context()
        who = f"airflow/{context['dag_run'].run_id}"
        outcome: dict[str, Any] = hourly.refresh(run_request(context), gate_variables(), who, run_settings())
        context["ti"].xcom_push(OUTCOME_KEY, outcome)
        if outcome["moved"]:
            yield Metadata(WEIGHTS, extra=outcome, alias=WEIGHTS_MOVED)

    refresh_ranker()


train_ltr_hourly()
