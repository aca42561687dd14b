"""The gate's Variables in a real Airflow: the missing ones are created once, and whatever is set stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from airflow.configuration import conf
from airflow.models import Variable
from airflow.models.crypto import get_fernet
from airflow.utils.session import create_session
from cryptography.fernet import Fernet
from sqlalchemy import delete, select

from ltr_pipeline.airflow.runtime import gate_variables
from ltr_pipeline.airflow.variables import create_missing, look
from ltr_pipeline.doctor import examine
from ltr_pipeline.gate.policy import Policy
from ltr_pipeline.settings import load_settings
from ltr_pipeline.variables import VARIABLES, InUse, import_file, remark, unread
from support.commands import typed

DEFAULTS = {each.name: (each.default, each.description) for each in VARIABLES}
BY_NAME = {each.name: each for each in VARIABLES}
AIRFLOW = Path(sys.executable).with_name("airflow")


@pytest.fixture(autouse=True)
def empty(airflow_database: None) -> Iterator[None]:
    """Without Variables, before and after."""
    remove_all()
    yield
    remove_all()


def remove_all() -> None:
    with create_session() as session:
        session.execute(delete(Variable))


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Airflow encrypts Variables, as it does outside of tests."""
    with monkeypatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__FERNET_KEY", key := Fernet.generate_key().decode())
        get_fernet.cache_clear()
        yield key
    get_fernet.cache_clear()


def stored() -> dict[str, tuple[str | None, str | None]]:
    with create_session() as session:
        return {row.key: (row.val, row.description) for row in session.scalars(select(Variable))}


def found() -> dict[str, InUse]:
    return {each.name: each for each in create_missing().variables}


def test_missing_ones_are_created_once_with_default_and_description() -> None:
    assert all(each.created for each in found().values())
    assert stored() == DEFAULTS
    again = found()
    assert [(each.created, each.source) for each in again.values()] == [(False, "Variable")] * len(VARIABLES)
    assert {remark(BY_NAME[name], each) for name, each in again.items()} == {""}
    assert Policy.from_variables({name: value for name, (value, _) in DEFAULTS.items()}) == Policy()


def test_what_an_operator_has_set_stays() -> None:
    Variable.set("ltr_ndcg_min", "0.8", description="agreed on Monday")
    Variable.set("ltr_gate_mode", "dryrun")
    now = found()
    assert (now["ltr_ndcg_min"].value, now["ltr_ndcg_min"].created) == ("0.8", False)
    assert remark(BY_NAME["ltr_gate_mode"], now["ltr_gate_mode"]) == "not allowed: the next run fails"
    set_by_hand = {"ltr_ndcg_min": ("0.8", "agreed on Monday"), "ltr_gate_mode": ("dryrun", None)}
    assert stored() == DEFAULTS | set_by_hand


def test_a_value_of_the_environment_or_of_a_secrets_backend_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secrets = tmp_path / "secrets.json"
    secrets.write_text(json.dumps({"ltr_min_samples": "500"}))
    Variable.set("ltr_fairness_max", "0.04")
    monkeypatch.setenv("AIRFLOW_VAR_LTR_NDCG_MIN", "0.7")
    monkeypatch.setenv("AIRFLOW_VAR_LTR_FAIRNESS_MAX", "0.1")
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", "airflow.secrets.local_filesystem.LocalFilesystemBackend")
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND_KWARGS", json.dumps({"variables_file_path": str(secrets)}))
    now = found()
    given = {name: (each.value, each.source) for name, each in now.items() if each.source != "Variable"}
    assert given == {
        "ltr_ndcg_min": ("0.7", "AIRFLOW_VAR_LTR_NDCG_MIN"),
        "ltr_fairness_max": ("0.1", "AIRFLOW_VAR_LTR_FAIRNESS_MAX"),
        "ltr_min_samples": ("500", "LocalFilesystemBackend"),
    }
    assert stored().keys() == DEFAULTS.keys() - {"ltr_ndcg_min", "ltr_min_samples"}
    assert stored()["ltr_fairness_max"] == ("0.04", None)
    assert "does not count" in remark(BY_NAME["ltr_fairness_max"], now["ltr_fairness_max"])


def test_two_at_once_create_each_one_once() -> None:
    with ThreadPoolExecutor(4) as pool:
        everywhere = [each for done in pool.map(lambda _: found(), range(4)) for each in done.values()]
    assert sum(each.created for each in everywhere) == len(VARIABLES)
    assert stored() == DEFAULTS


def test_a_default_of_an_earlier_release_is_told() -> None:
    Variable.set("ltr_ndcg_min", "0.6", description="Default 0.6, 0 to 1: smallest nDCG@5 on the test days")
    Variable.set("ltr_fairness_max", "0.04", description="Default 0.03, 0 to 1: edited since")
    now = found()
    assert "default of an earlier release, now 0.65" in remark(BY_NAME["ltr_ndcg_min"], now["ltr_ndcg_min"])
    assert remark(BY_NAME["ltr_fairness_max"], now["ltr_fairness_max"]) == ""
    assert stored()["ltr_ndcg_min"][0] == "0.6"


def test_a_value_that_cannot_be_decrypted_is_told_and_the_default_counts(keys: str) -> None:
    Variable.set("ltr_ndcg_min", "0.8")
    with create_session() as session:
        row = session.scalars(select(Variable).where(Variable.key == "ltr_ndcg_min")).one()
        row._val, row.is_encrypted = "gAAAAA-of-another-key", True
    now = found()["ltr_ndcg_min"]
    assert (now.value, now.source) == ("0.65", "default")
    assert "Fernet key" in remark(BY_NAME["ltr_ndcg_min"], now)
    assert "ltr_ndcg_min" not in gate_variables()  # a task reads it so, too


def test_a_misspelt_one_is_told_and_nothing_is_created_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    Variable.set("ltr_ndgc_min", "0.8")
    Variable.set("ltrndcg", "0.8")  # nobody says that it is the gate's
    Variable.set("ltr_fairness_max", "7")
    monkeypatch.setenv("AIRFLOW_VAR_LTR_MODE", "dry_run")
    seen = look()
    assert unread(seen) == [
        "no night reads a Variable ltr_mode",
        "no night reads a Variable ltr_ndgc_min; did you mean ltr_ndcg_min?",
    ]
    assert {each.name: each.source for each in seen.variables if each.source != "default"} == {
        "ltr_fairness_max": "Variable"
    }
    assert stored().keys() == {"ltr_ndgc_min", "ltrndcg", "ltr_fairness_max"}
    told = {
        (finding.status, finding.text)
        for finding in examine(load_settings(), variables=look)
        if finding.subject == "gate"
    }
    assert told == {
        ("problem", "ltr_fairness_max is '7': not allowed: the next run fails"),
        *(("warning", text) for text in unread(seen)),
    }
    done = typed("variables")
    assert done.code == 0
    assert [line for line in done.err.splitlines() if line.startswith("warning")] == [
        f"warning: {text}" for text in unread(seen)
    ]


def test_airflow_imports_the_printed_file(tmp_path: Path) -> None:
    Variable.set("ltr_ndcg_min", "0.8", description="agreed on Monday")
    file = tmp_path / "variables.json"
    file.write_text(typed("variables", "--json").out)
    assert json.loads(file.read_text()) == import_file()
    assert stored().keys() == {"ltr_ndcg_min"}  # printing touches nothing
    command = [AIRFLOW, "variables", "import", file, "--action-on-existing-key", "skip"]
    same_key = os.environ | {"AIRFLOW__CORE__FERNET_KEY": conf.get("core", "fernet_key")}
    subprocess.run(command, env=same_key, capture_output=True, check=True, timeout=120)
    assert stored() == DEFAULTS | {"ltr_ndcg_min": ("0.8", "agreed on Monday")}


def test_the_command_shows_value_default_range_and_source(monkeypatch: pytest.MonkeyPatch) -> None:
    Variable.set("ltr_min_samples", "\x1b[31m500")
    monkeypatch.setenv("AIRFLOW_VAR_LTR_NDCG_MIN", "0.7")
    done = typed("variables")
    assert done.code == 0, done.err
    rows = {words[0]: words[1:] for words in done.words}
    in_use = ["0.7", "0.65", *BY_NAME["ltr_ndcg_min"].allowed.split(), "AIRFLOW_VAR_LTR_NDCG_MIN"]
    assert rows["ltr_ndcg_min"] == in_use, done.out
    assert rows["ltr_gate_mode"] == [
        "enforce",
        "enforce",
        *BY_NAME["ltr_gate_mode"].allowed.split(),
        "Variable",
        "created",
    ]
    assert rows["ltr_min_samples"][0] == repr("\x1b[31m500")  # a terminal gets no control characters
    count = len(VARIABLES)
    assert f"{count - 2} of {count} Variables were created" in done.out
    assert stored().keys() == DEFAULTS.keys() - {"ltr_ndcg_min"}


def test_without_an_airflow_the_command_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "new"))
    done = typed("variables")
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert "`airflow db migrate`" in done.err
    monkeypatch.delenv("AIRFLOW_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "AIRFLOW_HOME is not set" in typed("variables").err
    assert not (tmp_path / "airflow").exists()
