"""The spool: order, restarts, torn lines, full disks; and the event log that it goes to."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltr_pipeline.errors import SettingsError
from ltr_pipeline.serving.eventlog import spool
from ltr_pipeline.serving.eventlog.shipper import LogSink, SinkError, open_sink
from ltr_pipeline.serving.eventlog.spool import Journal, Record, Undelivered, abandoned


def record(number: int, key: str = "q") -> Record:
    return Record("feedback", 1_752_575_400.5 + number, key, b'{"number":%d}' % number)


def messages(batch: Undelivered) -> list[bytes]:
    return [bytes(record.line) for record in batch.records]


def line(record: Record) -> bytes:
    """As it is in the file."""
    return b"".join(spool._line(record))


def lines(journal: Journal, most: int = 1000) -> list[bytes]:
    """All that is left, delivered."""
    found: list[bytes] = []
    for _ in range(most):
        batch = journal.read()
        if batch is None:
            return found
        found += messages(batch)
        journal.advance(batch, len(batch.records))
    raise AssertionError("no end")


@given(key=st.text(st.characters(codec="utf-8")), seconds=st.integers(0, 2**34))
def test_a_record_comes_back_as_it_was(key: str, seconds: int) -> None:
    given = Record("impressions", seconds / 8, key, b'{"a": "\\t"}')
    written = bytearray(b"before\n" + line(given) + b"after\n")
    found = spool._record(written, 7, len(written) - 6)
    assert found is not None
    assert found._replace(line=bytes(found.line)) == given


def test_events_come_back_in_order_over_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "SEGMENT_BYTES", 200)
    journal = Journal.create(tmp_path)
    for start in range(0, 60, 3):
        journal.append([record(start + step) for step in range(3)])
    assert len(list(journal.folder.glob("*.log"))) > 5
    assert journal.waiting == 60
    assert lines(journal) == [record(number).line for number in range(60)]
    assert (journal.waiting, journal.waiting_bytes) == (0, 0)
    assert len(list(journal.folder.glob("*.log"))) == 1
    folder = journal.folder
    journal.close()
    assert not folder.exists()


def test_another_process_goes_on_where_one_ended(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path)
    journal.append([record(number) for number in range(10)])
    batch = journal.read()
    assert batch is not None
    journal.advance(batch, 4)
    assert list(abandoned(tmp_path)) == []  # it lives
    journal.close()  # with six left
    [other] = abandoned(tmp_path)
    assert other.waiting == 6
    assert list(abandoned(tmp_path)) == []
    assert lines(other) == [record(number).line for number in range(4, 10)]


def test_what_a_kill_tore_is_left_out_and_counted(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path)
    journal.append([record(0), record(1)])
    with (journal.folder / f"{1:012d}.log").open("ab") as file:
        file.write(b"\x00\x00garbage\n" + line(record(2)) + line(record(3))[:-5])
    os.close(journal._lock)
    [other] = abandoned(tmp_path)
    first, torn = other.read(), 0
    assert first is not None
    assert messages(first) == [record(number).line for number in range(3)]
    torn += first.torn
    other.advance(first, 3)
    rest = other.read()
    assert rest is not None
    assert (rest.records, torn + rest.torn) == ([], 2)
    other.advance(rest, 0)
    assert other.read() is None
    assert other.waiting_bytes == 0


def limited(most: int) -> Callable[[int, Sequence[bytes]], int]:
    """`os.writev` on a disk with so much room."""
    room = most

    def writev(file: int, parts: Sequence[bytes]) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = os.write(file, b"".join(parts)[:room])
        room -= written
        return written

    return writev


def refuse(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("can_truncate", [True, False])
def test_a_full_disk_takes_all_of_a_batch_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_truncate: bool
) -> None:
    journal = Journal.create(tmp_path)
    journal.append([record(0)])
    size = len(line(record(0)))
    with monkeypatch.context() as disk:
        disk.setattr(os, "writev", limited(size + 7))
        if not can_truncate:
            disk.setattr(os, "ftruncate", refuse)
        with pytest.raises(OSError, match="No space"):
            journal.append([record(1), record(2)])
    journal.append([record(3)])
    found = lines(journal)
    assert found[0] == record(0).line
    assert found[-1] == record(3).line
    assert found[1:-1] == ([] if can_truncate else [record(1).line])


def never() -> bool:
    return False


def sent(sink: LogSink, records: Sequence[Record]) -> int:
    return sink.send(records, never)


def test_many_parts_are_written_in_order_whatever_the_disk_takes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [b"%d," % number * (number % 7) for number in range(2000)]
    monkeypatch.setattr(os, "writev", lambda file, some: os.write(file, b"".join(some)[:999]))
    with (tmp_path / "parts").open("wb") as file:
        assert sum(spool.writing(file.fileno(), parts)) == len(b"".join(parts))
    assert (tmp_path / "parts").read_bytes() == b"".join(parts)


def test_the_log_gets_whole_lines_and_ends_torn_ones(tmp_path: Path) -> None:
    sink = LogSink(tmp_path / "logs" / "audit.log")
    assert sent(sink, [record(0)]) == 1
    with sink.path.open("ab") as log:
        log.write(b'{"torn":')
    assert sent(sink, [record(1), record(2)]) == 2
    assert sink.path.read_bytes().split(b"\n") == [record(0).line, b'{"torn":', record(1).line, record(2).line, b""]


def test_a_log_that_takes_a_part_keeps_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = LogSink(tmp_path / "audit.log")
    length = len(record(0).line) + 1
    with monkeypatch.context() as disk:
        disk.setattr(os, "writev", limited(2 * length + 3))
        assert sent(sink, [record(number) for number in range(4)]) == 2
        with pytest.raises(SinkError, match="No space"):
            sent(sink, [record(2), record(3)])
    assert sent(sink, [record(2), record(3)]) == 2
    whole = [line for line in sink.path.read_bytes().split(b"\n") if line.endswith(b"}")]
    assert whole == [record(number).line for number in range(4)]


def test_a_log_that_cannot_be_written_says_which(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="LTR_EVENTS_PATH"):
        sent(LogSink(tmp_path), [record(0)])


def test_where_events_go(tmp_path: Path) -> None:
    assert open_sink(None, str(tmp_path / "audit.log")).name.endswith("audit.log")
    assert open_sink(None, str(tmp_path)).name == str(tmp_path / "served.jsonl")
    for wrong in ("logs/*.log", "audit.log.gz"):
        with pytest.raises(SettingsError, match="cannot append"):
            open_sink(None, wrong)


def test_a_lock_outlives_no_process(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path)
    journal.append([record(0)])
    child = os.fork()
    if not child:
        with open(journal.folder / "lock", "rb+") as lock:  # noqa: PTH123 - a second description of the same file
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    journal.close()


def test_events_are_taken_when_no_further_file_can_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal.create(tmp_path)
    journal.append([record(0)])

    def full(*_: object) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as limited:
        limited.setattr(os, "open", full)
        for number in range(1, 40):
            journal.append([record(number)])
    assert lines(journal) == [bytes(record(number).line) for number in range(40)]


def test_a_segment_that_somebody_has_removed_is_begun_again(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path)
    journal.append([record(0)])
    (segment,) = journal.folder.glob("*.log")
    segment.unlink()
    journal.append([record(1)])
    assert line(record(1)) in segment.read_bytes()
