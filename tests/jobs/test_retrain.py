"""Real nights under the policy: the first trains, the next judge the version in use, one after a fall trains."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from ltr_pipeline.errors import SettingsError, StorageError
from ltr_pipeline.jobs import nightly
from ltr_pipeline.jobs.chain import finish, judge
from ltr_pipeline.monitoring.records import NightRecord, Outcomes
from ltr_pipeline.monitoring.store import History
from ltr_pipeline.report import notify, outcome
from ltr_pipeline.report.artefacts import DECISION, EVIDENCE, INPUTS, OUTCOME, REPORT, TRAINED
from ltr_pipeline.report.history import night_record, refill
from ltr_pipeline.report.message import Message
from ltr_pipeline.report.nights import nights
from ltr_pipeline.runs.names import run_name
from ltr_pipeline.runs.run import Run
from ltr_pipeline.schedule import night_of
from ltr_pipeline.settings import Settings
from support.documents import document
from support.small import DAY, LENIENT, NIGHT, RUN, WHO, simulate, small_settings
from support.watching import outcome as outcome_of

POLICY = LENIENT | {"ltr_retrain": "policy", "ltr_retrain_cooldown_days": "2"}
SECOND, THIRD, LAST = (NIGHT + ahead * DAY for ahead in (1, 2, 3))


def run_night(settings: Settings, date: dt.date, variables: dict[str, str] = POLICY, **asked: Any) -> Run:
    """Judge a night and end it."""
    judged = judge({"moment": night_of(date).isoformat(), **asked}, variables, settings)
    finish(judged, WHO, settings)
    return Run(judged["run"], settings)


def history(settings: Settings) -> list[NightRecord]:
    return History(settings.data).read(NightRecord)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four nights: the first trains, on two none is due, before the last the outcomes fell."""
    folder = tmp_path_factory.mktemp("policy")
    simulate(folder)
    settings = small_settings(folder)
    run_night(settings, NIGHT)
    for date in (SECOND, THIRD, LAST):
        simulate(folder, date - DAY, 1)
        if date == LAST:
            for day in (SECOND, THIRD):
                History(settings.data).write(outcome_of(day - DAY, RUN, "fell"))
        run_night(settings, date)
        if date == SECOND:
            run_night(settings, date, LENIENT)  # repeated, nightly by now
    return folder


@pytest.fixture
def settings(project: Path) -> Settings:
    return small_settings(project)


def test_only_the_nights_that_are_due_train(settings: Settings) -> None:
    first, second, third, last = history(settings)
    assert [night.trained for night in (first, second, third, last)] == [True, False, False, True]
    assert first.because == "no version is in use yet"
    assert second.because.startswith("the newest good model was trained 1 day ago, and one is due every 30 days; ")
    assert last.because == (
        f"{RUN} fell short of its promise on 2 of its last 2 matured days (2025-07-15, 2025-07-16: the newest among "
        "them)"
    )
    assert [night.verdict for night in (second, third)] == ["none", "none"]
    assert settings.registry.versions()[-1].version == RUN
    assert {listed.version for listed in settings.registry.versions()} <= {RUN, last.run}


def test_a_night_that_is_not_due_lands_its_events_and_judges_the_version_in_use(settings: Settings) -> None:
    run = Run(run_name(night_of(SECOND)), settings)
    inputs, found, decision = run.read(INPUTS), run.read(EVIDENCE), run.read(DECISION)
    assert inputs.landed is not None
    assert inputs.landed.impressions > 0
    assert run.read(TRAINED).trees == 0
    assert found.champion.metrics is not None
    assert (found.champion.version, found.champion.metrics.ndcg_at_5.n > 50) == (RUN, True)
    assert found.champion_fairness is not None
    assert found.champion_latency is not None
    judged = {check.name: check.observed for check in decision.checks}
    assert judged["ndcg_at_5"] == found.champion.metrics.ndcg_at_5.value
    assert judged["fairness_gap"] == found.champion_fairness.corrected_gap
    assert judged["latency_p95"] == found.champion_latency.p95_ms
    record = history(settings)[1]
    assert record.champion_ndcg_at_5 is not None
    assert (record.champion_ndcg_at_5.value, record.ndcg_at_5) == (judged["ndcg_at_5"], None)
    assert record.metrics["champion_latency_p95_ms"] == judged["latency_p95"]
    assert record.limits["ndcg_at_5"] == 0.65


def test_it_is_told_as_what_it_is_and_not_as_a_rejection(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(run_name(night_of(SECOND)), settings)
    because = run.read(INPUTS).because
    sent: list[Message] = []
    monkeypatch.setattr(notify, "send", lambda urls, message: sent.append(message))
    outcome.tell(run)
    (message,) = sent
    assert (message.kind, message.title) == ("info", f"LTR run {run.name}: no training was due")
    assert f"{RUN} stays in use, and was judged: not due: {because}." in message.body
    page = run.read(REPORT).decode()
    assert "<h1>No training was due</h1>" in page
    assert f"Not due: {because}; the model in use was judged: " in page
    assert "not published" not in page
    assert run.read(OUTCOME).reason == f"{RUN} stays in use: not due: {because}"
    assert [(night.run, night.verdict) for night in nights(settings)][1:3] == [
        (run_name(night_of(THIRD)), "not due"),
        (run.name, "not due"),
    ]


@pytest.mark.parametrize("date", [NIGHT, LAST])
def test_why_it_trained_is_told(settings: Settings, monkeypatch: pytest.MonkeyPatch, date: dt.date) -> None:
    run = Run(run_name(night_of(date)), settings)
    sent: list[Message] = []
    monkeypatch.setattr(notify, "send", lambda urls, message: sent.append(message))
    outcome.tell(run)
    assert f"Why it trained: {run.read(INPUTS).because}." in sent[0].body
    assert run.read(INPUTS).because in run.read(REPORT).decode()


def test_a_repeat_decides_as_the_first_try_did(settings: Settings) -> None:
    (record,) = History(settings.data).read(NightRecord, SECOND, SECOND)
    assert not record.trained


def test_the_history_is_refilled_from_what_the_nights_left(project: Path, tmp_path: Path) -> None:
    settings = small_settings(project)
    known = history(settings)
    assert refill(settings) == []
    lost = [key for key in settings.data.keys("monitoring/nights") if SECOND.isoformat() in key]
    for key in lost:
        settings.data.delete(key)
    assert refill(settings, since=THIRD) == []
    assert refill(settings) == [run_name(night_of(SECOND))]
    assert history(settings) == known
    assert [night_record(Run(night.run, settings)) for night in known] == known


class TestAsked:
    """On a copy: what a person asks for comes before the policy."""

    @pytest.fixture
    def copied(self, project: Path, tmp_path: Path) -> Settings:
        for source in project.rglob("*"):
            if source.is_file() and not source.is_symlink():
                target = tmp_path / source.relative_to(project)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read_bytes())
        (tmp_path / "registry" / "ltr" / "latest").symlink_to((project / "registry" / "ltr" / "latest").readlink())
        return small_settings(tmp_path)

    def test_a_night_that_was_not_due_trains_when_it_is_repeated_so(self, copied: Settings) -> None:
        run = run_night(copied, SECOND, retrain=True, by_hand=True)
        assert run.read(TRAINED).trees > 0
        (record,) = [night for night in history(copied) if night.run == run.name]
        assert (record.trained, record.because) == (True, "somebody asked for it")
        assert not record.by_hand  # it had ended without a hand
        assert run_night(copied, SECOND).read(INPUTS).because == "somebody asked for it"  # a plain repeat


def away(*_: object) -> list[NightRecord]:
    raise StorageError("the bucket is gone")


class TestBeforeAnythingIsTrained:
    """The first task alone decides."""

    OLD, YOUNG = "20250614_0215", "20250625_0215"  # 31 and 20 days before the night

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        simulate(tmp_path)
        return small_settings(tmp_path)

    def decided(self, settings: Settings, date: dt.date = NIGHT, **asked: Any) -> tuple[bool, str]:
        request = {"moment": night_of(date).isoformat(), **asked}
        nightly.extract_events(request, POLICY, settings)
        inputs = Run(run_name(night_of(date)), settings).read(INPUTS)
        return inputs.trains, inputs.because

    @pytest.mark.parametrize(("version", "trains"), [(OLD, True), (YOUNG, False)])
    @pytest.mark.parametrize("whole", [True, False])
    def test_without_a_readable_history_the_month_counts_and_the_reason_says_so(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch, version: str, trains: bool, whole: bool
    ) -> None:
        settings.registry.publish(document(version), who="ann", why="by hand")
        settings.data.put("monitoring/outcomes/2025-07-10/half.72h/20250714T071500000000Z.json", b"{")
        if whole:
            monkeypatch.setattr(History, "read", away)
        found, because = self.decided(settings)
        assert found is trains
        assert "one is due every 30 days; " in because
        assert because.endswith(
            "the history cannot be read: the bucket is gone" if whole else "1 record of the history cannot be read"
        )

    def test_the_newest_matured_day_is_measured_before_the_night_decides(self, settings: Settings) -> None:
        settings.registry.publish(document(self.YOUNG), who="ann", why="by hand")
        self.decided(settings)
        found = History(settings.data).read(Outcomes)
        assert {(one.date, one.matured) for one in found} == {(NIGHT - (1 + settings.attribution_days) * DAY, True)}

    def test_a_day_that_cannot_be_measured_stops_no_night_and_the_reason_says_so(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.registry.publish(document(self.YOUNG), who="ann", why="by hand")
        monkeypatch.setattr(History, "write", away)
        trains, because = self.decided(settings)
        assert not trains
        assert because.endswith("; the newest matured day cannot be measured: the bucket is gone")

    def test_a_version_that_cannot_be_loaded_is_replaced_at_once(self, settings: Settings) -> None:
        registry = settings.registry
        registry.publish(document(self.YOUNG), who="ann", why="by hand")
        registry.storage.put(f"{self.YOUNG}/ltr_weights.json", b"{}")
        assert self.decided(settings) == (
            True,
            f"{self.YOUNG}, which is in use, cannot be loaded here; the log says why",
        )

    def test_a_night_of_the_past_is_made_up_for(self, settings: Settings) -> None:
        settings.registry.publish(document(self.YOUNG), who="ann", why="by hand")
        assert not self.decided(settings)[0]
        assert self.decided(settings, NIGHT - DAY) == (True, f"the night of {NIGHT - DAY} is made up for")

    def test_who_repeats_a_night_that_had_not_ended_lent_it_a_hand(self, settings: Settings) -> None:
        self.decided(settings)
        assert not Run(RUN, settings).read(INPUTS).by_hand
        self.decided(settings, by_hand=True)
        assert Run(RUN, settings).read(INPUTS).by_hand

    def test_a_wrong_variable_stops_it_before_anything_lands(self, settings: Settings) -> None:
        with pytest.raises(SettingsError, match="ltr_retrain is 'monthly'; set it to nightly or policy"):
            nightly.extract_events({"moment": night_of(NIGHT).isoformat()}, {"ltr_retrain": "monthly"}, settings)
        assert settings.data.keys() == []


def test_a_history_that_cannot_be_written_fails_no_publish_and_is_refilled(tmp_path: Path) -> None:
    simulate(tmp_path)
    settings = small_settings(tmp_path)
    (tmp_path / "data").mkdir()
    blocked = tmp_path / "data" / "monitoring"
    blocked.write_text("a file where a folder belongs")
    run_night(settings, NIGHT, LENIENT)
    assert settings.registry.promoted() == RUN
    blocked.unlink()
    assert refill(settings) == [RUN]
    (record,) = history(settings)
    assert (record.because, record.verdict, record.moved) == ("every night", "publish", True)
    assert record.ndcg_at_5 is not None
    assert record.ndcg_at_5.value == settings.registry.load(RUN).ndcg_at_5
