"""The gate and the publish, killed anywhere and tried again: the same verdict, the same bytes, one move."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ltr_pipeline.errors import NotFoundError
from ltr_pipeline.jobs import nightly
from ltr_pipeline.report.artefacts import REPORT
from ltr_pipeline.runs.run import Json, Run
from ltr_pipeline.versions import weights
from ltr_pipeline.versions.registry import Registry
from support.documents import document
from support.jobkills import TASKS
from support.programs import run
from support.small import LENIENT, RUN, UNDECIDED, WHO, artefacts, simulate, small_settings, up_to

pytestmark = pytest.mark.long

FORMER, HOUR = "20250714_0215", "20250714_2335"
FROZEN = "ltr_weights.json"


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what killed tasks left behind."""
    folder = tmp_path_factory.mktemp("killed")
    for task in TASKS:
        start = folder / task / "start"
        start.mkdir(parents=True)
        simulate(start)
        settings = small_settings(start)
        variables = UNDECIDED if task == "approved publish" else LENIENT
        reference = up_to(
            "evaluate_ranker" if task == "quality_gate" else "quality_gate", settings, variables=variables
        )
        if task in ("next publish", "keep over a refresh"):
            settings.registry.publish(document(FORMER), who=WHO, why="test")
        if task == "keep over a refresh":
            assert settings.registry.publish(document(HOUR, high=0.8, parent=FORMER), who=WHO, why="test").moved
        (folder / task / "reference.json").write_text(json.dumps(reference))
        shutil.copytree(start, folder / task / "calm", symlinks=True)
    run("jobkills", folder)
    return folder


def reference(folder: Path) -> Json:
    """Return what the task was handed."""
    return json.loads((folder / "reference.json").read_bytes())


def attempts(folder: Path) -> Iterator[Path]:
    """The project as each kill left it."""
    roots = [path for path in folder.iterdir() if path.name.isdigit()]
    assert len(roots) > 10
    yield from roots


def test_a_killed_gate_gives_the_same_verdict_and_keeps_the_document_it_froze(killed: Path) -> None:
    folder, kept = killed / "quality_gate", 0
    calm = small_settings(folder / "calm")
    undisturbed = TASKS["quality_gate"](folder / "calm", reference(folder))
    assert undisturbed["verdict"] == "publish"
    identity = weights.decode(artefacts(calm)[FROZEN]).identity
    for root in attempts(folder):
        before = artefacts(small_settings(root)).get(FROZEN)
        judged = TASKS["quality_gate"](root, reference(folder))
        after = artefacts(small_settings(root))[FROZEN]
        assert decision(root) == decision(folder / "calm") | {"document": hashlib.sha256(after).hexdigest()}
        assert weights.decode(after).identity == identity
        if before is not None:
            assert after == before
            kept += 1
        published = nightly.publish_weights(judged, WHO, small_settings(root))
        assert small_settings(root).registry.storage.get(f"{published['version']}/{FROZEN}") == after
    assert kept > 1


def decision(root: Path) -> Json:
    return json.loads(artefacts(small_settings(root))["decision.json"])


@pytest.mark.parametrize("task", ["first publish", "next publish", "approved publish"])
def test_a_killed_publish_ends_as_if_nothing_was(killed: Path, task: str) -> None:
    folder, halfway, who = killed / task, 0, "anna" if task == "approved publish" else WHO
    before = len(small_settings(folder / "calm").registry.history())
    undisturbed = TASKS[task](folder / "calm", reference(folder))
    assert undisturbed["moved"]
    for root in attempts(folder):
        registry = small_settings(root).registry
        frozen = artefacts(small_settings(root))[FROZEN]
        assert latest(registry) in {FORMER if task == "next publish" else None, RUN}  # whole before anybody repairs
        halfway += registry.promoted() == RUN
        there = {"report": Run(RUN, small_settings(root)).uri(REPORT)}
        assert TASKS[task](root, reference(folder)) == undisturbed | there
        assert latest(registry) == registry.promoted() == RUN
        assert registry.storage.get(f"{RUN}/{FROZEN}") == registry.storage.get(f"latest/{FROZEN}") == frozen
        assert [(move.version, move.who) for move in registry.history()[before:]] == [(RUN, who)]
        assert registry.storage.keys(RUN) == [f"{RUN}/{FROZEN}", f"{RUN}/report.html"]
        assert "outcome.json" in artefacts(small_settings(root))
        assert all(result.ok for result in registry.verify())
    assert halfway > 1  # some were killed after the ledger had the move


def test_a_killed_keep_moves_latest_back_to_the_night_once(killed: Path) -> None:
    folder, halfway = killed / "keep over a refresh", 0
    undisturbed = TASKS["keep over a refresh"](folder / "calm", reference(folder))
    assert undisturbed["latest"] == FORMER
    for root in attempts(folder):
        registry = small_settings(root).registry
        assert latest(registry) in {FORMER, HOUR}
        halfway += registry.promoted() == FORMER
        there = {"report": Run(RUN, small_settings(root)).uri(REPORT)}
        assert TASKS["keep over a refresh"](root, reference(folder)) == undisturbed | there
        assert latest(registry) == registry.promoted() == FORMER
        assert [(move.move, move.to) for move in registry.history()[2:]] == [("expire", FORMER)]
        assert all(result.ok for result in registry.verify())
    assert halfway > 1


def latest(registry: Registry) -> str | None:
    """Version that a reader of `latest` finds, decoded whole."""
    try:
        return weights.decode(registry.storage.get(f"latest/{FROZEN}")).version
    except NotFoundError:
        return None
