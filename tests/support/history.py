"""A history to look at: nights, drift, outcomes, batches and segments of some weeks, with all that can happen in them.

The last day is the newest, `DAY`. Counted from it back: 18 days an event, 12 a night that was rejected, 9 and 8 a
feature that drifts, 6 a rollback by a person, whose version users liked less.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from ltr_pipeline.board.facts import Reader
from ltr_pipeline.monitoring.records import (
    Alert,
    BatchRun,
    Distribution,
    DomainDrift,
    DriftReport,
    FeatureDrift,
    Figure,
    Forecast,
    MeasureDrift,
    NightRecord,
    Outcomes,
    PostedMetrics,
    Reference,
    SegmentsTrained,
)
from ltr_pipeline.monitoring.store import History
from ltr_pipeline.schedule import night_of
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.versions.ledger import Act, Kind, Ledger, Move
from ltr_pipeline.versions.registry import Registry


class Quick(LocalStorage):
    """The local disk without waiting for it: records of a year are written in seconds."""

    def put(self, key: str, data: bytes) -> None:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    create = put


DAY = dt.date(2025, 7, 15)
NOW = dt.datetime(2025, 7, 15, 9, tzinfo=dt.UTC)
FEATURES = ("A", "S", "T", "G", "Q", "U", "R", "C")
EVENT, REJECTED, DRIFTED, ROLLED_BACK = 18, 12, (9, 8), 6
PRICE_WAR = "Price war"
MOVED = "S"
"""The feature that drifts."""

MOVES = 60
"""Newest days whose moves are in the ledger, which looks at all it has before each."""


def write_history(
    data: Storage,
    ledger: Ledger | None = None,
    days: int = 31,
    *,
    features: Sequence[str] = FEATURES,
    day: dt.date = DAY,
) -> None:
    """Write a record of every kind for `days` days until `day`, and what the ledger has to tell of them."""
    history, luck = History(data), random.Random(7)
    former: str | None = None
    for ago in reversed(range(days)):
        date = day - dt.timedelta(days=ago)
        night = _night(date, ago, former, luck)
        history.write(night, night_of(date))
        data.put(f"runs/{night.run}/report.html", _report(night.run))
        history.write(_drift(date, ago, features, luck), night_of(date) + dt.timedelta(hours=5))
        for outcomes in _outcomes(date, ago, night.latest or "legacy", luck):
            history.write(outcomes, night_of(date) + dt.timedelta(hours=5))
        former = _move(ledger, night, ago, former) if ledger and ago < MOVES else night.latest
        history.write(_batch(date, ago, night.latest or "legacy", luck), night_of(date) + dt.timedelta(hours=3))
        if ago % 14 == 0:
            history.write(_segments(date, ago, luck), night_of(date) + dt.timedelta(hours=4))
    at = night_of(day) + dt.timedelta(hours=7)
    history.write(PostedMetrics(date=day, at=at, metrics={"accuracy": 0.95, "precision": 0.82}), at)


def reader_of(folder: Path) -> Reader:
    """Reads data and registry of a folder."""
    return Reader(Quick(folder / "data"), Registry(Quick(folder / "registry")))


def name_of(date: dt.date) -> str:
    return f"{date:%Y%m%d}_0215"


def _night(date: dt.date, ago: int, former: str | None, luck: random.Random) -> NightRecord:
    kept = ago == REJECTED
    value = 0.615 if kept else 0.712 + 0.012 * luck.uniform(-1, 1)
    champion = 0.708 + 0.008 * luck.uniform(-1, 1)
    run = name_of(date)
    pinned = ago in range(ROLLED_BACK - 2, ROLLED_BACK)
    latest = former if kept or pinned else run
    return NightRecord(
        run=run,
        date=date,
        verdict="keep" if kept else "publish",
        version=None if kept else run,
        moved=not kept and not pinned,
        latest=latest,
        champion=former,
        reason="nDCG@5 0.615 is below 0.650"
        if kept
        else f"latest is pinned to {former}; after `ltr unpin` the next publish moves it"
        if pinned
        else f"latest moved from {former or 'nothing'} to {run}",
        ndcg_at_5=Figure(value=value, low=value - 0.021, high=value + 0.021, n=1204),
        champion_ndcg_at_5=Figure(value=champion, low=champion - 0.021, high=champion + 0.021, n=1204)
        if former
        else None,
        delta=Figure(value=value - champion, low=value - champion - 0.009, high=value - champion + 0.009, n=1204),
        checks={"ndcg_at_5": "fail" if kept else "pass", "latency_p95": "pass", "fairness_gap": "pass"},
        limits={"ndcg_at_5": 0.65, "latency_p95": 15.0, "fairness_gap": 0.05},
        metrics={"latency_p95_ms": 4.2 + luck.random(), "fairness_gap": 0.021},
        impressions=24_000 + luck.randrange(2000),
        feedback=3_100,
        quarantined=2,
        by_hand=ago == 20,
    )


def _drift(date: dt.date, ago: int, features: Sequence[str], luck: random.Random) -> DriftReport:
    drifted = ago in DRIFTED
    if ago == 30:
        return DriftReport(
            date=date, status="not_evaluable", reason="the reference has 240 rows; 500 are needed", rows=240
        )
    references = [
        Reference(
            name="trailing",
            first=date - dt.timedelta(28),
            last=date - dt.timedelta(1),
            days=28,
            rows=10_000,
            rankings=1_000,
        ),
        Reference(
            name="weekday", first=date - dt.timedelta(28), last=date - dt.timedelta(7), days=4, rows=9_600, rankings=960
        ),
    ]
    alert = Alert(
        kind="drift",
        subject=MOVED,
        what=f"{MOVED} differs from both references: PSI 0.46 and 0.44",
        remedy="Look at what fills it; train again when the change is real.",
    )
    return DriftReport(
        date=date,
        status="alert" if drifted else "fine",
        rows=2_000,
        rankings=200,
        references=references,
        features=[_feature(name, drifted and name == MOVED, luck) for name in features],
        domain=[
            DomainDrift(
                reference=name,
                auc=Figure(value=auc, low=auc - 0.02, high=auc + 0.02, n=200),
                leading={MOVED: 0.71, "A": 0.12},
            )
            for name, auc in (("trailing", 0.68 if drifted else 0.505), ("weekday", 0.67 if drifted else 0.50))
        ],
        measures=[
            MeasureDrift(
                name="labels",
                status="fine",
                current=0.131,
                reference={"trailing": 0.129, "weekday": 0.130},
                distance={"trailing": 0.001, "weekday": 0.002},
            ),
            MeasureDrift(
                name="unavailable_share",
                status="fine",
                current=0.04,
                reference={"trailing": 0.041, "weekday": 0.04},
                distance={"trailing": -0.001, "weekday": 0.0},
            ),
            MeasureDrift(name="scores", status="not_evaluable", reason="no scores were logged"),
        ],
        alerts=[alert] if drifted else [],
        events=[PRICE_WAR] if ago == EVENT else [],
    )


def _feature(name: str, drifted: bool, luck: random.Random) -> FeatureDrift:
    reference = [0.05, 0.15, 0.3, 0.3, 0.15, 0.05, 0.0]
    moved = [0.25, 0.35, 0.2, 0.1, 0.05, 0.02, 0.03]
    noise = abs(luck.gauss(0, 0.01))
    return FeatureDrift(
        name=name,
        status="alert" if drifted else "fine",
        importance=0.125,
        psi={"trailing": 0.46, "weekday": 0.44} if drifted else {"trailing": noise, "weekday": noise * 1.2},
        ks={"trailing": 0.31, "weekday": 0.30} if drifted else {"trailing": 0.02, "weekday": 0.022},
        missing=0.03 if drifted else 0.0,
        reference_missing=0.0,
        distribution=Distribution(
            edges=[0.1, 0.3, 0.5, 0.7, 0.9], reference=reference, current=moved if drifted else reference
        ),
    )


def _outcomes(date: dt.date, ago: int, version: str, luck: random.Random) -> list[Outcomes]:
    fell = ago == ROLLED_BACK
    value = (0.52 if fell else 0.70) + 0.015 * luck.uniform(-1, 1)
    lists = 820 + luck.randrange(60)
    matured = Outcomes(
        date=date,
        version=version,
        age_hours=72,
        matured=True,
        lists=lists,
        fallbacks=1 if ago % 9 == 0 else 0,
        ndcg_at_5=Figure(value=value, low=value - 0.03, high=value + 0.03, n=lists),
        hit_at_3=Figure(value=value + 0.08, low=value + 0.05, high=value + 0.11, n=lists),
        conversion=Figure(value=0.061, low=0.049, high=0.073, n=lists),
        satisfaction=Figure(value=4.2, low=4.0, high=4.4, n=60) if ago % 3 else None,
        promised=Figure(value=0.712, low=0.69, high=0.733, n=1204),
        forecast=Forecast(rows=1_000, expected=64.2, happened=61, error=0.052) if ago % 2 else None,
        status="fell" if fell else "fine",
        alerts=[
            Alert(
                kind="outcome",
                subject=version,
                what=f"nDCG@5 of {version} was 0.52, 27 % below the 0.71 promised",
                remedy=f'Roll back: `ltr rollback --reason "users like {version} less"`.',
            )
        ]
        if fell
        else [],
    )
    early = replace(matured, age_hours=24, matured=False, status="fine", alerts=[], forecast=None)
    if ago == 0:
        return [early]
    return [matured, early]


def _batch(date: dt.date, ago: int, version: str, luck: random.Random) -> BatchRun:
    failed = ago == 4
    return BatchRun(
        date=date,
        job="lead_score",
        run_id=100 - ago,
        version=version,
        mode="missing",
        state="failed" if failed else "done",
        rows=0 if failed else 900 + luck.randrange(300),
        rejected=3,
        batches=10,
        seconds=2.8 + luck.random(),
        reason="the database refused the connection" if failed else "",
    )


def _segments(date: dt.date, ago: int, luck: random.Random) -> SegmentsTrained:
    return SegmentsTrained(
        date=date,
        level="user",
        version=ago // 14 + 1,
        in_use=ago != 0,
        entities=12_400,
        agreement=0.76 if ago == 0 else 0.97,
        silhouette=0.41,
        sizes={"dormant": 5_200, "casual": 4_100, "regular": 2_000, "keen": 800, "devoted": 300},
        said="agrees with the former by 0.76, below 0.8: the former stays in use" if ago == 0 else "",
    )


def _move(ledger: Ledger, night: NightRecord, ago: int, former: str | None) -> str | None:
    """Enter what a night did to `latest`, and what people did the day after; return where it is then."""
    at = night_of(night.date) + dt.timedelta(minutes=9)
    if night.version:
        to = night.version if night.moved else former or night.version
        enter(ledger, "publish", night.version, to, pin=ago in range(ROLLED_BACK - 2, ROLLED_BACK), at=at)
    if ago == ROLLED_BACK and former and night.version:
        later = at + dt.timedelta(hours=9)
        enter(ledger, "rollback", former, former, who="ana", why="users like it less", pin=True, at=later)
        return former
    if ago == ROLLED_BACK - 2 and former:
        later = at + dt.timedelta(hours=9)
        enter(ledger, "unpin", former, former, who="ana", why="the cause is mended", at=later)
    return night.latest


def enter(
    ledger: Ledger,
    move: Kind,
    version: str,
    to: str,
    *,
    who: str = "airflow/nightly",
    why: str = "passed the gate",
    pin: bool = False,
    at: dt.datetime = NOW,
    pruned: Sequence[str] = (),
    parent: str | None = None,
) -> Move:
    """Add an entry to the ledger as it is, whatever versions there are."""
    act = Act.of(who, why, None)

    def decide(head: Move | None) -> Move:
        return replace(act.entry(head, move, version, to=to, pin=pin, pruned=tuple(pruned), parent=parent), when=at)

    return ledger.append(decide)


def _report(run: str) -> bytes:
    return f"<!DOCTYPE html><html lang=en><title>Run {run}</title><h1>Published {run}</h1></html>".encode()
