"""Who wins where two rankers share a list, on the command line."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ltr_pipeline.dataset.build import first_shown
from ltr_pipeline.events.chain import partitions_for
from ltr_pipeline.events.landing import land
from ltr_pipeline.events.partitions import landed as landed_partitions
from ltr_pipeline.events.sources.files import FileSource
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.metrics.interleaving import PAIR
from ltr_pipeline.schedule import night_of
from ltr_pipeline.storage.local import LocalStorage
from support.commands import ltr, project

LANDED = dt.date(2025, 7, 20)  # with three days of attribution, the 16th is the last whose feedback is in
SHOWN_AT = dt.datetime(2025, 7, 14, 10, tzinfo=dt.UTC)
SINCE = dt.datetime(2025, 7, 1, tzinfo=dt.UTC)
A, B = "20250714_0215", "20250715_0215"


def message(kind: str, time: dt.datetime, **context: Any) -> dict[str, Any]:
    return {"timestamp": time.isoformat(), "message": kind, "context": context}


def interleaved(
    number: int, served: str, winner: str | None, action: str = "accepted", **more: Any
) -> Iterator[dict[str, Any]]:
    """A list of two, one item from each team, and what its user did with the winner's."""
    ids = {"case_id": f"case-{number}", "ranking_id": f"ranking-{number}", "user_id": f"user-{number}"}
    for place, team in enumerate((served, "legacy"), start=1):
        shown = {"lawyer_id": team, "rank_position": place, "features": {"A": 1.0}, "team": team}
        policy = f"interleave:{served}:legacy"
        yield message("match_recommendation", SHOWN_AT, **ids, **shown, policy=policy, **more)
    if winner:
        yield message("offer_feedback", SHOWN_AT + dt.timedelta(hours=1), **ids, lawyer_id=winner, action=action)


def landed(folder: Path, *lists: Iterator[dict[str, Any]]) -> None:
    log = folder / "logs" / "audit.log"
    log.parent.mkdir()
    log.write_text("".join(json.dumps(line) + "\n" for events in lists for line in events))
    land(LocalStorage(folder / "data"), night_of(LANDED), FileSource(log), load_mapping(), buckets=3, since=SINCE)


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch)


def test_a_winner_is_named_for_each_pair_and_over_all_nights(tmp_path: Path) -> None:
    landed(
        tmp_path,
        *(interleaved(n, A, A if n % 10 else "legacy") for n in range(40)),
        *(interleaved(n, B, None) for n in range(100, 105)),
        interleaved(200, B, B, shadow=True),  # neither shown
        interleaved(201, B, B, action="lost"),  # nor of any worth
    )
    report = ltr("interleave-report", "--json").json
    assert (report["since"], report["until"]) == ("2025-07-14", "2025-07-16")  # from the first interleaved list on
    served, first, second = report["preferences"]
    assert (served["first"], served["rankings"], served["wins"], served["losses"], served["ties"]) == (
        ("served", 46, 36, 4, 6)
    )  # fmt: skip
    assert (first["first"], first["wins"], first["losses"], first["winner"]) == (A, 36, 4, A)
    assert first["share"] == 0.9
    assert first["low"] > 0.5
    assert first["evidence"] > first["needed"] > served["needed"] > 20
    assert (second["first"], second["rankings"], second["ties"], second["winner"]) == (B, 6, 6, None)
    done = ltr("interleave-report")
    assert f"{A} wins against legacy." in done.out
    assert f"{B} or legacy: no winner yet" in done.out
    assert "2,900 of 200" in done.out


def test_days_and_worth_can_be_chosen(tmp_path: Path) -> None:
    landed(tmp_path, *(interleaved(n, A, A if n % 3 else "legacy", "declined") for n in range(12)))
    assert ltr("interleave-report", "--since", "2025-07-15", "--json").json["preferences"] == []
    assert "No list was interleaved" in ltr("interleave-report", "--until", "2025-07-13").out
    (found,) = ltr("interleave-report", "--since", "2025-07-14", "--until", "2025-07-14", "--json").json["preferences"]
    assert (found["wins"], found["losses"], found["winner"]) == (8, 4, None)
    assert found["further"] > 0
    (found,) = ltr("interleave-report", "--relevance", "2", "--json").json["preferences"]
    assert (found["wins"], found["losses"], found["ties"]) == (0, 0, 12)


def test_it_begins_with_the_first_interleaved_list_since_a_time_without_any(tmp_path: Path) -> None:
    data, log, mapping = LocalStorage(tmp_path / "data"), tmp_path / "audit.log", load_mapping()
    plain = ({**event, "context": {**event["context"], "policy": A}} for event in interleaved(2, A, None))
    for day, shown in enumerate([interleaved(1, A, A), plain, interleaved(3, A, A), interleaved(4, A, None)]):
        with log.open("a") as file:
            for event in shown:
                time = SHOWN_AT + dt.timedelta(days=day)
                file.write(json.dumps({**event, "timestamp": time.isoformat()}) + "\n")
        land(data, night_of(time.date()), FileSource(log), mapping, buckets=3, since=SINCE)
    partitions = partitions_for(data, time.date())
    assert first_shown(data, partitions, PAIR, quiet=2) == SHOWN_AT
    assert first_shown(data, partitions, PAIR, quiet=1) == SHOWN_AT + dt.timedelta(days=2)
    assert first_shown(data, partitions, "^nobody", quiet=9) is None


def test_a_time_without_any_is_counted_in_days_however_often_something_landed(tmp_path: Path) -> None:
    data, log, mapping = LocalStorage(tmp_path / "data"), tmp_path / "audit.log", load_mapping()
    with log.open("w") as file:
        file.writelines(json.dumps(event) + "\n" for event in interleaved(1, A, A))
    for hours in range(0, 47, 2):
        moment = SHOWN_AT + dt.timedelta(hours=1 + hours)
        land(data, moment, FileSource(log), mapping, buckets=1, since=SINCE)
    every = dict.fromkeys((one.folder for one in landed_partitions(data)), "")
    assert first_shown(data, every, PAIR, quiet=3) == SHOWN_AT


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [(["--since", "2025-07-17"], "choose an earlier --since"), (["--until", "soon"], "write it as 2025-07-15")],
)
def test_days_that_cannot_be_compared_are_one_line(tmp_path: Path, arguments: list[str], problem: str) -> None:
    landed(tmp_path, interleaved(1, A, A))
    done = ltr("interleave-report", *arguments)
    assert (done.code, done.out) == (2, "")
    assert problem in done.err


def test_without_landed_events_it_says_so() -> None:
    done = ltr("interleave-report")
    assert done.code == 2
    assert "nothing has landed" in done.err
