"""A file of rows, as a spreadsheet saves it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltr_pipeline.batch.proposed import Row, read_rows
from ltr_pipeline.errors import ScoringError


@pytest.mark.parametrize(
    "text",
    [
        "query_id,item_id\n1,a\n2,b\n",
        "item_id,rank,query_id\na,1,1\nb,2,2\na,1,1\n",
        "\ufeffquery_id;rank;item_id\r\n1;1;a\r\n2;1;b\r\n",
        'query_id\titem_id\n"1"\ta\n2\tb',
    ],
)
def test_rows_are_read_whatever_a_spreadsheet_puts_between_cells(tmp_path: Path, text: str) -> None:
    (tmp_path / "rows.csv").write_text(text, encoding="utf-8", newline="")
    assert read_rows(tmp_path / "rows.csv") == [Row("1", "a"), Row("2", "b")]


def test_cells_may_hold_what_separates_them(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('query_id,item_id\n"a,""b""","one\ntwo"\n')
    assert read_rows(tmp_path / "rows.csv") == [Row('a,"b"', "one\ntwo")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"", "has no column query_id: its first line has to name query_id and item_id"),
        (b"query,item_id\n1,a\n", "has no column query_id"),
        (b"query_ids,item_id\n1,a\n", "did you mean query_ids"),
        (b"query_id,item_id\n", "has no rows below its first line"),
    ],
)
def test_a_file_that_is_wrong_is_told(tmp_path: Path, text: bytes | None, says: str) -> None:
    if text is not None:
        (tmp_path / "rows.csv").write_bytes(text)
    with pytest.raises(ScoringError, match=says):
        read_rows(tmp_path / "rows.csv")
