"""Records of the history, made by hand: nights, days of outcomes, and years of both."""

from __future__ import annotations

import datetime as dt
from typing import Any

from ltr_pipeline.monitoring.records import Figure, NightRecord, Outcomes

__all__ = ["outcome", "trained"]

DAY = dt.timedelta(days=1)


def trained(date: dt.date, *, passed: bool = True, **fields: Any) -> NightRecord:
    """A night that trained; what passed the gate is in use afterwards."""
    run = f"{date:%Y%m%d}_0215"
    version = run if passed else None
    verdict = "publish" if passed else "keep"
    known = {"run": run, "date": date, "verdict": verdict, "version": version, "moved": passed, "latest": version}
    return NightRecord(**(known | fields))


def outcome(date: dt.date, version: str, status: str = "fine", **fields: Any) -> Outcomes:
    """A matured day of a version."""
    figure = Figure(value=0.5 if status == "fell" else 0.7, low=0.4, high=0.75, n=300)
    known = {"age_hours": 72.0, "matured": True, "lists": 400, "ndcg_at_5": figure, "status": status}
    return Outcomes(date=date, version=version, **(known | fields))
