"""The board as files: complete, with links that lead to files that are there."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest

from ltr_pipeline.board.facts import Reader
from ltr_pipeline.board.files import write_files
from ltr_pipeline.board.links import PAGES, file_names
from ltr_pipeline.board.shown import ShownList
from ltr_pipeline.errors import LtrError
from support.history import DAY, NOW, Quick, name_of, reader_of, write_history

LISTS = [ShownList(at=NOW, query_id="case-1", version=name_of(DAY), user_id="u-secret", items=["a"], length=1)]


@pytest.fixture(scope="module")
def folder(month_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files") / "board"
    assert write_files(folder, reader_of(month_folder), LISTS) == folder / "index.html"
    return folder


def test_every_page_every_feature_and_the_newest_reports_are_there(folder: Path) -> None:
    names = {str(path.relative_to(folder)) for path in folder.rglob("*.html")}
    assert {f"{name}.html" for name in PAGES if name != "overview"} | {"index.html"} <= names
    assert {f"drift/{feature}.html" for feature in "ASTGQURC"} <= names
    assert len([name for name in names if name.startswith("reports/")]) == 31


def test_every_link_leads_to_a_file(folder: Path) -> None:
    seen = 0
    for page in folder.rglob("*.html"):
        for place in re.findall(r'(?:href|action)="([^"]+)"', page.read_text()):
            if not place.startswith(("#", "data:")):
                assert (page.parent / unescape(place)).resolve().is_file(), f"{page.name}: {place}"
                seen += 1
    assert seen > 150


def test_users_are_left_out_and_nothing_asks_a_service(folder: Path) -> None:
    text = "".join(page.read_text() for page in folder.rglob("*.html"))
    assert "case-1" in text
    assert "u-secret" not in text
    assert "<form" not in text


def test_it_can_be_written_again_and_from_nothing(tmp_path: Path) -> None:
    reader = Reader(Quick(tmp_path / "data"))
    write_files(tmp_path / "board", reader)
    assert "Nothing ranks yet" in (tmp_path / "board" / "index.html").read_text()
    write_history(Quick(tmp_path / "data"), days=2)
    write_files(tmp_path / "board", reader)
    assert "needs a look" in (tmp_path / "board" / "index.html").read_text()


def test_a_file_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "board").write_text("")
    with pytest.raises(LtrError, match="board is no folder; name another one"):
        write_files(tmp_path / "board", Reader(Quick(tmp_path / "data")))


def test_features_never_share_a_file() -> None:
    names = file_names(["price", "Price", "../price", "", "?", "x" * 300])
    assert len({name.lower() for name in names.values()}) == 6
    assert all("/" not in name and len(name) < 100 for name in names.values())
