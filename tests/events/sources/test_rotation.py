"""A log that was rotated, whatever its new name: its tail is read, or said to be lost."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import lz4.frame
import pytest
import zstandard

from ltr_pipeline.events.source import Segment
from ltr_pipeline.events.sources.files import FileSource

NAMES = [
    *("audit.log.1", "audit.1.log", "audit1.log", "audit.log-20250715", "audit-20250715.log", "audit-20250715-1.log"),
    *("audit.2025-07-15.log", "audit.2025-07-15_00-00-00_000000.log", "audit_2025-07-15.log", "audit.log_2025-07-15"),
    *("audit.log.bak", "audit.log.old", "audit.log~", "old.audit", "olddir/audit.log", "olddir/audit.log.1"),
]
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
    ".lz4": lz4.frame.compress,
}


def lines(first: int, last: int) -> str:
    """Lines of 50 bytes, so that files are longer than what identifies them."""
    return "".join(f"{number:049d}\n" for number in range(first, last))


class Nights:
    """Successive nights of one source."""

    def __init__(self, pattern: Path | str) -> None:
        self.source = FileSource(pattern)
        self.cursor: tuple[Segment, ...] = ()
        self.lost: tuple[Segment, ...] = ()

    def night(self) -> list[int]:
        span = self.source.stable_end(self.cursor)
        self.cursor, self.lost = span.segments, span.lost
        read = [int(line) for block in self.source.read(span) for line in block.data.split()]
        assert read == [int(line) for block in self.source.read(span) for line in block.data.split()]
        return read

    @property
    def records_lost(self) -> int:
        return sum(segment.records or 0 for segment in self.lost)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "logs" / "audit.log"
    path.parent.mkdir()
    path.write_text(lines(0, 100))
    return path


def append(path: Path, first: int, last: int) -> None:
    with path.open("a") as file:
        file.write(lines(first, last))


def move(log: Path, name: str) -> Path:
    target = log.parent / name
    target.parent.mkdir(exist_ok=True)
    return log.rename(target)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_written_before_the_rotation_is_read_under_any_name(log: Path, name: str) -> None:
    nights = Nights(log)
    assert nights.night() == [*range(100)]
    append(log, 100, 150)
    move(log, name)
    append(log, 150, 180)
    assert nights.night() == [*range(100, 180)]
    assert nights.night() == []
    append(log, 180, 190)
    assert (nights.night(), nights.lost) == ([*range(180, 190)], ())


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("name", ["audit.log.1", "audit-20250715.log", "audit.bak", "olddir/audit.log"])
def test_it_is_read_from_any_usual_compression(log: Path, name: str, packer: str) -> None:
    nights = Nights(log)
    nights.night()
    append(log, 100, 150)
    moved = move(log, name)
    moved.with_name(moved.name + packer).write_bytes(PACKERS[packer](moved.read_bytes()))
    moved.unlink()
    append(log, 150, 180)
    assert nights.night() == [*range(100, 180)]
    assert nights.lost == ()


@pytest.mark.parametrize("packer", PACKERS)
def test_a_compressed_log_of_several_parts_is_one(tmp_path: Path, packer: str) -> None:
    data = b"".join(PACKERS[packer](lines(first, first + 5000).encode()) for first in (0, 5000, 10000))
    (tmp_path / f"audit.log.1{packer}").write_bytes(data)
    assert Nights(tmp_path).night() == [*range(15000)]


@pytest.mark.parametrize("name", ["audit.{}.log", "archive/{}.bak"])
def test_several_rotations_between_two_nights_are_all_read(log: Path, name: str) -> None:
    nights = Nights(log)
    nights.night()
    for number in (1, 2, 3):
        append(log, 100 * number, 100 * number + 100)
        os.utime(move(log, name.format(number)), ns=(number * 10**9, number * 10**9))
    append(log, 400, 450)
    assert nights.night() == [*range(100, 450)]
    assert nights.night() == []


def test_a_copy_of_a_truncated_log_is_found_under_any_name(log: Path) -> None:
    nights = Nights(log)
    nights.night()
    append(log, 100, 150)
    shutil.copy(log, log.with_name("audit.copy"))
    log.write_text(lines(150, 180))
    assert nights.night() == [*range(100, 180)]


def test_a_folder_finds_what_was_moved_out_of_it(log: Path) -> None:
    nights = Nights(log.parent)
    nights.night()
    append(log, 100, 120)
    nights.night()
    append(log, 120, 150)
    move(log, "old/audit.log")
    append(log, 150, 180)
    assert nights.night() == [*range(120, 180)]


def test_other_files_beside_the_log_are_none_of_its_business(log: Path) -> None:
    nights = Nights(log)
    nights.night()
    append(log, 100, 150)
    move(log, "audit.bak")
    log.write_text(lines(150, 180))
    for name in ("error.log", "audit-errors.log", "audit.sqlite", "notes.txt"):
        log.with_name(name).write_text(lines(900, 999))
    log.with_name("broken.gz").write_bytes(gzip.compress(lines(0, 100).encode())[:-20])
    log.with_name("loop").symlink_to("loop")
    assert nights.night() == [*range(100, 180)]


@pytest.mark.parametrize("again", [False, True], ids=["at once", "after a second night"])
def test_a_tail_that_is_nowhere_is_said_to_be_lost_once(log: Path, again: bool) -> None:
    nights = Nights(log)
    nights.night()
    if again:
        append(log, 100, 140)
        assert (nights.night(), nights.lost) == ([*range(100, 140)], ())
    log.unlink()
    log.write_text(lines(500, 530))
    assert nights.night() == [*range(500, 530)]
    (lost,) = nights.lost
    known = 140 if again else 100
    estimate = 40 if again else 30  # as much as the night before; at the first, as there is by now
    assert (lost.source, lost.start, lost.end, lost.records) == (
        str(log),
        50 * known,
        50 * (known + estimate),
        estimate,
    )
    assert (nights.night(), nights.lost) == ([], ())
    append(log, 530, 540)
    assert (nights.night(), nights.lost) == ([*range(530, 540)], ())


def test_an_old_file_that_is_removed_loses_nothing(log: Path) -> None:
    nights = Nights(log)
    move(log, "audit.log.1")
    log.write_text(lines(100, 150))
    assert len(nights.night()) == 150
    log.with_name("audit.log.1").unlink()
    append(log, 150, 160)
    assert (nights.night(), nights.lost) == ([*range(150, 160)], ())


@pytest.mark.parametrize("packer", PACKERS)
def test_a_file_cut_off_for_good_is_read_as_far_as_it_goes_and_told_once(tmp_path: Path, packer: str) -> None:
    whole = lines(0, 80_000).encode()  # several blocks of any compression
    path = tmp_path / f"audit.log.1{packer}"
    path.write_bytes(PACKERS[packer](whole)[:-200])
    nights = Nights(tmp_path)
    read = nights.night()
    assert read == [*range(len(read))]
    assert (len(read) < 80_000, nights.lost) == (True, ())  # it may still be written
    assert nights.night() == []
    assert [(lost.source, lost.start) for lost in nights.lost] == [(str(path), 50 * len(read))]
    assert nights.records_lost >= 1
    assert (nights.night(), nights.lost) == ([], ())


@pytest.mark.parametrize("packer", PACKERS)
def test_a_file_that_was_only_not_finished_yet_loses_nothing(tmp_path: Path, packer: str) -> None:
    data = PACKERS[packer](lines(0, 80_000).encode())
    path = tmp_path / f"audit.log.1{packer}"
    path.write_bytes(data[: len(data) // 2])
    nights = Nights(tmp_path)
    first = nights.night()
    path.write_bytes(data)
    assert [*first, *nights.night()] == [*range(80_000)]
    assert nights.lost == ()


@pytest.mark.parametrize("packer", PACKERS)
def test_a_file_of_which_nothing_can_be_read_is_told_and_read_once_it_is_whole(tmp_path: Path, packer: str) -> None:
    path, whole = tmp_path / f"audit.log.1{packer}", PACKERS[packer](lines(0, 100).encode())
    path.write_bytes(whole[:20])
    nights = Nights(tmp_path)
    assert (nights.night(), nights.lost) == ([], ())  # it may still be written
    assert nights.night() == []
    assert [(lost.source, lost.start) for lost in nights.lost] == [(str(path), 0)]
    assert nights.records_lost >= 1
    assert (nights.night(), nights.lost) == ([], ())
    path.write_bytes(whole)
    assert (nights.night(), nights.lost) == ([*range(100)], ())
    (tmp_path / "other.log").write_text(lines(100, 110))
    assert (nights.night(), nights.lost) == ([*range(100, 110)], ())


def test_junk_behind_compressed_data_is_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "audit.log.1.gz").write_bytes(gzip.compress(lines(0, 100).encode()) + b"JUNK" * 10)
    nights = Nights(tmp_path)
    assert nights.night() == [*range(100)]
    assert nights.night() == []
    assert nights.records_lost == 1


def test_a_thousand_files_are_looked_at_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: what is read of each file does not grow with their number."""
    from ltr_pipeline.events.sources.logfile import Log

    reads = 0
    bytes_of = Log._bytes

    def counted(self: Log, start: int, end: int) -> bytes:
        nonlocal reads
        reads += 1
        return bytes_of(self, start, end)

    monkeypatch.setattr(Log, "_bytes", counted)
    nights = Nights(tmp_path)
    for number in range(1000):
        (tmp_path / f"part-{number:04}.jsonl").write_text(lines(number, number + 1) + lines(5000, 5000 + number % 50))
    nights.night()
    for path in tmp_path.iterdir():
        os.utime(path, ns=(1, 1))  # so that each has to be recognised by its content
    reads = 0
    assert nights.night() == []
    assert reads < 10 * 1000
