"""What a log, a name or a ledger entry says never reaches a terminal raw."""

from __future__ import annotations

import datetime as dt
import json
import os
import pty
import re
import subprocess
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ltr_pipeline.events.landing import land
from ltr_pipeline.events.sources.files import FileSource
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.schedule import night_of
from ltr_pipeline.storage.local import LocalStorage
from support.commands import PROGRAM, A, B, ltr, project, published, typed
from support.messages import answered, line, shown

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil\u2066\x7f\r[/red] :warning:\nVerdict: publish"
VISIBLE = r"\u001b]0;owned\u0007\u001b[2J\u009b31m\u202eevil\u2066\u007f\u000d[/red] :warning:\nVerdict: publish"
NIGHT = dt.date(2025, 7, 16)
OURS = re.compile(rb"\x1b\[[\d;?]*[A-Za-z]|\r\n|\r")  # colours and the spinner


def messages() -> list[dict[str, Any]]:
    """A log in which every text that a command may print is hostile."""
    bad = HOSTILE
    return [
        shown(case=bad, lawyer=bad, group=bad, team=bad, features={"A": 1.0, bad: 1.0}),
        shown(case=bad, lawyer="other", group=bad, team="b", features={"A": 0.0, bad: 1.0}),
        shown(case=bad, lawyer=bad, features={"A": bad}),
        shown(time=bad),
        answered(case=bad, lawyer=bad),
        answered(action=bad),
        {"message": bad},
    ]


def written(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torn = b'{"torn": "' + HOSTILE.replace("\n", " ").encode() + b"\n"
    path.write_bytes(b"".join(line(message) + b"\n" for message in messages()) + torn)
    return path


def raw_signs(text: str) -> set[str]:
    """Signs of a text that a terminal would obey."""
    odd = {sign for sign in text if unicodedata.category(sign) in {"Cc", "Cf", "Cs", "Zl", "Zp"}}
    return odd - {"\n"}


@pytest.fixture
def landed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    project(tmp_path, monkeypatch)
    log = written(tmp_path / "logs" / f"audit {HOSTILE.replace('/', '')}.log")
    monkeypatch.setenv("LTR_EVENTS_PATH", str(log))
    since = dt.datetime(2025, 7, 1, tzinfo=dt.UTC)
    land(LocalStorage(tmp_path / "data"), night_of(NIGHT), FileSource(log), load_mapping(), buckets=1, since=since)
    return tmp_path


@pytest.mark.parametrize(
    "words",
    ["events", f"events {NIGHT}", f"events {NIGHT} --json", "verify --data", "doctor", "doctor --json"],
)
def test_what_has_landed_is_shown_without_a_raw_sign(landed: Path, words: str) -> None:
    done = ltr(*words.split())
    assert raw_signs(done.out + done.err) == set()
    if words.startswith(f"events {NIGHT}"):
        assert r"\u001b]0;owned\u0007" in done.out
        assert "\nVerdict" not in done.out
    if "--json" in words:
        json.loads(done.out)


def test_teams_in_a_report_are_text_and_not_markup(landed: Path) -> None:
    done = ltr("interleave-report", "--since", "2025-07-10", "--until", "2025-07-16")
    assert raw_signs(done.out + done.err) == set()


def test_a_ledger_is_shown_without_a_raw_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch)
    registry = published(tmp_path, A, B)
    registry.rollback(A, who=HOSTILE, why=HOSTILE)
    for words in (["history"], ["history", "--json"], ["versions"], ["verify"], ["unpin", "--reason", HOSTILE]):
        done = ltr(*words)
        assert (done.code, raw_signs(done.out + done.err)) == (0, set())
    assert VISIBLE in ltr("history").out
    assert ltr("history", "--json").json[-2]["why"] == HOSTILE


def test_an_error_that_names_a_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch)
    name = os.fsdecode(b"not-utf-8-\xff-") + HOSTILE.replace("/", "")
    done = typed("try", name)
    assert done.code == 2
    assert r"\udcff" in done.err
    assert r"\u001b]0;owned" in done.err
    (_,) = done.err.splitlines()
    assert raw_signs(done.err) == set()


def test_a_hostile_log_is_tried_in_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch)
    log = written(tmp_path / f"{HOSTILE.replace('/', '')}.jsonl")
    said = in_terminal("try", str(log), "--folder", str(tmp_path / "scratch"))
    assert b"What to look at first" in said
    assert rb"\u001b]0;owned\u0007" in said
    assert raw_signs(OURS.sub(b"", said).decode()) == set()


def hostile_domain() -> list[dict[str, Any]]:
    """A log from which a mapping can be drafted, with hostile names and values wherever one is told."""
    bad = HOSTILE
    found: list[dict[str, Any]] = []
    for number in range(60):
        hits = [{f"id{bad}": f"{bad}{item}", f"score{bad}": 1, "price": number + item} for item in range(3)]
        about = {"at": "2025-07-15T10:30:00Z", f"search{bad}": f"{bad}{number}", f"a.{bad}": 1}
        found.append({f"type{bad}": f"shown {bad}", **about, f"hits{bad}": hits})
        found.append({f"type{bad}": f"click {bad}", **about, f"id{bad}": f"{bad}1", "action": f"frob {bad}"})
    return [*found, {f"type{bad}": f"else {bad}"}]


def test_a_mapping_drafted_from_a_hostile_log_is_safe_to_look_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(tmp_path, monkeypatch)
    log, mapping = (tmp_path / f"{HOSTILE.replace('/', '')}.{ending}" for ending in ("jsonl", "toml"))
    log.write_bytes(b"".join(line(message) + b"\n" for message in hostile_domain()))
    said = in_terminal("init", str(log), "--mapping", str(mapping))
    assert b"Look at these" in said
    assert rb"\u001b]0;owned\u0007" in said
    assert raw_signs(OURS.sub(b"", said).decode()) == set()
    assert load_mapping(mapping).paths("query_id") == (f"search{HOSTILE}",)
    assert raw_signs(mapping.read_text()) == set()


def in_terminal(*words: str) -> bytes:
    """What a command writes to a terminal of its own."""
    ours, theirs = pty.openpty()
    with subprocess.Popen([PROGRAM, *words], stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        said = b""
        with suppress(OSError):  # the terminal is gone
            while read := os.read(ours, 1 << 16):
                said += read
        process.wait(timeout=300)
    os.close(ours)
    return said
