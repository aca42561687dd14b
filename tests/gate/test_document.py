"""From a run's artefacts to the document: what is in it, and when that of an earlier try stays."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ltr_pipeline.gate.document import frozen
from ltr_pipeline.scoring.calibration import Calibration
from ltr_pipeline.versions import weights
from ltr_pipeline.versions.golden import check_golden
from ltr_pipeline.versions.weights import Weights
from support.documents import document
from support.small import RUN, artefacts, simulate, small_settings, up_to

GATE = {
    "verdict": "publish",
    "policy": {"ndcg_min": 0.65},
    "checks": [{"name": "latency_p95", "status": "pass", "observed": 1.5}],
}
FIRST_TRY = replace(document(), gate=GATE)
FIRST_BYTES = weights.encode(FIRST_TRY)


def judged(**changes: object) -> Weights:
    return replace(FIRST_TRY, gate=GATE | changes)


@given(
    seconds=st.integers(1, 86_400),
    p95=st.floats(0.1, 14),
)
def test_a_second_try_with_other_measurements_and_times_keeps_the_first_bytes(seconds: int, p95: float) -> None:
    again = judged(checks=[{"name": "latency_p95", "status": "pass", "observed": p95}])
    again = replace(again, latency={"p95_ms": p95}, created_at=FIRST_TRY.created_at + dt.timedelta(seconds=seconds))
    assert frozen(FIRST_BYTES, again) == FIRST_BYTES


@pytest.mark.parametrize(
    "other",
    [
        replace(document(high=0.8), gate=GATE),
        judged(verdict="keep"),
        judged(policy={"ndcg_min": 0.7}),
        judged(checks=[{"name": "latency_p95", "status": "fail", "observed": 1.5}]),
        judged(checks=[]),
        replace(FIRST_TRY, calibration=Calibration(positive=1, x=[0.0], y=[0.5])),
    ],
    ids=["model", "verdict", "policy", "status", "checks", "calibration"],
)
def test_another_result_or_judgement_takes_the_place_of_the_first(other: Weights) -> None:
    assert frozen(FIRST_BYTES, other) == weights.encode(other)


@pytest.mark.parametrize("former", [None, b"", FIRST_BYTES[:-20], FIRST_BYTES.replace(b"0.65", b"0.66")])
def test_what_is_not_there_or_not_whole_is_written_anew(former: bytes | None) -> None:
    assert frozen(former, FIRST_TRY) == FIRST_BYTES


def test_the_document_of_a_run_says_what_was_learned_from_what(tmp_path: Path) -> None:
    simulate(tmp_path)
    settings = small_settings(tmp_path)
    up_to("quality_gate", settings)
    files = artefacts(settings)
    found = weights.decode(files["ltr_weights.json"])
    assert (found.version, found.model.text) == (RUN, files["model.txt"].decode())
    assert found.feature_names == list(settings.mapping.features)
    assert found.relevance == settings.mapping.relevance
    assert found.data.window.end == dt.datetime(2025, 7, 15, tzinfo=dt.UTC)
    assert found.data.window.end - found.data.window.start == dt.timedelta(days=settings.window_days)
    assert found.data.train.end == found.data.valid.start < found.data.valid.end == found.data.test.start
    assert {name for name in found.data.hashes if name.endswith(".parquet")} == {
        "labelled-000.parquet",
        "labelled-001.parquet",
    }
    assert found.gate["verdict"] == "publish"
    assert found.champion["kind"] == "legacy_linear"
    assert found.lineage["seed"] == settings.seed
    assert found.lineage["parameters"]["learning_rate"] > 0
    assert set(found.libraries) >= {"lightgbm", "ltr-pipeline"}
    assert len(found.golden) == 5
    assert found.linear.weights.keys() == found.linear.scales.keys() == set(found.feature_names)
    assert found.linear.beats_random
    assert found.latency["p95_ms"] > 0
    assert found.calibration.positive == 2
    assert len(found.calibration.x) > 5
    assert found.calibration.error == json.loads(files["evidence.json"])["reliability"]["error"] < 0.05
    check_golden(found)


def test_the_document_of_a_model_with_categories_says_so_and_scores_as_it_did(tmp_path: Path) -> None:
    simulate(tmp_path)
    log = tmp_path / "audit.log"
    tenths = re.compile(r'(?<="S":)0\.\d+')
    log.write_text(tenths.sub(lambda found: str(int(float(found[0]) * 10)), log.read_text()))
    settings = small_settings(tmp_path, parameters={"categorical_feature": "name:S"})
    up_to("quality_gate", settings)
    found = weights.decode(artefacts(settings)["ltr_weights.json"])
    assert {feature.name: feature.missing for feature in found.features}["S"] == "as an unknown category"
    assert found.lineage["parameters"]["categorical_feature"] == ["S"]
    assert len({item["S"] for golden in found.golden for item in golden.items}) > 5
    check_golden(found)
