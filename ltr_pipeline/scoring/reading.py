"""Candidates' features read from JSON into rows by the compiled library (`reading.c`), and lists written by name.

It takes what is plain, which is nearly everything, and leaves the rest, errors among it, to who calls it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import msgspec
import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.scoring.kernel import Kernel

__all__ = ["Rows"]


class Rows:
    """Rows of a model's features; make one with `of`.

    Reading and writing change nothing: threads may share it.
    """

    def __init__(self, features: Sequence[str], kernel: Kernel) -> None:
        self._kernel = kernel
        self._count = len(features)
        quoted = [msgspec.json.encode(name) for name in features]
        self._names, self._name_starts = _side_by_side([name[1:] + b"\0" for name in quoted])
        keys = [(b"," if column else b"{") + name + b":" for column, name in enumerate(quoted)]
        self._keys, self._key_starts = _side_by_side(keys)

    @classmethod
    def of(cls, features: Sequence[str], kernel: Kernel | None) -> Rows | None:
        """Make the rows of these features; None without a kernel, or where a name is not written as it is."""
        plain = features and all(msgspec.json.encode(name) == f'"{name}"'.encode() for name in features)
        return cls(features, kernel) if kernel and plain else None

    def read(self, features: Sequence[msgspec.Raw]) -> tuple[NDArray[np.float32], list[int]] | None:
        """Read features into a matrix, float32 (candidates, features), NaN where missing.

        With it come the rows that are left to who calls; None where these may be any.
        """
        texts = b"\0".join(features)
        matrix = np.empty((len(features), self._count), np.float32)
        order, careful = np.arange(self._count, dtype=np.int32), np.empty(len(features), np.uint8)
        size = self._kernel.read_rows(
            texts,
            len(features),
            self._count,
            self._names,
            self._name_starts.ctypes.data,
            order.ctypes.data,
            matrix.ctypes.data,
            careful.ctypes.data,
        )
        return (matrix, np.flatnonzero(careful).tolist()) if size == len(texts) + 1 else None

    def write(self, features: Sequence[msgspec.Raw]) -> list[msgspec.Raw] | None:
        """Write lists that were read as objects by name; None where they are no such lists."""
        texts = b"\0".join(features)
        objects = np.empty(len(texts) + len(features) * (len(self._keys) + 2), np.uint8)
        size = self._kernel.write_objects(
            texts, len(features), self._count, self._keys, self._key_starts.ctypes.data, objects.ctypes.data
        )
        written = objects[: max(size, 0)].tobytes().split(b"\0")[:-1]
        return list(map(msgspec.Raw, written)) if len(written) == len(features) else None


def _side_by_side(parts: Sequence[bytes]) -> tuple[bytes, NDArray[np.int32]]:
    """Return the parts as one, and where each begins; behind these, where the last one ends."""
    return b"".join(parts), np.array([0, *accumulate(map(len, parts))], np.int32)
