"""Tables for Grafana and BI: metrics of nights, drift by feature, and outcomes by day, as the history has them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from typing import Any, Final

from sqlalchemy import (
    Boolean,
    Column,
    Date,
    Float,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    delete,
    insert,
    inspect,
)

from ltr_pipeline.database.engine import Database
from ltr_pipeline.database.tables import Tables
from ltr_pipeline.monitoring.records import DriftReport, Figure, NightRecord, Outcomes, PostedMetrics, Record

__all__ = ["DRIFT_REPORTS", "MODEL_METRICS", "OUTCOMES_DAILY", "TABLES", "are_there", "replace"]

_METADATA = MetaData()

MODEL_METRICS: Final = Table(
    "model_metrics",
    _METADATA,
    Column("date", Date, nullable=False),
    Column("source", String, nullable=False),
    Column("version", String),
    Column("metric", String, nullable=False),
    Column("value", Float),
    Column("low", Float),
    Column("high", Float),
    PrimaryKeyConstraint("source", "metric"),
)
"""A metric of a judged night, or one that was posted; `source` is the run, or the moment of the post."""

DRIFT_REPORTS: Final = Table(
    "drift_reports",
    _METADATA,
    Column("date", Date, nullable=False),
    Column("subject", String, nullable=False),
    Column("reference", String, nullable=False),
    Column("status", String, nullable=False),
    Column("psi", Float),
    Column("ks", Float),
    Column("missing", Float),
    Column("reason", Text, nullable=False),
    PrimaryKeyConstraint("date", "subject", "reference"),
)
"""A feature, or another measure, of a day beside one of its references."""

OUTCOMES_DAILY: Final = Table(
    "outcomes_daily",
    _METADATA,
    Column("date", Date, nullable=False),
    Column("version", String, nullable=False),
    Column("age_hours", Float, nullable=False),
    Column("matured", Boolean, nullable=False),
    Column("lists", Integer, nullable=False),
    Column("fallbacks", Integer, nullable=False),
    *(
        Column(f"{name}{end}", Float)
        for name in ("ndcg_at_5", "hit_at_3", "conversion", "satisfaction", "promised")
        for end in ("", "_low", "_high")
    ),
    Column("status", String, nullable=False),
    Column("reason", Text, nullable=False),
    PrimaryKeyConstraint("date", "version", "age_hours"),
)
"""What people did with the lists that a version showed on a day."""

TABLES: Final = Tables(name="monitoring", metadata=_METADATA)


def are_there(database: Database) -> bool:
    """Tell whether the tables have been made."""
    with database.begin(write=False) as connection:
        return inspect(connection).has_table(MODEL_METRICS.name)


def replace(database: Database, records: Iterable[Record], since: dt.date, before: dt.date) -> int:
    """Write all records of the days from `since` on in place of what the tables have of them; return the rows written.

    Parameters
    ----------
    before
        Rows of days before it are removed.
    """
    rows: dict[str, list[dict[str, Any]]] = {table.name: [] for table in _METADATA.sorted_tables}
    for record in records:
        for table, found in _rows(record):
            rows[table.name] += found
    with database.begin() as connection:
        for table in _METADATA.sorted_tables:
            connection.execute(delete(table).where((table.c.date >= since) | (table.c.date < before)))
            if rows[table.name]:
                connection.execute(insert(table), rows[table.name])
    return sum(map(len, rows.values()))


def _rows(record: Record) -> Iterator[tuple[Table, list[dict[str, Any]]]]:
    match record:
        case NightRecord():
            yield MODEL_METRICS, list(_of_night(record))
        case PostedMetrics():
            about = {"date": record.date, "source": record.at.isoformat(), "version": None, "low": None, "high": None}
            yield MODEL_METRICS, [about | {"metric": name, "value": value} for name, value in record.metrics.items()]
        case DriftReport():
            yield DRIFT_REPORTS, list(_of_drift(record))
        case Outcomes():
            yield OUTCOMES_DAILY, [_of_outcomes(record)]
        case _:
            return


def _of_night(night: NightRecord) -> Iterator[dict[str, Any]]:
    about = {"date": night.date, "source": night.run, "version": night.version}
    figures = {
        "ndcg_at_5": night.ndcg_at_5,
        "champion_ndcg_at_5": night.champion_ndcg_at_5,
        "delta_ndcg_at_5": night.delta,
    }
    for name, figure in figures.items():
        if figure is not None:
            yield about | {"metric": name, "value": figure.value, "low": figure.low, "high": figure.high}
    for name, value in night.metrics.items():
        if name not in figures:
            yield about | {"metric": name, "value": value, "low": None, "high": None}


def _of_drift(report: DriftReport) -> Iterator[dict[str, Any]]:
    for reference in report.references:
        for feature in report.features:
            yield {
                "date": report.date,
                "subject": feature.name,
                "reference": reference.name,
                "status": feature.status,
                "psi": feature.psi.get(reference.name),
                "ks": feature.ks.get(reference.name),
                "missing": feature.missing,
                "reason": feature.reason,
            }
        for measure in report.measures:
            yield {
                "date": report.date,
                "subject": f"measure:{measure.name}",
                "reference": reference.name,
                "status": measure.status,
                "psi": measure.distance.get(reference.name),
                "ks": None,
                "missing": None,
                "reason": measure.reason,
            }


def _of_outcomes(found: Outcomes) -> dict[str, Any]:
    names = ("date", "version", "age_hours", "matured", "lists", "fallbacks", "status", "reason")
    row: dict[str, Any] = {name: getattr(found, name) for name in names}
    for name in ("ndcg_at_5", "hit_at_3", "conversion", "satisfaction", "promised"):
        figure: Figure | None = getattr(found, name)
        row |= {
            name: figure and figure.value,
            f"{name}_low": figure and figure.low,
            f"{name}_high": figure and figure.high,
        }
    return row
