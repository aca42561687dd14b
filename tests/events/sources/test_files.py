"""What a night reads of files that grow, are rotated, truncated, compressed, damaged or gone."""

from __future__ import annotations

import gzip
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from ltr_pipeline.errors import SourceError
from ltr_pipeline.events.source import MAX_LINE_BYTES, Range, Segment
from ltr_pipeline.events.sources.files import BLOCK_BYTES, FileSource


class Nights:
    """Successive nights of one source, each from where the one before ended."""

    def __init__(self, pattern: Path, *, closed: bool = False) -> None:
        self.source = FileSource(pattern, closed=closed)
        self.cursor: tuple[Segment, ...] = ()

    def plan(self) -> Range:
        span = self.source.stable_end(self.cursor)
        self.cursor = span.segments
        return span

    def night(self) -> list[str]:
        """Lines that arrived since the night before."""
        return [text.decode() for text in lines_of_range(self.source, self.plan())]


def lines_of_range(source: FileSource, span: Range) -> Iterator[bytes]:
    for block in source.read(span):
        yield from block.data.splitlines()


def numbered(start: int, stop: int) -> str:
    """Lines of 50 bytes, so that files are longer than what identifies them."""
    return "".join(f"{index:049d}\n" for index in range(start, stop))


def numbers(lines: list[str]) -> list[int]:
    return [int(line) for line in lines]


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "logs" / "audit.log"
    path.parent.mkdir()
    path.write_text(numbered(0, 100))
    return path


def test_each_night_reads_what_was_appended(log: Path) -> None:
    nights = Nights(log)
    assert numbers(nights.night()) == list(range(100))
    assert nights.night() == []
    append(log, numbered(100, 103))
    assert numbers(nights.night()) == [100, 101, 102]


def test_a_last_line_without_its_end_waits(log: Path) -> None:
    nights = Nights(log)
    append(log, "0000")
    assert numbers(nights.night()) == list(range(100))
    append(log, "777\n")
    assert numbers(nights.night()) == [777]


def test_in_a_closed_file_it_is_complete(log: Path) -> None:
    append(log, "777")
    assert numbers(Nights(log, closed=True).night())[-2:] == [99, 777]


def test_nothing_but_an_unfinished_line(log: Path) -> None:
    log.write_text("unfinished")
    nights = Nights(log)
    assert nights.plan().segments == ()
    append(log, " business\n")
    assert nights.night() == ["unfinished business"]


def test_a_rotated_log_goes_on_where_it_was_left(log: Path) -> None:
    nights = Nights(log)
    nights.night()
    append(log, numbered(100, 110))
    log.rename(log.with_name("audit.log.1"))
    log.write_text(numbered(200, 205))
    assert numbers(nights.night()) == [*range(100, 110), *range(200, 205)]
    append(log.with_name("audit.log.1"), numbered(110, 112))  # the writer still had it open
    log.with_name("audit.log.1").rename(log.with_name("audit.log.2"))
    log.rename(log.with_name("audit.log.1"))
    log.write_text(numbered(300, 301))
    assert sorted(numbers(nights.night())) == [110, 111, 300]


def test_rotation_before_the_new_log_exists(log: Path) -> None:
    nights = Nights(log)
    nights.night()
    append(log, numbered(100, 101))
    log.rename(log.with_name("audit.log-20250715"))
    assert numbers(nights.night()) == [100]


def test_copytruncate_is_noticed(log: Path) -> None:
    nights = Nights(log)
    nights.night()
    append(log, numbered(100, 110))
    log.with_name("audit.log.1").write_bytes(log.read_bytes())
    os.truncate(log, 0)
    append(log, numbered(500, 800))  # longer than before: only its content tells
    assert sorted(numbers(nights.night())) == [*range(100, 110), *range(500, 800)]
    assert nights.night() == []


def test_truncated_without_a_copy_is_read_from_its_beginning(log: Path) -> None:
    nights = Nights(log)
    nights.night()
    log.write_text(numbered(500, 510))
    assert numbers(nights.night()) == list(range(500, 510))


def test_rewritten_with_the_same_beginning_is_read_again(log: Path) -> None:
    nights = Nights(log)
    nights.night()
    log.write_text(numbered(0, 50) + numbered(500, 600))
    assert numbers(nights.night()) == [*range(50), *range(500, 600)]


def test_a_compressed_predecessor_goes_on_where_it_was_left(log: Path) -> None:
    nights = Nights(log)
    nights.night()
    append(log, numbered(100, 110))
    packed = log.with_name("audit.log.1.gz")
    packed.write_bytes(gzip.compress(log.read_bytes()))
    log.write_text(numbered(200, 201))
    assert numbers(nights.night()) == [*range(100, 110), 200]
    packed.rename(log.with_name("audit.log.2.gz"))
    assert nights.night() == []


def test_the_last_line_of_a_whole_gzip_file_is_complete_and_a_partial_file_waits(tmp_path: Path) -> None:
    path = tmp_path / "audit.log.gz"
    whole = gzip.compress((numbered(0, 2000) + "7777").encode())
    path.write_bytes(whole[: len(whole) // 2])  # still being written
    nights = Nights(path)
    first = numbers(nights.night())
    assert 0 < len(first) < 2000
    path.write_bytes(whole)
    assert first + numbers(nights.night()) == [*range(2000), 7777]


def test_a_predecessor_that_is_just_being_compressed_does_no_harm(log: Path) -> None:
    nights = Nights(log)
    nights.night()
    append(log, numbered(100, 101))
    whole = gzip.compress(log.read_bytes())
    log.with_name("audit.log.1").write_bytes(log.read_bytes())
    log.write_text(numbered(200, 201))
    log.with_name("audit.log.1.gz").write_bytes(whole[: len(whole) // 2])
    assert {100, 200} <= set(numbers(nights.night()))
    log.with_name("audit.log.1").unlink()
    log.with_name("audit.log.1.gz").write_bytes(whole)
    assert nights.night() == []


def test_predecessors_belong_to_the_first_night(log: Path) -> None:
    log.with_name("audit.log.1").write_text(numbered(200, 201))
    log.with_name("audit.log.2.gz").write_bytes(gzip.compress(numbered(300, 301).encode()))
    log.with_name("audit.log.bak").write_text(numbered(400, 401))
    log.with_name("audit.log2").write_text(numbered(500, 501))
    assert sorted(numbers(Nights(log).night())) == [*range(100), 200, 300]


def test_a_folder_and_a_glob(log: Path) -> None:
    log.with_name("more.jsonl").write_text(numbered(200, 201))
    log.with_name("old.jsonl.gz").write_bytes(gzip.compress(numbered(300, 301).encode()))
    log.with_name("notes.txt").write_text("not a log\n")
    log.with_name(".hidden.log").write_text("neither\n")
    (log.parent / "deep").mkdir()
    (log.parent / "deep" / "deep.jsonl").write_text(numbered(400, 401))
    assert sorted(numbers(Nights(log.parent).night())) == [*range(100), 200, 300]
    assert sorted(numbers(Nights(log.parent / "**" / "*.jsonl").night())) == [200, 400]


def test_links_to_one_file_are_one_file(log: Path) -> None:
    (log.parent / "link.log").symlink_to(log)
    (log.parent / "hard.log").hardlink_to(log)
    assert len(Nights(log.parent).night()) == 100


def test_a_file_that_comes_back_is_not_read_again(log: Path) -> None:
    other = log.with_name("other.log")
    other.write_text(numbered(200, 202))
    nights = Nights(log.parent)
    assert len(nights.night()) == 102
    other.rename(log.parent.parent / "away")
    assert nights.night() == []
    (log.parent.parent / "away").rename(other)
    append(other, numbered(202, 203))
    assert numbers(nights.night()) == [202]


def test_a_stored_range_is_found_again_after_rotation_and_compression(log: Path) -> None:
    source = FileSource(log)
    span = source.stable_end(())
    append(log, numbered(100, 110))
    log.with_name("audit.log.1.gz").write_bytes(gzip.compress(log.read_bytes()))
    log.write_text(numbered(200, 300))
    assert [int(line) for line in lines_of_range(source, span)] == list(range(100))


def test_a_stored_range_that_is_gone_is_an_error(log: Path) -> None:
    source = FileSource(log)
    span = source.stable_end(())
    log.write_text(numbered(200, 300))
    with pytest.raises(SourceError, match=r"audit\.log: the bytes 0 to 5000 .* are gone"):
        list(source.read(span))


def test_what_cannot_be_read_says_what_to_do(log: Path) -> None:
    folder = log.parent
    (folder / "empty").mkdir()
    (folder / "broken.log").symlink_to("nowhere")
    (folder / "loop.log").symlink_to("loop.log")
    for pattern in ("missing.log", "empty", "no/such/folder.log", "*.nothing", "broken.log", "loop.log", "audit.log/x"):
        with pytest.raises(SourceError, match=r"LTR_EVENTS_PATH"):
            FileSource(folder / pattern).stable_end(())


def test_a_log_that_shrinks_while_it_is_read_is_an_error(log: Path) -> None:
    log.write_text(numbered(0, 100_000))  # several blocks
    source = FileSource(log)
    blocks = source.read(source.stable_end(()))
    next(blocks)
    os.truncate(log, 100)
    with pytest.raises(SourceError, match="became shorter"):
        list(blocks)


def test_blocks_are_whole_lines_with_their_offsets(log: Path) -> None:
    log.write_text("".join(f"{'x' * (index % 3000)}{index}\n" for index in range(4000)))
    source = FileSource(log)
    data = log.read_bytes()
    offsets = []
    for block in source.read(source.stable_end(())):
        assert len(block.data) <= BLOCK_BYTES + MAX_LINE_BYTES
        starts = [*block.starts.tolist(), len(block.data)]
        for offset, start, end in zip(block.offsets.tolist(), starts, starts[1:], strict=False):
            assert data[offset : offset + end - start] == block.data[start:end]
        offsets += block.offsets.tolist()
    assert len(offsets) == len(set(offsets)) == 4000


def test_a_giant_line_is_refused_without_being_held(log: Path) -> None:
    with log.open("ab") as file:
        for _ in range(64):
            file.write(b"y" * (1 << 20))
        file.write(b"\n" + numbered(100, 101).encode())
    source = FileSource(log)
    span = source.stable_end(())
    tracemalloc.start()
    blocks = [(len(block.starts), block.rejected) for block in source.read(span)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    (refused,) = [record for _, rejected in blocks for record in rejected]
    assert (refused.reason, refused.offset, refused.excerpt) == ("line over 1 MiB", 5000, "y" * 200)
    assert sum(lines for lines, _ in blocks) == 101
    assert peak < 16 << 20  # of 64 MiB
