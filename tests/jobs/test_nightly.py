"""Every task of a night on its own: what it freezes, what it refuses, and that a second try changes nothing."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from ltr_pipeline.errors import RegistryError, SettingsError, SourceError
from ltr_pipeline.events.partitions import folder_of
from ltr_pipeline.folders import record_of
from ltr_pipeline.jobs import nightly
from ltr_pipeline.report.artefacts import DECISION, EVIDENCE, REPORT, TRAINED
from ltr_pipeline.runs import run
from ltr_pipeline.runs.run import Json
from ltr_pipeline.schedule import night_of
from ltr_pipeline.settings import Settings
from ltr_pipeline.versions.weights import decode, encode
from support.documents import document
from support.small import (
    DAY,
    FIRST,
    LENIENT,
    NIGHT,
    RUN,
    WHO,
    artefacts,
    moment,
    simulate,
    small_settings,
    steps,
    up_to,
)
from support.webhook import Server, running


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    simulate(tmp_path)
    return small_settings(tmp_path)


def extract(settings: Settings, date: dt.date = NIGHT, **asked: Any) -> Json:
    return nightly.extract_events({"moment": moment(date), **asked}, LENIENT, settings)


def inputs(settings: Settings, run: str = RUN) -> dict[str, Any]:
    return json.loads(artefacts(settings, run)["inputs.json"])


def unmeasured(files: dict[str, bytes]) -> dict[str, object]:
    """The files without what is measured with a clock."""
    trained, evidence, decision = (json.loads(files[f"{name}.json"]) for name in ("trained", "evidence", "decision"))
    assert trained.pop("seconds") > 0
    assert evidence.pop("latency")["p95_ms"] > 0
    decision["checks"] = [check for check in decision["checks"] if check["name"] != "latency_p95"]
    return files | {"trained.json": trained, "evidence.json": evidence, "decision.json": decision}


def test_a_second_try_of_every_task_writes_the_same(settings: Settings) -> None:
    handed: Json = {}
    for name, step in steps(settings).items():
        before, handed_before = artefacts(settings), handed
        first = step(handed_before)
        once = artefacts(settings)
        assert once.keys() > before.keys()
        handed = step(handed_before)
        assert artefacts(settings).keys() == once.keys()
        assert {**first, "sha256": ""} == {**handed, "sha256": ""}, name
    whole = artefacts(settings)
    up_to("quality_gate", settings)
    assert unmeasured(artefacts(settings)) == unmeasured(whole)
    assert artefacts(settings)["ltr_weights.json"] == whole["ltr_weights.json"]


def test_a_second_try_of_the_last_task_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    judged = up_to("quality_gate", settings)
    outcome = nightly.publish_weights(judged, WHO, settings)
    assert (outcome["version"], outcome["moved"], outcome["latest"]) == (RUN, True, RUN)
    registry = settings.registry
    assert outcome["metrics"]["ndcg_at_5"] == registry.load(RUN).ndcg_at_5
    before = files_below(tmp_path)
    assert nightly.publish_weights(judged, WHO, settings) == outcome
    assert files_below(tmp_path) == before
    kept = nightly.keep_previous(judged, settings)
    assert (kept["version"], kept["moved"], kept["latest"]) == (None, False, RUN)
    before = files_below(tmp_path)
    assert nightly.keep_previous(judged, settings) == kept
    assert files_below(tmp_path) == before


def test_a_repeated_run_of_a_published_day_leaves_its_first_outcome(settings: Settings, tmp_path: Path) -> None:
    nightly.publish_weights(up_to("quality_gate", settings), WHO, settings)
    first = artefacts(settings)["outcome.json"]
    assert b"latest moved from nothing to 20250715_0215" in first
    settings.registry.publish(document("20250714_0215"), who="ann", why="by hand")
    again = nightly.publish_weights(up_to("quality_gate", settings), "airflow/by-hand", settings)
    assert not again["moved"]  # so that nobody is told to load it again
    assert "was published already" in again["reason"]
    assert artefacts(settings)["outcome.json"] == first
    settings.registry.rollback("20250714_0215", who="ann", why="offers dropped")
    judged = up_to("quality_gate", settings)
    nightly.publish_weights(judged, WHO, settings)  # the first run's task, cleared
    assert artefacts(settings)["outcome.json"] == first
    with running(Server()) as webhook:
        nightly.notify(judged, small_settings(tmp_path, notify_urls=f"json://127.0.0.1:{webhook.port}"))
    (told,) = webhook.got
    assert told["title"] == f"LTR {RUN} published, latest unchanged"
    assert f"{RUN} was published before; 20250714_0215 has replaced it since." in told["message"]


def files_below(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_task_refuses_what_changed_since_the_task_before(settings: Settings) -> None:
    order = list(steps(settings).items())
    handed = order[0][1]({})
    ends = {
        "publish_weights": lambda judged: nightly.publish_weights(judged, WHO, settings),
        "keep_previous": lambda judged: nightly.keep_previous(judged, settings),
    }
    for name, step in order[1:]:
        with pytest.raises(SourceError, match="changed since"):
            step({**handed, "sha256": "0" * 64})
        handed = step(handed)
        assert handed["run"] == RUN, name
    for end in ends.values():
        with pytest.raises(SourceError, match="changed since"):
            end({**handed, "sha256": "0" * 64})
    settings.data.put(f"runs/{RUN}/decision.json", b"{}")  # the file itself, not only the reference
    for end in ends.values():
        with pytest.raises(SourceError, match=r"decision\.json changed since"):
            end(handed)
    assert settings.registry.versions() == []


def test_a_dry_run_judges_and_publishes_nothing_and_binds_no_later_try(settings: Settings) -> None:
    judged = up_to("quality_gate", settings, dry_run=True)
    assert judged["verdict"] == "keep"
    decision = json.loads(artefacts(settings)["decision.json"])
    assert decision["mode"] == "dry_run"
    assert "publish" in decision["reasons"][0]  # what an enforcing gate would have said
    with pytest.raises(RegistryError, match="judged 'keep'"):
        nightly.publish_weights(judged, WHO, settings)
    assert settings.registry.versions() == []
    assert up_to("quality_gate", settings)["verdict"] == "publish"


def test_the_window_of_a_run_is_frozen_when_it_starts(settings: Settings) -> None:
    extract(settings, window_days=11)
    assert inputs(settings)["window_days"] == 11
    with pytest.raises(SettingsError, match=r"window_days is 12, but run 20250715_0215 was frozen with 11"):
        extract(settings, window_days=12)
    extract(settings)
    extract(settings, window_days=11)
    assert inputs(settings)["window_days"] == 11


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"window_days": 8}, "window_days"),
        ({"window_days": 366}, "window_days"),
        ({"window_days": "twelve"}, "window_days"),
        ({"dry_run": "no"}, "dry_run"),
        ({"moment": "tomorrow"}, "moment"),
        ({"windw_days": 12}, "windw_days"),
    ],
)
def test_a_wrong_param_is_refused_before_anything_lands(
    settings: Settings, asked: dict[str, Any], problem: str
) -> None:
    with pytest.raises(SettingsError, match=problem):
        extract(settings, **asked)
    assert settings.data.keys() == []


def test_parameters_that_do_not_fit_the_features_are_refused_before_anything_lands(tmp_path: Path) -> None:
    simulate(tmp_path)
    settings = small_settings(tmp_path, parameters={"monotone_constraints": [1, 0, 0]})
    with pytest.raises(SettingsError, match="LTR_PARAMETERS: monotone_constraints has 3 values for the 8 features A"):
        extract(settings)
    assert settings.data.keys() == []


def test_a_window_without_training_days_is_refused(tmp_path: Path) -> None:
    simulate(tmp_path)
    settings = small_settings(tmp_path, attribution_days=4)
    with pytest.raises(SettingsError, match="window_days is 9, but 9 days are held out"):
        extract(settings, window_days=9)
    assert settings.data.keys() == []


def test_a_date_that_has_not_come_is_refused(settings: Settings) -> None:
    tomorrow = dt.datetime.now(dt.UTC).date() + DAY
    with pytest.raises(SettingsError, match="is in the future"):
        extract(settings, tomorrow + DAY)
    assert settings.data.keys() == []


@pytest.mark.parametrize("task", ["extract_events", "build_dataset", "quality_gate"])
def test_a_wrong_variable_stops_the_task_that_reads_it(settings: Settings, task: str) -> None:
    wrong = LENIENT | {"ltr_ndcg_min": "abc"}
    handed = {} if task == "extract_events" else up_to(before(task, settings), settings)
    act = {
        "extract_events": lambda: nightly.extract_events({"moment": moment(NIGHT)}, wrong, settings),
        "build_dataset": lambda: nightly.build_dataset(handed, wrong, settings),
        "quality_gate": lambda: nightly.quality_gate(handed, wrong, settings),
    }[task]
    with pytest.raises(SettingsError, match="ltr_ndcg_min is 'abc'"):
        act()


def before(task: str, settings: Settings) -> str:
    names = list(steps(settings))
    return names[names.index(task) - 1]


def test_without_validation_days_held_out_queries_choose_the_number_of_trees(tmp_path: Path) -> None:
    simulate(tmp_path, FIRST, days=4)  # training days
    simulate(tmp_path, FIRST + 6 * DAY, days=6)  # test days, and those too young
    settings = small_settings(tmp_path, parameters={"learning_rate": 0.3})
    up_to("train_ranker", settings)
    dataset, trained = (json.loads(artefacts(settings)[name]) for name in ("dataset.json", "trained.json"))
    assert (dataset["train"]["rankings"] > 100, dataset["valid"]["rankings"]) == (True, 0)
    assert trained["chosen_by"]["source"] == "training"
    assert 0 < trained["chosen_by"]["rankings"] < 0.3 * dataset["train"]["rankings"]
    assert trained["trees"] < 200


def test_what_comes_after_a_run_started_does_not_change_what_it_reads(settings: Settings, tmp_path: Path) -> None:
    extract(settings)
    frozen = artefacts(settings)["inputs.json"]
    simulate(tmp_path, NIGHT, 1)
    settings.registry.publish(document("20250714_0215"), who="ann", why="by hand")
    extract(settings)
    assert artefacts(settings)["inputs.json"] == frozen
    extract(settings, NIGHT + DAY)
    later = inputs(settings, "20250716_0215")
    assert later["champion"] == "20250714_0215"
    assert later["partitions"] == [folder_of(night_of(day)) for day in (NIGHT, NIGHT + DAY)]


def test_a_backfill_reads_no_source(settings: Settings, tmp_path: Path) -> None:
    extract(settings)
    (tmp_path / "audit.log").rename(tmp_path / "moved.log")
    handed = extract(settings, NIGHT - DAY, window_days=11)
    assert handed["counts"] == {}
    past = inputs(settings, "20250714_0215")
    assert past["landed"] is None
    assert past["partitions"] == [folder_of(night_of(NIGHT))]


def test_a_night_that_would_mix_worlds_lands_nothing_and_a_run_that_has_begun_goes_on(
    settings: Settings, tmp_path: Path
) -> None:
    extract(settings)
    before = artefacts(settings)
    simulate(tmp_path, NIGHT, 1)
    record_of(settings.events_path).touch()  # now it is a simulated log
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(Path("ltr_pipeline/default_mapping.toml").read_text().replace("won = 3", "won = 4"))
    other = small_settings(tmp_path, mapping_path=mapping)
    with pytest.raises(SourceError, match="landed under another mapping"):
        extract(other, NIGHT + DAY)
    record_of(settings.events_path).unlink()
    real = small_settings(tmp_path, events_path=str(tmp_path / "audit.log.1"))
    (tmp_path / "audit.log").rename(tmp_path / "audit.log.1")
    record_of(str(tmp_path / "audit.log")).touch()
    with pytest.raises(SourceError, match="are simulated events, but the event log is real"):
        extract(real, NIGHT + DAY)
    assert [*settings.data.keys("events")] == [key for key in settings.data.keys("events") if "2025-07-15" in key]
    for later in (other, real):
        extract(later)
    assert artefacts(settings) == before


def upside_down(document: bytes) -> bytes:
    """A whole document, right in itself, whose model ranks the other way round."""
    found = decode(document)

    def negated(match: re.Match[str]) -> str:
        return "leaf_value=" + " ".join(repr(-float(value)) for value in match[1].split())

    text = re.sub(r"(?m)^leaf_value=(.*)$", negated, found.model.text)
    model = replace(found.model, text=text, sha256=hashlib.sha256(text.encode()).hexdigest())
    golden = [replace(one, scores=[-score for score in one.scores]) for one in found.golden]
    return encode(replace(found, model=model, golden=golden))


def test_the_published_model_is_the_one_that_was_judged(settings: Settings) -> None:
    judged = up_to("quality_gate", settings)
    key = f"runs/{RUN}/ltr_weights.json"
    frozen = settings.data.get(key)
    for other in (frozen.replace(b'"trees":', b'"Trees":', 1), upside_down(frozen)):
        settings.data.put(key, other)
        for reference in (judged, run.judged(RUN, settings)):  # the second as `ltr publish RUN` takes it
            with pytest.raises(SourceError, match=rf"{key} changed since its task wrote it"):
                nightly.publish_weights(reference, WHO, settings)
    assert settings.registry.promoted() is None
    settings.data.put(key, frozen)
    nightly.publish_weights(judged, WHO, settings)
    assert settings.registry.storage.get(f"{RUN}/ltr_weights.json") == frozen


def test_a_judgement_that_changed_is_in_the_document_that_is_published(settings: Settings) -> None:
    evaluated = up_to("evaluate_ranker", settings)
    nightly.quality_gate(evaluated, LENIENT | {"ltr_ndcg_min": "0.99"}, settings)
    assert json.loads(artefacts(settings)["ltr_weights.json"])["gate"]["verdict"] == "keep"
    nightly.quality_gate(evaluated, LENIENT, settings)
    assert json.loads(artefacts(settings)["ltr_weights.json"])["gate"]["verdict"] == "publish"


def test_the_night_after_is_compared_with_the_version_of_the_night_before(settings: Settings, tmp_path: Path) -> None:
    nightly.publish_weights(up_to("quality_gate", settings), WHO, settings)
    simulate(tmp_path, NIGHT, 1)
    up_to("evaluate_ranker", settings, NIGHT + DAY)
    champion = json.loads(artefacts(settings, "20250716_0215")["evidence.json"])["champion"]
    assert (champion["version"], champion["kind"]) == (RUN, "champion")


def test_a_publish_also_writes_the_mirror_and_prunes_old_versions(tmp_path: Path) -> None:
    simulate(tmp_path)
    settings = small_settings(tmp_path, mirror=tmp_path / "beside", keep_versions=1, signing_key="k" * 32)
    for day in range(1, 32):  # a prune leaves what the newest 30 moves need
        settings.registry.publish(document(f"202501{day:02}_0215"), who="ann", why="by hand")
    nightly.publish_weights(up_to("quality_gate", settings), WHO, settings)
    latest = settings.registry.storage.get("latest/ltr_weights.json")
    assert (tmp_path / "beside" / "ltr_weights.json").read_bytes() == latest
    assert b'"signature":"hmac-sha256:' in latest
    kept = {listed.version for listed in settings.registry.versions()}
    assert settings.registry.history()[-1].move == "prune"
    assert RUN in kept
    assert "20250101_0215" not in kept


def test_the_champions_fairness_is_measured_again_on_every_later_night(settings: Settings, tmp_path: Path) -> None:
    nightly.publish_weights(up_to("quality_gate", settings), WHO, settings)
    assert "champion" not in json.loads(artefacts(settings)["decision.json"])  # nothing was published before
    simulate(tmp_path, NIGHT, 1)
    judged = up_to("quality_gate", settings, NIGHT + DAY)
    later = run.Run("20250716_0215", settings)
    evidence, decision = later.read(EVIDENCE), later.read(DECISION)
    assert evidence.champion_fairness is not None
    assert evidence.champion_fairness.rankings == evidence.fairness.rankings > 0  # none of them trained the champion
    assert evidence.champion_fairness.gap != evidence.fairness.gap
    assert decision.champion is not None
    assert (decision.champion.version, decision.champion.fairness.observed) == (
        RUN,
        evidence.champion_fairness.corrected_gap,
    )
    unfair = replace(decision.champion.fairness, status="fail")
    found = replace(decision, champion=replace(decision.champion, fairness=unfair))
    assert nightly.keep_previous(judged, settings)["alarm"] == ""
    kept = nightly.keep_previous(later.write(DECISION, found), settings)
    assert kept["alarm"].startswith(f"{RUN}, which is in use, ranks groups of people unequally: the fairness gap is ")
    assert kept["alarm"] in later.read(REPORT).decode()


def test_a_night_with_nothing_to_learn_from_measures_the_champion_all_the_same(
    settings: Settings, tmp_path: Path
) -> None:
    nightly.publish_weights(up_to("quality_gate", settings), WHO, settings)
    simulate(tmp_path, NIGHT, 1)
    up_to("evaluate_ranker", settings, NIGHT + DAY)
    later = run.Run("20250716_0215", settings)
    measured, trained = later.read(EVIDENCE).champion_fairness, later.read(TRAINED)
    nothing = later.write(TRAINED, replace(trained, trees=0, untrained="all features are alike"))
    judged = nightly.quality_gate(nightly.evaluate_ranker(nothing, settings), LENIENT, settings)
    assert later.read(EVIDENCE).champion_fairness == measured
    assert later.read(DECISION).champion.version == RUN
    nightly.keep_previous(judged, settings)
    assert f"The champion, {RUN}" in later.read(REPORT).decode()


def refresh(settings: Settings, version: str, parent: str) -> None:
    published = settings.registry.publish(document(version, high=0.8, parent=parent), who="hourly", why="test")
    assert published.moved


def test_a_night_that_is_kept_moves_latest_from_a_refresh_back_to_its_parent(settings: Settings) -> None:
    former, registry = "20250714_0215", settings.registry
    registry.publish(document(former), who="ann", why="by hand")
    refresh(settings, "20250714_2335", former)
    judged = up_to("quality_gate", settings)
    assert json.loads(artefacts(settings)["inputs.json"])["champion"] == former
    kept = nightly.keep_previous(judged, settings)
    assert (kept["latest"], registry.promoted()) == (former, former)
    assert kept["reason"].startswith(f"latest moved back from 20250714_2335 to {former}: ")
    expired = registry.history()[-1]
    assert (expired.move, expired.who, expired.why) == ("expire", f"run {RUN}", "the night was kept")
    assert nightly.keep_previous(judged, settings) == kept
    refresh(settings, "20250715_0235", former)  # the next hour
    again = nightly.keep_previous(judged, settings)
    assert (again["latest"], registry.promoted()) == ("20250715_0235", "20250715_0235")
    assert registry.history()[-1].move == "publish"


def test_a_dry_run_expires_nothing(settings: Settings) -> None:
    former = "20250714_0215"
    settings.registry.publish(document(former), who="ann", why="by hand")
    refresh(settings, "20250714_2335", former)
    judged = up_to("quality_gate", settings, variables=LENIENT | {"ltr_gate_mode": "dry_run"})
    kept = nightly.keep_previous(judged, settings)
    assert (kept["latest"], settings.registry.promoted()) == ("20250714_2335", "20250714_2335")


def test_a_refresh_stays_where_its_parent_cannot_be_used(settings: Settings) -> None:
    former, registry = "20250714_0215", settings.registry
    registry.publish(document(former), who="ann", why="by hand")
    refresh(settings, "20250714_2335", former)
    judged = up_to("quality_gate", settings)
    registry.storage.put(f"{former}/ltr_weights.json", b"{}")
    kept = nightly.keep_previous(judged, settings)
    assert (kept["latest"], registry.promoted()) == ("20250714_2335", "20250714_2335")


def test_a_night_takes_the_place_of_a_refresh_and_removes_old_ones(settings: Settings) -> None:
    former, registry = "20250714_0215", settings.registry
    registry.publish(document(former), who="ann", why="by hand")
    registry.ledger.clock = lambda: dt.datetime.now(dt.UTC) - dt.timedelta(days=8)
    for hour, high in (("20250714_2135", 0.8), ("20250714_2235", 0.85)):
        registry.publish(document(hour, high=high, parent=former), who="hourly", why="test")
    registry.ledger.clock = None
    outcome = nightly.publish_weights(up_to("quality_gate", settings), WHO, settings)
    assert (outcome["moved"], outcome["latest"]) == (True, RUN)
    assert [listed.version for listed in registry.versions()] == [RUN, former]
    assert registry.history()[-1].why == "hourly versions are kept for a week"
