"""A mapping drafted from logs of several domains: what is chosen, what is said to be unsure, and what reads it."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from ltr_pipeline.draft.drafting import Draft, draft
from ltr_pipeline.draft.sample import sampled
from ltr_pipeline.errors import DraftError
from ltr_pipeline.events.decoding.decode import Decoder
from ltr_pipeline.events.sources.files import FileSource
from ltr_pipeline.mapping import Mapping
from support import domains, servers
from support.messages import answered, block, listed, shown

Messages = Iterable[dict[str, Any]]


def drafted(path: Path) -> Draft:
    return draft(sampled(FileSource(path, closed=True)))


def of(messages: Messages, folder: Path) -> Draft:
    return drafted(domains.written(folder / "log.jsonl", messages))


def read(mapping: Mapping, messages: Messages) -> tuple[int, int, int, int]:
    """How many impressions, interactions, refused and ignored records a mapping makes of messages."""
    found = Decoder(mapping).decode(block(*messages))
    return found.impressions.num_rows, found.feedback.num_rows, len(found.quarantined), found.ignored.total()


def said(draft: Draft, words: str) -> bool:
    return any(words in doubt for doubt in draft.doubts)


def test_a_product_search_with_lists_of_hits(tmp_path: Path) -> None:
    found = of(domains.shop(), tmp_path)
    assert found.mapping == Mapping(
        kind=("type",),
        impression_kinds=("search.results",),
        feedback_kinds=("click", "order"),
        items=("payload.hits",),
        features=("bm25", "price", "in_stock"),
        flags="1 or 0",
        fields={
            "query_id": ("payload.search",),
            "item_id": ("sku", "payload.sku"),
            "user_id": ("session.visitor.id",),
            "time": ("meta.at",),
            "features": ("",),
            "action": ("type",),
        },
        relevance={"click": 1, "order": 3},
    )
    assert read(found.mapping, domains.shop()) == (1200, 240, 0, 29)
    assert "240 of 240 (100 %)" in found.reasons["fields.query_id"]
    assert said(found, "name no query and item that were shown: page.view (29)")
    assert not found.program


@pytest.mark.parametrize("form", ["docker", "gzip", "folder"])
def test_every_form_of_a_log_that_is_read(form: str, tmp_path: Path) -> None:
    log = domains.written(tmp_path / "logs" / "log.jsonl", domains.shop(), wrapped=form == "docker")
    if form == "gzip":
        log.with_suffix(".jsonl.gz").write_bytes(gzip.compress(log.read_bytes()))
        log.unlink()
        log = log.with_suffix(".jsonl.gz")
    assert drafted(log.parent if form == "folder" else log).mapping == of(domains.shop(), tmp_path).mapping


def test_leads_one_message_an_item(tmp_path: Path) -> None:
    found = of(domains.leads(), tmp_path)
    mapping = found.mapping
    assert (mapping.kind, mapping.impression_kinds) == (("event",), ("lead_shown",))
    assert (mapping.ids, mapping.time_unit, mapping.items) == ("text or number", "milliseconds", ())
    assert mapping.features == ("distance_km", "fit")
    assert mapping.fields["query_id"] == ("request_id",)
    assert mapping.fields["item_id"] == ("lead",)
    assert mapping.relevance == {"lead_click": 1, "lead_hired": 3}
    assert "position" not in mapping.fields
    assert said(found, "slot counts from 0")
    assert said(found, "No field is called a user's, by whom intervals cluster; is it contractor?")
    assert read(mapping, domains.leads()) == (1200, 234, 0, 0)


def test_metaranks_form(tmp_path: Path) -> None:
    found = of(domains.metarank(), tmp_path)
    mapping = found.mapping
    assert (mapping.impression_kinds, mapping.feedback_kinds) == (("ranking",), ("interaction",))
    assert (mapping.features_as, mapping.features, mapping.items) == ("pairs", ("fit", "price"), ("items",))
    assert mapping.fields["query_id"] == ("ranking", "$.id")
    assert mapping.fields["item_id"] == ("item", "id")
    assert mapping.fields["action"] == ("type",)
    assert mapping.relevance == {"click": 1, "purchase": 3}
    assert read(mapping, domains.metarank()) == (1200, 200, 0, 60)


def test_lists_known_only_by_what_was_typed_and_by_whom(tmp_path: Path) -> None:
    found = of(domains.searches(), tmp_path)
    assert found.mapping.fields["query_id"] == ("query",)
    assert found.mapping.fields["user_id"] == ("client",)
    assert found.mapping.session_gap_minutes == 30
    assert said(found, "hold several lists")
    assert read(found.mapping, domains.searches()) == (1200, 200, 0, 0)


def test_two_files_whose_kinds_have_a_field_each(tmp_path: Path) -> None:
    showings, done = domains.two_sided()
    domains.written(tmp_path / "logs" / "shown.jsonl", showings)
    domains.written(tmp_path / "logs" / "done.jsonl", done)
    mapping = drafted(tmp_path / "logs").mapping
    assert mapping.kind == ("action", "surface")
    assert {*mapping.impression_kinds} == {"home", "search"}
    assert mapping.relevance == {"skip": 0, "like": 2, "purchase": 3}
    assert mapping.fields["query_id"] == ("req",)
    assert read(mapping, [*showings, *done]) == (1200, 200, 0, 0)


@pytest.mark.parametrize("messages", [domains.kindless, lambda: domains.metarank(text=True)], ids=["kinds", "times"])
def test_a_log_that_no_mapping_reads_comes_with_what_alters_it(messages: Any, tmp_path: Path) -> None:
    if shutil.which("jq") is None:
        servers.missing("jq", "install jq")
    found = of(messages(), tmp_path)
    command = ["jq", "-c", found.program, tmp_path / "log.jsonl"]
    altered = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    lines = [line.encode() for line in altered.splitlines()]
    assert read(found.mapping, lines)[:3] == (1200, 200, 0)  # type: ignore[arg-type]


def test_a_number_that_tells_the_outcome_is_no_feature(tmp_path: Path) -> None:
    found = of(domains.kindless(), tmp_path)
    assert found.mapping.features == ("score", "age")
    assert said(found, "later is left out: it tells 100 % of the time which item gets feedback")


def test_the_wire_format_of_the_default_mapping(tmp_path: Path) -> None:
    messages = [
        message
        for case in range(9)
        for message in (
            shown(f"case-{case}", "a", user_id=f"u-{case % 3}", group="x"),
            shown(f"case-{case}", "b", user_id=f"u-{case % 3}", group="y", features={"A": case / 10, "S": 0.5, "T": 0}),
            answered(f"case-{case}", "b", user_id=f"u-{case % 3}"),
        )
    ]
    found = of(messages, tmp_path)
    assert found.mapping.kind == ("message",)
    assert found.mapping.fields["query_id"] == ("context.case_id",)
    assert found.mapping.fields["item_id"] == ("context.lawyer_id",)
    assert found.mapping.features == ("A", "S", "T")  # the others never change
    assert said(found, "Is context.group to be judged for fairness (2 values: x, y)?")


def test_ratings_in_feedback_are_mapped_and_others_told(tmp_path: Path) -> None:
    def rated(stars: Iterable[float]) -> list[dict[str, Any]]:
        lists = [shown(f"case-{n}", f"l-{m}", features={"A": m / 7, "B": n / 9}) for n in range(20) for m in range(3)]
        done = [answered(f"case-{n}", "l-1", rating=one) for n, one in zip(range(20), stars, strict=False)]
        return [*lists, *done]

    messages = rated([1, 5, 3, 4] * 5)
    found = of(messages, tmp_path)
    assert found.mapping.paths("rating") == ("context.rating",)
    assert read(found.mapping, messages) == (60, 20, 0, 0)
    (tmp_path / "odd").mkdir()
    other = of(rated([1, 9.5, 3, 10] * 5), tmp_path / "odd")
    assert other.mapping.paths("rating") == ()
    assert said(other, "The rating context.rating is left out: it is not a whole number from 1 to 5")


def test_an_id_of_a_message_is_not_taken_from_its_items(tmp_path: Path) -> None:
    messages = []
    for visit in domains.visits():
        items = [{"id": f"p-{t.number}", "user": "seller", "f": {"a": t.fit, "b": t.price}} for t in visit.things]
        about = {"at": domains.iso(visit.at), "user": f"u-{visit.user}"}
        messages.append({"type": "search", "id": f"q-{visit.number}", **about, "hits": items})
        messages.append({"type": "order", "query": f"q-{visit.number}", **about, "sku": f"p-{visit.best.number}"})
    mapping = of(messages, tmp_path).mapping
    assert mapping.fields["user_id"] == ("$.user",)
    found = Decoder(mapping).decode(block(*messages))
    assert found.shadowed.total() == 0
    shown_pairs = {*zip(*(found.impressions[name].to_pylist() for name in ("query_id", "item_id")), strict=True)}
    assert {*zip(*(found.feedback[name].to_pylist() for name in ("query_id", "item_id")), strict=True)} <= shown_pairs


def test_feedback_that_joins_nothing_is_said_and_mapped_by_its_names(tmp_path: Path) -> None:
    messages = [message | {"type": message["type"]} for message in domains.shop()]
    for message in messages:
        if message["type"] in ("click", "order"):
            message["payload"] = {"search": "?" + message["payload"]["search"], "sku": message["payload"]["sku"]}
            message["session"] = {"visitor": {"id": "?"}}
    found = of(messages, tmp_path)
    assert found.mapping.feedback_kinds == ("click", "order")
    assert said(found, "No feedback names a query and an item that were shown")


def test_labels_instead_of_feedback(tmp_path: Path) -> None:
    messages = [
        {"type": "judged", "time": domains.iso(v.at), "qid": v.number, "doc": t.number, "label": 2 * (t is v.best)}
        | {"bm25": t.fit, "length": t.price}
        for v in domains.visits()
        for t in v.things
    ]
    found = of(messages, tmp_path)
    assert found.mapping.features == ("bm25", "length")
    assert (found.mapping.fields["label"], found.mapping.relevance) == (("label",), {"label": 2})
    assert said(found, "No message seems to be feedback")
    assert read(found.mapping, messages) == (1200, 0, 0, 0)


def test_names_that_a_mapping_cannot_say_are_told(tmp_path: Path) -> None:
    messages = [
        message | {"user.id": "u-1", "": 3, "payload": {**message["payload"], "$": 1}} for message in domains.shop()
    ]
    found = of(messages, tmp_path)
    assert said(found, '"user.id"')
    assert found.mapping.fields["query_id"] == ("payload.search",)


@pytest.mark.parametrize(
    ("lines", "seen"),
    [
        (b"", "it is empty"),
        (b"\n\n", "it is empty"),
        (b"\x00\xff\xfe\x1b[31m" * 50, "is a message"),
        (b"a,b,c\n1,2,3\n", "comma-separated values (CSV)"),
        (b"[" * 100_000, "nested more than 256 deep"),
        (b'{"a": 1}\n', "1 messages with the fields a"),
        (b'{"a.b": {"c": 1}}\n', 'as a part of their path is empty, holds a dot or is $: "a.b.c"'),
        (json.dumps(listed({"lawyer_id": "a"})).encode(), "messages that show items, each with an id"),
    ],
    ids=["empty", "blank", "binary", "csv", "deep", "little", "dots", "no numbers"],
)
def test_a_log_of_nothing_says_what_was_looked_for_and_seen(lines: bytes, seen: str, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(lines)
    with pytest.raises(DraftError, match="no mapping can be drafted: looked for") as error:
        drafted(tmp_path / "log.jsonl")
    assert seen in str(error.value)


def test_a_log_without_times_says_so(tmp_path: Path) -> None:
    messages = [{name: value for name, value in message.items() if name != "meta"} for message in domains.shop()]
    with pytest.raises(DraftError, match=r"says when they happened.* type, session\.visitor\.id"):
        of(messages, tmp_path)
