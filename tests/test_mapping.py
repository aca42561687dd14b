"""The declarative mapping: what is refused, and that the message says what and where."""

from __future__ import annotations

import re
from datetime import timedelta
from importlib.resources import files
from pathlib import Path

import pytest

from ltr_pipeline.errors import MappingError
from ltr_pipeline.mapping import Mapping, load_mapping

FORMER = "dc293064aaa0ecaed2947eec41dbbde1a14331870e95bdeb3e33d996ac052ae3"
DEFAULT = files("ltr_pipeline").joinpath("default_mapping.toml").read_text()


def load(tmp_path: Path, text: str) -> Mapping:
    path = tmp_path / "mapping.toml"
    path.write_text(text)
    return load_mapping(path)


def edited(old: str, new: str) -> str:
    assert DEFAULT.count(old) == 1
    return DEFAULT.replace(old, new)


def test_a_copy_of_the_default_is_the_default(tmp_path: Path) -> None:
    mapping = load(tmp_path, DEFAULT)
    assert mapping == load_mapping()
    assert mapping.max_relevance == 3
    assert sum(mapping.legacy_weights.values()) == pytest.approx(1)


def test_another_domain_needs_a_mapping_and_no_code(tmp_path: Path) -> None:
    mapping = load(
        tmp_path,
        """
        kind = ["type"]
        impression_kinds = ["shown"]
        feedback_kinds = ["clicked"]
        features = ["price", "dist.km"]
        [fields]
        query_id = ["search.id"]
        item_id = ["product"]
        time = ["at"]
        features = ["x"]
        [relevance]
        bought = 30
        """,
    )
    assert (mapping.max_relevance, mapping.legacy_weights, mapping.items) == (30, {}, ())
    assert mapping.paths("position") == ()


def test_a_mapping_keeps_its_hash(tmp_path: Path) -> None:
    known = load_mapping().sha256
    without = re.sub(r"^(rating|as_served) = .*\n", "", DEFAULT, flags=re.MULTILINE).replace(
        ', "context.algorithm_version"', ""
    )
    assert load(tmp_path, without).sha256 == FORMER, "a mapping that names no column that was added keeps its hash"
    assert known != FORMER
    head, fields, relevance, *rest = re.split(r"(?=\n\[)", DEFAULT)
    fields, relevance = (
        "\n".join([name, *reversed(lines)])
        for name, *lines in (re.sub(r"#.*", "", table).strip().splitlines() for table in (fields, relevance))
    )
    assert load(tmp_path, "\n".join([head, relevance, *rest, fields])).sha256 == known
    assert load(tmp_path, edited("won = 3", "won = 2")).sha256 != known
    assert load(tmp_path, edited('"context.team", ', "")).sha256 != known
    plain = 'ids = "text"\ntime_unit = "RFC 3339"\nfeatures_as = "object"\nflags = "refused"\n'
    assert load(tmp_path, plain + DEFAULT).sha256 == known
    assert load(tmp_path, plain.replace('"text"', '"text or number"') + DEFAULT).sha256 != known


@pytest.mark.parametrize(
    ("text", "least"),
    [
        (DEFAULT, 2),
        ("positive = 3\n" + DEFAULT, 3),
        (edited("lost = 0\ndeclined = 1\naccepted = 2\nwon = 3", "clicked = 1"), 1),
        (edited("lost = 0\ndeclined = 1\naccepted = 2\nwon = 3", "seen = 0"), 1),
    ],
)
def test_what_counts_as_positive_is_2_or_the_most_there_is_and_not_hashed(
    tmp_path: Path, text: str, least: int
) -> None:
    assert load(tmp_path, text).least_positive == least
    assert load(tmp_path, "positive = 1\n" + DEFAULT).sha256 == load_mapping().sha256


TABLE = """
[[feature_tables]]
name = "prices"
address = "prices.parquet"
entity = "item"
time = "at"
features = ["price", "stars"]
tolerance_days = 1.5
"""


def with_table(old: str = "", new: str = "", more: str = "") -> str:
    assert old in TABLE
    return f"{DEFAULT}{TABLE.replace(old, new) if old else TABLE}{more}"


def test_features_of_tables_follow_those_of_messages_and_leave_the_hash_as_it_is(tmp_path: Path) -> None:
    second = TABLE.replace("prices", "clients").replace('"item"', '"user"').replace('["price", "stars"]', '["age"]')
    mapping = load(tmp_path, with_table(more=second + 'key = "client"\n'))
    assert mapping.features == load_mapping().features == tuple("ASTGQURC")
    assert mapping.model_features == (*"ASTGQURC", "price", "stars", "age")
    assert mapping.sha256 == load_mapping().sha256
    prices, clients = mapping.feature_tables
    assert (prices.column, prices.key_column, prices.tolerance) == ("item_id", "item_id", timedelta(hours=36))
    assert (clients.column, clients.key_column) == ("user_id", "client")


FEATURES = 'features = ["A", "S", "T", "G", "Q", "U", "R", "C"]'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (edited(FEATURES, "features = []"), "at least one feature"),
        ('ids = "number"\n' + DEFAULT, "Invalid enum value 'number' - at `\\$.ids`"),
        ("session_gap_minutes = 0\n" + DEFAULT, "above 0 and at most 1440"),
        ("session_gap_minutes = 30\n" + edited('["context.user_id", "user_id"]', "[]"), "needs the path of user_id"),
        ('features_as = "pairs"\n' + edited('["context.features", "features"]', '[""]'), "needs the path of the list"),
        (edited(FEATURES, FEATURES.replace('"S"', '"A"')), "each once"),
        (edited(FEATURES, FEATURES.replace('"S"', '"S S"')), r"\['S S'\] cannot be names in a LightGBM model"),
        (edited('"match_recommendation", "match"', ""), "no message would be an impression"),
        (edited('["offer_feedback"]', '["match"]'), r"\['match'\] cannot be both"),
        (edited("won = 3", "won = 31"), "from 0 to 30"),
        (edited("won = 3", "won = -1"), "from 0 to 30"),
        (edited("lost = 0\ndeclined = 1\naccepted = 2\nwon = 3", ""), "relevance must give each action"),
        (with_table('"price", "stars"', '"price", "A"'), "each once, those of feature_tables included"),
        (with_table('"price", "stars"', '"price", "price"'), "each once, those of feature_tables included"),
        (with_table('"price", "stars"', '"in €"'), r"\['in €'\] cannot be names in a LightGBM model"),
        (with_table('"price", "stars"', ""), r"length >= 1 - at `\$\.feature_tables\[0\]\.features`"),
        (with_table("tolerance_days = 1.5", "tolerance_days = 0"), "tolerance_days"),
        (with_table("tolerance_days = 1.5", ""), "missing required field `tolerance_days`"),
        (with_table("tolerance_days", "tolerance"), "unknown key 'tolerance'.*did you mean tolerance_days"),
        (with_table('"item"', '"shop"'), "Invalid enum value 'shop'"),
        (with_table('"prices"', '"../prices"'), "feature_tables"),
        (with_table('"at"', '"price"'), "prices has key, time and features in columns of their own"),
        (with_table('"at"', '"item_id"'), "prices has key, time and features in columns of their own"),
        (with_table(more=TABLE.replace('"price", "stars"', '"cost"')), "feature_tables have one name twice"),
        (
            with_table('"item"', '"user"').replace('["context.user_id", "user_id"]', "[]"),
            "prices needs the path of user_id",
        ),
        ("positive = 4\n" + DEFAULT, "positive is 4, but no action has a relevance that high"),
        ("positive = 0\n" + DEFAULT, ">= 1 - at `\\$.positive`"),
        (edited("A = 0.40", "Z = 0.40"), "legacy_weights names Z, which are not features"),
        (edited("G = 0.05", "g = 0.05"), r"legacy_weights names g \(did you mean G\?\), which"),
        (edited("A = 0.40", "A = -0.40"), "legacy_weights must be finite and not negative"),
        (edited("won = 3", 'won = "3"'), "won|relevance"),
        (edited("won = 3", "won = 2.5"), "relevance"),
        (edited("[relevance]", "[relevence]"), r"'relevence'; did you mean relevance\? The known keys are kind, "),
        (edited('query_id = ["', 'querry_id = ["'), r"fields has querry_id \(did you mean query_id\?\), which are no"),
        (edited('time = ["timestamp"]', ""), "time"),
        (edited("[fields]", "[fields"), "mapping.toml"),
        ("", "kind"),
    ],
)
def test_what_contradicts_itself_is_refused_with_file_and_reason(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(MappingError, match=problem) as caught:
        load(tmp_path, text)
    assert str(tmp_path / "mapping.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_contradictions_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match=r"from 0 to 30; .*names"):
        load(tmp_path, DEFAULT.replace("won = 3", "won = 99").replace("A = 0.40", "Z = 0.40"))


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_a_file_that_cannot_be_read_names_the_variable(tmp_path: Path, make) -> None:
    make(tmp_path / "mapping.toml")
    with pytest.raises(MappingError, match=r"mapping\.toml: .*; check LTR_MAPPING"):
        load_mapping(tmp_path / "mapping.toml")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mapping.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MappingError, match=r"mapping\.toml"):
        load_mapping(tmp_path / "mapping.toml")


@pytest.mark.parametrize("weight", ["nan", "inf"])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, weight: str) -> None:
    with pytest.raises(MappingError, match="legacy_weights must be finite"):
        load(tmp_path, edited("A = 0.40", f"A = {weight}"))
