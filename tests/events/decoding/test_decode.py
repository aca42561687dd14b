"""Messages become impressions and feedback, or are refused for a reason, by whichever reader they go through."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ltr_pipeline.errors import MappingError
from ltr_pipeline.events import reasons
from ltr_pipeline.events.decoding.arrow import Parser
from ltr_pipeline.events.decoding.decode import Decoded, Decoder
from ltr_pipeline.events.decoding.lines import MAX_DEPTH, lines_in
from ltr_pipeline.events.decoding.vectorised import read_fast
from ltr_pipeline.events.source import MAX_LINE_BYTES
from ltr_pipeline.mapping import Mapping, load_mapping
from ltr_pipeline.schema import COLUMNS
from support.messages import FEATURES, answered, block, flat, item, line, listed, shown, without
from support.programs import CHECKOUT

DEFAULT = load_mapping()
FAST = Decoder(DEFAULT)
STRICT = Decoder(DEFAULT, strict=True)


def as_tuple(decoded: Decoded) -> tuple[Any, ...]:
    """Everything but the sample of unknown features, so that NaN equals NaN."""
    tables = repr(decoded.impressions.to_pylist()), repr(decoded.feedback.to_pylist())
    return (*tables, decoded.quarantined, decoded.ignored, decoded.read, decoded.shadowed)


def decode(*messages: bytes | dict[str, Any], decoder: Decoder = FAST) -> Decoded:
    """Decode lines with both readers, which agree, and account for them."""
    lines = block(*messages)
    decoded = decoder.decode(lines)
    default = decoder.shape.mapping is DEFAULT and decoder.since is None
    strict = STRICT if default else Decoder(decoder.shape.mapping, decoder.since, strict=True)
    assert as_tuple(decoded) == as_tuple(strict.decode(lines))
    landed = decoded.impressions.num_rows + decoded.feedback.num_rows
    assert decoded.read == landed + len(decoded.quarantined) + decoded.ignored.total()
    return decoded


def test_the_nested_form() -> None:
    message = shown(user_id="u-9", fair=0.85, preset="balanced", group="g1", event_id="e-1", available=False)
    (row,) = decode(answered(action="won"), message).impressions.to_pylist()
    assert row == {
        "query_id": "case-1",
        "ranking_id": "case-1|2025-07-15",
        "item_id": "lawyer-1",
        "user_id": "u-9",
        "event_id": "e-1",
        "time": dt.datetime(2025, 7, 15, 10, 30, tzinfo=dt.UTC),
        "position": 1,
        "protected_group": "g1",
        "available": False,
        "policy": None,
        "propensity": None,
        "team": None,
        "shadow": False,
        "as_served": False,
        "label": None,
        **{f"feature_{name}": pytest.approx(value) for name, value in FEATURES.items()},
        "source": "audit.log",
        "partition": 0,
        "offset": len(line(answered(action="won"))) + 1,
        "item_index": 0,
    }


def test_feedback() -> None:
    (row,) = decode(answered(ranking_id="r-1")).feedback.to_pylist()
    assert (row["action"], row["ranking_id"], row["user_id"]) == ("accepted", "r-1", None)
    assert decode(answered()).feedback["ranking_id"].to_pylist() == [None]


def test_the_flat_form() -> None:
    (row,) = decode(flat(rank_position=4)).impressions.to_pylist()
    assert (row["query_id"], row["item_id"], row["label"], row["position"]) == ("case-1", "lawyer-1", 2, 4)
    assert row["feature_S"] == pytest.approx(0.8)


def test_a_list_gives_one_record_an_item() -> None:
    message = listed(
        item("a"), item("b", rank_position=7, group="g"), item("c", user_id="u-2"), user_id="u-1", event_id="e"
    )
    decoded = decode(message)
    assert decoded.read == 3
    columns = ("item_id", "position", "user_id", "protected_group", "event_id", "item_index")
    rows = [tuple(row[name] for name in columns) for row in decoded.impressions.to_pylist()]
    assert rows == [
        ("a", 1, "u-1", None, "e#0", 0),
        ("b", 7, "u-1", "g", "e#1", 1),
        ("c", 3, "u-2", None, "e#2", 2),
    ]


def test_a_bad_item_does_not_spoil_its_list() -> None:
    decoded = decode(listed(item("a"), {"features": FEATURES}, item("c", rank_position=0), "d", item("e")))
    assert decoded.impressions["item_id"].to_pylist() == ["a", "e"]
    assert [(record.item_index, record.reason) for record in decoded.quarantined] == [
        (1, "missing item_id"),
        (2, "impossible position"),
        (3, "wrong type"),
    ]


def test_an_item_takes_features_from_its_message_only_as_a_whole() -> None:
    decoded = decode(listed({"lawyer_id": "a"}, item("b", features={"A": 0.1}), features={"A": 0.5, "S": 0.6}))
    assert decoded.impressions["feature_A"].to_pylist() == pytest.approx([0.5, 0.1])
    assert [math.isnan(value) for value in decoded.impressions["feature_S"].to_pylist()] == [False, True]


def test_forms_mix_in_a_block_and_keep_their_order() -> None:
    decoded = decode(
        listed(item("a"), item("b")), shown(lawyer="c"), b"garbage", listed(item("d")), flat(lawyer_id="e")
    )
    assert decoded.impressions["item_id"].to_pylist() == ["a", "b", "c", "d", "e"]
    assert [record.reason for record in decoded.quarantined] == ["not JSON"]


def test_a_path_may_have_any_name() -> None:
    odd = 'case\x1b[31m "id"\\\n\x7f'
    decoder = Decoder(replace(DEFAULT, fields=DEFAULT.fields | {"query_id": (odd,)}))
    messages = [shown() | {odd: value} for value in ("one", 2, "three", None, [], {}, "four")]
    found = decode(*messages, decoder=decoder)
    assert found.impressions["query_id"].to_pylist() == ["one", "three", "four"]
    assert len(found.quarantined) == 4


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2025-07-15T10:30:00Z", "2025-07-15T10:30:00"),
        ("2025-07-15T10:30:00.5+02:00", "2025-07-15T08:30:00.500"),
        ("2025-07-15T23:30:00-05:30", "2025-07-16T05:00:00"),
        ("2025-07-15T10:30:00.123456789Z", "2025-07-15T10:30:00.123456"),
    ],
)
def test_times_of_any_offset(text: str, utc: str) -> None:
    (row,) = decode(shown(time=text)).impressions.to_pylist()
    assert row["time"] == dt.datetime.fromisoformat(utc).replace(tzinfo=dt.UTC)
    assert row["ranking_id"] == f"case-1|{utc[:10]}"


def test_a_bad_time_among_many_good_ones() -> None:
    messages = [shown(lawyer=f"l-{index}", time=f"2025-07-15T10:{index:02d}:00Z") for index in range(60)]
    messages[41]["timestamp"] = "2025-07-15T10:41:00"
    decoded = decode(*messages)
    assert decoded.impressions["time"].to_pylist()[41].minute == 42
    assert decoded.quarantined[0].detail.startswith("time is '2025-07-15T10:41:00'; expected an RFC 3339 time with its")


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbf" + line(shown()),
        line(shown()) + b"\r",
        b"  " + line(shown()) + b" ",
        line(shown(rank_position=1.0)),
        line(shown(case="case-1", x="\u00e9\u4e2d\U0001f600")),
        json.dumps(shown(x="\u00e9\u4e2d\U0001f600"), ensure_ascii=False).encode(),
        line(shown()).replace(b'"case_id"', b'"case_\\u0069d"'),
        line(shown(unread=math.nan)),
        line(shown())[:-1] + b', "unread": 1e999, "another": ' + b"9" * 5000 + b"}",
        line(shown())[:-1] + b', "deep": ' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}",
        line(shown(text="[" * 1000)),
        line(shown(text="x" * (MAX_LINE_BYTES - 1000))),
        line(shown(available=None, user_id=None, label=None)),
        line(shown(user_id="")),
    ],
    ids=lambda text: text[:10] + text[-20:],
)
def test_what_the_format_allows(text: bytes) -> None:
    assert decode(text).impressions.num_rows == 1


def test_a_missing_feature_is_nan_and_zero_has_no_sign() -> None:
    (row,) = decode(shown(features={"A": None, "S": -0.0, "T": 0})).impressions.to_pylist()
    assert math.isnan(row["feature_A"])
    assert math.isnan(row["feature_C"])
    assert math.copysign(1, row["feature_S"]) == 1


REFUSED: list[tuple[bytes, str]] = [
    (line(shown())[:-30], "not JSON"),
    (b'{"message": "match_recommendation"}}', "not JSON"),
    (line(shown()) * 2, "not JSON"),
    (line(shown()) + b"," + line(shown()), "not JSON"),
    (b"2025-07-15 10:30:00 INFO started", "not JSON"),
    (b'{"message": "match_recommendation", "x": tru}', "not JSON"),
    (b'{"message": "match_recommendation", "x": "\\ud800"}', "not JSON"),
    (b'{"message": "match_recommendation", "x": "a\x00b"}', "not JSON"),
    (b"\x00\x01\x02\x80\xff", "not UTF-8"),
    (line(shown()).replace(b"case-1", b"case-\xff"), "not UTF-8"),
    (json.dumps(shown(), ensure_ascii=False).replace("case-1", "caf\u00e9").encode("latin-1"), "not UTF-8"),
    (b'["match_recommendation"]', "not an object"),
    (b"17", "not an object"),
    (line(shown(text="x" * MAX_LINE_BYTES)), "line over 1 MiB"),
    (line(shown())[:-1] + b', "deep": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "nested too deep"),
    (b"[" * 100_000, "nested too deep"),
    (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deep"),
    (line(shown(case=17)), "wrong type"),
    (line(shown(features={"A": "1.0"})), "wrong type"),
    (line(shown(features={"A": True})), "wrong type"),
    (line(shown(features=[1.0, 0.8])), "wrong type"),
    (line(shown(rank_position="1")), "wrong type"),
    (line(shown(available="false")), "wrong type"),
    (line(shown() | {"timestamp": 1752575400}), "wrong type"),
    (line(listed() | {"items": {"lawyer_id": "a"}}), "wrong type"),
    (line(without(shown(), "context", "case_id")), "missing query_id"),
    (line(shown(case="")), "missing query_id"),
    (line(shown() | {"context": "text"}), "missing query_id"),
    (line(without(shown(), "context", "lawyer_id")), "missing item_id"),
    (line(without(shown(), "timestamp")), "missing time"),
    (line(without(flat(), "timestamp")), "missing time"),
    (line(without(shown(), "context", "features")), "missing features"),
    (line(without(answered(), "context", "action")), "missing action"),
    (line(shown(time="2025-07-15T10:30:00")), "bad time"),
    (line(shown(time="yesterday")), "bad time"),
    (line(shown(time="2025-02-30T10:30:00Z")), "bad time"),
    (line(shown(time="1970-01-01T00:00:00Z")), "bad time"),
    (line(shown(time="2999-01-01T00:00:00Z")), "bad time"),
    (line(shown(rank_position=0)), "impossible position"),
    (line(shown(rank_position=-3)), "impossible position"),
    (line(shown(rank_position=1.7)), "impossible position"),
    (line(shown(rank_position=10_001)), "impossible position"),
    (line(shown(rank_position=math.nan)), "impossible position"),
    (line(flat(label=4)), "impossible label"),
    (line(flat(label=-1)), "impossible label"),
    (line(answered(rating=0)), "impossible rating"),
    (line(answered(rating=6)), "impossible rating"),
    (line(answered(rating=4.5)), "impossible rating"),
    (line(answered(rating=math.nan)), "impossible rating"),
    (line(answered(rating="5")), "wrong type"),
    (line(answered(rating=True)), "wrong type"),
    (line(shown(as_served="yes")), "wrong type"),
    (line(shown(propensity=0)), "impossible propensity"),
    (line(shown(propensity=1.5)), "impossible propensity"),
    (line(answered(action="liked")), "unknown action"),
    (line(answered(action="liked", rating=None)), "unknown action"),
    (line(shown(features={"A": math.nan})), "not a finite number"),
    (line(shown(features={"A": -math.inf})), "not a finite number"),
    (line(shown(features={"A": 1e39})), "not a finite number"),
    (line(shown(features={"A": 5})).replace(b"5}", b"1e999}"), "not a finite number"),
    (line(shown(features={"A": 5})).replace(b"5}", b"9" * 400 + b"}"), "not a finite number"),
    (line(listed(*[item("a", features={})] * 10_001)), "too many items"),
]


@pytest.mark.parametrize(
    ("text", "reason"), REFUSED, ids=[f"{reason}-{index}" for index, (_, reason) in enumerate(REFUSED)]
)
def test_what_is_quarantined(text: bytes, reason: str) -> None:
    decoded = decode(shown(), text, shown())
    assert decoded.impressions.num_rows == 2
    (record,) = decoded.quarantined
    assert (record.reason, record.offset, record.item_index) == (reason, len(line(shown())) + 1, 0)
    assert record.excerpt == text[:200].decode("utf-8", "replace")
    assert len(record.detail) > 10


def test_a_rating_lands_beside_any_action_and_without_one() -> None:
    ratings = [
        answered(rating=5),
        answered(rating=1.0, action="rated"),
        without(answered(rating=3), "context", "action"),
        answered(rating=2, action=""),
        {**flat(), "message": "offer_feedback", "action": "won", "rating": 4},
    ]
    decoded = decode(*ratings)
    assert decoded.quarantined == []
    assert [(row["action"], row["rating"]) for row in decoded.feedback.to_pylist()] == [
        ("accepted", 5),
        ("rated", 1),
        (None, 3),
        (None, 2),
        ("won", 4),
    ]


def test_the_rating_of_an_impression_is_no_concern() -> None:
    decoded = decode(shown(rating="five stars"), shown(rating=9), listed(item("a", rating=4.8)))
    assert (decoded.impressions.num_rows, decoded.quarantined) == (3, [])


def test_a_list_says_once_that_it_was_logged_as_served() -> None:
    decoded = decode(listed(item("a"), item("b"), as_served=True), listed(item("a")), shown(as_served=False))
    assert decoded.impressions["as_served"].to_pylist() == [True, True, False, False]


def test_unrelated_messages_are_ignored_whatever_they_hold() -> None:
    unrelated = [
        {"message": "login", "context": "text"},
        {"message": 17, "context": {"case_id": 5}},
        {"no": "kind"},
        {"message": "login", "score": math.nan},
        {"message": None, "event": None},
    ]
    decoded = decode(*unrelated, shown())
    assert decoded.impressions.num_rows == 1
    assert decoded.ignored == {"unrelated message": 5}


def test_empty_lines_are_no_records_and_empty_lists_are_ignored() -> None:
    decoded = decode(b"", shown(), b"\r", listed(), b" \t ", b"")
    assert (decoded.read, decoded.ignored) == (2, {"list without items": 1})
    assert decode().read == 0


def test_records_older_than_the_window_are_ignored_but_bad_ones_quarantined() -> None:
    since = Decoder(DEFAULT, dt.datetime(2025, 7, 15, 11, tzinfo=dt.UTC))
    decoded = decode(
        shown(), answered(), shown(rank_position=0), shown(time="2025-07-15T13:00:00+02:00"), decoder=since
    )
    assert decoded.ignored == {"older than the window": 1}
    assert (decoded.impressions.num_rows, decoded.feedback.num_rows, len(decoded.quarantined)) == (1, 1, 1)


def test_unknown_features_are_named() -> None:
    decoded = decode(shown(features=FEATURES | {"new": 0.5, "note": "text"}), listed(item("a", features={"Z": 1})))
    assert decoded.unknown_features == {"new", "Z"}


def test_kinds_that_are_ignored_are_named() -> None:
    decoded = decode(shown(), answered(), {"message": "heartbeat"}, {"level": "info"}, "not an object")
    assert decoded.unknown_kinds == {"heartbeat", "(none)"}


DOCS = (CHECKOUT / "docs" / "events.md").read_text()
PRODUCTS, TABLES = re.findall(r"```toml\n(.*?)```", DOCS, re.DOTALL)


def documented(text: str) -> list[dict[str, Any]]:
    """Messages of an example, which are wrapped there."""
    messages = []
    while text.strip():
        message, end = json.JSONDecoder().raw_decode(text.lstrip())
        messages.append(message)
        text = text.lstrip()[end:]
    return messages


def test_the_documented_messages_are_read() -> None:
    nested, other, rated, search = re.findall(r"```json\n(.*?)```", DOCS, re.DOTALL)
    landed = decode(*documented(nested), *documented(other), *documented(rated))
    assert (landed.impressions.num_rows, landed.feedback.num_rows, landed.quarantined) == (4, 3, [])
    assert landed.feedback["rating"].to_pylist() == [None, 5, 2]
    assert decode(*documented(search)).ignored == {"unrelated message": 2}


NUMBERED = 'user_id is a number, not text; set ids = "text or number" in the mapping if that is meant'


@pytest.mark.parametrize(
    ("fields", "first"),
    [
        ({"shadow": 1, "propensity": "x", "label": "x", "team": 1, "user_id": 1}, NUMBERED),
        ({"shadow": 1, "propensity": "x", "label": "x", "team": 1}, "team is a number, not text"),
        ({"shadow": 1, "propensity": "x", "label": "x"}, "label is text, not a number"),
        ({"shadow": 1, "propensity": "x"}, "propensity is text, not a number"),
        ({"propensity": 7, "label": 7}, "label is 7; expected a whole number from 0 to 3"),
    ],
)
def test_of_several_wrong_fields_the_first_is_named(fields: dict[str, Any], first: str) -> None:
    assert [refused.detail for refused in decode(shown(**fields)).quarantined] == [first]


def test_every_reason_is_documented_and_no_other() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| [^|]+ \|$", DOCS, re.MULTILINE)
    words = [value for name, value in vars(reasons).items() if name.isupper() and isinstance(value, str)]
    words += [reasons.impossible(column.name) for column in COLUMNS if column.wire in ("whole", "number")]
    assert sorted(rows) == sorted(words)
    assert {reason for _, reason in REFUSED} | {
        "unrelated message",
        "list without items",
        "older than the window",
        "tombstone",
        "empty message",
    } == set(rows)


@pytest.fixture
def products(tmp_path: Path) -> Mapping:
    path = tmp_path / "products.toml"
    path.write_text(PRODUCTS)
    return load_mapping(path)


def test_another_domain_by_a_mapping_file(products: Mapping) -> None:
    results, order = documented(re.findall(r"```json\n(.*?)```", DOCS, re.DOTALL)[-1])
    results["payload"]["hits"][0] |= {"margin": 0.2, "rank": 3}
    decoded = decode(results, order, decoder=Decoder(products))
    rows = decoded.impressions.select(["query_id", "item_id", "user_id", "position", "feature_bm25"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [("s-1", "p-1", "v-1", 1, 12.5), ("s-1", "p-2", "v-1", 2, 11.0)]
    assert math.isnan(decoded.impressions["feature_rating"][0].as_py())
    assert decoded.feedback.select(["item_id", "action"]).to_pylist() == [{"item_id": "p-2", "action": "order"}]
    assert decoded.unknown_features == {"margin", "rank"}


def test_features_of_tables_are_not_read_of_messages_nor_missed_on_the_allow_list(tmp_path: Path) -> None:
    (tmp_path / "products.toml").write_text(PRODUCTS + TABLES)
    mapping = load_mapping(tmp_path / "products.toml")
    assert mapping.model_features == ("bm25", "price", "rating", "competitor_price", "stock")
    results, _ = documented(re.findall(r"```json\n(.*?)```", DOCS, re.DOTALL)[-1])
    results["payload"]["hits"][0] |= {"margin": 0.2, "stock": 3}
    decoded = decode(results, decoder=Decoder(mapping))
    assert decoded.unknown_features == {"margin"}
    assert "feature_stock" not in decoded.impressions.column_names


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('action = ["type"]', 'action = ["type"]\nposition = ["type"]'),
        ('user_id = ["session.visitor.id"]', 'user_id = ["payload"]'),
        ('user_id = ["session.visitor.id"]', 'user_id = ["session..id"]'),
        ('user_id = ["session.visitor.id"]', 'user_id = [""]'),
    ],
)
def test_paths_that_contradict_each_other(old: str, new: str, tmp_path: Path) -> None:
    (tmp_path / "products.toml").write_text(PRODUCTS.replace(old, new))
    with pytest.raises(MappingError, match=r"in two ways|is not a path"):
        Decoder(load_mapping(tmp_path / "products.toml"))


OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "ids": {"ids": "text or number"},
    "seconds": {"time_unit": "seconds"},
    "milliseconds": {"time_unit": "milliseconds"},
    "pairs": {"features_as": "pairs"},
    "flags": {"flags": "1 or 0"},
    "all": {"ids": "text or number", "time_unit": "seconds", "features_as": "pairs", "flags": "1 or 0"},
}
MAPPINGS = {name: replace(DEFAULT, **options) for name, options in OPTIONS.items()}
SECONDS = 1_752_575_400  # shown()'s time


def pairs(features: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in features.items()]


def written(message: Any, mapping: Mapping) -> Any:
    """The message as a mapping's options have it written."""
    if isinstance(message, list):
        return [written(part, mapping) for part in message]
    if not isinstance(message, dict):
        return message
    message = {name: written(value, mapping) for name, value in message.items()}
    if "timestamp" in message and mapping.time_unit != "RFC 3339":
        message["timestamp"] = SECONDS * (1 if mapping.time_unit == "seconds" else 1000)
    if mapping.features_as == "pairs" and isinstance(message.get("features"), dict):
        message["features"] = pairs(message["features"])
    return message


def by(option: str) -> Decoder:
    return Decoder(MAPPINGS[option])


def detail(message: Any, option: str = "default") -> str:
    """Why a message is refused by a mapping with an option."""
    (refused,) = decode(message, decoder=by(option)).quarantined
    return refused.detail


MEANT = "in the mapping if that is meant"


def test_ids_may_be_numbers() -> None:
    numbers = {"user_id": 9, "ranking_id": 0, "event_id": 2**70, "group": -1}
    message = shown(case=12, lawyer=34, **numbers)  # type: ignore[arg-type]
    (row,) = decode(message, decoder=by("ids")).impressions.to_pylist()
    names = ("query_id", "item_id", "user_id", "ranking_id", "event_id", "protected_group")
    assert [row[name] for name in names] == ["12", "34", "9", "0", str(2**70), "-1"]
    inside = listed(item("a") | {"lawyer_id": 7}, event_id=5) | {"case_id": 8}
    (row,) = decode(inside, decoder=by("ids")).impressions.to_pylist()
    assert (row["item_id"], row["query_id"], row["event_id"]) == ("7", "8", "5#0")
    near_nan = line(message)[:-1] + b', "unread": NaN}'  # parsed in another way
    assert decode(near_nan, decoder=by("ids")).impressions["query_id"].to_pylist() == ["12"]


@pytest.mark.parametrize("value", [1.5, 12.0, math.nan, math.inf, 1e300, int("9" * 500), True, [12]])
def test_what_is_no_id_is_refused(value: Any) -> None:
    said = detail(line(shown(case="?")).replace(b'"?"', json.dumps(value).encode()), "ids")
    assert re.match(r"query_id is .*, not text", said)


def test_an_id_of_an_item_that_is_that_of_its_message_in_another_form_hides_nothing() -> None:
    message = listed(item("a", user_id=9), item("b", user_id="8"), user_id="9")
    assert decode(message, decoder=by("ids")).shadowed == {"user_id": 1}
    message = listed(item("a", user_id="9"), item("b", user_id=8), user_id=9)
    assert decode(message, decoder=by("ids")).shadowed == {"user_id": 1}


@pytest.mark.parametrize(
    ("option", "value", "utc"),
    [
        ("seconds", 1752575400, "2025-07-15T10:30:00"),
        ("seconds", 1752575400.123456, "2025-07-15T10:30:00.123456"),
        ("milliseconds", 1752575400123, "2025-07-15T10:30:00.123"),
        ("milliseconds", 1752575400000.5, "2025-07-15T10:30:00.000500"),
    ],
)
def test_times_may_be_numbers(option: str, value: float, utc: str) -> None:
    (row,) = decode(shown() | {"timestamp": value}, decoder=by(option)).impressions.to_pylist()
    assert row["time"] == dt.datetime.fromisoformat(utc).replace(tzinfo=dt.UTC)
    assert row["ranking_id"] == "case-1|2025-07-15"
    since = Decoder(MAPPINGS[option], row["time"] + dt.timedelta(microseconds=1))
    assert decode(shown() | {"timestamp": value}, decoder=since).ignored == {"older than the window": 1}


@pytest.mark.parametrize("value", [0, -1, 1752575400123, 1e400, math.nan, 2**63, 10**400])
def test_times_that_are_out_of_reach(value: float) -> None:
    said = detail(shown() | {"timestamp": value}, "seconds")
    assert said.startswith("time is ")
    assert said.endswith("; expected seconds since 1970, 2000 to 2099")


def test_features_may_be_pairs() -> None:
    both = [*pairs({"A": 0.5, "S": None, "new": 1.5}), None, {"value": 7}, {"name": "T"}]
    decoded = decode(
        shown(features=both), shown(features=[]), shown(features=pairs({"C": 2})), decoder=(decoder := by("pairs"))
    )
    assert decoded.impressions["feature_A"].to_pylist()[0] == 0.5
    assert [value for value in decoded.impressions["feature_C"].to_pylist() if not math.isnan(value)] == [2]
    assert decoded.impressions["feature_S"].is_null(nan_is_null=True).to_pylist() == [True] * 3
    assert decoded.unknown_features == {"new"}
    message = listed(item("a", features=pairs({"A": 1})), item("b", features=None), item("c", features=pairs({"S": 2})))
    rows = decode(message | {"features": pairs({"A": 3, "S": 4})}, message, decoder=decoder).impressions.to_pylist()
    assert [(row["feature_A"], row["feature_S"]) for row in rows[:2]] == [
        (1, pytest.approx(math.nan, nan_ok=True)),
        (3, 4),
    ]
    assert len(rows) == 5


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (pairs({"A": 1}) * 2, "feature A is given twice"),
        (pairs({"A": "1"}), "feature A is text, not a number"),
        ([{"name": 1, "value": 1}], "the name of a feature is a number, not text"),
        ([["A", 1]], "a feature is a list, not an object of name and value"),
        (
            FEATURES,
            'the features are an object, not a list; set features_as = "object" in the mapping if that is meant',
        ),
    ],
)
def test_what_is_no_pair_is_refused(features: Any, said: str) -> None:
    assert detail(shown(features=features), "pairs") == said


def test_true_and_false_may_be_features() -> None:
    decoded = decode(shown(features={"A": True, "S": False, "T": 0.5}), decoder=by("flags"))
    assert decoded.impressions.select(["feature_A", "feature_S", "feature_T"]).to_pylist() == [
        {"feature_A": 1, "feature_S": 0, "feature_T": 0.5}
    ]


@pytest.mark.parametrize(
    ("message", "option"),
    [
        (shown(user_id=9), 'set ids = "text or number"'),
        (shown() | {"timestamp": SECONDS}, 'set time_unit = "seconds" or "milliseconds"'),
        (shown(features=pairs(FEATURES)), 'set features_as = "pairs"'),
        (shown(features={"A": True}), 'set flags = "1 or 0"'),
    ],
)
def test_a_refusal_names_the_option_that_would_take_it(message: Any, option: str) -> None:
    assert detail(message).endswith(f"; {option} {MEANT}")


def wrapped(text: str, **fields: Any) -> bytes:
    """A line as Docker's json-file driver writes it."""
    envelope = {"log": text, "stream": "stdout", "time": "2025-07-15T10:30:00.1Z"} | fields
    return json.dumps(envelope, separators=(",", ":")).encode()


def test_dockers_envelope_is_taken_off() -> None:
    text = line(shown()).decode()
    decoded = decode(
        wrapped(f"{text}\n"),
        shown(lawyer="b"),
        wrapped(f"{text}\r\n", attrs={"tag": "api"}),
        wrapped("INFO: started\n"),
        wrapped("\n"),
        wrapped('{"message": "login"}\n'),
    )
    assert decoded.impressions["item_id"].to_pylist() == ["lawyer-1", "b", "lawyer-1"]
    assert decoded.ignored == {"unrelated message": 3}
    assert decoded.unknown_kinds == {"login"}
    (cut,) = decode(wrapped(text[:90])).quarantined
    assert (cut.reason, "cut after 16 KiB" in cut.detail) == ("not JSON", True)
    other = {"log": "text", "stream": 1, "time": 2, "level": 3}
    assert decode(other, {"log": {}, "stream": 1, "time": 2}).ignored == {"unrelated message": 2}


ARRAY = json.dumps([shown(), shown()])


@pytest.mark.parametrize(
    ("text", "reason", "named"),
    [
        (ARRAY.encode(), "not an object", "a JSON array over the whole file"),
        (ARRAY.replace(", {", ",\n{").encode(), "not JSON", "a JSON array over the whole file"),
        (json.dumps([shown()], indent=1).encode(), "not JSON", "JSON over several lines"),
        (line(shown()).decode().encode("utf-16"), "not UTF-8", "UTF-16"),
        ((line(shown()).decode() + "\n").encode("utf-16-be") * 2, "not UTF-8", "UTF-16"),
        (b"timestamp,message,case_id,lawyer_id\n2025-07-15,match,a,b", "not JSON", "comma-separated values (CSV)"),
        (b"PK\x03\x04" + b"\x80" * 9, "not UTF-8", "zip archive"),
        (b"[" + line(shown()) + b"," + b" " * MAX_LINE_BYTES, "line over 1 MiB", "a JSON array over the whole file"),
    ],
)
def test_other_forms_of_a_whole_file_are_refused_by_name(text: bytes, reason: str, named: str) -> None:
    refused = decode(*text.split(b"\n")).quarantined
    assert refused[0].reason == reason
    assert any(named in record.detail for record in refused)
    assert len({record.detail for record in refused}) <= 3


# The readers must agree on any line. Lines are messages with some fields changed, then some bytes.

TIMES = [SECONDS, 1000 * SECONDS, SECONDS + 0.123456, float(SECONDS), 2**53, 1e18]
SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from([0, 1, 10_000, 10_001, 1.5, -0.0, 1e39, 10**400, 2**63, 1.7976931348623157e308]),
    st.sampled_from(TIMES),
    st.text(max_size=5),
    st.sampled_from(["", "case-1", "accepted", "match", "offer_feedback", "2025-07-15T10:30:00+02:00", "2025-07-15"]),
)
NAMES = st.sampled_from(["A", "lawyer_id", "x", "y"])
VALUES = st.one_of(
    SCALARS,
    st.recursive(
        SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2), max_leaves=5
    ),
    st.just(FEATURES),
    st.lists(st.just(item("b")), max_size=2),
    st.lists(st.fixed_dictionaries({}, optional={"name": NAMES | SCALARS, "value": SCALARS}) | SCALARS, max_size=3),
)
MESSAGES = st.sampled_from(
    [
        shown(),
        answered(),
        flat(),
        listed(item("a"), item("b", rank_position=4)),
        {"message": "login"},
        shown(event_id="e"),
    ]
)
PATHS = st.sampled_from(
    [
        (name,)
        for name in ("message", "event", "timestamp", "context", "items", "case_id", "lawyer_id", "features", "label")
    ]
    + [
        ("context", name)
        for name in ("case_id", "lawyer_id", "rank_position", "features", "action", "available", "items")
    ]
    + [("context", name) for name in ("event_id", "propensity", "shadow", "label", "timestamp", "unread")]
    + [
        ("extra",),
        ("context", "features", "A"),
        ("items", "0"),
        ("items", "0", "lawyer_id"),
        ("items", "1", "features"),
        ("items", "0", "features", "0", "value"),
        ("context", "features", "0"),
        ("context", "features", "1", "name"),
        ("context", "user_id"),
        ("user_id",),
        ("items", "0", "user_id"),
    ]
)


def changed(message: Any, path: tuple[str, ...], value: Any) -> Any:
    """The message with another value at a path, as far as there is such a path."""
    if not path:
        return value
    head, *rest = path
    if isinstance(message, list):
        return [changed(old, tuple(rest), value) if str(index) == head else old for index, old in enumerate(message)]
    if not isinstance(message, dict):
        return message
    return message | {head: changed(message.get(head, {} if rest else None), tuple(rest), value)}


@st.composite
def lines(draw: st.DrawFn, mapping: Mapping = DEFAULT) -> bytes:
    """A line that is a message, or nearly."""
    message = written(draw(MESSAGES), mapping)
    for path, value in draw(st.lists(st.tuples(PATHS, VALUES), max_size=3)):
        message = changed(message, path, value)
    text = json.dumps(
        message, ensure_ascii=draw(st.booleans()), separators=draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    )
    data = text.encode("utf-8", "surrogatepass")
    if draw(st.sampled_from([False] * 9 + [True])):
        data = wrapped(data.decode("utf-8", "replace") + draw(st.sampled_from(["\n", "\n", ""])))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.sampled_from([start, start, start + 1, start + 3, len(data)]))
        piece = draw(
            st.sampled_from(
                [b"", b'"', b"{", b"}", b"]", b",", b"\x00", b"\xff", b"\\", b"1", b"NaN", b"Inf", b"{}", b'"a":1,']
            )
        )
        data = data[:start] + piece + data[end:]
    return (
        draw(st.sampled_from([b"", b"", b"", b"\xef\xbb\xbf", b" "])) + data + draw(st.sampled_from([b"", b"", b"\r"]))
    )


def agree(before: dict[str, Any], texts: list[bytes], mapping: Mapping) -> None:
    narrowed = Decoder(mapping)
    decode(before, decoder=narrowed)  # from now on it looks for the fields of this message
    decode(*texts, decoder=narrowed)
    fresh = Decoder(mapping)
    for text in texts:
        decode(text, decoder=narrowed)
        decode(text, decoder=fresh)


@given(MESSAGES, st.lists(lines(), min_size=1, max_size=4))
def test_both_readers_agree(before: dict[str, Any], texts: list[bytes]) -> None:
    agree(before, texts, DEFAULT)


@pytest.mark.parametrize("option", [name for name in OPTIONS if name != "default"])
@given(MESSAGES, st.data())
def test_both_readers_agree_whatever_the_options(option: str, before: dict[str, Any], data: st.DataObject) -> None:
    mapping = MAPPINGS[option]
    texts = data.draw(st.lists(lines(mapping), min_size=1, max_size=4))
    agree(written(before, mapping), texts, mapping)


@pytest.mark.parametrize("option", OPTIONS)
def test_the_fast_reader_takes_every_form(option: str) -> None:
    """Otherwise the tests above would hold by the strict reader alone."""
    shape = by(option).shape
    for plain in (shown(), answered(), flat(), listed(item("a")), {"message": "login"}):
        message = written(plain, shape.mapping)
        parser = Parser(shape.wire)
        assert read_fast(lines_in(block(message)), shape, parser.parse_all).read == 1
        assert read_fast(lines_in(block(message)), shape, parser.parse).read == 1


def test_fields_that_come_later_are_found() -> None:
    first = shown(features={})
    decoder = Decoder(DEFAULT)
    for message in (
        first,
        shown(ranking_id=None, extra=1),
        shown(ranking_id="r-1", extra="text"),
        listed(),
        listed(item("a", team="t")),
        flat(),
        answered(case="case-2"),
        first | {f"key-{index}": index for index in range(100)},
        *(shown(extra=value) for value in ("text", 1, None, [], "text", {"a": 1})),
        shown(policy="p"),
    ):
        decode(message, message, decoder=decoder)
        decode(message, message, shown(extra=7), decoder=decoder)


@pytest.mark.parametrize("bad", [1, 3, 40])
def test_bad_lines_do_not_slow_the_others_down(bad: int) -> None:
    messages = [shown(lawyer=f"l-{index}") for index in range(500)]
    for index in range(bad):
        messages[100 + 7 * index]["context"]["rank_position"] = "first"
    parts = list(Decoder(DEFAULT)._parts(lines_in(block(*messages, b"{"))))
    assert [part.table.num_rows for part in parts if part.table.num_rows] == [500 - bad]
    decode(*messages, b"{", decoder=Decoder(DEFAULT))


def test_fields_of_no_concern_may_change_their_type() -> None:
    decoder = Decoder(DEFAULT)
    for _ in range(10):
        messages = [shown(extra=value) for value in (1, "text", {"a": 1}, [None]) * 5]
        assert decode(*messages, decoder=decoder).impressions.num_rows == 20
    assert len(list(decoder._parts(lines_in(block(*messages))))) == 1  # read fast by now
