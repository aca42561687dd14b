"""What the service writes is what the nightly run reads, whatever the mapping; nothing is quarantined."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ltr_pipeline.errors import RequestError, SettingsError
from ltr_pipeline.events.decoding.decode import Decoder
from ltr_pipeline.mapping import Mapping, load_mapping
from ltr_pipeline.scoring.kernel import load
from ltr_pipeline.scoring.reading import Rows
from ltr_pipeline.serving.eventlog import encode
from ltr_pipeline.serving.eventlog.encode import (
    LONGEST_MESSAGE,
    AnsweredList,
    Encoder,
    Interaction,
    new_request_id,
    query_of,
)
from ltr_pipeline.serving.wire import RankCandidate
from support import forests
from support.lists import listed as a_list
from support.messages import block

LAWYERS = load_mapping()
SEARCH = msgspec.toml.decode(
    """
    kind = ["type"]
    impression_kinds = ["search.results"]
    feedback_kinds = ["click", "order"]
    items = ["payload.hits"]
    features = ["bm25", "price", "rating"]
    [fields]
    query_id = ["payload.search"]
    item_id = ["sku", "payload.sku"]
    user_id = ["session.visitor.id"]
    time = ["meta.at"]
    features = [""]
    action = ["type"]
    [relevance]
    click = 1
    order = 3
    """,
    type=Mapping,
)
SINGLY = msgspec.toml.decode(
    """
    kind = ["k"]
    impression_kinds = ["shown"]
    feedback_kinds = ["did"]
    features = ["x", "y"]
    [fields]
    query_id = ["q"]
    item_id = ["item.id"]
    time = ["t"]
    features = ["item.f", "f"]
    position = ["item.at"]
    action = ["did"]
    ranking_id = ["r"]
    event_id = ["e"]
    propensity = ["item.p"]
    shadow = ["s"]
    [relevance]
    no = 0
    yes = 1
    """,
    type=Mapping,
)
NUMBERS = {"ids": "text or number", "time_unit": "seconds", "features_as": "pairs", "flags": "1 or 0"}
OF_MESSAGE = {name: tuple(f"$.{path}" for path in LAWYERS.fields[name]) for name in ("query_id", "user_id", "time")}
MAPPINGS = {
    "lawyers": LAWYERS,
    "search": SEARCH,
    "one message an item": SINGLY,
    "as numbers and pairs": replace(LAWYERS, **NUMBERS),
    "milliseconds": replace(SINGLY, time_unit="milliseconds", features_as="pairs"),
    "of the message": replace(LAWYERS, fields=LAWYERS.fields | OF_MESSAGE),
}

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
numbers = st.none() | st.integers(-1000, 1000) | st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def lists(draw: st.DrawFn, mapping: Mapping) -> AnsweredList:
    items = draw(st.lists(texts, min_size=1, max_size=6, unique=True))
    names = st.sampled_from([*mapping.features, "unheard", "sku", "payload", "context"])
    by_name = st.dictionaries(names, numbers)
    in_order = st.lists(numbers, min_size=len(mapping.features), max_size=len(mapping.features))
    given = [draw(by_name | in_order) for _ in items]
    pretty = draw(st.booleans())
    query = draw(texts)
    request_id = new_request_id(query)
    return AnsweredList(
        request_id=request_id,
        event_id=request_id,
        query_id=query,
        user_id=draw(st.none() | texts),
        seconds=draw(st.integers(1_700_000_000_000, 1_800_000_000_000)) / 1000,
        policy=draw(texts),
        shadow=draw(st.booleans()),
        candidates=[
            RankCandidate(
                item_id=item,
                features=msgspec.Raw(json.dumps(features, indent=1 if pretty else None).encode()),
                group=draw(st.none() | texts),
            )
            for item, features in zip(items, given, strict=True)
        ],
        features=mapping.features,
        propensities=draw(st.none() | st.just([0.5] * len(items))),
        teams=draw(st.none() | st.just(["a"] * len(items))),
    )


def decoded(mapping: Mapping, lines: Sequence[bytes]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return what a night reads of the lines, by either reader."""
    for strict in (False, True):
        found = Decoder(mapping, strict=strict).decode(block(*lines))
        assert found.quarantined == []
        assert not +found.ignored
    return pl.from_arrow(found.impressions), pl.from_arrow(found.feedback)  # type: ignore[return-value]


def served(mapping: Mapping, candidate: RankCandidate) -> list[float]:
    given = json.loads(bytes(candidate.features))
    by_name = given if isinstance(given, dict) else dict(zip(mapping.features, given, strict=True))
    values = [by_name.get(name) for name in mapping.features]
    return [np.nan if value is None else float(np.float32(value)) + 0.0 for value in values]


@pytest.mark.parametrize("name", MAPPINGS)
@given(data=st.data())
def test_a_night_reads_what_was_shown(name: str, data: st.DataObject) -> None:
    mapping = MAPPINGS[name]
    listed = data.draw(lists(mapping))
    encoder = Encoder(mapping)
    lines, too_long = encoder.impressions(listed)
    assert not too_long
    assert not any(b"\n" in line for line in lines)
    shown, _ = decoded(mapping, lines)
    count = len(listed.candidates)
    assert shown["item_id"].to_list() == [candidate.item_id for candidate in listed.candidates]
    assert shown["query_id"].to_list() == [listed.query_id] * count
    assert (shown["time"].dt.epoch("ms") - round(listed.seconds * 1000)).abs().max() <= 1
    for row, candidate in enumerate(listed.candidates):
        values = [shown[f"feature_{feature}"][row] for feature in mapping.features]
        np.testing.assert_array_equal(np.array(values, float), served(mapping, candidate))
    expected: dict[str, Any] = {
        "ranking_id": [listed.request_id] * count,
        "event_id": [f"{listed.event_id}#{row}" for row in range(count)],
        "user_id": [listed.user_id] * count,
        "policy": [listed.policy] * count,
        "shadow": [listed.shadow] * count,
        "as_served": [True] * count,
        "position": list(range(1, count + 1)),
        "protected_group": [candidate.group for candidate in listed.candidates],
        "propensity": listed.propensities or [None] * count,
        "team": listed.teams or [None] * count,
    }
    for column in expected.keys() - set(encoder.left_out):
        assert shown[column].to_list() == expected[column], column
    if "ranking_id" in encoder.left_out:
        assert shown["ranking_id"][0].startswith(f"{listed.query_id}|20")


@pytest.mark.parametrize("name", MAPPINGS)
@given(data=st.data())
def test_a_night_reads_what_was_done(name: str, data: st.DataObject) -> None:
    mapping = MAPPINGS[name]
    encoder = Encoder(mapping)
    query = data.draw(texts)
    answered = Interaction(
        event_id=data.draw(texts),
        query_id=query,
        request_id=data.draw(st.none() | st.just(new_request_id(query))),
        item_id=data.draw(texts),
        user_id=data.draw(st.none() | texts),
        action=data.draw(st.sampled_from(encoder.actions)),
        seconds=1_752_575_400.25,
        columns={"rating": data.draw(st.none() | st.integers(1, 5))} if encoder.rates else {},
    )
    _, did = decoded(mapping, [encoder.feedback(answered)])
    row = did.row(0, named=True)
    assert (row["query_id"], row["item_id"], row["action"]) == (query, answered.item_id, answered.action)
    assert row["rating"] == answered.columns.get("rating")
    carries = not {"ranking_id", "event_id"} & set(encoder.left_out)
    if carries:
        assert (row["ranking_id"], row["event_id"]) == (answered.request_id, answered.event_id)


@given(texts)
def test_a_request_id_tells_its_query_and_fits(query: str) -> None:
    assert query_of(new_request_id(query)) == query


@pytest.mark.parametrize("foreign", ["x", "case-123", "0" * 32, "0" * 32 + ".", "0" * 32 + ".A", "0" * 32 + ".____"])
def test_other_ids_tell_nothing(foreign: str) -> None:
    assert query_of(foreign) is None


def test_the_longest_query_fits() -> None:
    from ltr_pipeline.serving.wire import LONGEST_REQUEST_ID, LONGEST_TEXT

    assert len(new_request_id("\U0001f600" * LONGEST_TEXT)) <= LONGEST_REQUEST_ID


def listed(items: int, size: int = 10) -> AnsweredList:
    features = msgspec.Raw(json.dumps({"A": 0.5, "x" * size: 1}).encode())
    candidates = [RankCandidate(item_id=f"i{row}", features=features) for row in range(items)]
    return a_list(candidates, features=LAWYERS.features, propensities=[0.5] * items)


def test_a_list_that_is_too_long_for_a_message_becomes_several() -> None:
    lines, too_long = Encoder(LAWYERS).impressions(listed(400, size=5000))
    assert len(lines) > 1 > too_long
    assert max(map(len, lines)) <= LONGEST_MESSAGE
    shown, _ = decoded(LAWYERS, lines)
    assert shown["position"].to_list() == list(range(1, 401))
    assert shown["event_id"].n_unique() == 400


def test_an_item_that_is_too_long_for_any_message_is_left_out() -> None:
    assert Encoder(LAWYERS).impressions(listed(2, size=1_000_000)) == ([], 2)
    short, long = listed(1), listed(1, size=1_000_000)
    mixed = replace(short, candidates=[*short.candidates, *long.candidates], propensities=None)
    lines, too_long = Encoder(LAWYERS).impressions(mixed)
    assert (len(lines), too_long) == (1, 1)


def test_lists_are_named_alike_with_the_kernel_and_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["[0.50,null]", '{"B": 2, "A": 1e3}', "[ -1,\n2 ]"]
    candidates = [RankCandidate(item_id=text, features=msgspec.Raw(text.encode())) for text in given]
    answered = a_list(candidates, features=("A", "B"))
    forests.compiled(tmp_path)
    ways = []
    for rows in (Rows.of(("A", "B"), load(tmp_path)), None):
        monkeypatch.setattr(encode, "_rows", lambda _names, rows=rows: rows)
        ways.append(Encoder(LAWYERS).impressions(answered))
    assert ways[0] == ways[1]
    assert b'"features":{"A":0.50,"B":null}' in ways[0][0][0]


def test_only_what_was_shown_in_its_order() -> None:
    cut, moved = listed(4).only(["i0", "i1"]), listed(4).only(["i2", "i0"])
    assert [candidate.item_id for candidate in moved.candidates] == ["i2", "i0"]
    assert (cut.propensities, moved.propensities) == ([0.5, 0.5], None)
    with pytest.raises(RequestError, match=r"\['i9'\] are not among the 4 items"):
        listed(4).only(["i9"])


def test_a_mapping_without_room_for_an_item_is_refused() -> None:
    fields = SINGLY.fields | {"item_id": ("q",)}
    with pytest.raises(SettingsError, match="item_id has no path of its own"):
        Encoder(replace(SINGLY, fields=fields))


def test_what_a_mapping_cannot_carry_is_known() -> None:
    assert Encoder(LAWYERS).left_out == []
    search = Encoder(SEARCH)
    assert {"ranking_id", "shadow"} <= set(search.left_out)
    assert not search.marks_shadow
    assert search.actions == ("click", "order")
    assert (Encoder(LAWYERS).rates, search.rates, Encoder(SINGLY).rates) == (True, False, False)


RATED = replace(
    SEARCH, fields=SEARCH.fields | {"rating": ("payload.stars",)}, feedback_kinds=("click", "order", "rate")
)


def test_where_the_kind_is_the_action_a_rating_needs_a_kind_of_feedback() -> None:
    encoder = Encoder(RATED)
    assert encoder.rates
    assert [encoder.takes(action) for action in ("rate", "review", None)] == [True, False, False]
    assert [Encoder(LAWYERS).takes(action) for action in ("rate", None)] == [True, True]
    alone = Interaction(
        event_id="e",
        query_id="q",
        request_id=None,
        item_id="i",
        user_id=None,
        action="rate",
        seconds=1.8e9,
        columns={"rating": 4},
    )
    _, did = decoded(RATED, [encoder.feedback(alone)])
    assert did.select("action", "rating").rows() == [("rate", 4)]
    _, did = decoded(LAWYERS, [Encoder(LAWYERS).feedback(replace(alone, action=None))])
    assert did.select("action", "rating").rows() == [(None, 4)]
