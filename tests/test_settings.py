"""Every variable is documented, validated and named in its error."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from deploy.environment import STACK, example
from ltr_pipeline.errors import SettingsError
from ltr_pipeline.serving.settings import ServingSettings
from ltr_pipeline.settings import Settings, load_settings, unread, variable

NAMES = sorted(variable(field) for field in Settings.model_fields.values())


def test_example_file_is_the_settings() -> None:
    assert Path("config_env.example").read_text() == example()


def test_example_file_is_a_valid_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    defaults = load_settings()
    lines = [line for line in example(Settings).splitlines() if line and not line.startswith("#")]
    for line in lines:
        monkeypatch.setenv(*line.split("=", 1))
    assert len(lines) == len(NAMES) + len(STACK)
    assert load_settings() == defaults


def test_a_copy_of_the_example_file_takes_a_bucket(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(example().replace("S3_BUCKET=", "S3_BUCKET=models"))
    settings = Settings(_env_file=file)
    assert settings.registry.storage.uri() == "s3://models/ltr"
    file.write_text(file.read_text().replace("LTR_REGISTRY_URI=var/registry", "LTR_REGISTRY_URI=elsewhere"))
    with pytest.raises(ValueError, match="S3_BUCKET and LTR_REGISTRY_URI both say where the registry is"):
        Settings(_env_file=file)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("LTR_WINDOW_DAYS", "abc", "valid integer"),
        ("LTR_WINDOW_DAYS", "366", "less than or equal to 365"),
        ("LTR_BUCKETS", "0", "greater than or equal to 1"),
        ("LTR_PARAMETERS", "[1]", "not a JSON object"),
        ("LTR_PARAMETERS", "{", "not JSON"),
        ("S3_PREFIX", "../other", "pattern"),
        ("LTR_DEBIAS", "perhaps", "valid boolean"),
        ("LTR_LOG_FORMAT", "xml", "'json' or 'text'"),
    ],
)
def test_wrong_value_names_the_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str, problem: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=rf"{name}: .*{problem}"):
        load_settings()


def test_days_that_do_not_fit_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTR_WINDOW_DAYS", "9")  # 3 attribution + 3 test + 3 validation leave nothing to train on
    monkeypatch.setenv("LTR_VALID_DAYS", "3")
    with pytest.raises(SettingsError, match=r"LTR_WINDOW_DAYS 9 .* no day to train on"):
        load_settings()


def test_a_variable_that_no_setting_reads_is_told_with_the_one_that_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for line in example().splitlines():
        if line.startswith("LTR_"):
            monkeypatch.setenv(*line.split("=", 1))
    assert unread(ServingSettings) == []
    monkeypatch.setenv("LTR_THREAD", "4")
    monkeypatch.setenv("LTR_ROWS", "4")
    monkeypatch.setenv("LTR_S3_BUCKET", "models")
    monkeypatch.setenv("LTR_SERVE_PROT", "")  # empty says nothing
    (tmp_path / "env").write_text("LTR_SERV_HOST=::\nOTHER=1\n")
    monkeypatch.setitem(ServingSettings.model_config, "env_file", tmp_path / "env")
    assert unread(ServingSettings) == [
        "no setting reads LTR_ROWS; see config_env.example",
        "no setting reads LTR_S3_BUCKET; did you mean S3_BUCKET?",
        "no setting reads LTR_SERV_HOST; did you mean LTR_SERVE_HOST?",
        "no setting reads LTR_THREAD; did you mean LTR_THREADS?",
    ]


def test_secrets_are_not_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTR_NOTIFY_URLS", "json://user:hunter2@localhost")
    monkeypatch.setenv("LTR_BUCKETS", "none")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    monkeypatch.setenv("LTR_BUCKETS", "4")
    monkeypatch.setenv("LTR_ATTRIBUTION_DAYS", "28")  # a problem of the whole, whose input is all variables
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    monkeypatch.delenv("LTR_ATTRIBUTION_DAYS")
    monkeypatch.delenv("LTR_BUCKETS")
    assert "hunter2" not in repr(load_settings())


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("LTR_EVENTS_PATH=logs/audit.log", "events_path", "logs/audit.log"),
        ("LTR_EVENTS_PATH = logs/my audit.log  ", "events_path", "logs/my audit.log"),
        ("export LTR_EVENTS_PATH='logs/my audit.log'", "events_path", "logs/my audit.log"),
        ('LTR_EVENTS_PATH="logs/#1/audit.log" # where events are', "events_path", "logs/#1/audit.log"),
        ("LTR_EVENTS_PATH=logs/#1/audit.log # where events are", "events_path", "logs/#1/audit.log"),
        ("LTR_EVENTS_PATH=logs/$day/audit.log", "events_path", "logs/$day/audit.log"),
        ("LTR_EVENTS_PATH=", "events_path", "logs/audit.log"),
        ("LTR_EVENTS_PATH=logs/é.log", "events_path", "logs/é.log"),
        (
            'LTR_PARAMETERS={"learning_rate": 0.05, "max_depth": 4}',
            "parameters",
            {"learning_rate": 0.05, "max_depth": 4},
        ),
        ("LTR_PARAMETERS='{\"learning_rate\": 0.05}'", "parameters", {"learning_rate": 0.05}),
        (r'LTR_PARAMETERS="{\"learning_rate\": 0.05}"', "parameters", {"learning_rate": 0.05}),
        ("LTR_PARAMETERS=", "parameters", {}),
        (
            "LTR_NOTIFY_URLS='json://u:p$w#d@host mailto://u:p@host'",
            "notify_urls",
            ("json://u:p$w#d@host", "mailto://u:p@host"),
        ),
        ("LTR_DEBIAS=no", "debias", False),
        ("LTR_DEBIAS=coins", "debias", "coins"),
        ("ltr_seed=1", "seed", 2025),
        ("# LTR_SEED=1", "seed", 2025),
        ("OTHER=1", "seed", 2025),
    ],
)
def test_the_env_file_is_read_as_people_write_it(tmp_path: Path, line: str, field: str, value: object) -> None:
    (tmp_path / ".env").write_text(f"# mine\n\n{line}\r\n", encoding="utf-8")
    assert getattr(Settings(_env_file=tmp_path / ".env"), field) == value


def test_the_env_file_of_the_folder_counts_and_the_environment_more(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LTR_SEED=3\nLTR_BUCKETS=5\n")
    code = "from ltr_pipeline.settings import load_settings; s = load_settings(); print(s.seed, s.buckets, s.threads)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"LTR_SEED": "4"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["4", "5", "1"]


def test_a_wrong_value_in_the_env_file_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LTR_SEED=many\n")
    with pytest.raises(ValueError, match="LTR_SEED"):
        Settings(_env_file=tmp_path / ".env")
