"""Compressed logs as streams of their uncompressed bytes: gzip, bzip2, xz, zstd and lz4, told by their first bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from typing import BinaryIO, Final

import lz4.frame
import zstandard

__all__ = ["DAMAGED", "SUFFIXES", "uncompressed"]

SUFFIXES: Final = r"\.(?:gz|bz2|xz|zst|lz4)"
"""Pattern of the endings of compressed logs' names."""

DAMAGED: Final = (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError, RuntimeError)
"""Errors at compressed data that is cut off (EOFError) or damaged; RuntimeError is lz4's."""


def uncompressed(file: BinaryIO) -> io.BufferedIOBase | None:
    """Return a stream of the uncompressed bytes, which can seek; None when the file is not compressed.

    Where the compressed data ends too early, the stream raises EOFError, and where it is damaged another of `DAMAGED`.
    """
    head = file.read(max(map(len, _STREAMS)))
    file.seek(0)
    for magic, stream in _STREAMS.items():
        if head.startswith(magic):
            return stream(file)
    return None


class _Zstd(io.RawIOBase):
    """zstd's frames, one after the other; seeking backwards begins anew."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._begin()

    def _begin(self) -> None:
        self._file.seek(0)
        self._at, self._ready, self._rest = 0, b"", b""
        self._frame: zstandard.ZstdDecompressionObj | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_CUR:
            offset += self._at
        if offset < self._at:
            self._begin()
        while self._at < offset and self.read(min(1 << 20, offset - self._at)):
            pass
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._ready:
            data = self._rest or self._file.read(1 << 17)
            if not data:
                if self._frame is not None:
                    raise EOFError("the compressed data ends before its frame does")
                return 0
            self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            self._ready, self._rest = self._frame.decompress(data), b""
            if self._frame.eof:
                self._rest, self._frame = self._frame.unused_data, None
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        self._at += count
        return count


_STREAMS: Final[dict[bytes, Callable[[BinaryIO], io.BufferedIOBase]]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": lambda file: io.BufferedReader(_Zstd(file), 1 << 17),
    b"\x04\x22\x4d\x18": lz4.frame.LZ4FrameFile,
}
