"""What LightGBM does not check of a model in its text form, and would end the whole process by.

It follows the children of a node wherever they lead. And an error in a tree ends the process where trees are read in
parallel, which the header's ``tree_sizes`` make possible: without them they are read one by one, and an error is one
that can be caught.
"""

from __future__ import annotations

from collections.abc import Iterator

from ltr_pipeline.errors import RankerError

__all__ = ["readable"]


def readable(model_text: str) -> str:
    """The model such that LightGBM either loads it or says why not.

    Parameters
    ----------
    model_text
        A model in LightGBM's text form.

    Raises
    ------
    RankerError
        A tree splits on a feature that there is not, or its nodes make no tree.
    """
    head, *trees = model_text.split("\nTree=")
    features = len(_field(head, "feature_names").split(" "))
    for number, tree in enumerate(trees):
        if problem := next(_problems(tree, features), None):
            raise RankerError(f"tree {number} of the model {problem}; take it from a weights document again")
    head, found, rest = model_text.partition("\ntree_sizes=")
    return f"{head}\n{rest.partition(chr(10))[2]}" if found else model_text


def _problems(tree: str, features: int) -> Iterator[str]:
    """What is wrong with the nodes of a tree: a child has a larger number, a negative one is a leaf."""
    try:
        leaves = int(_field(tree, "num_leaves") or 0)
        children = [list(map(int, _field(tree, side).split())) for side in ("left_child", "right_child")]
        split = list(map(int, _field(tree, "split_feature").split()))
    except ValueError as error:
        yield f"has a node that is none: {error}"
        return
    if any(len(nodes) != max(leaves - 1, 0) for nodes in (*children, split)):
        yield f"has {leaves} leaves and not one node less"
    if split and not 0 <= min(split) <= max(split) < features:
        yield f"splits on a feature beyond the {features} there are"
    for nodes in children:
        if nodes and (min(nodes) < -leaves or max(nodes) >= leaves - 1):
            yield "has a child that is not there"
        if any(0 <= child <= node for node, child in enumerate(nodes)):
            yield "goes round in circles"


def _field(tree: str, name: str) -> str:
    return tree.partition(f"\n{name}=")[2].partition("\n")[0]
