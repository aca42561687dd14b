"""A run at hand in Airflow's database: no scheduler takes its tasks, it is the only run, and it never stays running."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.executors.local_executor import LocalExecutor
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models import dagrun
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun, get_or_create_dagrun
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, JobState, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from sqlalchemy import delete, select, update

from ltr_pipeline.airflow.at_hand import POOL, alone, fail_killed
from ltr_pipeline.errors import ProgramError
from ltr_pipeline.local.programs import identity

SLEEPER = "sleeper"
SLEEPER_FILE = f"""
import time
from airflow.sdk import dag, task


@dag(schedule=None)
def {SLEEPER}():
    @task
    def sleep():
        for _ in range(3000):
            time.sleep(0.1)

    sleep()


{SLEEPER}()
"""
PATIENCE_SECONDS = 120
NOW = dt.datetime.now(dt.UTC)


@pytest.fixture(autouse=True)
def no_runs(dag: DAG) -> Iterator[None]:
    """Nothing is left by others, or for them; the DAG is known to Airflow, and switched on."""
    with create_session() as session:
        session.execute(delete(DagRun))
    with alone(dag) as moment:
        dag.test(run_after=moment, logical_date=moment, mark_success_pattern=".*")
    switch(on=True)
    yield
    with create_session() as session:
        session.execute(delete(DagRun))
    switch(on=False)


def switch(*, on: bool) -> None:
    with create_session() as session:
        session.execute(update(DagModel).values(is_paused=not on))


def create(dag: DAG, **given: Any) -> str:
    """A run of the DAG, as dag.test() makes it; by default one that somebody has triggered in the UI."""
    moment = given.pop("moment", dt.datetime.now(dt.UTC))
    made: dict[str, Any] = {
        "dag": DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag)),
        "run_id": DagRun.generate_run_id(run_type=DagRunType.MANUAL, logical_date=moment, run_after=moment),
        "logical_date": moment,
        "data_interval": None,
        "run_after": moment,
        "start_date": moment,
        "conf": {},
        "triggered_by": DagRunTriggeredByType.UI,
        "triggering_user_name": "ada",
    }
    with create_session() as session:
        run = given.get("make", get_or_create_dagrun)(**made, session=session)
        run.state = given.get("state", DagRunState.RUNNING)
        return str(run.run_id)


def runs() -> dict[str, DagRun]:
    with create_session() as session:
        found = session.scalars(select(DagRun).order_by(DagRun.run_after)).all()
        return {run.run_id: run for run in found}


def note(run_id: str) -> str:
    with create_session() as session:
        return str(session.scalars(select(DagRun).where(DagRun.run_id == run_id)).one().note)


def taken_by_a_scheduler(run_id: str) -> list[str]:
    """Tasks of a run that a scheduler would start now, were all of them ready."""
    with create_session() as session:
        run = session.scalars(select(DagRun).where(DagRun.run_id == run_id)).one()
        for task in run.get_task_instances(session=session):
            task.state = TaskInstanceState.SCHEDULED
        session.flush()
        scheduler = SchedulerJobRunner(Job(), executors=[LocalExecutor()])
        return [task.task_id for task in scheduler._executable_task_instances_to_queued(32, session=session)]


def test_a_scheduler_takes_no_task_of_a_run_at_hand(dag: DAG) -> None:
    with alone(dag) as moment:
        at_hand = create(dag, moment=moment, make=dagrun.get_or_create_dagrun)
        assert taken_by_a_scheduler(at_hand) == []
        run = runs()[at_hand]
        assert str(run.triggering_user_name).endswith(", by ltr run")
        assert note(at_hand).startswith("Run at hand by ")
    for task in dag.tasks:
        assert task.pool == POOL
        task.pool = "default_pool"
    assert "extract_events" in taken_by_a_scheduler(create(dag))


@pytest.fixture
def scheduler() -> Iterator[None]:
    """A scheduler that is at work, as far as the database knows."""
    with create_session() as session:
        session.add(Job(job_type="SchedulerJob", state=JobState.RUNNING, latest_heartbeat=dt.datetime.now(dt.UTC)))
    yield
    with create_session() as session:
        session.execute(delete(Job))


@pytest.mark.parametrize(
    ("state", "on", "how"),
    [
        (DagRunState.RUNNING, True, "running since"),
        (DagRunState.RUNNING, False, "running since"),
        (DagRunState.QUEUED, True, "queued (ada); wait until"),
    ],
)
def test_a_run_at_hand_is_refused_while_another_is_under_way(
    dag: DAG, scheduler: None, state: DagRunState, on: bool, how: str
) -> None:
    switch(on=on)
    other = create(dag, state=state)
    with pytest.raises(ProgramError, match="two runs at once would use the same data") as refused, alone(dag):
        pass
    assert f"its run {other} is {how}" in str(refused.value)
    assert runs()[other].state == state


def test_it_is_said_when_no_scheduler_is_there_to_end_the_other_run(dag: DAG) -> None:
    create(dag)
    with pytest.raises(ProgramError, match=r"UTC \(ada\); no scheduler is at work .* mark it as failed"), alone(dag):
        pass


def test_a_queued_run_is_in_nobodys_way_while_no_scheduler_is_at_work(dag: DAG) -> None:
    create(dag, state=DagRunState.QUEUED)
    with alone(dag):
        pass


def test_a_queued_run_of_a_paused_dag_and_one_beyond_its_limit_are_in_nobodys_way(dag: DAG, scheduler: None) -> None:
    switch(on=False)
    create(dag, state=DagRunState.QUEUED)
    create(dag, moment=NOW - dt.timedelta(hours=7))
    with alone(dag) as moment:
        assert dag.test(run_after=moment, logical_date=moment, mark_success_pattern=".*").state == DagRunState.SUCCESS


def test_a_run_at_hand_that_begins_at_the_same_time_as_another_is_taken_back(dag: DAG) -> None:
    def begin_both() -> None:
        with alone(dag) as moment:
            create(dag)
            dag.test(run_after=moment, logical_date=moment, mark_success_pattern=".*")

    before = set(runs())
    with pytest.raises(ProgramError, match="two runs at once"):
        begin_both()
    (other,) = set(runs()) - before
    assert runs()[other].triggering_user_name == "ada"


def test_a_run_at_hand_that_breaks_off_has_failed(dag: DAG) -> None:
    def break_off() -> None:
        with alone(dag) as moment:
            create(dag, moment=moment, make=dagrun.get_or_create_dagrun)
            raise KeyboardInterrupt("stopped by SIGINT")

    with pytest.raises(KeyboardInterrupt):
        break_off()
    *_, run = runs()
    assert runs()[run].state == DagRunState.FAILED
    assert note(run).startswith("Failed, but no task did (stopped by SIGINT).")
    assert "`ltr versions` says whether `latest` has moved" in note(run)  # it may have been between two tasks


def test_what_was_killed_has_failed_as_soon_as_somebody_looks(dag: DAG) -> None:
    record = Path(os.environ["AIRFLOW_HOME"]) / "train_ltr_daily.at_hand.json"
    run = create(dag)
    record.write_text(json.dumps({"run_id": run, "process": identity(os.getpid())}))
    fail_killed("train_ltr_daily")
    assert runs()[run].state == DagRunState.RUNNING  # its process lives
    record.write_text(json.dumps({"run_id": run, "process": identity(os.getpid()).replace(".", ".1")}))
    fail_killed("train_ltr_daily")
    assert runs()[run].state == DagRunState.FAILED
    assert note(run).startswith("Failed, but no task did (its process was killed).")
    assert not record.exists()
    record.write_text(json.dumps({"run_id": run, "process": identity(os.getpid()).replace(".", ".1")}))
    with create_session() as session:  # somebody has cleared it, and a scheduler runs it
        session.execute(update(DagRun).where(DagRun.run_id == run).values(state=DagRunState.RUNNING, clear_number=1))
    fail_killed("train_ltr_daily")
    assert runs()[run].state == DagRunState.RUNNING


@pytest.mark.long
def test_a_run_at_hand_whose_parent_ends_is_stopped_and_has_failed(tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text(SLEEPER_FILE)
    bundle = {
        "name": "dags-folder",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(tmp_path)},
    }
    environment = os.environ | {
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
    }
    once = f'{sys.executable} -m ltr_pipeline.airflow.once {SLEEPER} "{{}}" $$ > {tmp_path}/log 2>&1 & wait'
    with subprocess.Popen(["sh", "-c", once], env=environment) as parent:
        try:
            await_task(tmp_path / "log", DagRunState.RUNNING)
        finally:
            parent.kill()
    await_task(tmp_path / "log", DagRunState.FAILED)
    assert "KeyboardInterrupt: stopped by SIGTERM" in (tmp_path / "log").read_text()


def await_task(log: Path, state: str) -> None:
    """Return when the sleeper's run and its task are in this state."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        for run in runs().values():
            ended = run.dag_id == SLEEPER and run.state == state
            if ended and [str(task.state) for task in run.get_task_instances()] == [state]:
                return
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
