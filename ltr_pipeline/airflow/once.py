"""Run a DAG of this package once, in this process, without a scheduler: what ``make run`` does.

``python -m ltr_pipeline.airflow.once train_ltr_daily '{"date": "2025-07-15"}'`` is ``airflow dags test`` for a DAG with
a deadline: that command ends with an error after a good run as long as https://github.com/apache/airflow/issues/73428
is open. Deadline and retries are left out: somebody is watching a run at hand, and can start it again. A scheduler that
works on the same database leaves it alone. A third argument is the number of the process with which the run is to end.
Without params nothing is run: a former run that was killed is marked as failed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from airflow.configuration import conf
from airflow.dag_processing.dagbag import DagBag
from airflow.utils.state import DagRunState

from ltr_pipeline.airflow import at_hand
from ltr_pipeline.errors import ProgramError
from ltr_pipeline.local.signals import end_with, ignore, interrupt, interruptible

__all__ = ["run_once"]


def run_once(dag_id: str, params: Mapping[str, Any]) -> bool:
    """Run the DAG; whether it ended well.

    Raises
    ------
    LookupError
        Airflow's DAGs folder has no such DAG, or its file cannot be imported.
    ProgramError
        Another run of the DAG is under way.
    """
    bag = DagBag(conf.get("core", "dags_folder"))
    if dag_id not in bag.dags:
        raise LookupError(f"no DAG {dag_id} in {bag.dag_folder}: {bag.import_errors or sorted(bag.dags)}")
    dag = bag.dags[dag_id]
    dag.deadline = None
    for task in dag.tasks:
        task.retries = 0
        task.on_kill = interrupt  # type: ignore[method-assign, union-attr] # Airflow calls it at a SIGTERM
    with at_hand.alone(dag) as moment:
        done = dag.test(run_after=moment, logical_date=moment, run_conf=dict(params))
    return bool(done.state == DagRunState.SUCCESS)


def _main(dag_id: str, params: str = "", parent: str = "") -> int:
    """Return the exit code: 0 after a good run, 1 after a failed one, 2 when nothing was run."""
    if not params:
        at_hand.fail_killed(dag_id)
        return 0
    try:
        with interruptible():
            if parent:
                end_with(int(parent))
            good = run_once(dag_id, json.loads(params))
    except ProgramError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 1
    ignore()  # from now on nobody should take this run for one that was stopped
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
