"""Whatever a log holds, it is drafted from or refused in a sentence; what is written is read, and safe to look at."""

from __future__ import annotations

import json
import tempfile
from copy import deepcopy
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import hypothesis.strategies as st
from hypothesis import given

from ltr_pipeline.draft.drafting import draft
from ltr_pipeline.draft.sample import sampled
from ltr_pipeline.draft.toml import written
from ltr_pipeline.errors import DraftError
from ltr_pipeline.events.decoding.decode import Decoder
from ltr_pipeline.events.sources.files import FileSource
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.printable import printable
from support import domains
from support.hostile import VALUES, hostile_lines
from support.messages import block

NAMES = (
    "a.b",
    "$",
    "$.x",
    "",
    "\x1b[31m",
    'q"uote',
    "new\nline",
    "]",
    "[x]",
    "#",
    "\u202e",
    "\x7f",
    "🙂",
    "é",
    "id",
    "type",
)
KEYS = st.sampled_from(NAMES) | st.text(max_size=8)
SCALARS = st.sampled_from(VALUES) | st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5))
DOMAINS = st.sampled_from([domains.shop, domains.leads, domains.metarank, domains.kindless, domains.searches])


def check(lines: list[bytes]) -> bool:
    """Draft a mapping of lines, write and read it; tell whether there was one."""
    with tempfile.TemporaryDirectory() as folder:
        log, file = Path(folder, "log.jsonl"), Path(folder, "mapping.toml")
        log.write_bytes(b"\n".join(lines))
        try:
            found = draft(sampled(FileSource(log, closed=True)))
        except DraftError:
            return False
        text = written(found.mapping, found.doubts, found.reasons)
        assert printable(text) == text
        file.write_text(text, encoding="utf-8")
        assert load_mapping(file) == found.mapping
        assert Decoder(found.mapping).decode(block(*lines)).read
    return True


@given(st.lists(st.dictionaries(KEYS, JSON, max_size=6), max_size=20))
def test_any_json_lines(messages: list[dict[str, Any]]) -> None:
    check([json.dumps(message).encode() for message in messages])


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_any_bytes(lines: list[bytes]) -> None:
    check(lines)


@given(st.randoms(use_true_random=False), st.integers(1, 200))
def test_lines_that_no_product_should_write(chance: Random, count: int) -> None:
    check([line for line, _ in hostile_lines(chance, count)])


@given(DOMAINS, st.randoms(use_true_random=False))
def test_a_good_log_with_names_and_values_that_nobody_has(make: Any, chance: Random) -> None:
    messages = [deepcopy(message) for message in islice(make(), 300)]
    renamed = {name: chance.choice(NAMES) for name in chance.sample(sorted(_names(messages)), 2)}
    for message in chance.sample(messages, 3):
        message[chance.choice([*message])] = chance.choice(VALUES)
    check([json.dumps(_renamed(message, renamed)).encode() for message in messages])


def test_a_good_log_with_hostile_names_is_drafted() -> None:
    hostile = {
        "type": "\x1b[31mtype",
        "sku": 'sk"u\n',
        "price": "pri]ce",
        "click": "\u202eclick\x07",
        "search": "se#arch",
    }
    assert check([json.dumps(_renamed(message, hostile)).encode() for message in domains.shop()])


def _names(value: Any) -> set[str]:
    if isinstance(value, dict):
        return {*value}.union(*map(_names, value.values()))
    return set().union(*map(_names, value)) if isinstance(value, list) else set()


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {names.get(name, name): _renamed(inner, names) for name, inner in value.items()}
    if isinstance(value, list):
        return [_renamed(inner, names) for inner in value]
    return names.get(value, value) if isinstance(value, str) else value
