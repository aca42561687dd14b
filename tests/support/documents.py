"""A weights document small enough to read: one tree, two features, scores that can be read off it."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from ltr_pipeline.versions.ids import Version
from ltr_pipeline.versions.weights import Data, Feature, Golden, Model, Weights, Window

DAY = timedelta(days=1)


def model_text(low: float = 0.25, high: float = 0.75, names: tuple[str, ...] = ("A", "S")) -> str:
    """LightGBM model: `low` where the first feature is at most 0.5, else `high`."""
    tree = (
        "Tree=0\nnum_leaves=2\nnum_cat=0\nsplit_feature=0\nsplit_gain=1\nthreshold=0.5\ndecision_type=2\n"
        f"left_child=-1\nright_child=-2\nleaf_value={low!r} {high!r}\nleaf_weight=1 1\nleaf_count=1 1\n"
        "internal_value=0\ninternal_weight=2\ninternal_count=2\nis_linear=0\nshrinkage=1\n\n\n"
    )
    return (
        "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\n"
        f"max_feature_idx={len(names) - 1}\nobjective=lambdarank\nfeature_names={' '.join(names)}\n"
        f"feature_infos={' '.join(['[0:1]'] * len(names))}\ntree_sizes={len(tree)}\n\n{tree}end of trees\n"
    )


def document(
    version: str = "20250714_0215", *, high: float = 0.75, end: datetime | None = None, parent: str | None = None
) -> Weights:
    """Document whose content is told apart by `high`; its data ends at `end`, by default at the version's midnight.

    With a parent it is a refresh of that, and its data ends at its minute.
    """
    text = model_text(high=high)
    moment = Version.parse(version).time
    end = end or (moment if parent else moment.replace(hour=0, minute=0))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Weights(
        version=version,
        created_at=end + timedelta(hours=2, minutes=20),
        model=Model(text=text, sha256=digest, trees=1, importance={"A": 1.0}),
        features=[Feature(name="A", missing="zero"), Feature(name="S", missing="learned direction")],
        label_gain=[0.0, 1.0, 3.0, 7.0],
        relevance={"lost": 0, "declined": 1, "accepted": 2, "won": 3},
        data=Data(
            window=Window(start=end - 28 * DAY, end=end),
            train=Window(start=end - 28 * DAY, end=end - 8 * DAY),
            valid=Window(start=end - 8 * DAY, end=end - 6 * DAY),
            test=Window(start=end - 6 * DAY, end=end - 3 * DAY),
            counts={"landed": 10},
            hashes={"labelled": "0" * 64},
        ),
        metrics={"ndcg_at_5": {"value": high, "low": 0.7, "high": 0.8, "n": 100, "gain": "exponential"}},
        gate={"verdict": "publish", "checks": []},
        champion=None,
        lineage={"parent": parent, "mode": "refit" if parent else "daily"},
        libraries={"lightgbm": "4"},
        latency={"p95_ms": 1.5},
        golden=[Golden(query_id="q1", items=[{"A": 0.2, "S": None}, {"A": 0.9, "S": 0.1}], scores=[0.25, high])],
        linear_weights={"A": 0.75, "S": 0.25},
    )
