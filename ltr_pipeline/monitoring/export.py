"""The history as three files, under the names that users of the system before this one know."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import polars as pl

from ltr_pipeline.errors import StorageError
from ltr_pipeline.monitoring.records import DriftReport, NightRecord, Outcomes, PostedMetrics
from ltr_pipeline.monitoring.store import History
from ltr_pipeline.schema import (
    AVAILABLE,
    ITEM_ID,
    POLICY,
    POSITION,
    PROTECTED_GROUP,
    QUERY_ID,
    RANKING_ID,
    TIME,
    USER_ID,
)

__all__ = ["DRIFT_REPORTS", "MODEL_METRICS", "PREDICTIONS_LOG", "export"]

MODEL_METRICS: Final = "model_metrics.json"
DRIFT_REPORTS: Final = "drift_reports.json"
PREDICTIONS_LOG: Final = "predictions_log.csv"

COLUMNS: Final = (TIME, QUERY_ID, RANKING_ID, USER_ID, ITEM_ID, POSITION, POLICY, PROTECTED_GROUP, AVAILABLE)
"""Columns of the log of predictions: what was shown, to whom, where, and by what."""

NAMES: Final[Mapping[str, str]] = {TIME: "timestamp", POLICY: "model_version"}
"""Columns that have other names there."""


def export(folder: Path, history: History, shown: Iterable[pl.DataFrame]) -> list[Path]:
    """Write the three files into a folder, each whole or not at all, and return their paths.

    Parameters
    ----------
    shown
        Tables of landed impressions, in the order in which they are to be written; each has the columns of `COLUMNS`.

    Raises
    ------
    StorageError
        A file cannot be written, or the history cannot be read.
    """
    metrics = msgspec.json.format(msgspec.json.encode(_metrics(history)))
    reports = msgspec.json.format(msgspec.json.encode({"reports": history.read(DriftReport)}))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / name for name in (MODEL_METRICS, PREDICTIONS_LOG, DRIFT_REPORTS)]
        _replace(paths[0], lambda path: path.write_bytes(metrics))
        _replace(paths[1], lambda path: _write_shown(path, shown))
        _replace(paths[2], lambda path: path.write_bytes(reports))
    except OSError as error:
        raise StorageError(
            f"{folder}: {error.strerror or error}; check the folder, its permissions and space"
        ) from error
    return paths


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside the one it is to replace, and then put it in its place."""
    new = path.with_name(f"{path.name}.new")
    write(new)
    new.replace(path)


def _metrics(history: History) -> dict[str, Any]:
    """Return every night, every post and every day of outcomes; `current` is the newest night."""
    nights = history.read(NightRecord)
    return {
        "current": nights[-1] if nights else None,
        "history": nights,
        "outcomes": history.read(Outcomes),
        "posted": history.read(PostedMetrics),
    }


def _write_shown(path: Path, shown: Iterable[pl.DataFrame]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerow([NAMES.get(name, name) for name in COLUMNS])
        for table in shown:
            file.write(_without_formulas(table.select(COLUMNS)).write_csv(include_header=False))


_FORMULA: Final = r"^([=+\-@\t\r])"
"""Beginnings of a text that a spreadsheet would run: ids come from outside."""


def _without_formulas(table: pl.DataFrame) -> pl.DataFrame:
    texts = [name for name, kind in table.schema.items() if kind == pl.String]
    return table.with_columns(
        pl.col(texts).str.replace(_FORMULA, "'$1"), pl.col(TIME).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    )
