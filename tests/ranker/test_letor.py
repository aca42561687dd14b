from pathlib import Path

import numpy as np
import pytest

from ltr_pipeline.errors import DatasetError
from ltr_pipeline.ranker import letor
from ltr_pipeline.ranker.letor import FOLDS, GRID, STATED, evaluate_letor, training_part
from ltr_pipeline.ranker.train import boost

EXAMPLE = Path(__file__).parent / "lambdarank" / "rank.test.gz"
LINES = "2 qid:7 1:0.5 3:0.25\n0 qid:7 2:1\n1 qid:9 1:1 # a comment\n"


def fit(data, parameters):
    return boost(data, parameters, seed=1).predict


@pytest.fixture
def write(tmp_path):
    def write(text, name="rank.test"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no training part beside it"):
        training_part(tmp_path / "rank.test")
    with pytest.raises(DatasetError, match="is no file"):
        evaluate_letor(tmp_path / "rank.train", tmp_path / "rank.test", fit)


def test_the_test_part_chooses_nothing(write, monkeypatch):
    """The grid of two: weight 1 orders training rankings right and the test ranking wrong; weight -1 the opposite."""
    monkeypatch.setattr(letor, "STATED", {"weight": -1})
    monkeypatch.setattr(letor, "GRID", {"weight": (-1, 1)})
    train = write("".join(f"1 qid:{q} 1:1\n0 qid:{q} 1:0\n" for q in range(2 * FOLDS)), "rank.train")
    test = write("0 qid:1 1:1 2:1\n1 qid:1 1:0\n")
    seen = []

    def weighted(data, parameters):
        seen.append(len(data.group))
        return lambda matrix: matrix[:, 0] * parameters["weight"]

    report = evaluate_letor(training_part(test), test, weighted)
    assert train == training_part(test)
    assert (
        seen == [2 * FOLDS - 2] * FOLDS * 3 + [2 * FOLDS] * 2
    )  # folds of the stated and of the grid, then twice whole
    assert (report.stated.parameters, report.chosen.parameters) == ({"weight": -1}, {"weight": 1})
    second = 1 / np.log2(3)  # the relevant item at rank 2
    assert (report.stated.cross_validated, report.chosen.cross_validated) == pytest.approx((second, 1))
    found = (report.stated.metrics.ndcg_at_5.value, report.chosen.metrics.ndcg_at_5.value)
    assert found == pytest.approx((1, second))


def test_features_that_one_part_lacks_are_columns_of_both(write, monkeypatch):
    monkeypatch.setattr(letor, "GRID", {"weight": (1,)})
    seen = []

    def fit(data, parameters):
        seen.append(data.feature_names)
        return lambda matrix: matrix[:, -1] * 1.0

    train = write("".join(f"1 qid:{q} 3:1\n0 qid:{q} 3:0\n" for q in range(FOLDS)), "rank.train")
    evaluate_letor(train, write("0 qid:1 3:1\n1 qid:1 16000000:1\n"), fit)
    assert set(seen) == {("3",), ("3", "16000000")}
    assert seen[-1] == ("3", "16000000")


def test_a_training_part_without_judgments_is_an_error(write):
    with pytest.raises(DatasetError, match="nothing to learn"):
        evaluate_letor(
            write("0 qid:1 1:1\n0 qid:1 1:0\n", "rank.train"), write(LINES), lambda data, _: lambda m: m[:, 0]
        )


def test_the_grid_holds_the_stated_parameters():
    assert all(STATED.get(name, 1.0) in values for name, values in GRID.items())


def test_the_published_figures_of_the_example_data_come_out(monkeypatch):
    monkeypatch.setattr(letor, "GRID", {"learning_rate": (0.1,)})
    stated = evaluate_letor(training_part(EXAMPLE), EXAMPLE, fit).stated.metrics
    assert (stated.ndcg_at_5.n, stated.ndcg_at_5.excluded) == (50, 0)
    assert round(stated.ndcg_at_5.value, 4) == 0.6703
    assert round(stated.linear_ndcg_at_5.value, 4) == 0.7097
