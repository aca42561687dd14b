"""`ltr board`: where the board is, and the board as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltr_pipeline.local.ports import free_port
from support.commands import ltr, project
from support.history import Quick, write_history
from support.service import Server


def test_files_are_written_for_sharing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch)
    empty = ltr("board", "--html", "empty")
    assert empty.code == 0
    assert "No night has run yet" in (tmp_path / "empty" / "index.html").read_text()
    write_history(Quick(tmp_path / "data"), days=3)
    done = ltr("board", "--html", "shared")
    assert (done.code, done.out.strip()) == (0, (tmp_path / "shared" / "index.html").as_uri())
    assert "in the night of 15 Jul 2025" in (tmp_path / "shared" / "index.html").read_text()


def test_a_file_in_the_way_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch)
    (tmp_path / "shared").touch()
    done = ltr("board", "--html", "shared")
    assert done.code == 2
    assert "shared is no folder; name another one" in done.err


def test_the_address_is_that_of_a_service_that_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch)
    monkeypatch.setenv("LTR_SERVE_PORT", str(free_port()))
    nobody = ltr("board")
    assert nobody.code == 2
    assert "`make serve` starts it" in " ".join(nobody.err.split())
    with Server(tmp_path / "service") as server:
        monkeypatch.setenv("LTR_SERVE_PORT", str(server.port))
        assert ltr("board").out.strip() == f"{server.url}/board/"
        assert f"The board: {server.url}/board/" in server.log
