"""Publish, roll back, pin and unpin, as operators call them: the environment says where the registry is."""

from __future__ import annotations

import getpass
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ltr_pipeline import registry
from ltr_pipeline.errors import RegistryError, SettingsError, UnknownVersionError, WeightsError
from ltr_pipeline.registry import publish_weights, rollback_weights
from ltr_pipeline.versions import weights
from ltr_pipeline.versions.ledger import Move
from support.documents import document

A, B, C = ("20250714_0215", "20250715_0215", "20250716_0215")
ME = f"{getpass.getuser()}@{socket.gethostname()}"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the model in the registry that the environment names."""
    monkeypatch.setenv("LTR_REGISTRY_URI", (tmp_path / "the registry").as_uri())
    monkeypatch.setenv("S3_PREFIX", "cases")
    return tmp_path / "the registry" / "cases"


def file_of(folder: Path, version: str, **fields: object) -> Path:
    path = folder / f"{version}.json"
    path.write_bytes(weights.encode(document(version, **fields)))
    return path


@pytest.fixture
def published(root: Path, tmp_path: Path) -> Path:
    for version in (A, B, C):
        publish_weights(file_of(tmp_path, version))
    return root


def latest(root: Path) -> str:
    return str(json.loads((root / "latest" / "ltr_weights.json").read_bytes())["version"])


def test_what_a_move_returns_reads_well_and_keeps_its_attributes(published: Path) -> None:
    moved = rollback_weights(A, reason="bad\nnight", who="anna")
    assert str(moved) == f"latest moved from {C} to {A} (rollback by anna: bad\\nnight), pinned until `ltr unpin`"
    assert repr(moved) == f"<Move 4, {moved.when:%Y-%m-%d %H:%M} UTC: {moved}>"
    assert (moved.before, moved.to, moved.pin, moved.why) == (C, A, True, "bad\nnight")
    freed = registry.unpin_weights(who="anna")
    assert str(freed) == f"latest stays {A} (unpin by anna: unpinned by hand); the next publish moves it"
    first, second, *_ = registry.open_registry().history()
    assert str(first) == f"latest is {A}, the first version (publish by {ME}: published by hand)"
    assert str(second) == f"latest moved from {A} to {B} (publish by {ME}: published by hand)"


def test_a_publish_that_leaves_latest_alone_says_why(published: Path, tmp_path: Path) -> None:
    rollback_weights(A)
    done = publish_weights(file_of(tmp_path, "20250717_0215"))
    assert str(done) == f"20250717_0215: latest is pinned to {A}; after `ltr unpin` the next publish moves it"
    assert str(newest_move()).startswith(f"20250717_0215 was published, latest stays {A} (publish by ")


def newest_move() -> Move:
    return registry.open_registry().history()[-1]


def test_a_document_is_published_where_the_environment_says(root: Path, tmp_path: Path) -> None:
    path = file_of(tmp_path, A)
    done = publish_weights(str(path), reason="first model")
    assert (done.version, done.moved) == (A, True)
    assert (root / A / "ltr_weights.json").read_bytes() == path.read_bytes()
    assert latest(root) == A
    assert (newest_move().who, newest_move().why) == (ME, "first model")
    again = publish_weights(path, who="ann")
    assert (again.version, again.moved) == (A, False)
    assert "published already" in again.reason


def test_another_model_of_the_same_minute_gets_the_next_number(published: Path, tmp_path: Path) -> None:
    assert publish_weights(file_of(tmp_path, C, high=0.8)).version == f"{C}_2"


def test_a_rollback_takes_a_version_a_reason_and_pins(published: Path, tmp_path: Path) -> None:
    move = rollback_weights(A, reason="offers dropped")
    assert (move.move, move.before, move.to, move.pin) == ("rollback", C, A, True)
    assert (move.who, move.why) == (ME, "offers dropped")
    assert latest(published) == A
    held = publish_weights(file_of(tmp_path, "20250717_0215"))
    assert held.moved is False
    assert f"pinned to {A}" in held.reason
    assert latest(published) == A


def test_a_rollback_works_with_nothing_but_the_version(published: Path) -> None:
    assert rollback_weights(A).why == "rolled back by hand"
    assert latest(published) == A


def test_a_rollback_without_a_version_goes_back_one_good_version_at_a_time(published: Path) -> None:
    assert [rollback_weights().to, rollback_weights().to] == [B, A]
    with pytest.raises(RegistryError, match=f"before {A}"):
        rollback_weights()
    assert latest(published) == A


def test_unpin_frees_the_next_publish_and_moves_nothing(published: Path, tmp_path: Path) -> None:
    rollback_weights(B, reason="drill", who="ann")
    freed = registry.unpin_weights(reason="drill over", who="bob")
    assert (freed.move, freed.to, freed.pin, freed.who, freed.why) == ("unpin", B, False, "bob", "drill over")
    assert latest(published) == B
    assert publish_weights(file_of(tmp_path, "20250717_0215")).moved
    assert latest(published) == "20250717_0215"


def test_pin_holds_what_is_there(published: Path, tmp_path: Path) -> None:
    pinned = registry.pin_weights(reason="audit")
    assert (pinned.move, pinned.to, pinned.pin, pinned.why) == ("pin", C, True, "audit")
    assert registry.pin_weights() == pinned
    assert not publish_weights(file_of(tmp_path, "20250717_0215")).moved


@pytest.mark.parametrize("version", ["20250101_0000", "../..", "latest", "history", f"{A}/../{B}", f"{A}_1", " ", "é"])
def test_a_version_that_is_none_moves_nothing(published: Path, version: str) -> None:
    with pytest.raises(UnknownVersionError, match="ltr versions"):
        rollback_weights(version)
    assert (latest(published), newest_move().seq) == (C, 3)


def test_a_version_that_was_altered_moves_nothing(published: Path) -> None:
    path = published / A / "ltr_weights.json"
    path.write_bytes(path.read_bytes().replace(b"0.75", b"0.76", 1))
    with pytest.raises(WeightsError, match="altered"):
        rollback_weights(A)
    assert (latest(published), newest_move().seq) == (C, 3)


@pytest.mark.parametrize("act", [rollback_weights, registry.pin_weights, registry.unpin_weights])
def test_before_anything_was_published_every_move_is_refused(root: Path, act) -> None:
    with pytest.raises(RegistryError, match="nothing was published"):
        act()
    assert not root.exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, r"ltr_weights\.json: No such file or directory; give the path"),
        (b"", "truncated"),
        (b"{}", "altered or truncated"),
        (weights.encode(document(A))[:-1], "truncated"),
        (weights.encode(document(A)).replace(b"0.75", b"0.76", 1), "altered"),
    ],
)
def test_what_is_no_whole_document_is_not_published(
    root: Path, tmp_path: Path, content: bytes | None, problem: str
) -> None:
    path = tmp_path / "ltr_weights.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=problem) as caught:
        publish_weights(path)
    assert str(path) in str(caught.value)
    assert not root.exists()


def test_a_folder_is_no_document(root: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"give the path of an ltr_weights\.json"):
        publish_weights(tmp_path)


@pytest.mark.parametrize(("name", "value"), [("S3_PREFIX", "../other"), ("LTR_REGISTRY_URI", "ftp://host/registry")])
def test_a_registry_that_cannot_be_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        rollback_weights(A)
    assert not root.exists()


def test_a_script_needs_only_the_two_imports(published: Path, tmp_path: Path) -> None:
    code = f"from ltr_pipeline.registry import rollback_weights; rollback_weights({A!r}, reason='from a notebook')"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=os.environ, check=True)
    assert latest(published) == A
    assert newest_move().why == "from a notebook"
