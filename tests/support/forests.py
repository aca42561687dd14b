"""Boosters that no training would make, and rows that part their trees."""

from __future__ import annotations

import math
from pathlib import Path

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from deploy.kernel import WIDTHS, CompilerError, compile_kernel
from ltr_pipeline.scoring.forest import Forest
from ltr_pipeline.scoring.kernel import FOLDER, Kernel
from ltr_pipeline.scoring.trees import Trees, read_trees
from support import servers

LARGEST = float(np.finfo(np.float32).max)
STRANGE = [math.nan, math.inf, 0.0, 1e-45, 1e-36, 1e-35, 1.1e-35, 1.0000000180025095e-35, 3e38, LARGEST]
THRESHOLDS = [0.0, 1e-300, 1e-45, 1e-36, 1e-35, 1.0000000180025095e-35, 1.1e-35, 0.1, 0.5, 3e38, LARGEST, 1e39, 1e308]
NOTHING, ZERO, NAN = 0, 1, 2  # that a node may take for missing
ROOM = (1, 3, 4, 5, 8, 15, 16, 17, 33, 70)  # rows


def compiled(folder: Path, *flags: str) -> None:
    """Compile the kernel in each width."""
    try:
        compile_kernel(FOLDER, folder, *flags)
    except CompilerError as error:
        servers.missing("C compiler", str(error))


def kernels(folder: Path) -> dict[int, Kernel]:
    """Compile the kernel and load it in each width that this processor can run."""
    compiled(folder)
    found = loaded(folder)
    servers.used("C compiler", f"kernels of {', '.join(map(str, found))} rows at once")
    return found


def loaded(folder: Path) -> dict[int, Kernel]:
    widest = Kernel(min(WIDTHS), folder).widest
    return {lanes: Kernel(lanes, folder) for lanes in WIDTHS if lanes <= widest}


def booster(rng: np.random.Generator, missing: tuple[int, ...] = (NOTHING, NAN)) -> str:
    """Text of a model: 1 to 60 trees of up to 2 to 64 leaves, with thresholds where numbers are odd."""
    features, most = int(rng.integers(1, 9)), int(rng.integers(2, 65))
    trees = [tree(rng, features, most, missing) for _ in range(rng.integers(1, 61))]
    names = " ".join(f"f{number}" for number in range(features))
    infos = " ".join(["[-1:1]"] * features)
    head = (
        "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\n"
        f"max_feature_idx={features - 1}\nobjective=lambdarank\nfeature_names={names}\nfeature_infos={infos}\n\n"
    )
    return head + "".join(f"Tree={number}\n{text}\n\n" for number, text in enumerate(trees)) + "end of trees\n"


def tree(rng: np.random.Generator, features: int, most: int, missing: tuple[int, ...]) -> str:
    """Grow a tree of up to `most` leaves by splitting a random leaf, or always the newest one."""
    leaves = most if rng.random() < 0.5 else int(rng.integers(1, most + 1))
    newest, children = rng.random() < 0.2, []
    above = {0: None}  # of each leaf: its node and side
    for node in range(leaves - 1):
        leaf = node if newest else int(rng.integers(0, node + 1))
        if (place := above[leaf]) is not None:
            children[place[0]][place[1]] = node
        children.append([~leaf, ~(node + 1)])
        above |= {leaf: (node, 0), node + 1: (node, 1)}
    count = leaves - 1
    odd = rng.choice(THRESHOLDS, count) * rng.choice([-1, 1], count)
    values = np.where(rng.random(count) < 0.4, odd, rng.normal(size=count))
    values = np.where(rng.random(count) < 0.3, np.float32(rng.normal(size=count)).astype(float), values)
    decisions = rng.choice(missing, count) * 4 + rng.choice([0, 2], count)
    lines = {
        "num_leaves": [leaves],
        "num_cat": [0],
        "split_feature": rng.integers(0, features, count).tolist(),
        "split_gain": [1] * count,
        "threshold": values.tolist(),
        "decision_type": decisions.tolist(),
        "left_child": [left for left, _ in children],
        "right_child": [right for _, right in children],
        "leaf_value": (rng.normal(size=leaves) * 10.0 ** rng.integers(-5, 6)).tolist(),
        "leaf_count": [1] * leaves,
        "internal_value": [0] * count,
        "internal_count": [1] * count,
        "is_linear": [0],
        "shrinkage": [1],
    }
    return "\n".join(f"{name}={' '.join(map(repr, numbers))}" for name, numbers in lines.items())


def rows(rng: np.random.Generator, trees: Trees, features: int, count: int) -> NDArray[np.float32]:
    """Rows of values at each threshold and its neighbours in float32, of strange ones, and of ordinary ones."""
    with np.errstate(over="ignore"):
        at = np.array([value for tree in trees.trees for value in tree.thresholds], np.float32)
        beside = [np.nextafter(at, np.float32(end)) for end in (-np.inf, np.inf)]
    strange = np.float32(STRANGE)
    values = np.concatenate([at, *beside, strange, -strange, rng.normal(size=20).astype(np.float32)])
    return rng.choice(values, (count, features))


def compare(seed: int, ways: list[Kernel | None]) -> None:
    """Score a random booster's rows each way, and hold every bit against LightGBM."""
    rng = np.random.default_rng(seed)
    text = booster(rng)
    read, oracle = read_trees(text), lgb.Booster(model_str=text)
    matrix = rows(rng, read, oracle.num_feature(), int(rng.choice(ROOM)))
    expected = oracle.predict(matrix, num_threads=1, raw_score=True)
    for kernel in ways:
        forest = Forest.of(read, kernel)
        assert forest is not None
        found = forest.score(matrix)
        assert found.tobytes() == expected.tobytes(), f"seed {seed}, {kernel and kernel.lanes} lanes"
