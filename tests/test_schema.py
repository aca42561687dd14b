"""A column is declared once: whoever handles events takes it from there, and one that is added needs no code."""

from __future__ import annotations

import datetime as dt
import json
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest

from ltr_pipeline.dataset.labels import FEEDBACK_TYPES, impression_types
from ltr_pipeline.events.decoding.decode import Decoder
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.schema import COLUMNS, FEEDBACK, IMPRESSIONS, PLACES, Column, columns_of
from ltr_pipeline.serving.eventlog.layout import OF_FEEDBACK, OF_ITEM, OF_LIST
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.versions.registry import Registry
from support.documents import document
from support.messages import FEATURES, answered, block, shown
from support.service import Server

DOCS = Path("docs/events.md").read_text()
MAPPING = load_mapping()
VALUES: Final[dict[str | None, Any]] = {"text": "some", "whole": 1, "number": 0.5, "flag": True}


def sent(message: dict[str, Any], table: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The message with every column of its table at its default path, and the values."""
    given = {column.name: VALUES[column.wire] for column in columns_of(table)}
    given |= {"time": message["timestamp"], "action": "won"} if table == FEEDBACK else {"time": message["timestamp"]}
    for name in given.keys() - {"time"}:
        place, field = MAPPING.paths(name)[0].split(".")
        message[place][field] = given[name]
    return message, {column.name: given[column.name] for column in columns_of(table)}


@pytest.mark.parametrize("strict", [False, True], ids=["fast", "strict"])
def test_every_column_is_read_and_lands_with_its_type(strict: bool) -> None:
    (impression, first), (interaction, second) = sent(shown(), IMPRESSIONS), sent(answered(), FEEDBACK)
    found = Decoder(MAPPING, strict=strict).decode(block(impression, interaction))
    assert found.quarantined == []
    tables = [(found.impressions, first, impression_types(MAPPING.features)), (found.feedback, second, FEEDBACK_TYPES)]
    for landed, given, types in tables:
        table = pl.from_arrow(landed)
        assert isinstance(table, pl.DataFrame)
        assert dict(table.schema) == types
        row = table.row(0, named=True)
        assert {name: row[name] for name in given.keys() - {"time"}} == {
            name: value for name, value in given.items() if name != "time"
        }


@pytest.mark.parametrize("column", COLUMNS, ids=[column.name for column in COLUMNS])
def test_every_column_has_a_default_path_and_is_documented(column: Column) -> None:
    assert MAPPING.paths(column.name)
    field = MAPPING.paths(column.name)[0].rpartition(".")[2]
    rows = re.findall(r"^\| (`.+`) \| (.+) \| .+ \| .+ \|$", DOCS, re.MULTILINE)
    assert [row for row in rows if f"`{field}`" in row[0] and (f"`{column.name}`" in row[1] or "the same" in row[1])]


def test_names_are_used_once_and_every_column_that_says_so_is_written() -> None:
    names = [column.name for column in (*COLUMNS, *PLACES)]
    assert len(names) == len(set(names))
    assert {column.name for column in columns_of(IMPRESSIONS) if column.written} <= {*OF_LIST, *OF_ITEM}
    assert {column.name for column in columns_of(FEEDBACK) if column.written} <= {*OF_FEEDBACK}


ADDED: Final = {
    "schema.py": {
        "    Column(LABEL,": """
    Column("device", "text", "text", _KEPT, written="list"),
    Column("price", "number", "float32", _KEPT, inherited=False, written="item"),
    Column("stock", "whole", "int32", _KEPT, inherited=False, written="item"),
    Column("fresh", "flag", "flag", _KEPT, written="item", absent=False),
    Column("dwell", "number", "float32", (FEEDBACK,), written="list"),"""
    },
    "default_mapping.toml": {
        "[fields]": "".join(
            f'\n{name} = ["context.{name}", "{name}"]' for name in ("device", "price", "stock", "fresh")
        )
        + '\ndwell = ["context.dwell"]'
    },
    "serving/wire.py": {
        "    group: Text | None = None": """
    price: float | None = None
    stock: int | None = None
    fresh: bool | None = None""",
        "    candidates: Annotated[list[RankCandidate]": "\n    device: Text | None = None",
        "    event_id: Text | None = None": "\n    dwell: float | None = None",
    },
}
"""All that columns need: behind which line of which file."""

READ: Final = """
import datetime as dt, json, sys
from pathlib import Path
import polars as pl
from ltr_pipeline.dataset.build import build
from ltr_pipeline.dataset.windows import Windows
from ltr_pipeline.events.landing import land
from ltr_pipeline.events.chain import partitions_for
from ltr_pipeline.events.sources.files import FileSource
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.storage.local import LocalStorage

log = Path(sys.argv[1])
folder = log.with_name("data")
data, mapping = LocalStorage(folder), load_mapping()
today = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
night = today + 10 * dt.timedelta(days=1)
landed = land(data, night, FileSource(log), mapping, buckets=1, since=today - dt.timedelta(days=9))
build(data, "dataset", partitions_for(data, night.date()), mapping, Windows(cutoff=night, window_days=20))
tables = {file.name: pl.read_parquet(file).to_dicts() for file in folder.rglob("*.parquet")}
print(json.dumps([landed.quarantine_reasons, tables], default=str))
"""


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a copy of the package in which columns are declared, mapped and sent, and no code is changed."""
    folder = tmp_path_factory.mktemp("extended")
    package = Path(str(files("ltr_pipeline")))
    shutil.copytree(package, folder / "ltr_pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    for name, edits in ADDED.items():
        file = folder / "ltr_pipeline" / name
        text = file.read_text()
        for line, more in edits.items():
            text, count = re.subn(
                rf"^{re.escape(line)}.*$", lambda found, more=more: found[0] + more, text, flags=re.MULTILINE
            )
            assert count == 1, line
        file.write_text(text)
    return folder


def read(folder: Path, log: Path) -> tuple[dict[str, int], dict[str, list[dict[str, Any]]]]:
    """Return what a night of the copied package makes of a log: reasons of refusal, and rows of every table."""
    done = subprocess.run([sys.executable, "-c", READ, log], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    reasons, tables = json.loads(done.stdout.splitlines()[-1])
    return reasons, tables


def test_an_added_column_goes_from_a_request_to_the_labelled_table(extended: Path) -> None:
    Registry(LocalStorage(extended / "registry" / "ltr")).publish(document(), who="test", why="test")
    with Server(extended, LTR_REGISTRY_URI=str(extended / "registry"), LTR_EVENTS_PATH="audit.log") as server:
        candidates = [
            {"item_id": "a", "features": {"A": 0.9}, "price": 2.5, "stock": 7, "fresh": True},
            {"item_id": "b", "features": {"A": 0.1}},
        ]
        answer = server.post("/ltr/rank", {"query_id": "q", "device": "phone", "candidates": candidates})
        event = {"request_id": answer["request_id"], "item_id": "a", "action": "won", "dwell": 1.5}
        server.post("/ltr/feedback", {"events": [event]}, expect=202)
        server.until(lambda: (extended / "audit.log").exists() and b"won" in (extended / "audit.log").read_bytes())
    reasons, tables = read(extended, extended / "audit.log")
    assert reasons == {}
    assert [row["dwell"] for row in tables["feedback-000.parquet"]] == [1.5]
    rows = {row["item_id"]: row for row in tables["labelled-000.parquet"]}
    names = ("device", "price", "stock", "fresh", "relevance")
    assert [rows["a"][name] for name in names] == ["phone", 2.5, 7, True, 3]
    assert [str(rows["b"][name]) for name in names] == ["phone", "nan", "None", "False", "0"]


def test_an_added_number_that_its_column_cannot_hold_is_quarantined(extended: Path) -> None:
    now = dt.datetime.now(dt.UTC).isoformat()
    odd = [{"stock": 1.7}, {"stock": 2**31}, {"price": 1e300}, {"device": 1}, {"fresh": "yes"}, {"stock": 7}]
    lines = [shown(time=now, lawyer=f"l{row}", **fields) for row, fields in enumerate(odd)]
    lines += [answered(time=now, dwell="long"), answered(time=now, dwell=1e300)]
    log = extended / "odd" / "audit.log"
    log.parent.mkdir()
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    reasons, tables = read(extended, log)
    assert reasons == {"impossible stock": 2, "impossible price": 1, "impossible dwell": 1, "wrong type": 3}
    assert [row["stock"] for row in tables["impressions-000.parquet"]] == [7]
    assert FEATURES.keys() <= {name.removeprefix("feature_") for name in tables["impressions-000.parquet"][0]}
