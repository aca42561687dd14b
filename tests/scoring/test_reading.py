"""The compiled way to read features agrees with msgspec, which reads what it leaves, to the last bit."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from ltr_pipeline.scoring.kernel import Kernel, load
from ltr_pipeline.scoring.reading import Rows
from support import features, forests


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Kernel:
    folder: Path = tmp_path_factory.mktemp("kernel")
    forests.compiled(folder)
    return load(folder)


def raw(*texts: str) -> list[msgspec.Raw]:
    return [msgspec.Raw(text.encode()) for text in texts]


@pytest.mark.parametrize("seeds", [range(start, start + 100) for start in range(0, 2000, 100)], ids=str)
def test_both_ways_read_the_same_or_say_the_same_error(kernel: Kernel, seeds: range) -> None:
    for seed in seeds:
        features.compare(seed, kernel)


def test_what_is_plain_is_read_and_the_rest_is_left(kernel: Kernel) -> None:
    rows = Rows.of(("A", "S"), kernel)
    assert rows
    texts = raw(
        '{"A": 0.1, "S": 2}', '{"S":null,"A":-1e-3}', " { } ", "[1.5,null]",
        '{"A": 1, "x": 2}', '{"A": true}', "[1]", "[1,2,3]", "[18446744073709551616,1]", "7", '{"A": 1e39}',
        '{"A": 1}}', '{"A": 1', "",
    )  # fmt: skip
    found = rows.read(texts)
    assert found
    matrix, careful = found
    assert careful == list(range(4, len(texts)))
    plain = np.float32([[0.1, 2], [-0.001, np.nan], [np.nan, np.nan], [1.5, np.nan]])
    np.testing.assert_array_equal(matrix[:4], plain)


def test_numbers_that_json_writes_for_floats_are_all_plain(kernel: Kernel) -> None:
    rows = Rows.of(("A",), kernel)
    assert rows
    rng = np.random.default_rng(1)
    values = rng.normal(size=3000) * 10.0 ** rng.integers(-8, 9, 3000)
    found = rows.read([msgspec.Raw(msgspec.json.encode([value])) for value in values.tolist()])
    assert found
    np.testing.assert_array_equal(found[0][:, 0], values.astype(np.float32))
    assert found[1] == []


def test_a_text_with_a_nul_of_its_own_is_left_with_all_others(kernel: Kernel) -> None:
    rows = Rows.of(("A",), kernel)
    assert rows
    assert rows.read(raw("[1]", "[2]\0[3]", "[4]")) is None


def test_lists_are_written_by_name_as_they_came(kernel: Kernel) -> None:
    rows = Rows.of(("A", "Größe"), kernel)
    assert rows
    assert rows.write(raw("[1.50, null]", "[ -2e3,4]")) == raw('{"A":1.50,"Größe": null}', '{"A": -2e3,"Größe":4}')
    for other in ("[1]", "[1,2,3]", "[1,2", "7", "[1,2]x"):
        assert rows.write(raw("[1,2]", other)) is None


@pytest.mark.parametrize("names", [(), ('a"b',), ("a\\b",), ("a\nb",)])
def test_names_that_json_writes_otherwise_are_left_to_msgspec(kernel: Kernel, names: tuple[str, ...]) -> None:
    assert Rows.of(names, kernel) is None
