"""Whose data are meant is found by one rule, from what is set and what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltr_pipeline.folders import REAL, SIMULATED, Folders, found, is_simulated
from ltr_pipeline.serving.settings import ServingSettings
from ltr_pipeline.settings import Settings, load, load_settings


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def places(settings: Settings) -> Folders:
    spool = str(settings.spool) if isinstance(settings, ServingSettings) else places(load(ServingSettings)).spool
    return Folders(settings.events_path, settings.data_uri, settings.registry_uri, spool)


def touch(path: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).touch()


def test_without_anything_the_world_is_simulated() -> None:
    for settings in (load_settings(), load(ServingSettings)):
        assert places(settings) == SIMULATED
        assert settings.simulated
        assert settings.world.startswith("simulated events; data in var/simulated/data, registry in var/simulated/")
        assert str(settings.registry.storage.uri()).endswith("var/simulated/registry/ltr")


NIGHTLY = "var/data/events/date=2025-07-15/manifest.json"


@pytest.mark.parametrize("there", ["logs/audit.log", NIGHTLY, f"{NIGHTLY[:-13]}run=20250715_0215/manifest.json"])
def test_an_own_log_or_a_landed_partition_makes_it_real(there: str) -> None:
    touch(SIMULATED.events)
    touch("var/simulated/data/events/date=2099-07-15/manifest.json")
    assert found() == SIMULATED
    touch(there)
    assert found() == REAL
    settings = load_settings()
    assert places(settings) == REAL
    assert not settings.simulated
    assert settings.world == "real events; data in var/data, registry in var/registry"


@pytest.mark.parametrize("there", ["var/data/runs/20250715_0215/inputs.json", "var/data/events/date=2025-07-15/a"])
def test_what_is_no_landed_partition_does_not(there: str) -> None:
    touch(there)
    assert found() == SIMULATED


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LTR_EVENTS_PATH", "mine.log"),
        ("LTR_DATA_URI", "mine"),
        ("LTR_REGISTRY_URI", "mine"),
        ("S3_BUCKET", "mine"),
        ("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092"),
        ("LTR_MAPPING", "mine.toml"),
    ],
)
def test_a_setting_that_says_where_events_or_data_are_is_kept(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    settings = load_settings()
    assert not settings.simulated
    assert settings.data_uri in ("mine", REAL.data)
    assert settings.registry_uri in ("mine", REAL.registry)
    assert settings.events_path in ("mine.log", REAL.events)


def test_a_setting_at_its_default_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTR_EVENTS_PATH", REAL.events)
    monkeypatch.setenv("LTR_WINDOW_DAYS", "14")
    settings = load_settings(test_days=2)
    assert places(settings) == SIMULATED
    assert (settings.window_days, settings.test_days) == (14, 2)


def test_a_log_of_a_former_release_that_is_simulated_is_known_by_the_world_beside_it() -> None:
    touch("logs/audit.log")
    touch("logs/audit.log.world.json")
    settings = load_settings()
    assert places(settings) == REAL
    assert settings.simulated
    assert is_simulated("logs/audit.log")
    assert not is_simulated("logs/other.log")
