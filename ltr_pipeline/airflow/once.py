"""Run a DAG of this package once, in this process, without a scheduler: what ``make run`` does.

``python -m ltr_pipeline.airflow.once train_ltr_daily '{"date": "2025-07-15"}'`` is ``airflow dags test`` for a DAG with
a deadline: that command ends with an error after a good run as long as https://github.com/apache/airflow/issues/73428
is open. Deadline and retries are left out: somebody is watching a run at hand, and can start it again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from airflow.configuration import conf
from airflow.dag_processing.dagbag import DagBag
from airflow.utils.state import DagRunState

__all__ = ["run_once"]


def run_once(dag_id: str, params: Mapping[str, Any]) -> bool:
    """Run the DAG; whether it ended well.

    Raises
    ------
    LookupError
        Airflow's DAGs folder has no such DAG, or its file cannot be imported.
    """
    bag = DagBag(conf.get("core", "dags_folder"))
    if dag_id not in bag.dags:
        raise LookupError(f"no DAG {dag_id} in {bag.dag_folder}: {bag.import_errors or sorted(bag.dags)}")
    dag = bag.dags[dag_id]
    dag.deadline = None
    for task in dag.tasks:
        task.retries = 0
    return bool(dag.test(run_conf=dict(params)).state == DagRunState.SUCCESS)


if __name__ == "__main__":
    sys.exit(0 if run_once(sys.argv[1], json.loads(sys.argv[2])) else 1)
