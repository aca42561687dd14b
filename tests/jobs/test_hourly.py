"""An hourly refresh: what it publishes, what it keeps and why, and that it is in nobody's way."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ltr_pipeline.errors import SettingsError, SourceError
from ltr_pipeline.events.chain import Chain
from ltr_pipeline.events.landing import LEASE
from ltr_pipeline.events.partitions import folder_of, landed
from ltr_pipeline.jobs import chain, hourly, nightly
from ltr_pipeline.monitoring.records import NightRecord, RefreshRecord
from ltr_pipeline.monitoring.store import History
from ltr_pipeline.ranker import refresh as ranker
from ltr_pipeline.report.artefacts import DECISION, EVIDENCE, INPUTS, OUTCOME
from ltr_pipeline.report.nights import nights, report_of
from ltr_pipeline.runs import extract as landings
from ltr_pipeline.runs.forget import forget_in_runs
from ltr_pipeline.runs.names import REFRESHES
from ltr_pipeline.runs.run import Run
from ltr_pipeline.schedule import night_of
from ltr_pipeline.settings import Settings
from ltr_pipeline.storage.lease import Terms, held
from ltr_pipeline.versions.weights import decode
from support.hourhangs import hanging
from support.hours import BY, HOUR, LATE, NEXT, REFRESH, a_day_after_a_night, copied, refresh
from support.small import DAY, LENIENT, NIGHT, RUN, UNDECIDED, WHO, moment, small_settings
from support.webhook import Server, running


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hourly")
    a_day_after_a_night(folder)
    return folder


@pytest.fixture
def settings(template: Path, tmp_path: Path) -> Settings:
    return copied(template, tmp_path)


@pytest.fixture(scope="module")
def refreshed(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which an hour was refreshed."""
    folder = tmp_path_factory.mktemp("refreshed")
    assert refresh(copied(template, folder))["moved"]
    return folder


@pytest.fixture
def after(template: Path, refreshed: Path, tmp_path: Path) -> Settings:
    """Settings of a copy of that."""
    copied(refreshed, tmp_path)
    return copied_settings(template, tmp_path)


def copied_settings(template: Path, folder: Path, **fields: object) -> Settings:
    return small_settings(folder, events_path=str(template / "audit.log"), **fields)


def run_of(settings: Settings, name: str = REFRESH) -> Run:
    return Run(name, settings, REFRESHES)


def files(settings: Settings, folder: str) -> dict[str, bytes]:
    return {key: settings.data.get(key) for key in settings.data.keys(folder)}


def kept(outcome: dict[str, Any]) -> str:
    """Why it was kept."""
    assert (outcome["version"], outcome["moved"]) == (None, False)
    assert outcome["latest"] in (None, RUN)
    return str(outcome["reason"])


# ---- what is published ----------------------------------------------------------------------------------------------


def test_a_refresh_is_published_in_the_place_of_its_parent(after: Settings) -> None:
    registry = after.registry
    document = registry.load(REFRESH)
    assert registry.promoted() == REFRESH
    assert (document.parent, document.lineage["mode"], document.lineage["debiased"]) == (RUN, "refit", False)
    assert document.model.trees == registry.load(RUN).model.trees
    assert document.data.window.end == LATE
    assert document.champion["version"] == RUN
    (move,) = [move for move in registry.history() if move.version == REFRESH]
    assert (move.before, move.to, move.parent, move.who) == (RUN, REFRESH, RUN, BY)
    decision = run_of(after).read(DECISION)
    assert {"parent_delta", "champion", "fairness_gap", "latency_p95"} <= {check.name for check in decision.checks}
    assert registry.storage.exists(f"{REFRESH}/report.html")


def test_what_it_read_and_made_of_it_can_be_looked_up(after: Settings) -> None:
    run = run_of(after)
    inputs, evidence = run.read(INPUTS), run.read(EVIDENCE)
    assert (inputs.night, inputs.mode, inputs.champion) == (RUN, "refit", RUN)
    assert inputs.landings == [folder_of(night_of(NIGHT)), folder_of(LATE)]
    assert evidence.refreshed is not None
    assert evidence.refreshed.positives > ranker.FEWEST_POSITIVE
    (record,) = History(after.data).read(RefreshRecord)
    assert (record.run, record.parent, record.mode, record.verdict) == (REFRESH, RUN, "refit", "publish")
    assert (record.version, record.moved, record.latest) == (REFRESH, True, REFRESH)
    assert record.positives == evidence.refreshed.positives
    assert record.delta is not None
    assert record.fresh_delta is not None
    address, page = report_of(after, REFRESH)
    assert address.endswith(f"refreshes/{REFRESH}/report.html")
    for said in (
        "Learning-to-rank hourly refresh",
        f"an hourly refresh of {RUN}",
        "Position bias was not taken out",
        f"Published {REFRESH}",
    ):
        assert said in page.decode()


def test_the_nights_know_nothing_of_it(after: Settings) -> None:
    assert [night.run for night in nights(after)] == [RUN]
    assert [night.run for night in History(after.data).read(NightRecord)] == [RUN]
    assert report_of(after, None)[0].endswith(f"runs/{RUN}/report.html")


def test_its_tables_are_gone_when_it_has_ended(after: Settings) -> None:
    assert not [key for key in after.data.keys(REFRESHES) if key.endswith(".parquet")]
    assert after.data.keys("leases") == ["leases/landing/000000004.json"]


def test_to_repeat_it_changes_nothing(after: Settings) -> None:
    before, versions = files(after, f"{REFRESHES}/{REFRESH}"), files(after, "monitoring")
    ledger = after.registry.history()
    again = refresh(after)
    assert (again["version"], again["moved"], again["latest"]) == (REFRESH, True, REFRESH)
    assert after.registry.history() == ledger
    same = ("ltr_weights.json", "inputs.json", "dataset.json", "fresh.json", "model.txt", "outcome.json")
    now = files(after, f"{REFRESHES}/{REFRESH}")
    assert now.keys() == before.keys()
    for name in same:
        assert now[f"{REFRESHES}/{REFRESH}/{name}"] == before[f"{REFRESHES}/{REFRESH}/{name}"]
    assert files(after, "monitoring") == versions


def test_an_hour_later_the_parent_is_refreshed_and_not_the_refresh(after: Settings) -> None:
    later = refresh(after, LATE + HOUR)
    assert later["reason"] == f"latest moved from {REFRESH} to 20250716_0035"
    document = after.registry.load("20250716_0035")
    assert (document.parent, document.champion["version"]) == (RUN, RUN)


@pytest.mark.long
def test_trained_anew_it_has_other_trees(template: Path, tmp_path: Path) -> None:
    settings = copied(template, tmp_path, hourly_mode="full")
    assert refresh(settings)["mode"] == "full"
    document = settings.registry.load(REFRESH)
    assert (document.parent, document.lineage["mode"], document.lineage["debiased"]) == (RUN, "full", True)
    assert document.data.counts["train_rankings"] > settings.registry.load(RUN).data.counts["train_rankings"]
    said = report_of(settings, REFRESH)[1].decode()
    assert f"an hourly refresh of {RUN}: trained anew" in said
    assert "Position bias was not taken out" not in said


# ---- the night after ------------------------------------------------------------------------------------------------


def test_the_next_night_is_compared_with_the_parent_and_takes_its_place(after: Settings) -> None:
    judged = chain.judge({"moment": moment(NEXT)}, LENIENT, after)
    inputs = Run("20250716_0215", after).read(INPUTS)
    assert inputs.champion == RUN
    assert inputs.landings == [folder_of(LATE), folder_of(night_of(NEXT))]
    assert chain.finish(judged, WHO, after)["reason"] == f"latest moved from {REFRESH} to 20250716_0215"


def test_where_the_next_night_is_kept_the_parent_is_back(after: Settings) -> None:
    judged = chain.judge({"moment": moment(NEXT)}, LENIENT | {"ltr_ndcg_min": "0.99"}, after)
    outcome = chain.finish(judged, WHO, after)
    assert outcome["reason"].startswith(f"latest moved back from {REFRESH} to {RUN}")
    assert after.registry.promoted() == RUN


def test_a_refresh_that_is_kept_leaves_the_one_before(after: Settings) -> None:
    outcome = refresh(after, LATE + HOUR, LENIENT | {"ltr_ndcg_min": "0.99"})
    assert outcome["reason"].startswith(f"{REFRESH} stays in use: ")
    assert after.registry.promoted() == REFRESH


# ---- what is kept ---------------------------------------------------------------------------------------------------


def test_a_night_must_have_published(template: Path, tmp_path: Path) -> None:
    settings = copied_settings(template, tmp_path)
    assert kept(refresh(settings)) == "there is nothing to refresh: no night has published a version yet"
    assert landed(settings.data) == []


def test_a_pinned_version_is_not_refreshed(settings: Settings) -> None:
    settings.registry.pin(who="ann", why="hold")
    assert f"latest is pinned to {RUN}" in kept(refresh(settings))


def test_few_answers_are_nothing_to_learn_from(settings: Settings) -> None:
    landings.land(settings, LATE, LATE - 12 * DAY, last_try=True)
    why = kept(refresh(settings, LATE + DAY))  # nothing has arrived for a day
    assert "0 positive answers to the rankings that were answered lately, and 200 is the least" in why
    (record,) = History(settings.data).read(RefreshRecord)
    assert (record.verdict, record.parent, record.reason) == ("none", RUN, why)
    assert record.impressions == 0


def test_who_lands_is_waited_for_and_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hourly, "TERMS", Terms(patience=0.1))
    with held(settings.data, LEASE, "the run 20250716_0215"):
        assert "the run 20250716_0215 (process " in kept(refresh(settings))
    assert refresh(settings)["moved"]


def test_a_later_run_has_landed_what_it_would(settings: Settings) -> None:
    landings.land(settings, LATE + HOUR, LATE - 12 * DAY, last_try=True)
    assert "a later run has landed what arrived" in kept(refresh(settings))


def test_a_refresh_that_had_landed_goes_on_though_the_night_has_landed_since(settings: Settings) -> None:
    landings.land(settings, LATE, LATE - 12 * DAY, last_try=True)
    landings.land(settings, LATE + HOUR, LATE - 12 * DAY, last_try=True)
    assert refresh(settings)["moved"]


def test_without_the_tables_of_the_night_nothing_is_judged(settings: Settings) -> None:
    for key in settings.data.keys(f"runs/{RUN}/dataset"):
        settings.data.delete(key)
    assert f"the tables of the night {RUN} are not there any more" in kept(refresh(settings))


def test_it_never_asks_a_person(settings: Settings) -> None:
    outcome = refresh(settings, variables=UNDECIDED | {"ltr_regression_max": "0"})
    decision = run_of(settings).read(DECISION)
    assert decision.verdict in ("keep", "publish")
    assert decision.policy.on_inconclusive == "keep"
    assert "person" not in outcome["reason"]


def test_a_dry_run_publishes_nothing(settings: Settings) -> None:
    assert "dry run" in kept(refresh(settings, dry_run=True))
    assert refresh(settings)["moved"]


@pytest.mark.parametrize("asked", [{"moment": "soon"}, {"window": 3}])
def test_a_wrong_request_is_refused(settings: Settings, asked: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        refresh(settings, **asked)


def test_an_unreadable_log_is_a_fault(settings: Settings, tmp_path: Path) -> None:
    gone = copied_settings(tmp_path / "nowhere", tmp_path)
    with pytest.raises(SourceError, match="LTR_EVENTS_PATH"):
        refresh(gone)
    assert gone.registry.promoted() == RUN


# ---- what is told ---------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_channels_hear_what_is_wrong_with_the_events_and_that_once(template: Path, tmp_path: Path) -> None:
    copied(template, tmp_path)
    log = tmp_path / "audit.log"
    log.write_bytes((template / "audit.log").read_bytes())
    with running(Server()) as webhook:
        url = f"json://127.0.0.1:{webhook.port}"
        calm = copied_settings(template, tmp_path, notify_urls=url)
        assert refresh(calm)["moved"]
        assert webhook.got == []
        strict = LENIENT | {"ltr_quarantined_share_max": "0"}
        assert "quarantined" in refresh(calm, LATE + HOUR, strict)["reason"]
        assert len(webhook.got) == 1
        assert webhook.got[0]["title"] == "LTR run 20250716_0035 not published"
        assert "quarantined" in refresh(calm, LATE + HOUR + HOUR, strict)["reason"]
        assert len(webhook.got) == 1


# ---- housekeeping ---------------------------------------------------------------------------------------------------


def test_folders_of_refreshes_go_after_a_week_and_others_stay(after: Settings) -> None:
    after.data.put(f"{REFRESHES}/20250708_2235/report.html", b"old")
    after.data.put(f"{REFRESHES}/20250708_2335/report.html", b"a week old")
    after.data.put(f"{REFRESHES}/notes/report.html", b"not ours")
    refresh(after)
    there = {key.split("/")[1] for key in after.data.keys(REFRESHES)}
    assert there == {"20250708_2335", REFRESH, "notes"}


def test_a_person_is_forgotten_in_what_a_killed_refresh_left(after: Settings, template: Path, tmp_path: Path) -> None:
    run = run_of(after, "20250715_2235")
    table = next(key for key in after.data.keys(f"runs/{RUN}/dataset") if key.endswith(".parquet"))
    after.data.put(run.key(f"dataset/{table.rpartition('/')[2]}"), after.data.get(table))
    user = pl.read_parquet(after.data.root / table)["user_id"].drop_nulls()[0]
    assert forget_in_runs(after.data, user) >= 2
    assert after.data.keys(run.folder) == []


# ---- in nobody's way ------------------------------------------------------------------------------------------------


def night_inputs(settings: Settings) -> dict[str, Any]:
    """Return what the next night freezes, without where it landed."""
    nightly.extract_events({"moment": moment(NEXT)}, LENIENT, settings)
    found = json.loads(settings.data.get("runs/20250716_0215/inputs.json"))
    return {name: found[name] for name in ("champion", "best_recent", "landed", "trains", "because", "window_days")}


class KilledError(BaseException):
    """The process ends here."""


def killed_before(settings: Settings, patch: pytest.MonkeyPatch, write: int) -> bool:
    """Refresh, and end before a write to data or registry; whether it came to that."""
    left = write

    def counting(act: Callable[..., Any]) -> Callable[..., Any]:
        def counted(self: Any, key: str, *given: Any) -> Any:
            nonlocal left
            left -= not key.startswith("leases/")
            if left < 0:
                raise KilledError
            return act(self, key, *given)

        return counted

    with patch.context() as patched:
        for name in ("put", "create", "put_file", "point", "delete"):
            kind = type(settings.data)
            patched.setattr(kind, name, counting(getattr(kind, name)))
        try:
            refresh(settings)
        except KilledError:
            return True
    return False


@pytest.mark.long
def test_killed_before_any_write_it_is_repeated_to_the_same_end_and_the_night_is_as_ever(
    template: Path, refreshed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = copied_settings(template, refreshed)
    identity = calm.registry.load(REFRESH).identity
    undisturbed = copied(template, tmp_path / "undisturbed")
    wanted = night_inputs(undisturbed)
    for write in range(100):
        settings = copied(template, tmp_path / str(write))
        if not killed_before(settings, monkeypatch, write):
            break
        assert settings.registry.promoted() in (RUN, REFRESH)
        if write % 4 == 0:
            copied(tmp_path / str(write), tmp_path / f"{write}-night")
            left = copied_settings(template, tmp_path / f"{write}-night")
            assert night_inputs(left) == wanted
            assert list(Chain(left.data).problems()) == []
        again = refresh(settings)
        assert (again["version"], again["latest"]) == (REFRESH, REFRESH)
        assert settings.registry.load(REFRESH).identity == identity
        assert [move.version for move in settings.registry.history()] == [RUN, REFRESH]
        assert decode(settings.registry.storage.get("latest/ltr_weights.json")).version == REFRESH
        assert run_of(settings).read(OUTCOME).moved
        assert not [key for key in settings.data.keys(REFRESHES) if key.endswith(".parquet")]
    assert 15 < write < 99


def test_a_refresh_that_fails_leaves_the_night_alone(
    template: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = copied(template, tmp_path / "undisturbed")
    with monkeypatch.context() as patched:
        patched.setattr(hourly, "build_fresh", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            refresh(settings)
    assert night_inputs(settings) == night_inputs(other)
    assert settings.registry.promoted() == RUN


@pytest.mark.long
def test_a_refresh_that_is_stopped_while_it_lands_lets_the_night_go_on(
    template: Path, settings: Settings, tmp_path: Path
) -> None:
    with hanging(tmp_path, template / "audit.log", "stopped") as child:
        found = night_inputs(settings)
        assert found["landed"]["impressions"] > 0
        child.send_signal(signal.SIGCONT)
        told, _ = child.communicate(timeout=60)
    assert "has landed while the run of 20250715_2335 read the same events" in told
    assert [one.moment for one in landed(settings.data)] == [night_of(NIGHT), night_of(NEXT)]
    assert list(Chain(settings.data).problems()) == []
    assert night_inputs(settings) == found


@pytest.mark.long
def test_a_refresh_that_hangs_and_renews_for_ever_lets_the_night_go_on(
    template: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landings, "land", partial(landings.land, terms=Terms(lasts=1.0, longest=2.0)))
    with hanging(tmp_path, template / "audit.log", "asleep") as child:
        assert night_inputs(settings)["landed"]["impressions"] > 0
        assert child.poll() is None
    assert [one.moment for one in landed(settings.data)] == [night_of(NIGHT), night_of(NEXT)]


@pytest.mark.long
def test_a_night_that_overlaps_with_a_refresh_is_as_ever_and_the_refresh_waits_for_the_next(
    template: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The night publishes while the refresh is being made: of the two, it is the night that is in use."""
    build = hourly.build_fresh

    def meanwhile(*given: Any) -> Any:
        judged = chain.judge({"moment": moment(NEXT)}, LENIENT, settings)
        assert chain.finish(judged, WHO, settings)["latest"] == "20250716_0215"
        return build(*given)

    monkeypatch.setattr(hourly, "build_fresh", meanwhile)
    outcome = refresh(settings)
    assert (outcome["version"], outcome["moved"], outcome["latest"]) == (REFRESH, False, "20250716_0215")
    assert outcome["reason"] == f"it was refit from {RUN}, and 20250716_0215 is in use by now"
    assert settings.registry.promoted() == "20250716_0215"
