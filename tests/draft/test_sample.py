"""A sample of a log: from all over it, and of the same hours of each of its files."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from ltr_pipeline.draft.sample import STRETCHES, sampled
from ltr_pipeline.events.sources.files import FileSource
from support import domains


def numbers(path: Path, size: int) -> list[int]:
    return [message["n"] for message in sampled(FileSource(path, closed=True), size).messages]


def test_a_small_log_is_looked_at_as_a_whole(tmp_path: Path) -> None:
    log = domains.written(tmp_path / "log.jsonl", [{"n": n} for n in range(1000)])
    sample = sampled(FileSource(log, closed=True))
    assert (sample.lines, sample.whole, len(sample.messages)) == (1000, True, 1000)


def test_a_long_log_is_looked_at_in_stretches(tmp_path: Path) -> None:
    log = domains.written(tmp_path / "log.jsonl", [{"n": n} for n in range(100_000)])
    found = numbers(log, log.stat().st_size // 10)
    assert 9_000 < len(found) < 11_000
    gaps = [n for n, after in pairwise(found) if after != n + 1]
    assert len(gaps) == STRETCHES - 1
    assert found[0] == 0


def test_files_are_looked_at_by_their_share(tmp_path: Path) -> None:
    domains.written(tmp_path / "shown.jsonl", [{"n": n, "long": "x" * 90} for n in range(10_000)])
    domains.written(tmp_path / "done.jsonl", [{"n": n} for n in range(10_000)])
    found = numbers(tmp_path, 200_000)
    assert len(found) > 1.9 * len({*found})  # the same numbers of both


def test_lines_that_are_no_message_are_counted(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(b'{"a": 1}\nstarted\n[1]\n' + b'{"a": 1' + b"0" * 5000 + b"}\n\n")
    sample = sampled(FileSource(tmp_path / "log.jsonl", closed=True))
    assert (len(sample.messages), sample.refused.total(), sample.lines) == (2, 2, 4)
