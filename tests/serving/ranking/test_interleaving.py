"""Interleaving in the service: what is shown, and when it is not mixed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.metrics.interleaving import team_draft
from ltr_pipeline.scoring.scorer import Scorer
from ltr_pipeline.serving.ranking.order import Interleaver, chosen, plain
from ltr_pipeline.serving.weights.models import Loaded, Models, legacy, load
from ltr_pipeline.serving.weights.variants import Variants
from ltr_pipeline.serving.wire import RankCandidate
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.versions.registry import Registry
from ltr_pipeline.versions.weights import encode
from support.documents import document
from support.service import Server

A, B = "20250714_0215", "20250715_0215"
LEGACY: Mapping[str, float] = load_mapping().legacy_weights
CANDIDATES = [RankCandidate.of(f"i{n}", {"A": n / 10, "S": 1 - n / 10}) for n in range(10)]
ORDER = [6, 7, 8, 9, 0, 1, 2, 3, 4, 5]


def served() -> Loaded:
    return load(encode(document(A)), where="here")


def mixer(tmp_path: Path, name: str = "legacy", share: float = 1.0, seconds: float = 1.0) -> Interleaver:
    models = Models(legacy(LEGACY))
    models.take(served())
    return Interleaver(Variants([name], Registry(LocalStorage(tmp_path)), models), name, share, seconds)


def test_both_orders_are_drafted_and_the_request_id_draws(tmp_path: Path) -> None:
    model, theirs = served(), sorted(range(10), key=lambda row: -row)  # legacy weighs A more than S
    for request_id in map(str, range(20)):
        mixed = mixer(tmp_path).mix(CANDIDATES, model, ORDER, 5, request_id)
        drafted = team_draft(ORDER, theirs, 5, request_id)
        assert list(mixed.order) == drafted.order
        assert mixed.teams == [A if mine else "legacy" for mine in drafted.from_first]
        assert mixed.policy == f"interleave:{A}:legacy"
        assert mixed == mixer(tmp_path).mix(CANDIDATES, model, ORDER, 5, request_id)


@pytest.mark.parametrize(
    "how",
    [{"share": 0.0}, {"name": ""}, {"name": "newest"}, {"seconds": -1.0}],
    ids=["no share", "no version", "not loaded", "too slow"],
)
def test_otherwise_the_order_is_plain(tmp_path: Path, how: dict) -> None:
    assert mixer(tmp_path, **how).mix(CANDIDATES, served(), ORDER, 5, "r") == plain(ORDER[:5], A)


def test_a_version_is_not_mixed_with_itself_and_a_list_of_one_with_nothing(tmp_path: Path) -> None:
    itself = legacy(LEGACY)
    assert mixer(tmp_path).mix(CANDIDATES, itself, ORDER, 5, "r") == plain(ORDER[:5], "legacy")
    assert mixer(tmp_path).mix(CANDIDATES, served(), ORDER, 1, "r") == plain(ORDER[:1], A)
    assert mixer(tmp_path).mix([], served(), [], None, "r") == plain([], A)


def test_a_list_that_the_second_model_cannot_read_is_no_error(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    strange = [RankCandidate.of("a", {"A": 0.5, "R": 1e300}), *CANDIDATES]  # the served model has no R, legacy does
    assert mixer(tmp_path).mix(strange, served(), ORDER, 5, "r") == plain(ORDER[:5], A)
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("scores", [None, np.nan])
def test_a_second_model_that_fails_leaves_the_order(tmp_path: Path, scores: float | None) -> None:
    def bad(matrix: np.ndarray) -> np.ndarray:
        if scores is None:
            raise RuntimeError("no")
        return np.full(len(matrix), scores)

    found = mixer(tmp_path)
    other = found._variants.get("legacy")
    object.__setattr__(other, "scorer", Scorer(other.scorer.features, 1, bad, bad))
    assert found.mix(CANDIDATES, served(), ORDER, 5, "r") == plain(ORDER[:5], A)


def test_the_share_is_that_of_the_ids_and_purposes_are_drawn_apart() -> None:
    rng = random.Random(1)
    ids = [f"{rng.getrandbits(128):032x}" for _ in range(20_000)]
    shadow, mixed = ({name for name in ids if chosen(name, 0.2, purpose)} for purpose in ("shadow", "interleave"))
    for drawn in (shadow, mixed):
        assert abs(len(drawn) / len(ids) - 0.2) < 0.015
    assert abs(len(shadow & mixed) / len(ids) - 0.04) < 0.01
    assert all(chosen(name, 1.0, "shadow") for name in ids)
    assert not any(chosen(name, 0.0, "shadow") for name in ids)


def test_a_service_interleaves_its_share(tmp_path: Path) -> None:
    registry = Registry(LocalStorage(tmp_path / "var" / "registry" / "ltr"))
    registry.publish(document(A), who="night", why="passed")
    body = {
        "query_id": "case-1",
        "candidates": [{"item_id": f"i{n}", "features": {"A": n / 10, "S": 1 - n / 10}} for n in range(10)],
        "k": 4,
    }
    with Server(tmp_path, LTR_INTERLEAVE_VERSION="legacy", LTR_INTERLEAVE_SHARE="0.5") as server:
        answers = [server.post("/ltr/rank", body) for _ in range(40)]
    policies = {answer["policy"] for answer in answers}
    assert policies == {A, f"interleave:{A}:legacy"}
    theirs = sorted(range(10), key=lambda row: -row)
    for answer in answers:
        assert answer["version"] == A
        mixed = answer["policy"] != A
        expected = team_draft(ORDER, theirs, 4, answer["request_id"]).order if mixed else ORDER[:4]
        assert [item["item_id"] for item in answer["items"]] == [f"i{row}" for row in expected]
        assert [item["rank"] for item in answer["items"]] == [1, 2, 3, 4]
