"""Models that were crafted or damaged, hashed again: no process of ours falls to them."""

import hashlib
import re

import pytest
from msgspec.structs import replace

from ltr_pipeline.errors import LtrError, WeightsError
from ltr_pipeline.scoring.scorer import Scorer
from ltr_pipeline.versions import trial
from ltr_pipeline.versions.trial import end_trials, try_model
from ltr_pipeline.versions.weights import Weights
from support.documents import document, model_text

TEXT = model_text()


def changed(**fields: str) -> str:
    """Return the model with fields of its tree or header replaced."""
    text = TEXT
    for name, value in fields.items():
        text = re.sub(rf"(?m)^{name}=.*$", f"{name}={value}", text)
    return text


def with_categories(index: int, bounds: str = "0 1", words: str = "1") -> str:
    text = changed(decision_type="1", threshold=str(index), num_cat="1")
    return text.replace("left_child=", f"cat_boundaries={bounds}\ncat_threshold={words}\nleft_child=")


def with_linear_leaves(feature: int) -> str:
    leaves = f"leaf_const=0 0\nnum_features=1 1\nleaf_features={feature}  {feature} \nleaf_coeff=1  1 \nshrinkage="
    return changed(is_linear="1").replace("shrinkage=", leaves)


def behind(line: str, *hidden: str) -> str:
    return TEXT.replace(f"{line}\n", "\r".join([line, *hidden]) + "\n")


CRAFTED = {
    "a category set that is not there": with_categories(100_000_000),
    "boundaries beyond the categories": with_categories(0, "0 900000000"),
    "negative boundaries": with_categories(0, "-900000000 900000000"),
    "a linear leaf's feature too high": with_linear_leaves(900_000_000),
    "a linear leaf's feature below 0": with_linear_leaves(-900_000_000),
    "no trees an iteration": changed(num_tree_per_iteration="0"),
    "-1 trees an iteration": changed(num_tree_per_iteration="-1"),
    "too many trees an iteration": changed(num_tree_per_iteration="900000000"),
    "no class": changed(num_class="0"),
    "too many classes": changed(num_class="2000000000"),
    "a circle behind a carriage return": behind("leaf_count=1 1", "left_child=0", "right_child=0"),
    "a child far away behind a carriage return": behind(
        "leaf_count=1 1", "left_child=90000000", "right_child=90000000"
    ),
    "a feature far away behind a carriage return": behind("leaf_count=1 1", "split_feature=900000000"),
    "the good children beyond the lines that LightGBM reads": TEXT.replace(
        "left_child=-1\nright_child=-2\n", "left_child=0\nright_child=0\n"
    ).replace(
        "shrinkage=1\n", "".join(f"x{n}=1\n" for n in range(20)) + "shrinkage=1\nleft_child=-1\nright_child=-2\n"
    ),
}


def of(text: str) -> Weights:
    one = document("20250714_0215")
    return replace(one, model=replace(one.model, text=text, sha256=hashlib.sha256(text.encode()).hexdigest()))


def test_a_good_model_passes_and_the_child_stays_for_the_next():
    end_trials()
    trial._PASSED.clear()
    try_model(document("20250714_0215"))
    before = dict(trial._STARTED)
    try_model(document("20250715_0215", high=0.8125))
    assert before == trial._STARTED
    end_trials()
    assert not trial._STARTED


@pytest.mark.parametrize("case", CRAFTED)
def test_a_crafted_model_is_refused_by_the_child_and_by_every_reader(case):
    with pytest.raises(WeightsError):
        try_model(of(CRAFTED[case]))
    with pytest.raises(LtrError):
        Scorer.from_model(CRAFTED[case], ["A", "S"])


def test_a_model_that_scores_otherwise_is_refused():
    with pytest.raises(WeightsError, match="golden request"):
        try_model(of(changed(leaf_value="0.25 -0.25")))


WAYS_TO_END = {
    "os.kill(os.getpid(), signal.SIGSEGV)": "ended by SIGSEGV",
    "os._exit(3)": "ended with exit code 3",
    "time.sleep(60)": "did not answer within 1 s",
    "bytearray(9 << 30)": "needs more than 8 GiB",
}


@pytest.mark.parametrize("way", WAYS_TO_END)
def test_whatever_a_model_does_to_the_child_is_told_and_the_next_is_tried(way, tmp_path, monkeypatch):
    """A library that does it when a model of this name is loaded stands for a LightGBM that does."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, time\n"
        "import ltr_pipeline.versions.golden as golden\n"
        "sound = golden.check_golden\n"
        "def check(weights):\n"
        f"    return {way} if weights.version == '20250714_0215' else sound(weights)\n"
        "golden.check_golden = check\n"
    )
    end_trials()
    monkeypatch.setattr(trial, "_PASSED", set())
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(trial, "SECONDS", 1.0)
    with pytest.raises(WeightsError, match=WAYS_TO_END[way]):
        try_model(document("20250714_0215"))
    monkeypatch.setattr(trial, "SECONDS", 60.0)
    try_model(document("20250715_0215", high=0.5 + len(way) / 1024))
    end_trials()
