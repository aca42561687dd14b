"""A registry that a real service reads, and weights that no service should take, or that it should regret."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from uuid import uuid4

import msgspec
import numpy as np

from deploy.native.minio import S3Server
from ltr_pipeline.scoring.scorer import Scorer
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.storage.options import S3Options
from ltr_pipeline.storage.uri import open_storage
from ltr_pipeline.versions.latest import LATEST
from ltr_pipeline.versions.registry import Registry
from ltr_pipeline.versions.weights import Feature, Golden, Model, Weights, encode
from support.documents import document, model_text

A, B, C, D = "20250714_0215", "20250715_0215", "20250716_0215", "20250717_0215"
KEY = "a-signing-key-of-32-characters-or-more"
CANDIDATES = [{"item_id": item, "features": {"A": a, "S": 0.5}} for item, a in [("x", 0.2), ("y", 0.9)]]
RANK = {"query_id": "q", "candidates": CANDIDATES}


@dataclass
class Place:
    """Where versions are, and the environment of a service that looks there."""

    registry: Registry
    environment: dict[str, str]

    @property
    def storage(self) -> Storage:
        return self.registry.storage

    def publish(self, weights: Weights) -> None:
        self.registry.publish(weights, who="night", why="passed the gate")

    def point(self, version: str, data: bytes) -> str:
        """Let `latest` be these bytes, past everything that would refuse them; their hash."""
        self.storage.put(f"{version}/ltr_weights.json", data)
        self.storage.point(LATEST, f"{version}/ltr_weights.json")
        return hashlib.sha256(data).hexdigest()


def on_disk(folder: str) -> Place:
    registry = Registry(open_storage(f"{folder}/ltr", S3Options()), keys=[KEY.encode()])
    return Place(registry, {"LTR_REGISTRY_URI": folder, "LTR_SIGNING_KEY": KEY})


def on_s3(server: S3Server, options: S3Options) -> Place:
    """In a bucket of its own."""
    bucket = server.make_bucket(f"ltr-{uuid4().hex[:12]}")
    registry = Registry(open_storage(f"s3://{bucket}/ltr", options), keys=[KEY.encode()])
    environment = {"S3_BUCKET": bucket, "LTR_SIGNING_KEY": KEY, "LTR_S3_TIMEOUT_SECONDS": "5"}
    return Place(registry, environment | server.environment)


def bad_documents() -> dict[str, bytes]:
    """Return what is wrong with it → a document that nobody should rank with."""
    good = document("20250720_0215", high=0.6)
    garbled = good.model.text.replace("leaf_value=", "leaf_walue=")
    golden = msgspec.structs.replace(good.golden[0], scores=[0.25, 0.61])
    whole = encode(good, [KEY.encode()])
    return {
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "another signature": encode(good, [b"the-key-of-somebody-else-0123456789"]),
        "no signature": encode(good),
        "no model": encode(msgspec.structs.replace(good, model=_model(garbled, 1)), [KEY.encode()]),
        "golden requests off": encode(msgspec.structs.replace(good, golden=[golden]), [KEY.encode()]),
    }


def other_features(version: str) -> Weights:
    """A document whose model has one more feature."""
    names = ("A", "S", "Q")
    good = document(version)
    return msgspec.structs.replace(
        good,
        model=_model(model_text(names=names), 1),
        features=[Feature(name=name, missing="zero") for name in names],
        golden=[Golden(query_id="q1", items=[{"A": 0.2, "S": None, "Q": 1.0}], scores=[0.25])],
        linear_weights={"A": 0.5, "S": 0.25, "Q": 0.25},
    )


def slow(version: str, trees: int = 20_000) -> Weights:
    """A document that verifies and takes thousands of times as long to score: one tree, over and over."""
    head, tree, tail = _parts(model_text(low=0.25 / trees, high=0.75 / trees))
    blocks = [tree.replace("Tree=0", f"Tree={number}") for number in range(trees)]
    head = head.partition("tree_sizes=")[0] + f"tree_sizes={' '.join(str(len(block)) for block in blocks)}\n\n"
    return _rescored(document(version), head + "".join(blocks) + tail, trees)


def infinite(version: str, parent: str | None = None) -> Weights:
    """A document that verifies, as its golden requests do not come to the leaf that is infinite: A above 0.5."""
    good = msgspec.structs.replace(
        document(version, parent=parent), golden=[Golden(query_id="q1", items=[{"A": 0.2, "S": None}], scores=[0.0])]
    )
    return _rescored(good, model_text(high=float("inf")), 1)


def _parts(text: str) -> tuple[str, str, str]:
    start, end = text.index("Tree=0"), text.index("end of trees")
    return text[:start], text[start:end], text[end:]


def _rescored(weights: Weights, text: str, trees: int) -> Weights:
    golden = weights.golden[0]
    rows = np.array([[np.nan if v is None else v for v in item.values()] for item in golden.items], dtype=np.float32)
    scores = Scorer.from_model(text, weights.feature_names).score(rows).tolist()
    return msgspec.structs.replace(
        weights, model=_model(text, trees), golden=[msgspec.structs.replace(golden, scores=scores)]
    )


def _model(text: str, trees: int) -> Model:
    return Model(text=text, sha256=hashlib.sha256(text.encode()).hexdigest(), trees=trees, importance={"A": 1.0})
