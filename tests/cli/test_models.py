"""Versions on the command line: list, show, history, verify, roll back, pin and unpin."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest

from ltr_pipeline.versions.registry import Registry
from support.commands import A, B, C, ltr, project, published, typed
from support.documents import document


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    project(tmp_path, monkeypatch)
    return published(tmp_path, A, B, C)


def test_an_operator_rolls_back_and_unpins(registry: Registry) -> None:
    """In processes of their own, as in the runbook."""
    back = typed("rollback", A, "--reason", "offers dropped")
    assert (back.code, back.err) == (0, "")
    (said,) = back.out.splitlines()
    assert said.startswith(f"latest moved from {C} to {A} (rollback by ")
    assert said.endswith(": offers dropped), pinned until `ltr unpin`")
    assert json.loads(registry.storage.get("latest/ltr_weights.json"))["version"] == A
    assert registry.history()[-1].why == "offers dropped"
    refused = typed("rollback", "../..", "--reason", "x")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.splitlines() == [
        "error: '../..' is no version id; ids look like 20250714_0215, and `ltr versions` lists them"
    ]


def test_the_list_for_machines(registry: Registry) -> None:
    registry.pin(who="ann", why="test")
    newest, *older = ltr("versions", "--json").json
    document = registry.load(C)
    assert newest == {
        "version": C,
        "sha256": sha256(registry.storage.get(f"{C}/ltr_weights.json")).hexdigest(),
        "created_at": document.created_at.isoformat().replace("+00:00", "Z"),
        "is_latest": True,
        "pinned": True,
        "ndcg_at_5": 0.75,
        "parent": None,
        "problem": None,
    }
    assert [(row["version"], row["is_latest"], row["pinned"]) for row in older] == [
        (B, False, False),
        (A, False, False),
    ]


def test_the_list_for_people_also_names_what_cannot_be_read(registry: Registry) -> None:
    ltr("rollback", "--reason", "drill")
    registry.storage.put(f"{A}/ltr_weights.json", b"{}")
    first, *table = ltr("versions").out.splitlines()
    assert first == f"3 versions; latest is {B}, pinned until `ltr unpin`"
    header, newest, promoted, broken, *_ = (row.split() for row in table)
    assert header[0] == "Version"
    assert newest[:4] == [C, "2025-07-16", "02:20", "0.750"]
    assert promoted[:6] == [B, "2025-07-15", "02:20", "0.750", "latest,", "pinned"]
    assert broken[0] == A
    assert "altered" in broken


def test_an_empty_registry_is_an_empty_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch)
    assert ltr("versions", "--json").json == ltr("history", "--json").json == []
    assert ltr("versions").out.startswith("Nothing is published yet")
    assert ltr("verify").code == 0
    assert list(tmp_path.iterdir()) == []


def test_show_prints_the_document_without_the_model_text(registry: Registry) -> None:
    shown = ltr("show", B).json
    document = registry.load(B)
    assert (shown["version"], shown["model"]["sha256"]) == (B, document.model.sha256)
    assert shown["model"]["text"] == f"{len(document.model.text)} characters"
    assert shown["metrics"]["ndcg_at_5"]["value"] == 0.75


def test_the_history_says_who_did_what_and_why(registry: Registry) -> None:
    ltr("rollback", A, "--reason", "offers [/dropped]")
    ltr("unpin", "--reason", "fixed")
    moves = ltr("history", "--json").json
    assert [(move["seq"], move["move"], move["from"], move["to"], move["pin"]) for move in moves] == [
        (1, "publish", None, A, False),
        (2, "publish", A, B, False),
        (3, "publish", B, C, False),
        (4, "rollback", C, A, True),
        (5, "unpin", A, A, False),
    ]
    assert [move["why"] for move in moves[2:]] == ["passed the gate", "offers [/dropped]", "fixed"]
    assert "@" in moves[3]["who"]
    first, second, _, back, freed = (line.rstrip() for line in ltr("history").out.splitlines()[1:6])
    assert first.endswith(f"latest is {A}, the first version (publish by airflow/nightly: passed the gate)")
    assert second.endswith(f"latest moved from {A} to {B} (publish by airflow/nightly: passed the gate)")
    assert f"latest moved from {C} to {A} (rollback by " in back
    assert back.endswith(": offers [/dropped]), pinned until `ltr unpin`")
    assert freed.endswith(": fixed); the next publish moves it")


def test_an_hourly_version_is_told_from_a_nightly_one(registry: Registry) -> None:
    hour = "20250716_0935"
    registry.publish(document(hour, high=0.8, parent=C), who="airflow/hourly", why="passed the gate")
    first, _, newest, nightly, *_ = ltr("versions").out.splitlines()
    assert first == f"4 versions; latest is {hour} (hourly, of {C})"
    assert f"latest, hourly, of {C}" in newest
    assert nightly.split()[0] == C
    assert "hourly" not in nightly
    assert [row["parent"] for row in ltr("versions", "--json").json] == [C, None, None, None]
    assert ltr("show", hour).json["lineage"]["parent"] == C
    moved = f"latest moved from {C} to {hour}, hourly, of {C} (publish by airflow/hourly: passed the gate)"
    assert ltr("history").out.rstrip().endswith(moved)
    assert ltr("history", "--json").json[-1]["parent"] == C
    assert f"latest moved from {hour} to {C} (rollback by " in ltr("rollback", "--reason", "drill").out


def test_a_rollback_without_a_version_goes_to_the_previous_good_one(registry: Registry) -> None:
    for good in (B, A):
        done = ltr("rollback", "--reason", "drill")
        assert done.code == 0
        assert f" to {good} (rollback by " in done.out
        assert "ltr unpin" in done.out
    done = ltr("rollback", "--reason", "drill")
    assert (done.code, done.out) == (2, "")
    assert f"no good version was promoted before {A}" in done.err
    assert registry.promoted() == A


def test_pin_and_unpin_move_nothing(registry: Registry) -> None:
    pinned = ltr("pin", "--reason", "audit").out
    assert pinned.startswith(f"latest stays {C} (pin by ")
    assert pinned.endswith(": audit), pinned until `ltr unpin`\n")
    assert ltr("pin", "--reason", "again").out == pinned
    assert ltr("unpin").out.startswith(f"latest stays {C} (unpin by ")
    assert [move.why for move in registry.history()[3:]] == ["audit", "unpinned by hand"]


def test_verify_ends_with_1_when_a_version_is_broken(registry: Registry) -> None:
    good = ltr("verify")
    assert good.code == 0
    assert good.words[1:] == [[C, "ok"], [B, "ok"], [A, "ok"]]
    registry.storage.put(f"{B}/ltr_weights.json", registry.storage.get(f"{B}/ltr_weights.json")[:-9])
    bad = ltr("verify")
    assert bad.code == 1
    assert [words[:2] for words in bad.words if words[0] in (A, B, C)] == [[C, "ok"], [B, "BROKEN"], [A, "ok"]]
    assert "truncated" in bad.out


@pytest.mark.parametrize(
    "version", ["../..", "/etc/passwd", "latest", "history/00000001.json", "20250101_0000", "", "é"]
)
@pytest.mark.parametrize("command", [("show",), ("rollback", "--reason", "x")])
def test_unknown_versions_and_path_tricks_end_with_2_and_one_line(
    registry: Registry, tmp_path: Path, version: str, command: tuple[str, ...]
) -> None:
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    done = ltr(command[0], version, *command[1:])
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert line.startswith("error: ")
    assert "ltr versions" in line
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("command", [("rollback",), ("rollback", A), ("pin",)])
def test_a_reason_is_asked_for(registry: Registry, command: tuple[str, ...]) -> None:
    done = ltr(*command)
    assert done.code == 2
    assert "--reason" in done.err
    assert len(registry.history()) == 3


@pytest.mark.parametrize("command", [("rollback", "--reason", "x"), ("pin", "--reason", "x"), ("unpin",)])
def test_before_anything_was_published_there_is_nothing_to_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    project(tmp_path, monkeypatch)
    done = ltr(*command)
    assert (done.code, done.out) == (2, "")
    assert "nothing was published" in done.err


def test_a_broken_version_is_never_rolled_back_to(registry: Registry) -> None:
    registry.storage.put(f"{A}/ltr_weights.json", b"{}")
    done = ltr("rollback", A, "--reason", "x")
    assert done.code == 2
    assert "altered" in done.err
    assert registry.promoted() == C


def test_a_wrong_setting_is_one_line(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_PREFIX", "../other")
    done = ltr("versions")
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert "S3_PREFIX" in line


def test_a_misspelt_variable_is_told_and_the_command_goes_on(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LTR_THREAD", "4")
    monkeypatch.setenv("LTR_SERVE_PROT", "8001")
    done = ltr("versions")
    assert done.code == 0
    assert done.err.splitlines() == [
        "warning: no setting reads LTR_SERVE_PROT; did you mean LTR_SERVE_PORT?",
        "warning: no setting reads LTR_THREAD; did you mean LTR_THREADS?",
    ]
    assert ltr("versions", "--json").json[0]["version"] == C  # what a machine reads is as it was


def test_help_names_every_command() -> None:
    done = ltr("--help")
    assert done.code == 0
    commands = "run try simulate versions show history verify rollback pin unpin events evaluate up down"
    assert {words[1] for words in done.words if len(words) > 1} >= set(commands.split())


def test_repair_completes_what_was_killed_and_says_so(registry: Registry) -> None:
    assert "latest is where the ledger has it" in ltr("repair").out
    registry.storage.point("latest/ltr_weights.json", f"{A}/ltr_weights.json")
    broken = ltr("verify")
    assert broken.code == 1
    assert f"is not {C}, as the ledger has it; `ltr repair`" in " ".join(broken.out.split())
    assert "latest was moved" in ltr("repair").out
    assert ltr("verify").code == 0


def test_keys_are_made_as_a_pair_and_the_public_one_is_told_again(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = dict(line.split("=", 1) for line in ltr("keys").out.splitlines())
    assert made.keys() == {"LTR_SIGNING_KEY", "LTR_VERIFY_KEYS"}
    monkeypatch.setenv("LTR_SIGNING_KEY", made["LTR_SIGNING_KEY"])
    assert ltr("keys").out.splitlines() == [f"LTR_VERIFY_KEYS={made['LTR_VERIFY_KEYS']}"]
    ltr("pin", "--reason", "signed")
    monkeypatch.delenv("LTR_SIGNING_KEY")
    monkeypatch.setenv("LTR_VERIFY_KEYS", made["LTR_VERIFY_KEYS"])
    assert ltr("history").code == 0


def test_a_run_is_approved_with_a_reason_and_what_was_never_judged_is_not(registry: Registry) -> None:
    refused = ltr("approve", "20250718_0215")
    assert (refused.code, "--reason" in refused.err) == (2, True)
    unknown = ltr("approve", "20250718_0215", "--reason", "fifty lists")
    assert (unknown.code, unknown.out) == (2, "")
    assert "run 20250718_0215 has not been judged" in unknown.err
    assert registry.promoted() == C
