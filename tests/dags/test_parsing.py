"""What the scheduler sees: import errors, schedule, policies, and nothing heavy at parse time."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from zipfile import ZipFile

import pytest
from airflow.dag_processing.dagbag import DagBag

from ltr_pipeline.airflow.bundle import LtrDagBundle
from ltr_pipeline.board.links import PAGES
from ltr_pipeline.jobs.chain import CHAIN, ENDS, LAST
from ltr_pipeline.settings import Settings
from ltr_pipeline.variables import VARIABLES

HOURLY = "train_ltr_hourly"
DAGS = ["classify_segments_daily", "monitor_ltr", "score_rows_daily", "train_ltr_daily", HOURLY, "train_segments"]
HEAVY = ("lightgbm", "matplotlib", "numpy", "pandas", "polars", "pyarrow", "scipy", "sklearn")


@pytest.fixture(scope="module")
def bag() -> DagBag:
    return DagBag("dags")


def test_files_parse(bag: DagBag) -> None:
    assert bag.import_errors == {}
    assert sorted(bag.dags) == DAGS


def test_schedule_and_policies(bag: DagBag) -> None:
    dag = bag.dags["train_ltr_daily"]
    assert dag.schedule == "15 2 * * *"
    assert (dag.catchup, dag.max_active_runs) == (False, 1)
    assert dag.tags == {"ltr", "nightly"}
    assert {"date", "window_days", "dry_run", "retrain"} == set(dag.params)
    assert dag.deadline


def test_the_hourly_dag_is_off_until_it_is_toggled_and_ends_within_its_hour(bag: DagBag) -> None:
    dag = bag.dags[HOURLY]
    assert dag.schedule == "35 * * * *"
    assert (dag.catchup, dag.max_active_runs, dag.is_paused_upon_creation) == (False, 1, True)
    assert dag.dagrun_timeout < timedelta(hours=1)
    (task,) = dag.tasks
    assert (task.retries + 1) * task.execution_timeout < dag.dagrun_timeout
    assert set(dag.params) == {"dry_run"}
    assert [alias.name for alias in task.outlets] == ["ltr_weights_moved"]


@pytest.mark.parametrize("name", DAGS)
def test_every_task_has_the_policies(bag: DagBag, name: str) -> None:
    dag = bag.dags[name]
    assert dag.doc_md
    assert dag.dagrun_timeout
    for task in dag.tasks:
        assert task.owner == "ranking"
        assert task.retries == (1 if name == HOURLY else 3)
        assert task.retry_exponential_backoff
        assert task.retry_policy
        assert timedelta() < task.execution_timeout < dag.dagrun_timeout
        callbacks = task.on_failure_callback
        callbacks = callbacks if isinstance(callbacks, list) else [callbacks]  # a mapped task has it as it was given
        assert [callback.__name__ for callback in callbacks] == ["hour_failed" if name == HOURLY else "task_failed"]
        assert task.doc_md


def test_rows_are_scored_after_the_night_and_when_a_version_is_published(bag: DagBag) -> None:
    dag = bag.dags["score_rows_daily"]
    assert dag.timetable.timetable.expression == "15 5 * * *"
    assert [asset.name for asset in dag.timetable.asset_condition.objects] == ["ltr_weights"]
    assert (dag.catchup, dag.max_active_runs) == (False, 1)


@pytest.mark.parametrize(
    ("name", "schedule", "tasks"),
    [
        (
            "train_segments",
            None,
            {
                "train_segments": {"approve_segments", "replace_segments", "keep_segments"},
                "approve_segments": {"replace_segments", "keep_segments"},
                "replace_segments": set(),
                "keep_segments": set(),
            },
        ),
        ("classify_segments_daily", "15 6 * * *", {"classify_segments": set()}),
    ],
)
def test_segments_are_trained_by_hand_and_classified_daily(
    bag: DagBag, name: str, schedule: str | None, tasks: dict[str, set[str]]
) -> None:
    dag = bag.dags[name]
    assert dag.schedule == schedule
    assert (dag.catchup, dag.max_active_runs, dag.tags) == (False, 1, {"ltr", "segments"})
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == tasks


def test_nights_are_watched_every_morning(bag: DagBag) -> None:
    dag = bag.dags["monitor_ltr"]
    assert dag.schedule == "15 7 * * *"
    assert (dag.catchup, dag.max_active_runs, dag.tags) == (False, 1, {"ltr", "monitoring"})
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == {
        "choose_nights": {"conclude", "watch_data", "watch_outcomes"},
        "watch_data": {"conclude"},
        "watch_outcomes": {"conclude"},
        "conclude": set(),
    }


def test_order_of_tasks(bag: DagBag) -> None:
    dag = bag.dags["train_ltr_daily"]
    after = {task.task_id: task.downstream_task_ids for task in dag.tasks}
    assert after == {
        "extract_events": {"build_dataset"},
        "build_dataset": {"train_ranker"},
        "train_ranker": {"evaluate_ranker"},
        "evaluate_ranker": {"quality_gate"},
        "quality_gate": {"approve_weights", "publish_weights", "keep_previous", "notify"},  # that reads the decision
        "approve_weights": {"publish_weights", "keep_previous", "notify"},
        "publish_weights": {"notify"},
        "keep_previous": {"notify"},
        "notify": set(),
    }
    assert [after[task] for task in CHAIN] == [*({task} for task in list(CHAIN)[1:]), {*ENDS.values(), LAST}]
    ends = {ENDS["publish"], ENDS["keep"]}
    assert [after[task] for task in (*ENDS.values(), LAST)] == [{*ends, LAST}, {LAST}, {LAST}, set()]
    assert {dag.get_task(task).trigger_rule for task in (*ends, LAST)} == {"none_failed_min_one_success"}


def test_a_question_offers_to_change_nothing_and_needs_no_reason_to_be_shown(bag: DagBag) -> None:
    for dag, name, option in (
        ("train_ltr_daily", "approve_weights", "Publish"),
        ("train_segments", "approve_segments", "Replace"),
    ):
        task = bag.dags[dag].get_task(name)
        assert (task.options, task.defaults, task.assigned_users) == ([option, "Keep"], ["Keep"], None)
        form = task.serialized_params
        assert list(form) == ["reason"]
        assert (form["reason"]["value"], form["reason"]["schema"]["type"]) == (None, ["null", "string"])
        assert task.response_timeout < bag.dags[dag].dagrun_timeout


@pytest.mark.parametrize("path", sorted(Path("dags").glob("*.py")), ids=lambda path: path.name)
def test_a_dag_file_knows_the_jobs_and_what_ties_them_to_airflow_alone(path: Path) -> None:
    imported = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {getattr(node, "module", None) or node.names[0].name for node in imported}
    ours = {".".join(module.split(".")[:2]) for module in modules if module.startswith("ltr_pipeline")}
    assert ours <= {"ltr_pipeline.airflow", "ltr_pipeline.jobs", "ltr_pipeline.schedule"}


@pytest.mark.parametrize("name", DAGS)
def test_every_param_explains_itself(bag: DagBag, name: str) -> None:
    asked = bag.dags[name].params
    for param in map(asked.get_param, asked):
        assert param.schema["title"]
        assert "Default: " in param.description


def test_documentation_links_the_board_and_the_docs_where_their_addresses_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LTR_BOARD_URL", "http://ranker:8000/board")
    monkeypatch.setenv("LTR_DOCS_URL", "https://git.example.org/docs/")
    linked = {name: dag.doc_md or "" for name, dag in DagBag("dags").dags.items()}
    assert sorted(linked) == DAGS
    for doc in linked.values():
        pages = re.findall(r"\]\(<http://ranker:8000/board/([a-z]*)>\)", doc)
        assert pages
        assert set(pages) <= {*PAGES, ""}
        docs = re.findall(r"\]\(<https://git.example.org/docs/([a-z]+\.md)>\)", doc)
        assert docs
        assert all((Path("docs") / page).is_file() for page in docs)
    assert (
        "the report of each night stands under [Nights](<http://ranker:8000/board/nights>)" in linked["train_ltr_daily"]
    )
    monkeypatch.setenv("LTR_BOARD_URL", "javascript:alert(1)")
    assert all("where `LTR_BOARD_URL` is set" in (dag.doc_md or "") for dag in DagBag("dags").dags.values())


def test_params_say_range_and_default(bag: DagBag) -> None:
    asked = bag.dags["train_ltr_daily"].params
    params = {name: asked.get_param(name) for name in asked}
    limits = {type(limit).__name__: limit for limit in Settings.model_fields["window_days"].metadata}
    least, most = limits["Ge"].ge, limits["Le"].le
    window = params["window_days"]
    assert (window.schema["minimum"], window.schema["maximum"]) == (least, most)
    assert f"from {least} to {most}" in window.description
    assert f"{Settings.model_fields['window_days'].default} unless set" in window.description


def test_documentation_names_every_variable_and_its_default(bag: DagBag) -> None:
    doc = bag.dags["train_ltr_daily"].doc_md
    assert [each.name for each in VARIABLES if f"\n| `{each.name}` | {each.default} |" not in doc] == []


def test_parsing_imports_nothing_heavy() -> None:
    script = f"import sys, {', '.join(DAGS)}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd="dags", capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_bundle_serves_the_dag_files() -> None:
    assert sorted(path.name for path in LtrDagBundle(name="ltr").path.glob("*.py")) == [f"{name}.py" for name in DAGS]


def test_wheel_holds_what_runs(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("ltr_pipeline-*.whl")
    names = set(ZipFile(wheel).namelist())
    assert {f"ltr_pipeline/airflow/dags/{name}.py" for name in DAGS} <= names
    for path in (path for path in Path("ltr_pipeline").rglob("*") if path.is_file() and path.suffix != ".pyc"):
        assert path.as_posix() in names
    (entries,) = (name for name in names if name.endswith(".dist-info/entry_points.txt"))
    assert (
        "[airflow.plugins]\nltr_pipeline = ltr_pipeline.airflow.plugin:LtrPlugin"
        in ZipFile(wheel).read(entries).decode()
    )
