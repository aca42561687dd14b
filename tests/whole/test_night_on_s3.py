"""A night's tasks with landing zone, run artefacts and registry on a real S3 server, and a publish that it missed."""

import dataclasses
import datetime as dt
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.native.minio import S3Server
from ltr_pipeline.cli.main import app
from ltr_pipeline.errors import SourceError, StorageError
from ltr_pipeline.jobs import nightly
from ltr_pipeline.jobs.chain import judge
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.runs.run import Json, Run, judged
from ltr_pipeline.settings import Settings, load_settings
from ltr_pipeline.simulate.log import write_log
from ltr_pipeline.simulate.world import World
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.storage.uri import open_storage
from ltr_pipeline.versions.registry import Registry

FIRST, RUN = dt.date(2026, 9, 1), "20261001_0215"
WORLD = World(legacy_weights=load_mapping().legacy_weights, rankings_per_day=150)
VARIABLES = {"ltr_fairness_max": "0.2", "ltr_ndcg_min": "0.3"}  # 300 rankings are too few for less


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "audit.log"
    write_log(path, WORLD, FIRST, 30)
    return path


@pytest.fixture
def settings(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("LTR_EVENTS_PATH", str(log))
    monkeypatch.setenv("LTR_DATA_URI", str(tmp_path / "data"))
    monkeypatch.setenv("LTR_REGISTRY_URI", str(tmp_path / "registry"))
    return load_settings()


def moved(settings: Settings, data: Storage | None = None, registry: Storage | None = None) -> Settings:
    """The settings with other storages."""
    copied = settings.model_copy()
    copied.__dict__.update(data=data or settings.data, registry=Registry(registry) if registry else settings.registry)
    return copied


def decided(settings: Settings) -> Json:
    return judge({"moment": "2026-10-01T02:15:00+00:00"}, VARIABLES, settings)


def test_a_night_on_s3_makes_what_a_night_on_disk_makes(settings, s3_storage, s3_options):
    there = moved(settings, s3_storage, open_storage(f"{s3_storage.uri()}/registry", s3_options))
    published = nightly.publish_weights(decided(there), "test", there)
    assert published["moved"]
    decided(settings)
    here, runs = settings.data, f"runs/{RUN}"
    same = [f"{runs}/model.txt", *here.keys(f"{runs}/dataset")]
    same += [key for key in here.keys("events") if key.endswith(".parquet")]
    assert len(same) > 20
    assert all(there.data.get(key) == here.get(key) for key in same)
    assert Registry(there.registry.storage).load(RUN).model.text.encode() == here.get(f"{runs}/model.txt")
    assert published["latest"] == RUN


def test_a_publish_that_s3_missed_is_finished_later(settings, s3_options, tmp_path):
    server = S3Server(tmp_path / "own")
    server.start()
    try:
        server.make_bucket("models")
        options = dataclasses.replace(
            s3_options,
            endpoint=server.endpoint,
            access_key_id=server.access_key_id,
            secret_access_key=server.secret_access_key,
            attempts=2,
        )
        settings = moved(settings, registry=open_storage("s3://models/ltr", options))
        decision = decided(settings)
        server.stop()
        with pytest.raises(StorageError, match="check that it runs, S3_ENDPOINT"):
            nightly.publish_weights(decision, "airflow/run", settings)
        kept = Run(RUN, settings).storage.get(f"runs/{RUN}/ltr_weights.json")
        server.start()
        assert nightly.publish_weights(judged(RUN, settings), "ann", settings)["moved"]
        assert settings.registry.storage.get("latest/ltr_weights.json") == kept
        assert not nightly.publish_weights(decision, "airflow/run", settings)["moved"]  # the task tried again
        assert [move.who for move in settings.registry.history()] == ["ann"]
    finally:
        server.stop()


def test_ltr_publish_finishes_a_run_and_says_so(settings, tmp_path):
    (tmp_path / "registry").write_text("a file where a folder belongs")
    with pytest.raises(SourceError, match=f"run {RUN} has not been judged"):
        judged(RUN, settings)
    decision = decided(moved(settings, registry=open_storage(str(tmp_path / "aside"))))
    with pytest.raises(StorageError):
        nightly.publish_weights(decision, "airflow/run", settings)
    (tmp_path / "registry").unlink()
    for _ in range(2):
        done = CliRunner().invoke(app, ["publish", RUN])
        assert done.exit_code == 0, done.output
        assert f"latest moved from nothing to {RUN}" in " ".join(done.output.split())
    assert len(settings.registry.history()) == 1
    pruned = CliRunner().invoke(app, ["prune", "--keep", "30", "--dry-run"])
    assert "0 versions would be removed" in pruned.output
