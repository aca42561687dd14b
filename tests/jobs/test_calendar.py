"""What a night makes of a calendar: days that are left out or weighed, frozen when it starts."""

from __future__ import annotations

import datetime as dt
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ltr_pipeline.calendar import Occasion
from ltr_pipeline.dataset.load import load_part
from ltr_pipeline.dataset.manifest import DatasetManifest
from ltr_pipeline.errors import CalendarError
from ltr_pipeline.jobs import nightly
from ltr_pipeline.metrics.rankings import starts
from ltr_pipeline.ranker.data import Rows
from ltr_pipeline.ranker.train import train
from ltr_pipeline.report.artefacts import DATASET, EVIDENCE, INPUTS, MODEL, REPORT, TABLES, TRAINED
from ltr_pipeline.runs.run import Run
from ltr_pipeline.schema import TIME
from ltr_pipeline.scoring.scorer import Scorer
from ltr_pipeline.settings import Settings
from ltr_pipeline.simulate.debiasing import worth
from ltr_pipeline.simulate.draw import rankings_on, sample
from ltr_pipeline.simulate.log import write_log
from ltr_pipeline.simulate.world import FEATURES, ShownLists, World
from support.small import DAY, DAYS, FIRST, RUN, WORLD, artefacts, small_settings, up_to

ORDINARY = dt.date(2025, 8, 1)
TRAINING, TEST = dt.date(2025, 7, 5), dt.date(2025, 7, 10)
"""Days of the window of `support.small`: it trains on 3 to 6 July, is stopped by 7 and 8, and tested on 9 to 11."""


def eventful(seed: int, day: dt.date) -> World:
    """A world in which a day is busy, and people then want the opposite of what they want else."""
    return msgspec.structs.replace(WORLD, seed=seed, event_day=day.day, event_effect=1.0)


def declaring(folder: Path, text: str) -> Path:
    (path := folder / "events.toml").write_text(text)
    return path


def sale(day: dt.date, treatment: str = "") -> str:
    return f'[[events]]\nname = "Sale"\nfirst = {day}\n{treatment}\n'


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[World], Path]:
    """Folder of a project in which the events of a world have landed once for all runs."""
    found: dict[bytes, Path] = {}

    def land(world: World) -> Path:
        name = msgspec.json.encode(world)
        if name not in found:
            folder = tmp_path_factory.mktemp("landed")
            write_log(folder / "audit.log", world, FIRST, DAYS)
            up_to("extract_events", settings := small_settings(folder))
            shutil.rmtree(Path(settings.data.uri().removeprefix("file://")) / "runs")
            found[name] = folder
        return found[name]

    return land


@pytest.fixture
def project(landed: Callable[[World], Path], tmp_path: Path) -> Callable[[World, str], Settings]:
    """Settings of a project of its own where these events have landed, with a calendar."""

    def make(world: World, calendar: str) -> Settings:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(landed(world), folder)
        return small_settings(folder, calendar_path=declaring(folder, calendar) if calendar else None)

    return make


def true_ndcg(settings: Settings, world: World) -> float:
    """Mean nDCG@5 of the trained model on ordinary days, as if answers were those to true utility."""
    model = Run(RUN, settings).read(MODEL).decode()
    lists = sample(world, 3000, np.random.default_rng([world.seed, 1]), day=ORDINARY)
    assert not world.is_event_day(ORDINARY)
    return float(np.nanmean(worth(lists, Scorer.from_model(model, FEATURES).score(lists.features))))


LEFT_OUT = 'treatment = "leave_out"'


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_model_of_an_event_day_ranks_ordinary_days_worse_than_one_that_leaves_it_out(project, seed) -> None:
    """The failure that a calendar prevents, in each of several worlds."""
    world = eventful(seed, TRAINING)
    calendars = {
        "none": "",
        "annotated": sale(TRAINING),
        "weighed": sale(TRAINING, "weight = 0.2"),
        "left out": sale(TRAINING, LEFT_OUT),
    }
    found = {}
    for name, calendar in calendars.items():
        settings = project(world, calendar)
        up_to("train_ranker", settings)
        found[name] = true_ndcg(settings, world)
    assert found["annotated"] == found["none"]
    assert found["left out"] > found["none"] + 0.1
    assert found["weighed"] > found["none"] + 0.1


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_so_it_is_with_one_event_day_among_twenty_training_days(seed: int) -> None:
    """At the size of a default night, where ordinary days outweigh the event day eight to one."""
    event = dt.date(2025, 7, 18)
    world = msgspec.structs.replace(WORLD, seed=seed, rankings_per_day=480, event_effect=1.0)
    shown = {event + n * DAY: rankings_on(world, event + n * DAY).only_available() for n in range(-10, 12)}
    lists = sample(world, 5000, np.random.default_rng([seed, 1]), day=ORDINARY)

    def ndcg(left_out: set[dt.date]) -> float:
        days = [rows(shown[day]) for day in shown if day not in left_out]
        model, _ = train(joined(days[:-2]), joined(days[-2:]), max_relevance=3, seed=seed)
        return float(np.nanmean(worth(lists, Scorer.from_model(model, FEATURES).score(lists.features))))

    assert ndcg({event}) > ndcg(set()) + 0.003


def rows(lists: ShownLists) -> Rows:
    return Rows(lists.features, FEATURES, lists.relevance(), lists.group, lists.position)


def joined(days: list[Rows]) -> Rows:
    columns = {
        name: np.concatenate([getattr(day, name) for day in days])
        for name in ("features", "relevance", "group", "position")
    }
    return Rows(feature_names=FEATURES, **columns)


def test_a_gate_that_is_asked_about_ordinary_days_is_not_tested_on_a_day_that_is_left_out(project) -> None:
    world = eventful(1, TEST)
    unaware, aware = project(world, ""), project(world, sale(TEST, LEFT_OUT))
    for settings in (unaware, aware):
        up_to("evaluate_ranker", settings)
    assert true_ndcg(aware, world) > 0.9
    assert true_ndcg(unaware, world) > 0.9  # it learned from the days before, and is as good
    told = {name: Run(RUN, settings).read(EVIDENCE) for name, settings in (("un", unaware), ("a", aware))}
    measured = {name: evidence.metrics.ndcg_at_5.value for name, evidence in told.items()}
    assert measured["a"] > measured["un"] + 0.1
    days = {part.value for part in told["a"].slices if part.dimension == "day"}
    assert days == {"2025-07-08", "2025-07-09", "2025-07-11"}


def test_every_impression_of_a_day_that_is_left_out_is_accounted_for(project) -> None:
    world = eventful(1, TRAINING)
    plain, left_out = (built(project(world, calendar)) for calendar in ("", sale(TRAINING, LEFT_OUT)))
    gone = left_out.impressions.dropped["left_out"]
    assert left_out.impressions.landed == plain.impressions.landed
    assert left_out.impressions.used == plain.impressions.used - gone
    assert plain.train.rows - left_out.train.rows == gone > 500
    assert left_out.feedback.landed == plain.feedback.landed
    assert left_out.feedback.dropped["impression_dropped"] > plain.feedback.dropped["impression_dropped"]
    assert (left_out.valid, left_out.test) == (plain.valid, plain.test)


def built(settings: Settings) -> DatasetManifest:
    up_to("build_dataset", settings)
    return Run(RUN, settings).read(DATASET)


def test_rankings_of_a_weighed_day_count_less_and_no_others(project) -> None:
    settings = project(eventful(1, TRAINING), sale(TRAINING, "weight = 0.2"))
    manifest, run = built(settings), Run(RUN, settings)
    part = load_part(run.storage, run.key(TABLES), manifest, "train", ids=[TIME])
    days = part.ids[TIME].dt.date().gather(starts(part.group))
    assert part.weight is not None
    assert part.weight.tolist() == pytest.approx([0.2 if day == TRAINING else 1.0 for day in days])
    assert 0 < (days == TRAINING).sum() < len(days)
    assert load_part(run.storage, run.key(TABLES), manifest, "test", ids=()).weight is None


def test_a_run_keeps_the_calendar_that_it_began_with(project, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = project(eventful(1, TRAINING), sale(TRAINING, LEFT_OUT) + sale(dt.date(2025, 7, 15), LEFT_OUT))
    up_to("train_ranker", settings)
    frozen, model = Run(RUN, settings).read(INPUTS), Run(RUN, settings).read(MODEL)
    assert frozen.occasions == (Occasion(name="Sale", first=TRAINING, last=TRAINING, weight=0),)  # of its window
    assert settings.calendar_path
    settings.calendar_path.write_text("nonsense")
    later = small_settings(settings.calendar_path.parent, calendar_path=settings.calendar_path)
    up_to("train_ranker", later)
    assert Run(RUN, later).read(INPUTS) == frozen
    assert Run(RUN, later).read(MODEL) == model
    settings.calendar_path.unlink()
    assert up_to("train_ranker", small_settings(settings.calendar_path.parent))["counts"]["trees"] > 0
    assert Run(RUN, later).read(MODEL) == model


def test_inputs_of_a_former_release_have_no_declared_events(project) -> None:
    settings = project(eventful(1, TRAINING), sale(TRAINING, LEFT_OUT))
    up_to("extract_events", settings)
    former = json.loads(artefacts(settings)["inputs.json"])
    del former["occasions"]
    settings.data.put(f"runs/{RUN}/inputs.json", json.dumps(former).encode())
    assert Run(RUN, settings).read(INPUTS).occasions == ()
    assert "left_out" not in built(settings).impressions.dropped


@pytest.mark.parametrize(
    ("calendar", "problem"),
    [
        ("[[events]]\nname = 'Sale'\n", "event 'Sale': it has no day"),
        ("[[events]]\nname = 'Sale'\nfrist = 2025-07-05\n", "unknown key 'frist'; did you mean first?"),
    ],
)
def test_a_wrong_calendar_is_refused_before_anything_lands(tmp_path: Path, calendar: str, problem: str) -> None:
    write_log(tmp_path / "audit.log", WORLD, FIRST, 2)
    settings = small_settings(tmp_path, calendar_path=declaring(tmp_path, calendar))
    with pytest.raises(CalendarError, match=re.escape(problem)):
        up_to("extract_events", settings)
    assert settings.data.keys() == []


def test_a_calendar_that_leaves_no_training_day_is_named_as_the_cause(project) -> None:
    everything = f'[[events]]\nname = "Price war"\nfirst = 2025-06-01\nlast = {FIRST + DAYS * DAY}\n{LEFT_OUT}\n'
    settings = project(eventful(1, TRAINING), everything)
    judged = up_to("quality_gate", settings)
    run = Run(RUN, settings)
    assert judged["verdict"] == "keep"
    why = run.read(TRAINED).untrained
    assert why.startswith(
        "there is no training ranking. The calendar leaves no training ranking: 12 days of the window"
    )
    assert "are left out (Price war). In the file that LTR_CALENDAR names, weigh such days" in why
    nightly.keep_previous(judged, settings)
    assert "The calendar leaves no training ranking" in run.read(REPORT).decode()


def test_the_document_says_which_events_its_model_knew_of(project) -> None:
    world = eventful(1, TRAINING)
    found = {}
    for calendar in ("", sale(TRAINING, "weight = 0.2"), sale(TRAINING, "weight = 0.3")):
        settings = project(world, calendar)
        up_to("quality_gate", settings)
        found[calendar] = json.loads(artefacts(settings)["ltr_weights.json"])["data"]["hashes"].get("declared events")
    assert found[""] is None
    assert len(set(found.values())) == 3
