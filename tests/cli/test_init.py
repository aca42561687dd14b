"""`ltr init LOG`, as a user types it: a mapping of a log of another domain, why, and whether the log would pass."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.simulate.log import arrivals
from ltr_pipeline.simulate.world import World
from support import domains
from support.commands import Done, ltr

WORLD = World(legacy_weights=load_mapping().legacy_weights, rankings_per_day=100)
DID = {"lost": "rejected", "declined": "dismissed", "accepted": "applied", "won": "hired"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def vacancies() -> Iterator[dict[str, Any]]:
    """The simulated log, as a job board would have written it: whole lists, other names, milliseconds."""
    boards: dict[str, dict[str, Any]] = {}
    for line in (line for day in arrivals(WORLD, dt.date(2026, 9, 1), 16) for line in day["line"]):
        message = _parsed(line)
        about = message.get("context", {})
        if message.get("message") == "user_login" or not about.keys() >= {"case_id", "ranking_id", "lawyer_id"}:
            yield {"evt": "session.started", "seeker": {"id": about.get("user_id", "?")}, "occurred": 0}
            continue
        at = int(dt.datetime.fromisoformat(message["timestamp"]).timestamp() * 1000)
        common = {"occurred": at, "seeker": {"id": about["user_id"]}, "board": about["ranking_id"]}
        vacancy = about["lawyer_id"].removeprefix("lawyer-")
        if message["message"] == "offer_feedback":
            did = DID.get(about["action"], about["action"])
            yield {"evt": "vacancy.answered", **common, "answer": {"did": did, "vacancy": vacancy}}
        elif isinstance(about["features"], dict):
            new = about["ranking_id"] not in boards
            empty = {"evt": "board.rendered", **common, "vacancies": []}
            board = boards.setdefault(about["ranking_id"], empty)
            board["vacancies"].append({"id": vacancy, "slot": about["rank_position"], "scores": about["features"]})
            if new:
                yield board  # written out once it is whole


def _parsed(line: str) -> dict[str, Any]:
    try:
        return json.loads(line)
    except ValueError:
        return {}


def init(*words: str | Path) -> Done:
    return ltr("init", *map(str, words))


def test_a_log_of_another_domain_is_mapped_and_judged(tmp_path: Path) -> None:
    log = domains.written(tmp_path / "board.jsonl", list(vacancies()))
    done = init(log)
    assert (done.code, done.err) == (0, ""), done.out
    mapping = load_mapping(Path("mapping.toml"))
    assert (mapping.kind, mapping.impression_kinds) == (("evt",), ("board.rendered",))
    assert mapping.feedback_kinds == ("vacancy.answered",)
    assert (mapping.items, mapping.time_unit) == (("vacancies",), "milliseconds")
    assert mapping.features == ("A", "S", "T", "G", "Q", "U", "R", "C")
    assert mapping.relevance == {"rejected": 0, "dismissed": 0, "applied": 2, "hired": 3}
    assert mapping.paths("query_id") == ("board",)
    assert mapping.paths("item_id") == ("id", "answer.vacancy")
    assert mapping.paths("user_id") == ("seeker.id",)
    assert "Verdict: publish" in done.out
    assert "Next:" in done.out
    assert f"LTR_EVENTS_PATH={log} LTR_MAPPING={tmp_path / 'mapping.toml'}" in done.out
    assert not Path("var").exists()


def test_a_mapping_is_overwritten_only_by_force(tmp_path: Path) -> None:
    log = domains.written(tmp_path / "log.jsonl", domains.kindless())
    own = tmp_path / "own.toml"
    own.write_text("mine")
    done = init(log, "--mapping", own)
    assert (done.code, own.read_text()) == (2, "mine")
    assert "is there already and is not overwritten; name another --mapping, or use --force" in done.err
    assert init(log, "--mapping", own, "--force").code == 1
    assert load_mapping(own).items == ("results",)


def test_a_log_that_has_to_be_altered_is_not_tried(tmp_path: Path) -> None:
    done = init(domains.written(tmp_path / "log.jsonl", domains.kindless()))
    assert done.code == 1
    assert "The log is not tried, as it has to be altered first" in done.out
    assert """jq -c 'if getpath(["results"])?""" in done.out
    assert "Verdict" not in done.out


def test_a_log_that_would_not_pass_ends_with_what_to_do(tmp_path: Path) -> None:
    done = init(domains.written(tmp_path / "my log.jsonl", domains.shop()))
    assert done.code == 1
    assert "Verdict: keep" in done.out
    assert f"ltr try '{tmp_path}/my log.jsonl' --mapping mapping.toml" in done.out.partition("Next:")[2]


@pytest.mark.parametrize("content", ["", "\x00\x1b[31m\n", '{"level": "info", "text": "started"}\n'])
def test_a_log_of_nothing_is_one_sentence(content: str, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(content)
    done = init(tmp_path / "log.jsonl")
    (line,) = done.err.splitlines()
    assert line.startswith("error: no mapping can be drafted: looked for ")
    assert (done.code, done.out, Path("mapping.toml").exists()) == (2, "", False)


def test_a_log_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    done = init(tmp_path / "log.jsonl")
    assert (done.code, "no event log there" in done.err, Path("mapping.toml").exists()) == (2, True, False)


def test_a_mapping_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    log = domains.written(tmp_path / "log.jsonl", domains.kindless())
    done = init(log, "--mapping", tmp_path / "missing" / "mapping.toml")
    assert (done.code, "No such file or directory; name another --mapping" in done.err) == (2, True)
