"""Bit vectors in C (`kernel.c`), many rows at once; where nobody compiled it, `tables` do the same in numpy.

The libraries lie beside the sources, one for each number of rows that a processor can score at once
(``deploy/kernel.py``). Their names have the sources' hash, so that a library of another release is never loaded.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.scoring.nodes import Bits, masks_and_leaves, nodes_of
from ltr_pipeline.scoring.trees import Tree

__all__ = ["FOLDER", "SOURCES", "Compiled", "Kernel", "fastest", "library", "load"]

FOLDER: Final = Path(__file__).parent
SOURCES: Final = tuple(FOLDER / name for name in ("kernel.c", "reading.c"))

NARROWEST: Final = 4
"""Rows at once that every processor can score, if only one after the other."""

EVERY_LEAF: Final = 0xFFFFFFFF
WORD: Final = np.iinfo(np.uint32).bits


def library(lanes: int, folder: Path = FOLDER) -> Path:
    """Return where the library for so many rows at once is, or would be."""
    text = b"".join(source.read_bytes() for source in SOURCES)
    return folder / f"kernel-{hashlib.sha256(text).hexdigest()[:12]}-{lanes}.so"


class Kernel:
    """The compiled library for `lanes` rows at once; its functions are described in C.

    Raises
    ------
    OSError
        It is not there, or not for this machine.
    """

    def __init__(self, lanes: int, folder: Path = FOLDER) -> None:
        self.lanes = lanes
        found = ctypes.CDLL(str(library(lanes, folder)))
        self.widest: int = found.widest()
        address, count, text = ctypes.c_void_p, ctypes.c_int64, ctypes.c_char_p
        self.score = found.score
        self.score.argtypes, self.score.restype = [address, address, count, count, address, address], None
        self.read_rows = found.read_rows
        self.read_rows.argtypes = [text, count, count, text, address, address, address, address]
        self.read_rows.restype = count
        self.write_objects = found.write_objects
        self.write_objects.argtypes = [text, count, count, text, address, address]
        self.write_objects.restype = count


def load(folder: Path = FOLDER) -> Kernel:
    """Load the kernel with the most rows at once that this processor has instructions for; OSError as `Kernel`."""
    return Kernel(Kernel(NARROWEST, folder).widest, folder)


@cache
def fastest() -> Kernel | None:
    """Return that kernel, once loaded; None where there is none."""
    try:
        return load()
    except OSError:
        return None


class _Forest(ctypes.Structure):
    """As in `kernel.c`, which says what each field is."""

    _numbers = ("trees", "words", "features")
    _arrays = (
        "column", "first", "first_missing", "threshold", "word", "mask", "missing_word", "missing_mask", "leaves",
    )  # fmt: skip
    _fields_ = [(name, ctypes.c_int32) for name in _numbers] + [(name, ctypes.c_void_p) for name in _arrays]


class Compiled:
    """Trees that a kernel scores. Scoring changes nothing: threads may share it."""

    FEWEST: Final = 0
    """Rows times trees from which on this is faster than LightGBM."""

    def __init__(self, trees: Sequence[Tree], bits: type[Bits], kernel: Kernel) -> None:
        nodes, (masks, leaves) = nodes_of(trees), masks_and_leaves(trees, bits)
        # A node with more than 32 leaves below may rule out leaves of two words: one split for each.
        words = leaves.shape[1] // WORD
        parts = masks.astype(masks.dtype.newbyteorder("<")).view("<u4").reshape(len(masks), words)
        node, part = np.nonzero(parts != EVERY_LEAF)
        threshold = _down(nodes.threshold)
        by_threshold = np.lexsort((threshold[node], nodes.feature[node]))
        node, part = node[by_threshold], part[by_threshold]
        feature, word, mask = nodes.feature[node], nodes.tree[node] * words + part, parts[node, part]
        missing = nodes.fails_missing[node]
        columns = np.unique(feature)
        self._arrays = {
            "column": columns.astype(np.int32),
            "first": _starts(feature, columns),
            "first_missing": _starts(feature[missing], columns),
            "threshold": threshold[node],
            "word": word.astype(np.int32),
            "mask": mask.astype(np.uint32),
            "missing_word": word[missing].astype(np.int32),
            "missing_mask": mask[missing].astype(np.uint32),
            "leaves": leaves,
        }
        addresses = {name: array.ctypes.data for name, array in self._arrays.items()}
        self._forest = _Forest(trees=len(trees), words=words, features=len(columns), **addresses)
        self._address = ctypes.addressof(self._forest)
        self._width = int(columns[-1]) + 1 if len(columns) else 0
        self._room = (len(trees) * words + 1) * kernel.lanes
        self._kernel = kernel

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the raw scores of the rows of `matrix`, float32 (n, features), NaN where missing; float64 (n,)."""
        rows = np.ascontiguousarray(matrix, np.float32)
        count, width = rows.shape
        if width < self._width:  # the kernel would read beyond the row
            raise IndexError(f"rows of {width} features, but the trees ask for feature {self._width - 1}")
        scores, room = np.empty(count), np.empty(self._room, np.int32)
        self._kernel.score(self._address, rows.ctypes.data, count, width, scores.ctypes.data, room.ctypes.data)
        return scores


def _starts(feature: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return where in the rising `feature` each of `columns` begins, and where the last one ends."""
    return np.append(np.searchsorted(feature, columns), len(feature)).astype(np.int32)


def _down(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round down to float32: a float32 is above the one exactly when it is above the other."""
    with np.errstate(over="ignore"):
        near = thresholds.astype(np.float32)
        return np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near)
