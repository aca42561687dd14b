"""A name that nobody knows is said with the one that was meant."""

from __future__ import annotations

import time

import msgspec
import pytest

from ltr_pipeline.names import did_you_mean, misspelt, nearest, unknown_keys
from ltr_pipeline.serving.wire import ExplainRequest, FeedbackRequest, RankRequest


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("LTR_THREAD", "LTR_THREADS"),
        ("LTR_WINDOW_DAY", "LTR_WINDOW_DAYS"),
        ("LTR_NUMBER_OF_CATS", None),
        ("LTR_", None),
        ("LTR_ROWS", None),
        ("LTR_S3_BUCKET", "S3_BUCKET"),
        ("ltr_threads", "LTR_THREADS"),
    ],
)
def test_the_nearest_is_the_one_that_was_meant(name: str, meant: str | None) -> None:
    known = ["LTR_THREADS", "LTR_WINDOW_DAYS", "LTR_VALID_DAYS", "LTR_SHOWN", "S3_BUCKET"]
    assert nearest(name, known, "LTR_") == meant
    assert did_you_mean(name, known, "LTR_") == (f"; did you mean {meant}?" if meant else "")


def test_several_names_have_each_its_own() -> None:
    assert misspelt(["prise", "stars", "A"], ["price", "rating", "a"]) == (
        "prise (did you mean price?), stars, A (did you mean a?)"
    )


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        (
            RankRequest,
            {"querry_id": "q"},
            "unknown key 'querry_id'; did you mean query_id? The known keys are query_id",
        ),
        (
            RankRequest,
            {"query_id": "q", "candidates": [{"item_id": "a", "features": {}, "grup": "x"}]},
            "unknown key 'grup' at `$.candidates[0]`; did you mean group? "
            "The known keys are item_id, features, group, available",
        ),
        (FeedbackRequest, {"events": [{"item": "a"}]}, "unknown key 'item' at `$.events[0]`; did you mean item_id? "),
        (ExplainRequest, {"above": {"x": 1}}, "unknown key 'x' at `$.above`. The known keys are item_id, features"),
        (RankRequest, {"x` - at `$.nothing[3]": 1}, "unknown key 'x"),
        (RankRequest, {"query_id": 3}, "Expected `str`, got `int` - at `$.query_id`"),
    ],
)
def test_an_unknown_key_of_a_document_is_told_with_the_known_ones(kind: type, body: object, said: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(msgspec.json.encode(body), type=kind)
    assert unknown_keys(caught.value, kind).startswith(said)


def test_a_name_of_megabytes_costs_nothing_and_is_cut() -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(msgspec.json.encode({"x" * 4_000_000: 1}), type=RankRequest)
    began = time.process_time()
    assert len(unknown_keys(caught.value, RankRequest)) < 250
    assert time.process_time() - began < 1
