"""The parser looks only for fields that came before, and still finds those that come later."""

from __future__ import annotations

import pytest

from ltr_pipeline.events.decoding.arrow import MAX_CONFLICTS, MAX_INFERRED, Misfit, Parser
from ltr_pipeline.events.decoding.decode import Decoder
from ltr_pipeline.mapping import load_mapping
from support.messages import FEATURES, line, shown

WIRE = Decoder(load_mapping()).shape.wire


@pytest.fixture
def parser() -> Parser:
    """A parser that has seen one impression."""
    parser = Parser(WIRE)
    parser.parse(line(shown()))
    return parser


def fields(parser: Parser, **context: object) -> set[str]:
    """Fields of the context that the parser looks for or finds."""
    messages = parser.parse(line(shown(**context)))
    return {field.name for field in messages.type.field("context").type}


def test_the_first_time_every_field_is_looked_for() -> None:
    assert fields(Parser(WIRE)) == {field.name for field in WIRE.field("context").type}


def test_afterwards_only_those_that_were_there(parser: Parser) -> None:
    assert fields(parser) == {"case_id", "lawyer_id", "rank_position", "features"}
    assert fields(parser, note="text", team=None) == {
        "case_id",
        "lawyer_id",
        "rank_position",
        "features",
        "note",
        "team",
    }


def test_a_field_that_comes_later_is_found_and_looked_for_from_then_on(parser: Parser) -> None:
    messages = parser.parse(line(shown(team="t-1")))
    assert messages.to_pylist()[0]["context"]["team"] == "t-1"
    assert fields(parser) == {"case_id", "lawyer_id", "rank_position", "features", "team"}


def test_a_wrong_type_of_a_field_not_seen_before_is_seen(parser: Parser) -> None:
    good = line(shown()) + b"\n"
    for bad in (line(shown(team=17)), line(shown(features=FEATURES | {"A": "1.0"}))):
        with pytest.raises(Misfit) as misfit:
            parser.parse(good * 5 + bad + b"\n" + good)
        assert misfit.value.row == 5


def test_whatever_else_there_is(parser: Parser) -> None:
    others = [], {}, {"a": [{"b": None}]}, [{"a": 1}, {"a": None, "b": "x"}], "2025-07-15", 0.5
    assert all("other" in fields(parser, other=other) for other in others)
    with pytest.raises(Misfit):
        parser.parse(line(shown(other=[None, None])))  # Arrow infers an array that is not valid


def test_many_names_are_not_inferred_again(parser: Parser) -> None:
    assert "scores" in fields(parser, scores={f"lawyer-{index}": 0.5 for index in range(MAX_INFERRED + 1)})
    assert fields(parser) == {field.name for field in WIRE.field("context").type}


def test_changing_types_of_other_fields_are_not_inferred_for_ever(parser: Parser) -> None:
    two = line(shown(note=1)) + b"\n" + line(shown(note="text"))
    assert len(parser.parse_all(two)) == 2
    for _ in range(MAX_CONFLICTS + 1):
        with pytest.raises(Misfit):
            parser.parse(two)
        parser.note_conflict()
    assert len(parser.parse(two)) == 2
