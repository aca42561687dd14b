"""A whole small night with a feature that changes: joined, learned from, published, and there again when scored now."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ltr_pipeline.dataset.features.moment import FeaturesAt
from ltr_pipeline.dataset.features.source import Sources
from ltr_pipeline.errors import DatasetError
from ltr_pipeline.jobs import nightly
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.report.artefacts import DATASET, WEIGHTS
from ltr_pipeline.runs.forget import forget_in_runs
from ltr_pipeline.runs.run import Run
from ltr_pipeline.scoring.requests import Candidate
from ltr_pipeline.serving.weights.models import load
from ltr_pipeline.settings import Settings
from ltr_pipeline.versions import weights
from support.small import LENIENT, NIGHT, RUN, WHO, artefacts, moment, simulate, small_settings, up_to

HOUR = dt.timedelta(hours=1)
CUTOFF = dt.datetime.combine(NIGHT, dt.time(), dt.UTC)


def shown(folder: Path) -> pl.DataFrame:
    """When each lawyer was shown, and how he communicated then: the feature C of the log."""
    found = []
    for line in (folder / "audit.log").read_text().splitlines():
        try:
            event = json.loads(line)
            context = event["context"]
            found.append((context["lawyer_id"], event["timestamp"], context["features"]["C"], context["user_id"]))
        except (ValueError, KeyError, TypeError):  # another message, or a broken one
            continue
    rows = pl.DataFrame(found, ["lawyer", "at", "C", "client"], orient="row", strict=False)
    return rows.with_columns(
        pl.col("at").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC", strict=False)
    ).drop_nulls()


def write_table(folder: Path) -> pl.DataFrame:
    """Write what is known of lawyers, a row a lawyer and day, an hour after he was first shown on it; unsorted."""
    daily = (
        shown(folder).sort("at").group_by("lawyer", pl.col("at").dt.date().alias("day")).first().drop("day", "client")
    )
    table = daily.with_columns(pl.col("at") + HOUR).sample(fraction=1, shuffle=True, seed=1)
    table.write_parquet(folder / "profiles.parquet")
    return table


MAPPING = """
[[feature_tables]]
name = "profiles"
address = "{folder}/profiles.parquet"
entity = "item"
key = "lawyer"
time = "at"
features = ["C"]
tolerance_days = 4
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The feature C is no longer read of the messages, but joined."""
    simulate(tmp_path)
    write_table(tmp_path)
    default = (Path(nightly.__file__).parents[1] / "default_mapping.toml").read_text()
    (tmp_path / "mapping.toml").write_text(
        default.replace('"R", "C"]', '"R"]', 1) + MAPPING.format(folder=tmp_path.as_posix())
    )
    return small_settings(tmp_path, mapping_path=tmp_path / "mapping.toml")


def test_a_night_learns_from_it_and_says_where_it_is_from(settings: Settings, tmp_path: Path) -> None:
    judged = up_to("quality_gate", settings)
    assert judged["verdict"] == "publish"
    outcome = nightly.publish_weights(judged, WHO, settings)
    assert outcome["moved"]
    run = Run(RUN, settings)
    document = weights.decode(run.read(WEIGHTS))

    # The model uses it, and the document says that it was joined, from which rows.
    assert document.feature_names == [*"ASTGQURC"]
    assert document.model.importance["C"] > 0.02
    (lineage,) = document.lineage["feature_tables"]
    assert (lineage["name"], lineage["entity"], lineage["features"]) == ("profiles", "item", ["C"])
    use = run.read(DATASET).feature_tables["profiles"]
    assert document.data.hashes["feature table profiles"] == use.snapshot.sha256
    assert any(item["C"] is not None for golden in document.golden for item in golden.items)

    # Each labelled row has the newest value before its list was shown.
    table = pl.read_parquet(tmp_path / "profiles.parquet")
    known = {lawyer: rows.sort("at").rows() for (lawyer,), rows in table.partition_by("lawyer", as_dict=True).items()}
    labelled = pl.concat(
        pl.read_parquet(settings.data.root / run.key(f"dataset/labelled-00{bucket}.parquet")) for bucket in range(2)
    )
    expected = [newest(known.get(lawyer, []), time) for lawyer, time in labelled.select("item_id", "time").iter_rows()]
    np.testing.assert_array_equal(labelled["feature_C"].to_numpy(), np.array(expected, np.float32))
    assert use.without == int(np.isnan(expected).sum()) > 0
    assert use.snapshot.future == (table["at"] >= CUTOFF).sum()
    assert use.snapshot.rows == len(table)

    # The report has the share without a value, and the events' own C is no feature that nobody listed.
    page = artefacts(settings)["report.html"].decode()
    assert f"{100 * use.without / len(labelled):.1f} %" in page[page.index("Features that change") :]
    assert "not list these features" not in page


def newest(rows: list[tuple[str, dt.datetime, float]], moment: dt.datetime) -> float:
    fitting = [value for _, at, value in rows if at < moment and moment - at <= dt.timedelta(days=4)]
    return fitting[-1] if fitting else np.nan


def test_what_is_scored_now_gets_it_from_the_table_and_the_service_from_its_caller(
    settings: Settings, tmp_path: Path
) -> None:
    up_to("quality_gate", settings)
    model = load(artefacts(settings)["ltr_weights.json"], where=RUN)
    assert model.sample is not None
    assert model.sample[0].keys() == set("ASTGQURC")  # golden requests are whole: /docs shows the feature, too
    without = model.scorer.read(
        [Candidate.of("a", {"A": 1.0, "S": 0.8, "T": 1.0, "G": 1.0, "Q": 0.6, "U": 1.0, "R": 0.8})]
    )
    assert np.isnan(without.matrix).tolist() == [[*[False] * 7, True]]  # what the answer's `missing` is made of
    (last,) = shown(tmp_path).sort("at").tail(1).select("lawyer").to_series()
    now = FeaturesAt(settings.mapping.feature_tables, CUTOFF, Sources())
    (value,) = now.of({"item_id": [last]})[0]
    table = pl.read_parquet(tmp_path / "profiles.parquet").filter(pl.col("lawyer") == last, pl.col("at") < CUTOFF)
    assert value == np.float32(table.sort("at")["C"][-1])


def test_a_build_that_is_tried_again_joins_what_the_first_try_read(settings: Settings, tmp_path: Path) -> None:
    first = up_to("build_dataset", settings)
    before = artefacts(settings)
    pl.read_parquet(tmp_path / "profiles.parquet").with_columns(pl.col("C") + 1).write_parquet(
        tmp_path / "profiles.parquet"
    )
    assert up_to("build_dataset", settings) == first
    assert artefacts(settings) == before


def test_a_table_that_is_not_there_is_said_before_anything_lands(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "profiles.parquet").unlink()
    with pytest.raises(DatasetError, match=r"feature table profiles: there is no file .*profiles\.parquet"):
        nightly.extract_events({"moment": moment(NIGHT)}, LENIENT, settings)
    assert settings.data.keys() == []


def test_two_rows_of_one_lawyer_and_moment_stop_the_build(settings: Settings, tmp_path: Path) -> None:
    table = pl.read_parquet(tmp_path / "profiles.parquet")
    pl.concat([table, table]).write_parquet(tmp_path / "profiles.parquet")
    with pytest.raises(DatasetError, match="feature table profiles has several rows for item lawyer-"):
        up_to("build_dataset", settings)


def test_a_user_that_is_forgotten_is_in_no_frozen_table_either(settings: Settings, tmp_path: Path) -> None:
    """A table of what is known of clients has them as its ids."""
    text = (tmp_path / "mapping.toml").read_text()
    (tmp_path / "mapping.toml").write_text(text.replace('"item"', '"user"').replace('"lawyer"', '"client"'))
    shown(tmp_path).sort("at").unique(["client", "at"], keep="first").write_parquet(tmp_path / "profiles.parquet")
    settings = small_settings(tmp_path, mapping_path=tmp_path / "mapping.toml")
    up_to("build_dataset", settings)
    frozen = [name for name in artefacts(settings) if "feature-table-" in name]
    assert len(frozen) == 2
    assert forget_in_runs(settings.data, shown(tmp_path)["client"][-1]) >= 1
    assert [name for name in artefacts(settings) if "feature-table-" in name] == []


def test_adding_a_table_leaves_what_has_landed_of_use(settings: Settings) -> None:
    assert settings.mapping.sha256 != load_mapping().sha256  # C is read no longer
    plain = settings.mapping.__class__(
        **{name: getattr(settings.mapping, name) for name in settings.mapping.__struct_fields__}
        | {"feature_tables": ()}
    )
    assert plain.sha256 == settings.mapping.sha256
