"""### Train, gate and publish the ranker, every night.

At 02:15 UTC this DAG lands the events that arrived since the last run (from Kafka, or from files when it is away),
builds query groups with graded relevance, trains a LightGBM LambdaMART ranker, and lets a quality gate judge it. What
passes is published under its own version, and `latest` moves to it; what does not pass changes nothing.

| task | does |
|---|---|
| `extract_events` | lands new events as one partition, with a manifest and a quarantine |
| `build_dataset` | joins feedback to impressions and splits by time |
| `train_ranker` | LambdaMART, early stopping on the validation days; nothing on a night that is not due |
| `evaluate_ranker` | nDCG@5, fairness, latency, champion against challenger, on the test days |
| `quality_gate` | decides: publish, keep, or ask a person (a branch) |
| `approve_weights` | asks whether to publish, and waits without a worker (a branch); only with `ask`, see below |
| `publish_weights`, `keep_previous` | moves `latest`, or leaves it; writes the report |
| `notify` | tells the channels in `LTR_NOTIFY_URLS` |

**A rejected model is a normal outcome**: the run is green, `keep_previous` ran; the run's note, the report and the
notification say why. `ltr runs` lists the nights, `ltr report --open` shows the newest report.

**Where the gate cannot decide, a person may**: with the Variable `ltr_on_inconclusive` or `ltr_on_not_evaluable` set to
`ask` such a night waits at `approve_weights`, which shows the gate's table under *Required Actions*, and tells the
channels where. *Publish* needs a reason; it and your name stand in the ledger, the report and the notification. Without
an answer within `ltr_approval_minutes` the former version stays, and `ltr approve RUN --reason "…"` may still publish.
A check that failed is nobody's to overrule. A run at hand (`make run`) has nobody to ask: it keeps, and says so.

**Train less often** with the Variable `ltr_retrain` = `policy`: then a night lands events and judges the version in
use, and trains only when that is due: monthly, when the outcomes fell short of what the gate had promised, or with the
Param *Retrain*. A night that is not due is green, and its note says why.

**A red run is a fault.** `latest` stays as it was, and nothing is lost: the next night reads on where the last one that
landed ended. The failed task's log ends with what was wrong and what to do; `ltr doctor` examines broker, storage and
registry. When it is mended, clear the failed task with all after it: a repeated task gives the same result. What passed
the gate and could not be published, `ltr publish RUN` publishes.

**Roll back** with `ltr rollback --reason "…"` or
`from ltr_pipeline.registry import rollback_weights; rollback_weights("20250714_0215", reason="…")`.
That pins the version until `ltr unpin`.

**Follow it** from another DAG with `schedule=[Asset("ltr_weights")]`: the event is emitted only when `latest` moved and
carries the version and its metrics.

**Tune gate and training** with Airflow Variables, read when a task runs:

"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import (
    Asset,
    AssetAlias,
    AsyncCallback,
    DeadlineAlert,
    DeadlineReference,
    Metadata,
    Param,
    dag,
    get_current_context,
    task,
)

from ltr_pipeline.airflow.asking import AskAboutWeights
from ltr_pipeline.airflow.callbacks import deadline_missed, run_failed
from ltr_pipeline.airflow.keys import OUTCOME_KEY
from ltr_pipeline.airflow.links import see_also
from ltr_pipeline.airflow.runtime import GATE_TABLE, gate_variables, run_request, run_settings
from ltr_pipeline.airflow.tasks import task_defaults
from ltr_pipeline.schedule import NIGHTLY

WEIGHTS = Asset("ltr_weights")
WEIGHTS_MOVED = AssetAlias("ltr_weights_moved")
LATE_AFTER = timedelta(hours=2)
AFTER_A_BRANCH = "none_failed_min_one_success"
WINDOW_DAYS = (9, 365)  # as LTR_WINDOW_DAYS; reading it from the settings would import them at each parsing

PARAMS = {
    "date": Param(
        None,
        type=["null", "string"],
        format="date",
        title="Day to repeat",
        description="Day (UTC) whose nightly run is repeated, YYYY-MM-DD. Default: none, what has arrived since the "
        "last run is landed.",
    ),
    "window_days": Param(
        None,
        type=["null", "integer"],
        minimum=WINDOW_DAYS[0],
        maximum=WINDOW_DAYS[1],
        title="Training window",
        description=f"Days to train on, a whole number from {WINDOW_DAYS[0]} to {WINDOW_DAYS[1]}. "
        "Default: LTR_WINDOW_DAYS of the workers, which is 28 unless set.",
    ),
    "dry_run": Param(
        False,
        type="boolean",
        title="Dry run",
        description="On: judge, but publish nothing. Default: off, publish what passes the gate.",
    ),
    "retrain": Param(
        False,
        type="boolean",
        title="Retrain",
        description="On: train, whatever the Variable ltr_retrain says. Default: off, train every night, or with "
        "`policy` when it is due.",
    ),
}


@dag(
    dag_display_name="Train the ranker, nightly",
    description="Land events, train a LambdaMART ranker, judge it, publish it or keep the former one",
    doc_md=__doc__ + GATE_TABLE + see_also(["airflow.md", "gate.md"], ["overview", "nights"], reports=True),
    schedule=NIGHTLY,
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    on_failure_callback=run_failed,
    params=PARAMS,
    tags=["ltr", "nightly"],
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=LATE_AFTER,
        callback=AsyncCallback(deadline_missed, kwargs={"limit": str(LATE_AFTER)}),
    ),
    default_args=task_defaults(),
)
def train_ltr_daily() -> None:
    """Train, gate and publish the ranker, every night."""

    @task(doc_md="Lands the events that arrived since the last run. All Variables are validated here already.")
    def extract_events() -> dict[str, Any]:
        from ltr_pipeline.jobs import nightly

        return nightly.extract_events(run_request(get_current_context()), gate_variables(), run_settings())

    @task(doc_md="Joins feedback to impressions, labels them, splits by time. A pure function of each hash bucket.")
    def build_dataset(inputs: dict[str, Any]) -> dict[str, Any]:
        from ltr_pipeline.jobs import nightly

        return nightly.build_dataset(inputs, gate_variables(), run_settings())

    @task(doc_md="LightGBM LambdaMART. Position is debiased and never a feature.", execution_timeout=timedelta(hours=3))
    def train_ranker(dataset: dict[str, Any]) -> dict[str, Any]:
        from ltr_pipeline.jobs import nightly

        return nightly.train_ranker(dataset, run_settings())

    @task(doc_md="Measures the challenger, the champion and the baselines on the test days.")
    def evaluate_ranker(trained: dict[str, Any]) -> dict[str, Any]:
        from ltr_pipeline.jobs import nightly

        return nightly.evaluate_ranker(trained, run_settings())

    @task.branch(doc_md="Judges the evidence by the Airflow Variables and freezes the document that may be published.")
    def quality_gate(evidence: dict[str, Any]) -> str:
        from ltr_pipeline.jobs import chain, nightly

        decision = nightly.quality_gate(evidence, gate_variables(), run_settings())
        get_current_context()["ti"].xcom_push("decision", decision)
        return chain.ENDS[decision["verdict"]]

    @task(
        outlets=[WEIGHTS_MOVED],
        trigger_rule=AFTER_A_BRANCH,
        doc_md="Creates the version, verifies it, moves `latest`. Emits the Asset if it moved. What the gate did not "
        "pass needs a stored approval of that very decision.",
    )
    def publish_weights(decision: dict[str, Any]) -> Iterator[Metadata]:
        from ltr_pipeline.jobs import nightly

        who = f"airflow/{get_current_context()['dag_run'].run_id}"
        outcome = nightly.publish_weights(decision, who, run_settings())
        get_current_context()["ti"].xcom_push(OUTCOME_KEY, outcome)
        if outcome["moved"]:
            yield Metadata(WEIGHTS, extra=outcome, alias=WEIGHTS_MOVED)

    @task(trigger_rule=AFTER_A_BRANCH, doc_md="Leaves `latest` where it is and writes the report that says why.")
    def keep_previous(decision: dict[str, Any]) -> None:
        from ltr_pipeline.jobs import nightly

        outcome = nightly.keep_previous(decision, run_settings())
        get_current_context()["ti"].xcom_push(OUTCOME_KEY, outcome)

    @task(trigger_rule=AFTER_A_BRANCH, doc_md="Tells the channels. A dead channel never fails the run.")
    def notify(decision: dict[str, Any]) -> None:
        from ltr_pipeline.jobs import nightly

        nightly.notify(decision, run_settings())

    gate = quality_gate(evaluate_ranker(train_ranker(build_dataset(extract_events()))))
    decision = gate["decision"]
    published, kept = publish_weights(decision), keep_previous(decision)
    asked = AskAboutWeights(
        task_id="approve_weights",
        about=decision,
        approve="Publish",
        approved="publish_weights",
        kept="keep_previous",
        doc_md="Shows the gate's table and asks whether to publish what it cannot decide; waits without a worker, and "
        "keeps after `ltr_approval_minutes`. *Publish* needs a reason.",
    )
    gate >> [asked, published, kept] >> notify(decision)
    asked >> [published, kept]


train_ltr_daily()
