import gzip
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_svmlight_file

from ltr_pipeline.errors import DatasetError
from ltr_pipeline.ranker.libsvm import read_libsvm, with_columns

EXAMPLE = Path(__file__).parent / "lambdarank" / "rank.test.gz"
LINES = "2 qid:7 1:0.5 3:0.25\n0 qid:7 2:1\n1 qid:9 1:1 # a comment\n"


@pytest.fixture
def write(tmp_path):
    def write(text, name="rank.test", sizes=None):
        data = text if isinstance(text, bytes) else text.encode()
        path = tmp_path / name
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        if sizes is not None:
            (tmp_path / f"{name.removesuffix('.gz')}.query").write_text(sizes)
        return path

    return write


@pytest.mark.parametrize("name", ["rank.test", "rank.test.gz"])
@pytest.mark.parametrize("text", [LINES, "\ufeff" + LINES, "# first\n\n" + LINES, LINES.replace("\n", "\r\n")])
def test_lines_become_rankings(write, name, text):
    data = read_libsvm(write(text, name))
    assert data.features.tolist() == [[0.5, 0, 0.25], [0, 1, 0], [1, 0, 0]]
    assert data.feature_names == ("1", "2", "3")
    assert (data.relevance.tolist(), data.group.tolist()) == ([2, 0, 1], [2, 1])
    assert (data.features.dtype, data.relevance.dtype, data.group.dtype) == (np.float32, np.int8, np.int32)
    assert data.position is None


def test_row_counts_beside_the_file_win(write):
    assert read_libsvm(write(LINES, sizes="1\n2\n")).group.tolist() == [1, 2]
    assert read_libsvm(write("1 1:1\n0 1:2\n", "rank.test.gz", sizes="\ufeff2\n")).group.tolist() == [2]
    assert read_libsvm(write("1 qid:1 1:1\n0 1:2\n1 qid:1 1:1\n", sizes="3\n")).group.tolist() == [3]


def test_another_reader_finds_the_same():
    matrix, relevance = load_svmlight_file(str(EXAMPLE), dtype=np.float32, zero_based=True)
    data = read_libsvm(EXAMPLE)
    columns = list(map(int, data.feature_names))
    assert set(columns) == set(matrix.indices.tolist())
    np.testing.assert_array_equal(data.features, matrix.toarray()[:, columns])
    assert data.relevance.tolist() == relevance.tolist()


@pytest.mark.parametrize("feature", [16_000_000, 99_999_999_999, 10**30])
def test_only_features_that_are_there_take_room(write, feature):
    data = read_libsvm(write(f"1 qid:1 {feature}:1 2:nan\n0 qid:1 10:3\n"))
    assert data.feature_names == ("2", "10", str(feature))
    np.testing.assert_array_equal(data.features, np.array([[np.nan, 0, 1], [0, 3, 0]], np.float32))


@pytest.mark.parametrize("qids", [("10000000000000000000000", "10000000000000000000001"), ("case-1", "-1")])
def test_a_qid_is_any_text(write, qids):
    first, second = qids
    assert read_libsvm(write(f"1 qid:{first} 1:1\n0 qid:{first} 1:0\n2 qid:{second} 1:1\n")).group.tolist() == [2, 1]


@pytest.mark.parametrize("name", ["rank.test", "rank.test.gz"])
@pytest.mark.parametrize(
    ("text", "sizes", "message"),
    [
        ("1 qid:1 1:1\n\n1 1:1\n", None, "line 3: there is no qid, and no file rank.test.query says which rows"),
        ("1 qid: 1:1\n", None, "line 1: there is no qid"),
        ("", None, "no line has a feature"),
        ("1 qid:1\n0 qid:1\n", None, "no line has a feature"),
        ("1 qid:1 1:1\n1 qid:2 1:1\n1 qid:1 1:1\n", None, "line 3: rows of qid '1' do not stand together"),
        ("1 qid:1 1:1\n0.5 qid:1 1:1\n", None, "line 2: the relevance '0.5' is no whole number from 0 to 30"),
        ("-1 qid:1 1:1\n", None, "line 1: the relevance '-1' is no whole number from 0 to 30"),
        ("31 qid:1 1:1\n", None, "whole number from 0 to 30"),
        ("300 qid:1 1:1\n", None, "whole number from 0 to 30"),
        ("nan qid:1 1:1\n", None, "whole number from 0 to 30"),
        ("one qid:1 1:1\n", None, "line 1: 'one' is no number; expected lines such as"),
        ("1 qid:1 1:1 a:1\n", None, "line 1: the feature 'a' is no whole number"),
        ("1 qid:1 -1:1\n", None, "line 1: the feature '-1' is no whole number"),
        ("1 qid:1 1:1 5\n", None, "line 1: '' is no number"),
        ("1 qid:1 1:1:2\n", None, "line 1: '1:2' is no number"),
        (f"1 qid:1 1:{'x' * 100}\n", None, f"line 1: '{'x' * 40}…' is no number"),
        (f"1 qid:1 {'9' * 5000}:1\n", None, "line 1: Exceeds the limit"),
        ("1 qid:1 1:1\n1 qid:1 3:1 1:1 3:2\n", None, "line 2: feature 3 is there more than once"),
        ("1 qid:1 1:1\n1 qid:1 2:-1e39\n", None, "line 2: a value is beyond a 32-bit float"),
        (b"1 qid:1 1:1\n\xff\xfe1 qid:1\n", None, "line 2: '��1' is no number"),
        (LINES, "2\n2\n", "sum to the 3 rows, not 4"),
        (LINES, "4\n-1\n", "must be positive"),
        (LINES, "two\n", "expected one row count a line"),
        (LINES, "99999999999\n", "expected one row count a line"),
    ],
)
def test_a_file_that_is_wrong_is_refused_in_a_line_that_says_where(write, name, text, sizes, message):
    with pytest.raises(DatasetError) as error:
        read_libsvm(write(text, name, sizes=sizes))
    said = str(error.value)
    assert message in said
    assert "/rank.test" in said
    assert "\n" not in said
    assert len(said) < 500


def test_a_file_that_cannot_be_read_is_refused(write, tmp_path):
    with pytest.raises(DatasetError, match="No such file"):
        read_libsvm(tmp_path / "nowhere")
    whole = write("1 qid:1 1:0.5\n" * 100, "rank.test.gz")
    whole.write_bytes(whole.read_bytes()[:-12])
    with pytest.raises(DatasetError, match=r"rank\.test\.gz: .*is it whole"):
        read_libsvm(whole)
    plain = write(LINES).rename(tmp_path / "plain.gz")
    with pytest.raises(DatasetError, match=r"plain\.gz: Not a gzipped file.*is it whole"):
        read_libsvm(plain)


def test_a_table_beyond_the_free_memory_is_refused(write, monkeypatch):
    memory = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=35))
    with pytest.raises(DatasetError, match="3 rows with 3 features take 0 GB, and 0 GB are free; take fewer"):
        read_libsvm(write(LINES))  # 3 * 3 floats of 4 bytes


ROWS = st.lists(
    st.tuples(
        st.integers(0, 30), st.integers(0, 3), st.dictionaries(st.integers(0, 10**12), st.floats(-9, 9, width=32))
    ),
    min_size=1,
)


@given(ROWS)
def test_what_is_written_is_read(tmp_path_factory, rows):
    rows = sorted(rows, key=lambda row: row[1])
    lines = [f"{grade} qid:{qid} " + " ".join(f"{f}:{v!r}" for f, v in values.items()) for grade, qid, values in rows]
    path = tmp_path_factory.mktemp("letor") / "rank.test"
    path.write_text("\n".join(lines))
    names = sorted({feature for _, _, values in rows for feature in values})
    if not names:
        return
    data = read_libsvm(path)
    assert data.feature_names == tuple(map(str, names))
    assert data.features.tolist() == [[values.get(name, 0.0) for name in names] for _, _, values in rows]
    assert data.relevance.tolist() == [grade for grade, _, _ in rows]
    qids = [qid for _, qid, _ in rows]
    assert data.group.tolist() == [qids.count(qid) for qid in dict.fromkeys(qids)]


def test_columns_that_a_part_lacks_are_0(write):
    data = read_libsvm(write(LINES))
    assert with_columns(data, data.feature_names) is data
    wider = with_columns(data, ("0", "1", "2", "3", "7"))
    assert wider.features.tolist() == [[0, 0.5, 0, 0.25, 0], [0, 0, 1, 0, 0], [0, 1, 0, 0, 0]]
    assert (wider.feature_names, wider.group.tolist()) == (("0", "1", "2", "3", "7"), [2, 1])
