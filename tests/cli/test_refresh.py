"""``ltr refresh``: an hour without Airflow."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from types import SimpleNamespace

import pytest

from ltr_pipeline.cli import nightly
from support.commands import ltr
from support.hours import LATE, REFRESH, a_day_after_a_night
from support.small import LENIENT, RUN, small_settings


def test_an_hour_is_refreshed_and_where_it_is_kept_it_is_said_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_day_after_a_night(tmp_path)
    settings = small_settings(tmp_path)
    for name, place in (("EVENTS_PATH", "audit.log"), ("DATA_URI", "data"), ("REGISTRY_URI", "registry")):
        monkeypatch.setenv(f"LTR_{name}", str(tmp_path / place))
    monkeypatch.setenv("LTR_WINDOW_DAYS", "12")
    monkeypatch.setenv("AIRFLOW_VAR_LTR_FAIRNESS_MAX", LENIENT["ltr_fairness_max"])
    clock = SimpleNamespace(now=lambda _: LATE)
    monkeypatch.setattr(nightly, "dt", SimpleNamespace(datetime=clock, UTC=dt.UTC))
    settings.registry.pin(who="ann", why="hold")
    kept = ltr("refresh")
    assert kept.code == 0
    assert f"{RUN} stays in use: there is nothing to refresh: latest is pinned to {RUN}" in " ".join(kept.out.split())
    settings.registry.unpin(who="ann", why="go on")
    done = ltr("refresh", *(f"--variable={name}={value}" for name, value in LENIENT.items() if "fair" not in name))
    assert done.code == 0
    assert settings.registry.load(REFRESH).parent == RUN
    assert "Verdict: publish" in done.out
    assert f"Refresh {REFRESH}: latest moved from {RUN} to {REFRESH}" in " ".join(done.out.split())
    assert f"refreshes/{REFRESH}/report.html" in done.out.replace("\n", "")
    wrong = ltr("refresh", "--variable", "ltr_ndcg=1")
    assert wrong.code
    assert "no such Variable" in wrong.err
