"""``ltr refresh``: an hour without Airflow."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ltr_pipeline.cli.commands import app
from ltr_pipeline.cli.main import main
from support.hours import a_day_after_a_night
from support.small import LENIENT, RUN, small_settings


def said(output: str) -> str:
    """What was printed, however it was wrapped."""
    return " ".join(output.split())


def test_an_hour_is_refreshed_and_where_it_is_kept_it_is_said_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a_day_after_a_night(tmp_path)
    settings = small_settings(tmp_path)
    for name, place in (("EVENTS_PATH", "audit.log"), ("DATA_URI", "data"), ("REGISTRY_URI", "registry")):
        monkeypatch.setenv(f"LTR_{name}", str(tmp_path / place))
    monkeypatch.setenv("LTR_WINDOW_DAYS", "12")
    monkeypatch.setenv("AIRFLOW_VAR_LTR_FAIRNESS_MAX", LENIENT["ltr_fairness_max"])
    settings.registry.pin(who="ann", why="hold")
    kept = CliRunner().invoke(app, ["refresh"])
    assert kept.exit_code == 0, kept.output
    assert f"{RUN} stays in use: there is nothing to refresh: latest is pinned to {RUN}" in said(kept.output)
    settings.registry.unpin(who="ann", why="go on")
    given = [f"--variable={name}={value}" for name, value in LENIENT.items() if name != "ltr_fairness_max"]
    done = CliRunner().invoke(app, ["refresh", *given])
    assert done.exit_code == 0, done.output
    newest = settings.registry.versions()[0]
    assert newest.parent == RUN
    assert "Verdict: publish" in done.output
    assert f"Refresh {newest.version}: latest moved from {RUN} to {newest.version}" in said(done.output)
    assert f"refreshes/{newest.version}/report.html" in done.output.replace("\n", "")
    monkeypatch.setattr("sys.argv", ["ltr", "refresh", "--variable", "ltr_ndcg=1"])
    with pytest.raises(SystemExit):
        main()
    assert "no such Variable" in capsys.readouterr().err
