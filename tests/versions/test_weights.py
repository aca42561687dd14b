import hmac
import json
import re
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ltr_pipeline.errors import SettingsError, WeightsError
from ltr_pipeline.scoring.calibration import Calibration
from ltr_pipeline.signing import as_keys
from ltr_pipeline.versions.weights import Fallback, Feature, Golden, Window, decode, encode, signing_keys
from support.documents import document, model_text

finite = st.floats(allow_nan=False, allow_infinity=False)
plain_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | finite | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
anything = st.dictionaries(st.text(), plain_json, max_size=3)


@given(
    gate=anything,
    lineage=anything,
    champion=st.none() | anything,
    ndcg=st.none() | finite,
    first=st.floats(0, 1),
    created_at=st.datetimes(timezones=st.just(UTC)),
    values=st.lists(st.none() | finite, min_size=1, max_size=4),
)
def test_every_document_survives_the_round_trip_to_the_bit(gate, lineage, champion, ndcg, first, created_at, values):
    written = replace(
        document(),
        gate=gate,
        lineage=lineage,
        champion=champion,
        created_at=created_at,
        metrics={"ndcg_at_5": {"value": ndcg}},
        linear_weights={"A": first, "S": 1 - first},
        golden=[Golden(query_id="q", items=[{"A": v, "S": 0.5} for v in values], scores=[0.1] * len(values))],
    )
    data = encode(written)
    assert decode(data) == written
    assert encode(decode(data)) == data


def test_bytes_do_not_depend_on_the_order_of_maps():
    shuffled = replace(document(), linear_weights={"S": 0.25, "A": 0.75}, libraries={"b": "1", "a": "2"})
    ordered = replace(document(), linear_weights={"A": 0.75, "S": 0.25}, libraries={"a": "2", "b": "1"})
    assert encode(shuffled) == encode(ordered)


def test_anybody_can_check_the_hash_and_read_the_linear_weights():
    data = encode(document())
    read = json.loads(data)
    content, _, tail = data.rpartition(b',"content_sha256":')
    assert tail == f'"{read["content_sha256"]}"}}'.encode()
    assert sha256(content + b"}").hexdigest() == read["content_sha256"]
    assert read["linear_weights"] == {"A": 0.75, "S": 0.25}


LINEAR = Fallback(
    weights={"A": 1.0, "S": -0.5},
    means={"A": 0.5, "S": 0.5},
    scales={"A": 0.3, "S": 0.2},
    ndcg_at_5={"value": 0.7},
    against_random={"value": 0.2, "low": 0.1, "high": 0.3, "n": 100},
)


def test_a_document_of_a_former_release_has_no_fallback_and_keeps_its_bytes():
    data = encode(document())
    assert b'"linear":' not in data
    assert encode(decode(data)) == data
    assert decode(encode(replace(document(), linear=LINEAR))).linear == LINEAR


CALIBRATION = Calibration(positive=2, x=[-1.0, 0.5], y=[0.05, 0.4], error=0.012)


def test_a_document_of_a_former_release_has_no_calibration_and_keeps_its_bytes():
    data = encode(document())
    assert b'"calibration":' not in data
    assert encode(decode(data)) == data
    whole = encode(replace(document(), calibration=CALIBRATION))
    assert json.loads(whole)["calibration"] == {"positive": 2, "x": [-1.0, 0.5], "y": [0.05, 0.4], "error": 0.012}
    assert decode(whole).calibration == CALIBRATION
    assert decode(whole).identity == document().identity


@pytest.mark.parametrize(
    ("against_random", "beats"), [(None, False), ({"low": 0.001}, True), ({"low": 0.0}, False), ({}, False)]
)
def test_a_fallback_beats_random_where_its_whole_interval_does(against_random, beats):
    assert replace(LINEAR, against_random=against_random).beats_random is beats


@given(st.data())
def test_any_altered_or_missing_byte_is_noticed(data):
    good = encode(document())
    place = data.draw(st.integers(0, len(good) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != good[place]))
    for bad in (good[:place] + bytes([other]) + good[place + 1 :], good[:place], good[place + 1 :]):
        with pytest.raises(WeightsError, match="altered or truncated"):
            decode(bad)


KEY, OTHER_KEY = b"k" * 32, b"o" * 32


def test_anybody_with_the_key_can_check_the_signature():
    data = encode(document(), [KEY, OTHER_KEY])
    content = data.partition(b',"content_sha256":')[0] + b"}"
    assert json.loads(data)["signature"] == f"hmac-sha256:{hmac.new(KEY, content, 'sha256').hexdigest()}"
    assert decode(data, keys=[OTHER_KEY, KEY]) == decode(data) == document()


@given(st.data())
def test_any_altered_byte_of_a_signed_document_is_noticed_by_who_has_the_key(data):
    good = encode(document(), [KEY])
    place = data.draw(st.integers(0, len(good) - 1) | st.integers(len(good) - 100, len(good) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != good[place]))
    for bad in (good[:place] + bytes([other]) + good[place + 1 :], good[:place], good[place + 1 :]):
        with pytest.raises(WeightsError, match=r"altered or truncated|signed by none"):
            decode(bad, keys=[KEY])


def test_who_has_keys_refuses_what_none_of_them_signed():
    with pytest.raises(WeightsError, match="is not signed, but there are keys in LTR_SIGNING_KEY"):
        decode(encode(document()), keys=[KEY])
    with pytest.raises(WeightsError, match="signed by none of the keys in LTR_SIGNING_KEY"):
        decode(encode(document(), [OTHER_KEY]), keys=[KEY])


def test_keys_are_separated_by_white_space_and_long_enough():
    assert signing_keys("") == ()
    assert signing_keys(f" {KEY.decode()}\n{OTHER_KEY.decode()} ") == as_keys((KEY, OTHER_KEY))
    with pytest.raises(SettingsError, match="LTR_SIGNING_KEY: key 2 is shorter than 16 bytes") as caught:
        signing_keys(f"{KEY.decode()} hunter2")
    assert "hunter2" not in str(caught.value)


@given(st.binary(max_size=200))
def test_foreign_bytes_with_a_right_hash_are_refused(content):
    with pytest.raises(WeightsError, match="not a weights document"):
        decode(sealed(b'{"schema_version":1,"x":' + content + b"}"))


def sealed(content: bytes) -> bytes:
    return content[:-1] + b',"content_sha256":"' + sha256(content).hexdigest().encode() + b'"}'


def edited(**changes: object) -> bytes:
    fields = json.loads(encode(document()))
    del fields["content_sha256"]
    return sealed(json.dumps(fields | changes).encode())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 2}, "schema_version 2, but this library reads 1"),
        ({"schema_version": "1"}, "not a weights document"),
        ({"surprise": 1}, "surprise"),
        ({"version": "../../etc"}, "version"),
        ({"created_at": "2025-07-14T02:15:00"}, "created_at"),
        ({"linear_weights": {"A": 0.5, "S": None}}, "linear_weights"),
        ({"golden": []}, "golden"),
    ],
)
def test_what_does_not_fit_the_schema_is_refused_though_the_hash_is_right(changes, message):
    with pytest.raises(WeightsError, match=message):
        decode(edited(**changes))


@pytest.mark.parametrize("value", [b"1e999", b"NaN", b'"\xff"', b"[" * 100_000 + b"]" * 100_000])
def test_numbers_text_and_nesting_that_json_cannot_hold_are_refused(value):
    content = edited(gate={"x": 17}).rpartition(b',"content_sha256"')[0] + b"}"
    with pytest.raises(WeightsError, match="not a weights document"):
        decode(sealed(content.replace(b"17}", value + b"}")))


good = document()
other_text = model_text(high=0.9)
three = model_text(names=("A", "S", "T"))


def model(text: str, **changes: object) -> dict[str, object]:
    return {"model": replace(good.model, text=text, sha256=sha256(text.encode()).hexdigest(), **changes)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": replace(good.model, text=other_text)}, "model.sha256"),
        ({"model": replace(good.model, trees=2)}, "model.trees is 2, but model.text has 1"),
        ({"model": replace(good.model, importance={"Z": 1.0})}, "importance names .'Z'"),
        (model(three), "trained on 'A S T'"),
        (model(model_text().replace("max_feature_idx=1", "max_feature_idx=2")), "max_feature_idx is 2"),
        (model("tree\n"), "trained on 'nothing'"),
        ({"features": [Feature(name="S", missing=""), Feature(name="A", missing="")]}, "trained on 'A S'"),
        ({"golden": [Golden(query_id="q7", items=[{"A": 1.0}], scores=[0.5])]}, "q7 and the features differ in .'S'"),
        ({"golden": [Golden(query_id="q7", items=[{"A": 1.0, "S": 1.0}], scores=[])]}, "q7 has 1 items and 0 scores"),
        ({"golden": [Golden(query_id="q7", items=[], scores=[])]}, "q7 has 0 items"),
        ({"linear_weights": {"A": 1.0}}, "linear_weights and the features differ in .'S'"),
        ({"linear_weights": {"A": 1.25, "S": -0.25}}, "'S'. are negative"),
        ({"linear_weights": {"A": 0.75, "S": 0.24}}, "sum to 0.99"),
        ({"linear_weights": {"A": float("nan"), "S": 1.0}}, r"\$.linear_weights.A is NaN"),
        ({"calibration": replace(CALIBRATION, x=[0.5])}, "calibration has 1 scores and 2 probabilities"),
        ({"calibration": replace(CALIBRATION, x=[], y=[])}, "calibration has 0 scores"),
        ({"calibration": replace(CALIBRATION, x=[0.5, 0.5])}, "calibration.x does not rise"),
        ({"calibration": replace(CALIBRATION, y=[0.4, 0.05])}, "calibration.y falls"),
        ({"calibration": replace(CALIBRATION, y=[0.4, 1.5])}, "leaves 0 to 1"),
        ({"calibration": replace(CALIBRATION, y=[0.4, float("nan")])}, r"calibration.y\[1\] is NaN"),
        ({"calibration": replace(CALIBRATION, error=1.5)}, "calibration.error is 1.5"),
        ({"calibration": replace(CALIBRATION, positive=0)}, "calibration.positive is 0, which every item has"),
        ({"linear": replace(LINEAR, means={"A": 0.5})}, "linear.means and the features differ in .'S'"),
        ({"linear": replace(LINEAR, scales={"A": 0.0, "S": 1.0})}, "linear.scales of .'A'. are not above 0"),
        ({"linear": replace(LINEAR, against_random={"low": "0.1"})}, "linear.against_random.low is not a number"),
        (
            {"golden": [Golden(query_id="q", items=[{"A": 1.0, "S": 1.0}], scores=[float("inf")])]},
            r"scores\[0\] is NaN",
        ),
        ({"metrics": {"ndcg_at_5": {"value": float("nan")}}}, r"\$.metrics.ndcg_at_5.value is NaN"),
        ({"metrics": {}}, "metrics.ndcg_at_5.value"),
        ({"metrics": {"ndcg_at_5": {"value": "0.7"}}}, "metrics.ndcg_at_5.value"),
        ({"label_gain": [0.0, 1.0, 3.0]}, "3 label gains do not cover relevance 3"),
        ({"created_at": datetime(2025, 7, 14, 2, tzinfo=timezone(timedelta(hours=2)))}, "created_at is not UTC"),
        ({"created_at": datetime(2025, 7, 14, 2)}, "created_at"),  # noqa: DTZ001 - the naive time is the case
        ({"data": replace(good.data, test=Window(start=good.data.test.end, end=good.data.test.start))}, "test ends"),
        ({"version": "20250714"}, "version"),
        ({"lineage": {"parent": object()}}, "plain JSON"),
    ],
)
def test_what_contradicts_itself_is_never_written(changes, message):
    with pytest.raises(WeightsError, match=message):
        encode(replace(good, **changes))


def test_identity_is_what_was_learned_not_when_or_how_fast():
    again = replace(
        good, version="20250714_0215_2", created_at=good.created_at + timedelta(hours=1), latency={"p95_ms": 9}
    )
    assert again.identity == good.identity
    assert document(high=0.8).identity != good.identity
    assert replace(good, data=replace(good.data, hashes={"labelled": "1" * 64})).identity != good.identity


def test_a_refresh_has_a_parent_that_is_a_version():
    assert good.parent is None
    assert decode(encode(document(parent="20250713_0215"))).parent == "20250713_0215"
    assert replace(good, lineage={}).parent is None
    for wrong in ("../x", "latest", 20250713):
        with pytest.raises(WeightsError, match=f"lineage.parent is {re.escape(repr(wrong))}, which is no version"):
            encode(replace(good, lineage={"parent": wrong}))


def test_a_model_that_lightgbm_wrote_is_accepted():
    features = np.random.default_rng(0).random((40, 2), dtype=np.float32)
    data = lgb.Dataset(features, (features[:, 0] * 3).astype(int), group=[20, 20], feature_name=["A", "S"])
    booster = lgb.train({"objective": "lambdarank", "verbose": -1, "num_threads": 1, "min_data_in_leaf": 1}, data, 3)
    decode(encode(replace(good, **model(booster.model_to_string(), trees=3))))


def test_the_sample_scores_as_it_says():
    scores = lgb.Booster(model_str=model_text()).predict(np.array([[0.2, np.nan], [0.9, 0.1]]))
    assert scores.tolist() == [0.25, 0.75]
