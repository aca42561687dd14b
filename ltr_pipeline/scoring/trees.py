"""A LightGBM model's trees, read from its text form and checked for errors at which LightGBM ends the whole process.

LightGBM follows the children of a node wherever they lead, even out of the tree. And where it reads trees in parallel,
an error in a tree ends the process. It reads them in parallel when the header has ``tree_sizes``; without that line
it reads them one by one, and an error can be caught. So that line is taken out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from ltr_pipeline.errors import RankerError
from ltr_pipeline.scoring.resting import rest_if_due

__all__ = ["Tree", "Trees", "read_trees"]


MOST_CLASSES: Final = 1000
TREE_LINES: Final = 22  # a tree with categories and linear leaves has them all


class Tree(NamedTuple):
    """Nodes and leaves of a tree. A node's children have larger numbers than the node; ``~n`` is leaf n.

    Attributes
    ----------
    split, thresholds, decisions
        Of each node: number of its feature, value up to which a row goes left, and LightGBM's flags.
    left, right
        Children of each node.
    leaves
        Value of each leaf.
    constant_leaves
        Whether a leaf's value does not depend on the row.
    """

    split: list[int]
    thresholds: list[float]
    decisions: list[int]
    left: list[int]
    right: list[int]
    leaves: list[float]
    constant_leaves: bool


class Trees(NamedTuple):
    """All trees of a model.

    Attributes
    ----------
    text
        The model in a form that LightGBM either loads or refuses with an error that can be caught.
    trees
        All trees, in their order.
    summed
        Whether a row's raw score is the plain sum over the trees.
    """

    text: str
    trees: list[Tree]
    summed: bool


def read_trees(model_text: str) -> Trees:
    """Read the trees of a model in LightGBM's text form.

    Raises
    ------
    RankerError
        A tree splits on a feature that does not exist, or its nodes do not form a tree.
    """
    head, *parts = model_text.split("\nTree=")
    header = _fields(head)
    features = len(header.get("feature_names", "").split(" "))
    trees = []
    try:
        problem = next(_text_problems(model_text, header), None)
    except ValueError as error:
        problem = f"cannot be read: {error}"
    if problem:
        raise RankerError(f"the model's text {problem}; take it from a weights document again")
    for number, part in enumerate(parts):
        try:
            fields = _fields(part)
            tree = _tree(fields)
            problem = next(_all_problems(part, fields, tree, features), None)
        except ValueError as error:
            problem = f"has a node or a leaf that cannot be read: {error}"
        if problem:
            raise RankerError(f"tree {number} of the model {problem}; take it from a weights document again")
        trees.append(tree)
        rest_if_due()
    summed = header.get("num_tree_per_iteration") == "1" and "\naverage_output" not in head
    head, found, rest = model_text.partition("\ntree_sizes=")
    return Trees(f"{head}\n{rest.partition(chr(10))[2]}" if found else model_text, trees, summed)


def _tree(fields: Mapping[str, str]) -> Tree:
    def whole(name: str) -> list[int]:
        return list(map(int, fields.get(name, "").split()))

    def real(name: str) -> list[float]:
        return list(map(float, fields.get(name, "").split()))

    return Tree(
        split=whole("split_feature"),
        thresholds=real("threshold"),
        decisions=whole("decision_type") or [0] * len(whole("split_feature")),
        left=whole("left_child"),
        right=whole("right_child"),
        leaves=real("leaf_value"),
        constant_leaves=fields.get("is_linear", "0") == "0",
    )


def _text_problems(text: str, header: Mapping[str, str]) -> Iterator[str]:
    """Yield what LightGBM would read otherwise than this module, or not survive."""
    if "\r" in text:
        yield "has a carriage return, which LightGBM takes for the end of a line"
    for name in ("num_class", "num_tree_per_iteration"):
        if name in header and not 1 <= int(header[name]) <= MOST_CLASSES:
            yield f"has {name}={header[name]}, where a ranker has 1"


def _all_problems(part: str, fields: Mapping[str, str], tree: Tree, features: int) -> Iterator[str]:
    """Yield what is wrong with a tree's text, with its nodes, with its categories and with its linear leaves."""
    lines = part.partition("\n\n")[0].split("\n")[1:]
    if len(lines) > TREE_LINES:
        yield f"has {len(lines)} lines, of which LightGBM reads {TREE_LINES}"
    yield from _problems(tree, int(fields.get("num_leaves", 0)), features)
    yield from _category_problems(fields, tree)
    leaf_features = list(map(int, fields.get("leaf_features", "").split()))
    if leaf_features and not 0 <= min(leaf_features) <= max(leaf_features) < features:
        yield f"has a leaf that uses a feature beyond the {features} there are"


def _category_problems(fields: Mapping[str, str], tree: Tree) -> Iterator[str]:
    """Yield what is wrong with the sets of categories: node n's set is the words from boundary t to boundary t + 1."""
    count = int(fields.get("num_cat", 0))
    bounds = list(map(int, fields.get("cat_boundaries", "").split()))
    words = fields.get("cat_threshold", "").split()
    if count and (len(bounds) != count + 1 or bounds[0] != 0 or bounds != sorted(bounds) or bounds[-1] != len(words)):
        yield "has sets of categories that do not fit together"
    chosen = [t for t, decision in zip(tree.thresholds, tree.decisions, strict=False) if decision & 1]
    if any(not 0 <= threshold < count or threshold != int(threshold) for threshold in chosen):
        yield "asks for a set of categories that is not there"


def _problems(tree: Tree, leaves: int, features: int) -> Iterator[str]:
    """Yield what is wrong with a tree."""
    if any(len(nodes) != max(leaves - 1, 0) for nodes in tree[:5]):
        yield f"has {leaves} leaves and not one node less"
    if len(tree.leaves) != leaves:
        yield f"has {leaves} leaves, but {len(tree.leaves)} of them in leaf_value"
    if tree.split and not 0 <= min(tree.split) <= max(tree.split) < features:
        yield f"splits on a feature beyond the {features} there are"
    for nodes in (tree.left, tree.right):
        if nodes and (min(nodes) < -leaves or max(nodes) >= leaves - 1):
            yield "has a child that is not there"
        if any(0 <= child <= node for node, child in enumerate(nodes)):
            yield "goes round in circles"
    if leaves > 1 and sorted(tree.left + tree.right) != [*range(-leaves, 0), *range(1, leaves - 1)]:
        yield "has a child with two parents"


def _fields(part: str) -> dict[str, str]:
    """Return values by name, up to the first empty line; of two with one name the last counts, as in LightGBM."""
    return dict(line.partition("=")[::2] for line in part.partition("\n\n")[0].split("\n"))
