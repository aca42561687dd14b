"""Rankings read from a LibSVM file, the form of public ranking sets (LETOR)."""

from __future__ import annotations

import codecs
import gzip
import zlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

import numpy as np
import psutil
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ltr_pipeline.errors import DatasetError
from ltr_pipeline.mapping import MAX_RELEVANCE
from ltr_pipeline.ranker.data import Rows

__all__ = ["read_libsvm", "with_columns"]

_GRADES: Final = {float(grade): grade for grade in range(MAX_RELEVANCE + 1)}
_QID: Final = b"qid:"
_SHOWN: Final = 40  # characters of a wrong text
_EXPECTED: Final = "expected lines such as '2 qid:7 1:0.5 3:0.25'"


def read_libsvm(path: Path) -> Rows:
    """Read a ranking file, plain or ``.gz``: ``<relevance> [qid:<query>] <feature>:<value> ... [# comment]`` a line.

    Rankings are told by the file ``<path>.query``, one row count a line, else by ``qid``, whose rows stand together. A
    feature becomes a column, named by its number, if a line has it; it is 0 where a line does not.

    Raises
    ------
    DatasetError
        The file cannot be read, or a line is wrong; its number is told.
    """
    sizes = path.with_name(path.name.removesuffix(".gz") + ".query")
    lines = _Lines(path, None if sizes.is_file() else sizes.name)
    with _readable(path):
        for number, line in _numbered(path):
            lines.add(number, line.partition(b"#")[0].split())
    if not lines.columns:
        raise DatasetError(f"{path}: no line has a feature; {_EXPECTED}")
    return Rows(
        features=lines.features(),
        feature_names=tuple(map(str, sorted(lines.columns))),
        relevance=np.array(lines.relevance, np.int8),
        group=_sizes(sizes, len(lines.relevance)) if sizes.is_file() else lines.group(),
    )


def with_columns(data: Rows, names: tuple[str, ...]) -> Rows:
    """Return the rows with the columns `names`, of which they may lack some: those are 0."""
    if names == data.feature_names:
        return data
    column = {name: number for number, name in enumerate(names)}
    features = np.zeros((len(data.relevance), len(names)), np.float32)
    features[:, [column[name] for name in data.feature_names]] = data.features
    return Rows(features, names, data.relevance, data.group)


class _Line(NamedTuple):
    """Content of a line; a ValueError names what is wrong with it."""

    relevance: int
    qid: bytes | None
    features: list[int]
    values: list[float]

    @classmethod
    def of(cls, words: list[bytes]) -> _Line:
        relevance = _GRADES.get(_number(words[0]))
        if relevance is None:
            raise ValueError(f"the relevance {_shown(words[0])} is no whole number from 0 to {MAX_RELEVANCE}")
        qid = words[1].removeprefix(_QID) if len(words) > 1 and words[1].startswith(_QID) else None
        pairs = [word.partition(b":") for word in words[1 if qid is None else 2 :]]
        features = [_whole(feature) for feature, _, _ in pairs]
        if len(set(features)) != len(features):
            twice = next(feature for feature in features if features.count(feature) > 1)
            raise ValueError(f"feature {twice} is there more than once")
        return cls(relevance, qid, features, [_number(value) for _, _, value in pairs])


def _number(word: bytes) -> float:
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"{_shown(word)} is no number; {_EXPECTED}") from None


def _whole(word: bytes) -> int:
    if not word.isdigit():
        raise ValueError(f"the feature {_shown(word)} is no whole number; {_EXPECTED}")
    return int(word)


def _shown(word: bytes) -> str:
    text = word.decode(errors="replace")
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


class _Lines:
    """The lines of a file so far: only features that a line has take room, whatever their numbers.

    Attributes
    ----------
    relevance
        One a row.
    columns
        Number of each feature among those seen, in the order of their first lines.
    """

    def __init__(self, path: Path, no_sizes: str | None) -> None:
        """Collect the lines of `path`; `no_sizes` names the file that would tell the rankings, if it is not there."""
        self._path, self._no_sizes = path, no_sizes
        self.relevance, self.columns = array("b"), dict[int, int]()
        self._numbers, self._ends = array("q"), array("q", [0])  # of each row: its line, and where its values end
        self._places, self._values = array("i"), array("f")  # of each value: its feature's number in `columns`
        self._starts, self._qid, self._qids = array("q"), b"", set[bytes]()

    def add(self, number: int, words: list[bytes]) -> None:
        """Take in the line of that number, unless it is empty."""
        if not words:
            return
        try:
            line = _Line.of(words)
        except ValueError as error:
            self._refuse(number, str(error))
        if self._no_sizes is not None:
            self._begin_or_go_on(number, line.qid)
        self.relevance.append(line.relevance)
        self._numbers.append(number)
        self._places.extend([self.columns.setdefault(feature, len(self.columns)) for feature in line.features])
        self._values.extend(line.values)
        self._ends.append(len(self._values))

    def _begin_or_go_on(self, number: int, qid: bytes | None) -> None:
        """Begin a ranking where the qid is another than in the row before."""
        if not qid:
            self._refuse(number, f"there is no qid, and no file {self._no_sizes} says which rows belong together")
        if qid == self._qid:
            return
        if qid in self._qids:
            self._refuse(number, f"rows of qid {_shown(qid)} do not stand together; sort the file by qid")
        self._qid = qid
        self._qids.add(qid)
        self._starts.append(len(self.relevance))

    def group(self) -> NDArray[np.int32]:
        """Return the rows of each ranking."""
        return np.diff(self._starts, append=len(self.relevance)).astype(np.int32)

    def features(self) -> NDArray[np.float32]:
        """Return the table, (rows, features), features by rising number."""
        values, ends = np.frombuffer(self._values, np.float32), np.frombuffer(self._ends, np.int64)
        if (beyond := np.flatnonzero(np.isinf(values))).size:
            row = int(np.searchsorted(ends, beyond[0], side="right")) - 1
            self._refuse(self._numbers[row], "a value is beyond a 32-bit float")
        needed, free = 4 * len(self.relevance) * len(self.columns), psutil.virtual_memory().available
        if needed > free:
            raise DatasetError(
                f"{self._path}: {len(self.relevance):,} rows with {len(self.columns):,} features take "
                f"{needed / 1e9:,.0f} GB, and {free / 1e9:,.0f} GB are free; take fewer rows or features"
            )
        rank = {feature: place for place, feature in enumerate(sorted(self.columns))}
        columns = np.array([rank[feature] for feature in self.columns], np.int32)[np.frombuffer(self._places, np.int32)]
        return np.asarray(csr_array((values, columns, ends), (len(self.relevance), len(rank))).toarray(), np.float32)

    def _refuse(self, number: int, reason: str) -> NoReturn:
        raise DatasetError(f"{self._path}, line {number}: {reason}")


def _numbered(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield each line with its number, the first without a byte order mark."""
    with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path}: {getattr(error, 'strerror', None) or error}; is it whole?") from error


def _sizes(path: Path, rows: int) -> NDArray[np.int32]:
    try:
        group = np.array(path.read_text(encoding="utf-8-sig").split(), dtype=np.int32)
    except (OSError, ValueError, OverflowError) as error:
        raise DatasetError(f"{path}: {error}; expected one row count a line") from error
    if group.sum() != rows or (group < 1).any():
        raise DatasetError(f"{path}: row counts must be positive and sum to the {rows} rows, not {group.sum()}")
    return group
