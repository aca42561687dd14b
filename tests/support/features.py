"""Candidates' features as JSON of all sorts, right and wrong, which the compiled way and msgspec read alike."""

from __future__ import annotations

import json

import msgspec
import numpy as np

from ltr_pipeline.errors import RequestError
from ltr_pipeline.scoring.kernel import Kernel
from ltr_pipeline.scoring.reading import Rows
from ltr_pipeline.scoring.requests import Candidate, Features, Reader, is_list
from ltr_pipeline.serving.eventlog import encode

NAMES = ("a", "ab", "b", "Größe", "a feature with a long name")
ODD = (
    "null", "0", "-0", "-0.0", "1e5", "1E+2", "12e-3", "1e22", "1e-22", "1e63", "1e-63", "1e64", "-1e38",
    "3.4e38", "1e39", "1e400", "1e-45", "1e-50", "16777217", "16777219", "0.1", "1.000000059604644775390625",
    "9007199254740993", "1234567890123456789e-19", "18446744073709551616", "0.00000000000000000000001",
    "123456789012345678901234567890", "01", "-", "+1", ".5", "1.", "1e", "1e+", "true", "nul", "nulll", "NaN",
    "Infinity", "-Infinity", '"1"', "{}", "[]", "0x1", "1,1",
)  # fmt: skip
SPACES = ("", "", "", " ", "\n", "\t \r\n")


def text(rng: np.random.Generator) -> bytes:
    """Write features as an object or as a list, most of them right; sometimes a letter of it is another one."""
    gap = lambda: str(rng.choice(SPACES))  # noqa: E731
    odd = rng.random() < 0.3
    names = list(rng.permutation(NAMES) if rng.random() < 0.3 else NAMES)
    if rng.random() < 0.3:
        names = names[: rng.integers(0, len(names) + 1)]
    if rng.random() < 0.1:
        names.append(str(rng.choice([*NAMES, "c", "other", ""])))
    if rng.random() < 0.5:
        written = [gap() + number(rng, odd=odd) + gap() for _ in names]
        made = f"[{','.join(written)}]"
    else:
        ascii_only = bool(rng.random() < 0.2)  # escapes what is not ASCII
        keys = [json.dumps(name, ensure_ascii=ascii_only) for name in names]
        made = f"{{{','.join(f'{gap()}{key}{gap()}:{gap()}{number(rng, odd=odd)}{gap()}' for key in keys)}}}"
    content = bytearray(made.encode())
    if rng.random() < 0.2:
        content[rng.integers(0, len(content))] = rng.choice(list(b'\0\x01\xff"\\,:{}[]-+.e0n '))
    return bytes(content)


def number(rng: np.random.Generator, *, odd: bool) -> str:
    if odd and rng.random() < 0.3:
        return str(rng.choice(ODD))
    value = rng.normal() * 10.0 ** rng.integers(-30, 30)
    match rng.integers(0, 4):
        case 0:
            return repr(float(value))
        case 1:
            return str(np.float32(value))
        case 2:  # between two float32, or close to it
            low = np.float32(value)
            middle = (float(low) + float(np.nextafter(low, np.float32(np.inf)))) / 2
            return repr(float(np.nextafter(middle, rng.choice([-np.inf, middle, np.inf]))))
        case _:
            return f"{value:.{rng.integers(0, 25)}e}"


def compare(seed: int, kernel: Kernel) -> None:
    """Read the features of some candidates both ways: the same rows and unknown names, or the same error."""
    rng = np.random.default_rng(seed)
    texts = [text(rng) for _ in range(rng.integers(0, 8))]
    candidates = [Candidate(item_id=f"item-{row}", features=msgspec.Raw(content)) for row, content in enumerate(texts)]
    ways = [read(Reader(NAMES, way), candidates) for way in (None, kernel)]
    if isinstance(ways[0], str) or isinstance(ways[1], str):
        assert ways[0] == ways[1], texts
        if rows := Rows.of(NAMES, kernel):
            rows.write([candidate.features for candidate in candidates])  # whatever they are
        return
    assert ways[0].unknown == ways[1].unknown, texts
    np.testing.assert_array_equal(ways[0].matrix, ways[1].matrix, err_msg=str(texts))
    lists = [candidate.features for candidate in candidates if is_list(candidate.features)]
    assert as_objects(lists, kernel) == as_objects(lists, None)


def as_objects(lists: list[msgspec.Raw], kernel: Kernel | None) -> list[msgspec.Raw] | None:
    rows = Rows.of(NAMES, kernel)
    return rows.write(lists) if rows else [encode._by_name(values, NAMES) for values in lists]


def read(reader: Reader, candidates: list[Candidate]) -> Features | str:
    try:
        return reader.read(candidates)
    except RequestError as error:
        return str(error)
