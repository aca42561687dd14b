"""The Airflow Variables of the gate: defaults, ranges and messages, and that documents name them as they are."""

import json
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltr_pipeline import variables
from ltr_pipeline.errors import SettingsError
from ltr_pipeline.gate.policy import VARIABLES, Policy
from ltr_pipeline.tuning import table
from ltr_pipeline.variables import import_file

BY_NAME = {variable.name: variable for variable in VARIABLES}


def test_every_field_has_its_variable_with_the_same_default():
    fields = {f"ltr_{field.name}": field.default for field in msgspec.structs.fields(Policy)}
    assert {variable.name: variable.parse(variable.default) for variable in VARIABLES} == fields
    assert list(fields) == list(BY_NAME)


def test_nothing_set_is_the_default_and_other_variables_are_ignored():
    assert Policy.from_variables({}) == Policy()
    assert Policy.from_variables({"ltr_unknown": "abc", "team": "x"}) == Policy()


def test_set_variables_count():
    found = Policy.from_variables(
        {
            "ltr_ndcg_min": " 0.9 ",
            "ltr_min_queries": "300",
            "ltr_gate_mode": "dry_run",
            "ltr_on_inconclusive": "publish",
        }
    )
    assert found == Policy(ndcg_min=0.9, min_queries=300, gate_mode="dry_run", on_inconclusive="publish")


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("ltr_ndcg_min", "abc", "a number from 0 to 1"),
        ("ltr_ndcg_min", "1.7", "a number from 0 to 1"),
        ("ltr_ndcg_min", "", "a number from 0 to 1"),
        ("ltr_fairness_max", "-0.1", "a number from 0 to 1"),
        ("ltr_fairness_max", "nan", "a number from 0 to 1"),
        ("ltr_latency_p95_max_ms", "inf", "a number from 0 to 60000"),
        ("ltr_min_samples", "0", "a whole number from 1 to 1000000000"),
        ("ltr_min_queries", "99.5", "a whole number from 1 to 1000000000"),
        ("ltr_regression_max", "1 %", "a number from 0 to 1"),
        ("ltr_suspicious_gain", "1e3", "a number from 0 to 1"),
        ("ltr_quarantined_share_max", "2", "a number from 0 to 1"),
        ("ltr_lost_share_max", "-1", "a number from 0 to 1"),
        ("ltr_gate_mode", "Enforce", "enforce or dry_run"),
        ("ltr_on_inconclusive", "yes", "keep or publish or ask"),
        ("ltr_on_not_evaluable", "", "keep or publish or ask"),
        ("ltr_approval_minutes", "0", "a whole number from 1 to 240"),
        ("ltr_approval_minutes", "241", "a whole number from 1 to 240"),
    ],
)
def test_a_wrong_value_is_named_with_its_range(name, value, allowed):
    with pytest.raises(SettingsError) as caught:
        Policy.from_variables({name: value})
    assert str(caught.value) == (
        f"the Airflow Variable {name} is {value!r}; set it to {allowed}, or delete it for {BY_NAME[name].default}"
    )


def test_what_the_import_of_airflows_ui_makes_of_our_file_counts():
    # Version 3.3.2 stores the description in the value; `airflow variables import` does not.
    files = {name: json.dumps(content, indent=2) for name, content in import_file().items()}
    assert Policy.from_variables(files) == Policy()
    files["ltr_ndcg_min"] = '{"value": "0.7", "description": "edited"}'
    assert Policy.from_variables(files) == Policy(ndcg_min=0.7)
    for other in ('{"value": "7", "description": ""}', '{"value": "0.7"}', '{"value": 0.7, "description": ""}', "{}"):
        with pytest.raises(SettingsError, match=r"ltr_ndcg_min is .*\{"):
            Policy.from_variables({"ltr_ndcg_min": other})


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable.name)
def test_a_description_begins_with_default_and_range(variable):
    shown = variable.description[:50]  # what Airflow's table shows
    assert shown.startswith(f"Default {variable.default}, ")
    assert all(word in shown for word in variable.choices or (f"{variable.low:.10g} to {variable.high:.10g}",))
    assert variable.description.endswith(variable.meaning)


def test_all_wrong_values_are_named_at_once():
    with pytest.raises(SettingsError, match=r"ltr_ndcg_min.*ltr_min_samples"):
        Policy.from_variables({"ltr_ndcg_min": "7", "ltr_min_samples": "few"})


def table_of(text):
    """Cells of the table of Variables in a document, without its header."""
    (table,) = re.findall(r"^\| Variable \|.*\n\|[- |]+\|\n((?:\|.*(?:\n|$))+)", text, re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]


def test_the_gates_page_has_the_whole_table():
    assert table_of(Path("docs/gate.md").read_text()) == table_of(table(VARIABLES))


def test_the_readme_names_every_default():
    rows = [
        (name, default) for names, default, _ in table_of(Path("README.md").read_text()) for name in names.split(", ")
    ]
    assert rows == [(f"`{variable.name}`", variable.default) for variable in VARIABLES]


@pytest.mark.parametrize("path", [Path("README.md"), *sorted(Path("docs").glob("*.md"))], ids=str)
def test_a_default_told_in_passing_is_the_default(path):
    told = re.findall(r"`(ltr_\w+)` \(([^)]+)\)", path.read_text())
    defaults = {variable.name: variable.default for variable in variables.VARIABLES}
    assert [(name, default) for name, default in told if default != defaults.get(name, default)] == []


@given(st.sampled_from([v for v in VARIABLES if not v.choices]), st.floats(0, 1))
def test_every_number_in_the_range_is_accepted(variable, share):
    value = variable.low + share * (variable.high - variable.low)
    text = str(round(value)) if variable.whole else repr(value)
    assert variable.parse(text) == float(text)
