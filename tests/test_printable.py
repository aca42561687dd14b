"""Nothing that a terminal obeys is left, and JSON stays what it was."""

from __future__ import annotations

import json
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from ltr_pipeline.printable import one_line, printable

BIDI = {"AL", "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
anything = st.text(st.characters(codec=None, categories=None))


def obeyed(sign: str) -> bool:
    """Whether a terminal, or who reads it, is led on by a sign."""
    kind = unicodedata.category(sign)
    direction = kind == "Cf" and unicodedata.bidirectional(sign) in BIDI | {"L", "R"}
    return kind in {"Cc", "Cs", "Zl", "Zp"} or direction


@given(anything)
def test_no_sign_is_left_that_a_terminal_obeys(text: str) -> None:
    assert not any(obeyed(sign) for sign in one_line(text))
    assert {sign for sign in printable(text) if obeyed(sign)} <= {"\n", "\t"}
    printable(text).encode()


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_stays_the_same_json(value: object) -> None:
    assert json.loads(printable(json.dumps(value, ensure_ascii=False))) == value


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_other_text_stays_as_it_is(text: str) -> None:
    assert one_line(text) == text
