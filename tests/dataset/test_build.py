import dataclasses
import zlib
from datetime import UTC, date, datetime, timedelta

import msgspec
import numpy as np
import polars as pl
import pytest
from msgspec.structs import replace

from ltr_pipeline.calendar import Occasion
from ltr_pipeline.dataset import labels
from ltr_pipeline.dataset.build import build, build_fresh
from ltr_pipeline.dataset.labels import FEEDBACK_TYPES, impression_types
from ltr_pipeline.dataset.load import UNKNOWN_POSITION, load_part, thinned
from ltr_pipeline.dataset.manifest import DatasetManifest
from ltr_pipeline.dataset.windows import Windows, since_test
from ltr_pipeline.errors import DatasetError
from ltr_pipeline.events.chain import partitions_for
from ltr_pipeline.events.landing import land as land_events
from ltr_pipeline.events.sources.files import FileSource
from ltr_pipeline.events.tables import file_info
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.metrics.rankings import starts
from ltr_pipeline.schedule import night_of
from ltr_pipeline.simulate.log import truth, write_log
from ltr_pipeline.simulate.world import World
from ltr_pipeline.storage.local import LocalStorage
from support.nights import LANDING

MAPPING = load_mapping()
WINDOWS = Windows(
    cutoff=datetime(2025, 7, 15, tzinfo=UTC),
    window_days=10,
    attribution_days=2,
    test_days=2,
    valid_days=1,
    min_queries=1,
)
IMPRESSIONS, FEEDBACK = impression_types(MAPPING.features), FEEDBACK_TYPES
PARTS = ("train", "valid", "test")


def events(rankings_a_day=4, items=3):
    """Ten days of rankings, one interaction each; feature A is the item's number, S is missing in the test days."""
    impressions, feedback = [], []
    for day in range(10):
        for number in range(rankings_a_day):
            query, at = f"case-{day}-{number}", WINDOWS.start + timedelta(days=day, hours=number)
            place = {"query_id": query, "source": "log", "partition": 0, "item_index": 0}
            for item in range(items):
                row = {
                    "item_id": f"lawyer-{item}",
                    "time": at,
                    "position": item + 1,
                    "ranking_id": f"{query}|{at:%Y-%m-%d}",
                }
                values = {"feature_A": float(item), "feature_S": None if day >= 6 else 0.5, "user_id": f"u-{number}"}
                impressions.append(place | row | values | {"offset": len(impressions)})
            answer = {"item_id": "lawyer-1", "action": "accepted", "time": at + timedelta(hours=1)}
            feedback.append(place | answer | {"offset": len(feedback)})
    return pl.DataFrame(impressions, schema=IMPRESSIONS), pl.DataFrame(feedback, schema=FEEDBACK)


def land(storage, impressions, feedback, buckets=4, date="2025-07-15"):
    """Land the tables as one partition."""
    folder = f"events/date={date}"
    path = storage.root / folder
    path.mkdir(parents=True, exist_ok=True)
    files = []
    for name, table in (("impressions", impressions), ("feedback", feedback)):
        bucket = pl.Series([zlib.crc32(query.encode()) % buckets for query in table["query_id"]], dtype=pl.Int64)
        for index in range(buckets):
            file = path / f"{name}-{index:03d}.parquet"
            table.filter(bucket == index).write_parquet(file)
            files.append(file_info(file, 0))
    manifest = replace(LANDING, date=datetime.fromisoformat(date).date(), buckets=buckets, files=files)
    storage.put(f"{folder}/manifest.json", msgspec.json.encode(manifest))
    return folder


@pytest.fixture
def storage(tmp_path):
    return LocalStorage(tmp_path)


def built(storage, *partitions, folder="runs/r/dataset", windows=WINDOWS):
    return build(storage, folder, dict.fromkeys(partitions, ""), MAPPING, windows)


def rows(storage, manifest, folder="runs/r/dataset"):
    """Every row of the dataset with its part, in an order that no bucket decides."""
    frames = []
    for part in PARTS:
        data = load_part(storage, folder, manifest, part)
        table = data.ids.with_columns(
            pl.Series("relevance", data.relevance),
            pl.Series("ranking", np.repeat(np.arange(len(data.group)), data.group)),
            *pl.DataFrame(data.features, schema=[f"feature_{name}" for name in data.feature_names]),
            part=pl.lit(part),
        )
        frames.append(table.with_columns(ranking=pl.col("ranking_id").n_unique().over("ranking")))
    return pl.concat(frames).sort("ranking_id", "item_id")


def test_the_manifest_accounts_for_every_record(storage):
    manifest = built(storage, land(storage, *events()))
    # 10 days of 4 rankings of 3; the last two days are immature, their feedback has no impression that is used
    assert (manifest.impressions.landed, manifest.impressions.used) == (120, 96)
    assert manifest.impressions.dropped == {"immature": 24}
    assert (manifest.feedback.landed, manifest.feedback.used) == (40, 32)
    assert manifest.feedback.dropped == {"impression_dropped": 8}
    assert sum(part.rows for part in (manifest.train, manifest.valid, manifest.test)) == manifest.impressions.used


def test_the_manifest_tells_what_each_part_holds(storage):
    manifest = built(storage, land(storage, *events()))
    train, valid, test = manifest.train, manifest.valid, manifest.test
    assert [part.start.day for part in (train, valid, test)] == [5, 10, 11]
    assert test.end == WINDOWS.mature_end
    assert (train.rows, train.rankings, train.eligible) == (5 * 4 * 3, 5 * 4, 5 * 4)
    assert (test.rows, test.rankings, test.eligible) == (2 * 4 * 3, 2 * 4, 2 * 4)
    assert train.labels == {"0": 40, "2": 20}
    assert train.positions == {"1": 20, "2": 20, "3": 20}
    assert train.feature_missing == dict.fromkeys(MAPPING.features, 1.0) | {"A": 0.0, "S": 0.0}


def test_rankings_that_look_like_several_lists_are_counted(storage):
    impressions, feedback = events()
    whole = built(storage, land(storage, impressions, feedback))
    assert (whole.rankings, whole.repeated_positions, whole.several_users) == (32, 0, 0)
    first = pl.col("item_id") == "lawyer-0"
    of_day = pl.col("query_id").str.starts_with("case-3-")
    merged = impressions.with_columns(
        position=pl.when(first & of_day).then(2).when(first).then(None).otherwise("position"),
        user_id=pl.when(first & (pl.col("user_id") == "u-1")).then(pl.lit("w")).otherwise("user_id"),
    )
    found = built(storage, land(storage, merged, feedback), folder="runs/m/dataset")
    assert (found.rankings, found.repeated_positions, found.several_users) == (32, 4, 8)


def test_a_mapping_may_tell_the_lists_of_users_apart(storage):
    impressions, feedback = events()
    other = impressions.with_columns(pl.concat_str("user_id", pl.lit("b")).alias("user_id"), pl.col("offset") + 1000)
    folder = land(storage, pl.concat([impressions, other]), feedback)
    one = build(storage, "runs/o/dataset", {folder: ""}, MAPPING, WINDOWS)
    two = build(storage, "runs/t/dataset", {folder: ""}, replace(MAPPING, session_gap_minutes=30), WINDOWS)
    assert (one.rankings, one.several_users, one.impressions.dropped["repeated"]) == (32, 0, 120)
    assert (two.rankings, two.several_users, two.impressions.dropped) == (64, 0, {"immature": 48})


def test_features_that_vanished_or_appeared_are_named(storage):
    manifest = built(storage, land(storage, *events()))
    assert manifest.vanished == [name for name in MAPPING.features if name != "A"]
    assert manifest.appeared == []
    impressions, feedback = events()
    late = impressions.with_columns(feature_T=pl.when(pl.col("time") >= manifest.test.start).then(0.5).cast(pl.Float32))
    manifest = built(storage, land(storage, late, feedback))
    assert "T" not in manifest.vanished
    assert manifest.appeared == ["T"]


def test_arrays_hold_the_rows_of_their_part(storage):
    manifest = built(storage, land(storage, *events()))
    data = load_part(storage, "runs/r/dataset", manifest, "valid")
    assert data.features.dtype == np.float32
    assert data.features.flags.c_contiguous
    assert data.features[:, 0].tolist() == [0, 1, 2] * 4
    assert np.isnan(data.features[:, 2:]).all()
    assert data.relevance.tolist() == [0, 2, 0] * 4
    assert data.group.tolist() == [3] * 4
    assert data.position.tolist() == [1, 2, 3] * 4
    assert data.ids["item_id"].to_list() == ["lawyer-0", "lawyer-1", "lawyer-2"] * 4
    assert set(data.ids["time"].dt.date()) == {manifest.valid.start.date()}
    assert load_part(storage, "runs/r/dataset", manifest, "valid", ids=()).ids.width == 0


def test_propensities_come_with_their_rows(storage):
    impressions, feedback = events()
    explored = pl.col("query_id").str.starts_with("case-3-")
    chance = pl.when(explored).then(pl.when(pl.col("position") == 3).then(1.0).otherwise(0.5)).cast(pl.Float32)
    manifest = built(storage, land(storage, impressions.with_columns(propensity=chance), feedback))
    data = load_part(storage, "runs/r/dataset", manifest, "train")
    assert data.propensity.dtype == np.float32
    told = data.ids["query_id"].str.starts_with("case-3-").to_numpy()
    assert told.any()
    assert data.propensity[told].tolist() == [0.5, 0.5, 1.0] * int(told.sum() // 3)
    assert np.isnan(data.propensity[~told]).all()
    none = built(storage, land(storage, impressions, feedback), folder="runs/n/dataset")
    assert load_part(storage, "runs/n/dataset", none, "train").propensity is None


def declared(day, weight):
    when = (WINDOWS.start + timedelta(days=day)).date()
    return replace(WINDOWS, occasions=(Occasion(name="Sale", first=when, last=when, weight=weight),))


def test_a_day_that_is_left_out_is_in_no_part_and_accounted_for(storage):
    folder = land(storage, *events())
    manifest = built(storage, folder, windows=declared(2, 0))
    assert manifest.impressions.dropped == {"immature": 24, "left_out": 12}
    assert manifest.feedback.dropped == {"impression_dropped": 12}
    assert sum(part.rows for part in (manifest.train, manifest.valid, manifest.test)) == manifest.impressions.used == 84
    assert datetime(2025, 7, 7).date() not in set(rows(storage, manifest)["time"].dt.date())  # noqa: DTZ001
    assert (manifest.train.rankings, manifest.train.start.day, manifest.valid.start.day) == (16, 5, 10)
    test = built(storage, folder, windows=declared(7, 0))  # the last of the test days
    assert (test.test.rankings, test.test.start.day, test.valid.start.day, test.train.rankings) == (8, 10, 9, 16)


def test_rankings_weigh_what_the_calendar_says_of_their_day(storage):
    folder = land(storage, *events())
    manifest = built(storage, folder, windows=declared(2, 0.25))
    assert manifest.impressions == built(storage, folder, windows=WINDOWS).impressions
    data = load_part(storage, "runs/r/dataset", manifest, "train", ids=["time"])
    days = data.ids["time"].dt.date().gather(starts(data.group)).to_list()
    assert data.weight.dtype == np.float32
    assert data.weight.tolist() == [0.25 if day.day == 7 else 1.0 for day in days]
    assert load_part(storage, "runs/r/dataset", manifest, "train", ids=()).weight.tolist() == data.weight.tolist()
    assert load_part(storage, "runs/r/dataset", manifest, "valid").weight is None
    annotated = built(storage, folder, windows=declared(2, 1.0))
    assert load_part(storage, "runs/r/dataset", annotated, "train").weight is None


def test_a_manifest_of_a_former_release_declares_no_events(storage):
    manifest = built(storage, land(storage, *events()))
    former = msgspec.to_builtins(manifest)
    del former["windows"]["occasions"]
    assert msgspec.json.decode(msgspec.json.encode(former), type=DatasetManifest) == manifest


def test_it_is_known_of_which_rows_the_service_logged_the_features(storage):
    impressions, feedback = events()
    first = impressions.with_columns(as_served=pl.when(user_id="u-1").then(statement=True))
    data = load_part(storage, "runs/r/dataset", built(storage, land(storage, first, feedback)), "train")
    assert data.ids.filter("as_served")["user_id"].unique().to_list() == ["u-1"]
    assert data.ids["as_served"].sum() == (data.ids["user_id"] == "u-1").sum() > 0


def test_rankings_stay_whole_and_in_one_part(storage):
    manifest = built(storage, land(storage, *events()))
    table = rows(storage, manifest)
    assert table["ranking"].unique().to_list() == [1]  # contiguous: one ranking_id in each group
    assert table.group_by("ranking_id").agg(pl.col("part").n_unique()).get_column("part").unique().to_list() == [1]
    ends = dict(table.group_by("part").agg(pl.col("time").max()).iter_rows())
    assert ends["train"] < manifest.valid.start <= ends["valid"] < manifest.test.start <= ends["test"]


def test_the_number_of_buckets_changes_no_row(storage):
    one = built(storage, land(storage, *events(), buckets=1), folder="runs/one/dataset")
    eight = built(storage, land(storage, *events(), buckets=8), folder="runs/eight/dataset")
    assert (one.buckets, eight.buckets) == (1, 8)
    assert rows(storage, one, "runs/one/dataset").equals(rows(storage, eight, "runs/eight/dataset"))
    assert (one.impressions, one.feedback, one.train) == (eight.impressions, eight.feedback, eight.train)


def test_partitions_of_different_bucket_counts_are_joined(storage):
    impressions, feedback = events()
    first = land(storage, impressions, feedback.clear(), buckets=4, date="2025-07-14")
    second = land(storage, impressions.clear(), feedback, buckets=6)
    whole = built(storage, land(storage, impressions, feedback, date="2025-07-13"), folder="runs/whole/dataset")
    manifest = built(storage, first, second)
    assert manifest.buckets == 2
    assert rows(storage, manifest).equals(rows(storage, whole, "runs/whole/dataset"))


def test_what_a_former_release_landed_and_built_is_read(storage):
    impressions, feedback = events()
    former = land(storage, impressions.drop("as_served"), feedback.drop("rating"), date="2025-07-14")
    manifest = built(storage, former, folder="runs/former/dataset")
    whole = built(storage, land(storage, impressions, feedback, date="2025-07-13"), folder="runs/whole/dataset")
    expected = rows(storage, whole, "runs/whole/dataset")
    assert rows(storage, manifest, "runs/former/dataset").equals(expected)
    tables = {}
    for name in manifest.tables:  # a run that was begun before the upgrade goes on
        path = storage.root / "runs/former/dataset" / name
        pl.read_parquet(path).drop("as_served").write_parquet(path)
        tables[name] = file_info(path, 0).sha256
    assert rows(storage, replace(manifest, tables=tables), "runs/former/dataset").equals(expected)


def test_a_retry_writes_the_same_bytes(storage):
    folder = land(storage, *events())
    first, second = built(storage, folder, folder="runs/a"), built(storage, folder, folder="runs/b")
    assert first == second
    for name in first.tables:
        assert storage.get(f"runs/a/{name}") == storage.get(f"runs/b/{name}")


def test_a_record_landed_twice_is_a_duplicate(storage):
    folders = [land(storage, *events(), date=date) for date in ("2025-07-14", "2025-07-15")]
    manifest = built(storage, *folders)
    assert (manifest.impressions.landed, manifest.impressions.duplicates, manifest.impressions.used) == (240, 120, 96)
    assert (manifest.feedback.landed, manifest.feedback.duplicates, manifest.feedback.used) == (80, 40, 32)


def test_nothing_to_rank_is_an_empty_dataset(storage):
    impressions, feedback = events()
    quiet = built(storage, land(storage, impressions, feedback.clear()))
    assert (quiet.train.rows > 0, quiet.train.eligible, quiet.test.eligible) == (True, 0, 0)
    empty = built(storage, land(storage, impressions.clear(), feedback.clear()))
    assert (empty.impressions, empty.feedback) == (labels.Account(), labels.Account())
    for part in PARTS:
        data = load_part(storage, "runs/r/dataset", empty, part)
        assert (data.features.shape, data.group.shape, data.position) == ((0, 8), (0,), None)


def test_positions_that_were_not_logged_come_last(storage):
    impressions, feedback = events()
    some = impressions.with_columns(position=pl.when(pl.col("item_id") != "lawyer-0").then("position"))
    manifest = built(storage, land(storage, some, feedback))
    data = load_part(storage, "runs/r/dataset", manifest, "train")
    assert data.position[:3].tolist() == [UNKNOWN_POSITION, 2, 3]
    assert data.position.dtype == np.int32
    assert manifest.train.positions == {"0": 20, "2": 20, "3": 20}
    none = impressions.with_columns(position=pl.lit(None, pl.Int32))
    manifest = built(storage, land(storage, none, feedback))
    assert load_part(storage, "runs/r/dataset", manifest, "train").position is None


def test_the_manifest_survives_json(storage):
    manifest = built(storage, land(storage, *events()))
    text = msgspec.json.encode(manifest, order="deterministic")
    assert msgspec.json.decode(text, type=DatasetManifest) == manifest


def test_what_has_not_landed_whole_is_an_error(storage):
    with pytest.raises(DatasetError, match="nothing has landed for the 10 days before 2025-07-15"):
        built(storage)
    with pytest.raises(DatasetError, match="landed whole"):
        built(storage, "events/date=2025-07-01")
    folder = land(storage, *events())
    whole = storage.get(f"{folder}/manifest.json")
    for broken in (whole[:-1], b'{"buckets": 4}', msgspec.json.encode(replace(LANDING, buckets=0))):
        storage.put(f"{folder}/manifest.json", broken)
        with pytest.raises(DatasetError, match=r"landed whole: .*manifest\.json was altered"):
            built(storage, folder)
    storage.put(f"{folder}/manifest.json", whole)
    storage.put(f"{folder}/impressions-001.parquet", b"torn")
    with pytest.raises(DatasetError, match=r"impressions-001\.parquet was altered since it landed"):
        built(storage, folder)
    storage.delete(f"{folder}/impressions-001.parquet")
    with pytest.raises(DatasetError, match=r"impressions-001\.parquet does not exist"):
        built(storage, folder)


def test_a_table_of_another_build_is_refused(storage):
    manifest = built(storage, land(storage, *events()))
    built(storage, land(storage, *events(rankings_a_day=5)))
    with pytest.raises(DatasetError, match="build the dataset again"):
        load_part(storage, "runs/r/dataset", manifest, "train")


def test_the_labels_of_a_simulated_log_are_the_true_ones(storage, tmp_path):
    """Late, duplicate and broken messages included; the truth leaves out the very last second of the attribution."""
    first, cutoff = date(2025, 7, 1), date(2025, 7, 15)
    world = World(legacy_weights=MAPPING.legacy_weights, rankings_per_day=60)
    windows = Windows(cutoff=datetime(2025, 7, 15, tzinfo=UTC), window_days=14)
    write_log(tmp_path / "audit.log", world, first, 14)
    landed = land_events(
        storage, night_of(cutoff), FileSource(str(tmp_path / "audit.log")), MAPPING, buckets=3, since=windows.start
    )
    manifest = built(storage, *partitions_for(storage, cutoff), windows=windows)
    true = truth(world, first, 14).filter(pl.col("available") & (pl.col("time") < windows.mature_end))
    found = rows(storage, manifest)
    joined = found.join(true, on=["query_id", "ranking_id", "item_id"], suffix="_true")
    assert joined.height == found.height == true.height > 5000
    assert (joined["relevance"] != joined["relevance_true"]).sum() <= 1e-3 * joined.height
    assert (manifest.impressions.landed, manifest.feedback.landed) == (landed.impressions, landed.feedback)


@pytest.mark.parametrize("share", [1, 200])
def test_ids_in_another_spelling_are_counted_across_buckets_where_many_join_nothing(storage, share):
    impressions, feedback = events(rankings_a_day=20)
    spelled = pl.when(pl.col("offset") % share == 0).then(pl.format(" {}", pl.col("query_id").str.to_uppercase()))
    feedback = feedback.with_columns(spelled.otherwise("query_id").alias("query_id"))
    manifest = built(storage, land(storage, impressions, feedback, buckets=4))
    dropped = manifest.feedback.dropped["no_impression"]
    assert dropped == len(range(0, 200, share))
    assert manifest.differ_in_case == (dropped if share == 1 else 0)


NIGHT = replace(WINDOWS, cutoff=WINDOWS.cutoff - timedelta(days=1))  # tested on the 10th and 11th
NOON = datetime(2025, 7, 14, 12, tzinfo=UTC)
FRESH = since_test(NIGHT, NIGHT.mature_end, NOON)


def arrivals(storage, buckets=(4, 2)):
    """Land what was shown, with the answers of all days but the last, and then those of the last."""
    impressions, feedback = events()
    young = feedback["time"] >= datetime(2025, 7, 14, tzinfo=UTC)
    first = land(storage, impressions, feedback.filter(~young), buckets[0], date="2025-07-14")
    return first, land(storage, impressions.clear(), feedback.filter(young), buckets[1], date="2025-07-15")


def test_fresh_rankings_are_those_that_an_answer_arrived_for_lately(storage):
    first, last = arrivals(storage)
    manifest = build_fresh(storage, "r/dataset", dict.fromkeys((first, last), ""), [last], MAPPING, FRESH)
    data = load_part(storage, "r/dataset", manifest, "train")
    assert sorted(data.ids["query_id"].unique()) == [f"case-9-{number}" for number in range(4)]
    assert (len(data.group), data.relevance.sum()) == (4, 4 * 2)
    assert (manifest.train.start, manifest.train.end) == (NIGHT.mature_end, datetime(2025, 7, 15, tzinfo=UTC))
    assert (manifest.train.rows, manifest.train.eligible) == (12, 4)
    assert manifest.valid.rows == manifest.test.rows == 0
    assert manifest.windows.end == NOON
    assert manifest.impressions.dropped == {"before_window": 7 * 12, "unanswered": 2 * 12}
    assert (manifest.feedback.landed, manifest.feedback.used) == (4, 4), "only what arrived lately is accounted for"


def test_without_an_answer_lately_nothing_is_fresh(storage):
    first, last = arrivals(storage)
    manifest = build_fresh(storage, "r/dataset", dict.fromkeys((first, last), ""), [], MAPPING, FRESH)
    assert manifest.rankings == manifest.feedback.landed == 0
    assert len(load_part(storage, "r/dataset", manifest, "train").group) == 0


def test_all_that_was_answered_since_the_test_days_is_fresh_where_all_arrived_lately(storage):
    both = arrivals(storage)
    manifest = build_fresh(storage, "r/dataset", dict.fromkeys(both, ""), both, MAPPING, FRESH)
    assert manifest.train.rankings == 3 * 4


def test_however_partitions_were_bucketed_the_fresh_rankings_are_the_same(storage, tmp_path):
    found = []
    for number, buckets in enumerate([(4, 4), (4, 2), (2, 4), (1, 8)]):
        storage = LocalStorage(tmp_path / str(number))
        first, last = arrivals(storage, buckets)
        manifest = build_fresh(storage, "r/dataset", dict.fromkeys((first, last), ""), [last], MAPPING, FRESH)
        found.append(rows(storage, manifest, "r/dataset"))
    assert len(found[0]) == 12
    assert all(one.equals(found[0]) for one in found)


@pytest.mark.parametrize(("rows", "kept"), [(60, 20), (59, 10), (30, 10), (29, 7), (12, 4)])
def test_a_part_is_thinned_by_whole_rankings(storage, rows, kept):
    data = load_part(storage, "runs/r/dataset", built(storage, land(storage, *events())), "train")
    weighted = dataclasses.replace(
        data, weight=np.arange(20, dtype=np.float32), propensity=np.full(60, 0.5, np.float32)
    )
    found = thinned(weighted, rows)
    assert (len(found.group), len(found.relevance), found.ids.height) == (kept, 3 * kept, 3 * kept)
    assert found.weight.tolist() == list(range(0, 20, -(-60 // rows)))
    assert found.ids.rows() == [row for row in data.ids.rows() if row in set(found.ids.rows())]
    assert (found.features.shape, len(found.position), len(found.propensity)) == ((3 * kept, 8), 3 * kept, 3 * kept)
    assert thinned(data, 29).weight is None
