"""Training and classifying from landed events, in a real PostgreSQL and in SQLite."""

from __future__ import annotations

import datetime as dt
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import pytest
from msgspec.structs import replace
from sqlalchemy import text

from ltr_pipeline.database.engine import Database
from ltr_pipeline.errors import DatabaseError, LtrError, SegmentError
from ltr_pipeline.gate.evidence import Evidence
from ltr_pipeline.jobs import segments
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.monitoring.records import SegmentsTrained
from ltr_pipeline.monitoring.store import History
from ltr_pipeline.report.artefacts import DATASET, EVIDENCE, SEGMENTS
from ltr_pipeline.runs.run import Run
from ltr_pipeline.segments import comparison, store
from ltr_pipeline.segments.engagement import LEVELS
from ltr_pipeline.segments.model import OLD_AFTER, SegmentModel
from ltr_pipeline.segments.parameters import WORDING
from ltr_pipeline.settings import Settings
from support.small import NIGHT, RUN, simulate, small_settings, up_to

NOW = dt.datetime(2025, 7, 15, 6, 15, tzinfo=dt.UTC)
WEEK = dt.date(2025, 7, 7)  # the only whole one of twelve days
DAY = dt.timedelta(days=1)


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose events have landed."""
    folder = tmp_path_factory.mktemp("landed")
    simulate(folder)
    up_to("extract_events", small_settings(folder))
    return folder


@pytest.fixture
def settings(landed: Path, database_url: str) -> Settings:
    """That project, with an empty database."""
    return small_settings(landed, database_url=database_url)


Sql = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture
def sql(settings: Settings) -> Sql:
    """What a person does who edits or reads the tables."""
    return edited(settings)


def edited(settings: Settings) -> Sql:
    """Make the tables, for a person who edits or reads them."""

    def executed(statement: str) -> list[tuple[Any, ...]]:
        with Database(settings.database) as database, database.begin() as connection:
            found = connection.execute(text(segments.table_names(settings, statement)))
            return [tuple(row) for row in found] if found.returns_rows else []

    segments.init(settings)
    return executed


@pytest.fixture(scope="module")
def models(landed: Path, tmp_path_factory: pytest.TempPathFactory) -> list[SegmentModel]:
    """Models of both levels."""
    settings = small_settings(landed, database_url=f"sqlite:///{tmp_path_factory.mktemp('database') / 'ltr.db'}")
    segments.train(settings, now=NOW)
    with Database(settings.database) as database, database.begin(write=False) as connection:
        found = [store.model_in_use(database, connection, level) for level in LEVELS]
    return [stored.model for stored in found if stored]


@pytest.fixture
def trained(settings: Settings, sql: Sql, models: list[SegmentModel]) -> Settings:
    """The project with these models in use."""
    with Database(settings.database) as database, database.begin() as connection:
        for model in models:
            store.add_model(database, connection, model, None, use=True)
    return settings


COUNT = "SELECT count(*) FROM analytics.cubo_engajamento"
CUBE = (
    "SELECT level, entity, granularity, period, centroid_id, label, features, model_version, classified_at "
    "FROM analytics.cubo_engajamento ORDER BY level, entity, period"
)


def test_training_names_segments_and_classifying_fills_the_cube(settings: Settings, sql: Sql) -> None:
    first = segments.train(settings, now=NOW)
    assert [(one.level, one.version, one.in_use, one.comparison) for one in first] == [
        ("user", 1, True, None),
        ("item", 1, True, None),
    ]
    assert first[0].labels == WORDING["pt"]
    kept = {one.level: one for one in History(settings.data).read(SegmentsTrained)}
    assert {level: (one.version, one.in_use) for level, one in kept.items()} == {"user": (1, True), "item": (1, True)}
    assert [sum(kept[one.level].sizes.values()) for one in first] == [one.rows for one in first]
    done = segments.classify(settings, now=NOW)
    assert (done.rows, done.notices, done.left_out) == (sql(COUNT)[0][0], [], 0)
    (users, items) = done.levels
    assert (users.level, users.granularity, users.periods, users.newest) == ("user", "week", 1, WEEK)
    assert users.rows == sum(users.segments.values())
    assert set(users.segments) <= set(WORDING["pt"])
    assert items.rows + users.rows == done.rows
    rows = sql(CUBE)
    assert len({row[:4] for row in rows}) == len(rows) == done.rows
    for level, _, granularity, period, centroid, label, features, version, _ in rows:
        counted = features if isinstance(features, dict) else json.loads(features)
        assert set(counted) == {"lists", "days", "impressions", "interactions", "relevance"}
        assert (level in ("user", "item"), granularity, version) == (True, "week", 1)
        assert str(period) == str(WEEK)
        assert label == WORDING["pt"][centroid]


def test_the_most_engaged_do_the_most(trained: Settings, sql: Sql) -> None:
    segments.classify(trained, now=NOW)
    done: dict[int, list[int]] = {}
    for row in sql(CUBE):
        counted = row[6] if isinstance(row[6], dict) else json.loads(row[6])
        if row[0] == "user":
            done.setdefault(row[4], []).append(counted["interactions"])
    means = [sum(counts) / len(counts) for _, counts in sorted(done.items())]
    assert (means[0], means[-1]) == (max(means), min(means))


def test_classifying_again_gives_the_same_cube(trained: Settings, sql: Sql) -> None:
    segments.classify(trained, now=NOW)
    before = sql(CUBE)
    segments.classify(trained, now=NOW)
    assert sql(CUBE) == before


def test_a_person_chooses_days_and_levels_and_language_in_sql(settings: Settings, sql: Sql) -> None:
    sql("UPDATE config.segment_parameters SET granularity = 'day', periods = 3, language = 'en', until = '2025-07-12'")
    sql("UPDATE config.segment_levels SET active = false WHERE level = 'item'")
    sql("""UPDATE config.segment_levels SET k = 3, features = '["lists", "interactions"]', weights = '{"lists": 1}'""")
    (one,) = segments.train(settings, now=NOW)
    assert one.labels == ("excellent engagement", "medium engagement", "no engagement")
    (level,) = segments.classify(settings, now=NOW).levels
    assert (level.periods, level.newest, level.granularity) == (3, dt.date(2025, 7, 11), "day")
    assert set(level.segments) <= {"excellent engagement", "medium engagement", "no engagement"}


def test_a_label_that_a_person_renamed_is_what_classifying_joins(trained: Settings, sql: Sql) -> None:
    sql(
        "UPDATE analytics.mapeamento_labels_engajamento SET label = 'fã' "
        "WHERE level = 'user' AND centroid_id = 0 AND language = 'pt'"
    )
    assert "fã" in segments.classify(trained, now=NOW).levels[0].segments


def test_the_same_again_is_taken_and_said_to_agree(trained: Settings) -> None:
    again = segments.train(trained, now=NOW)
    assert [(one.version, one.in_use) for one in again] == [(2, True), (2, True)]
    assert again[0].comparison is not None
    assert again[0].comparison.ari == pytest.approx(1)
    assert again[0].said == (
        "model 2 of level user is in use: its agreement with model 1 (ARI) is 1.000; 100 % keep their label"
    )
    assert {level.model_version for level in segments.classify(trained, now=NOW).levels} == {2}


def test_a_model_that_agrees_too_little_is_kept_beside_the_one_in_use(
    trained: Settings, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "ARI_MIN", 1.5)
    (user, _) = segments.train(trained, now=NOW)
    assert not user.in_use
    assert user.said == (
        "model 1 of level user stays in use, and model 2 is kept beside it: its agreement with the former one (ARI) is "
        "1.000, below 1.5; 100 % keep their label; if that is what you want, `ltr segments train --replace`"
    )
    kept = "SELECT version, in_use, former_version, old_to_new, reason FROM analytics.segment_models "
    (first, second) = sql(kept + "WHERE level = 'user' ORDER BY version")
    assert (first[0], bool(first[1]), second[0], bool(second[1]), second[2]) == (1, True, 2, False, 1)
    assert json.loads(second[3]) == {str(index): index for index in range(5)}
    assert second[4].endswith("is 1.000, below 1.5")
    assert segments.classify(trained, now=NOW).levels[0].model_version == 1
    (user, _) = segments.train(trained, replace=True, now=NOW)
    assert (user.version, user.in_use) == (3, True)
    assert user.said.startswith("model 3 of level user is in use as asked, though its agreement")
    assert segments.classify(trained, now=NOW).levels[0].model_version == 3


def test_a_training_that_another_overtook_changes_nothing(
    trained: Settings, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = segments.fit

    def overtaken(*args: Any, **fields: Any) -> Any:
        monkeypatch.setattr(segments, "fit", fit)
        segments.train(trained, now=NOW)
        return fit(*args, **fields)

    monkeypatch.setattr(segments, "fit", overtaken)
    with pytest.raises(SegmentError, match="another training put a model in use meanwhile"):
        segments.train(trained, now=NOW)
    assert sql("SELECT max(version), count(*) FROM analytics.segment_models") == [(2, 4)]


def test_classifying_says_when_to_train_again(trained: Settings, sql: Sql) -> None:
    sql("UPDATE config.segment_levels SET k = 4 WHERE level = 'user'")
    done = segments.classify(trained, now=NOW + OLD_AFTER + DAY)
    assert [notice.partition(";")[0] for notice in done.notices] == [
        f"the parameters of level user are newer than its model: k 5 → 4, labels {_five()} → {_four()}",
        "the model of level user is 91 days old",
        "the model of level item is 91 days old",
    ]
    assert done.levels[0].model_version == 1
    assert done.rows > 0


def _five() -> dict[str, list[str]]:
    return {language: list(WORDING[language]) for language in sorted(WORDING)}


def _four() -> dict[str, list[str]]:
    return {language: [words[place] for place in (0, 1, 3, 4)] for language, words in _five().items()}


def test_a_reader_in_the_middle_sees_the_former_cube(
    trained: Settings, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = segments.classify(trained, now=NOW).rows
    seen = []
    insert = store._insert

    def watched(*args: Any) -> None:
        seen.append(_count(trained))  # everything is deleted
        insert(*args)
        seen.append(_count(trained))

    monkeypatch.setattr(store, "_insert", watched)
    segments.classify(trained, now=NOW)
    assert seen
    assert set(seen) == {first}


def test_an_id_that_no_database_keeps_is_left_out_and_counted(
    trained: Settings, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = segments.classify(trained, now=NOW).rows
    count = segments.by_period

    def with_nul(*args: Any) -> pl.DataFrame:
        found = count(*args)
        first = pl.row_index() == 0
        return found.with_columns(pl.when(first).then(pl.lit("a\0b")).otherwise("entity").alias("entity"))

    monkeypatch.setattr(segments, "by_period", with_nul)
    done = segments.classify(trained, now=NOW)
    assert (done.left_out, done.rows) == (2, whole - 2)  # one of each level


def _count(settings: Settings) -> int:
    with Database(settings.database) as database, database.begin(write=False) as connection:
        return int(connection.scalar(text(segments.table_names(settings, COUNT))) or 0)


def test_readers_beside_several_classifications_never_see_a_part(
    landed: Path, models: list[SegmentModel], postgresql_url: str
) -> None:
    settings = small_settings(landed, database_url=postgresql_url)
    segments.init(settings)
    with Database(settings.database) as database, database.begin() as connection:
        for model in models:
            store.add_model(database, connection, model, None, use=True)
    whole = segments.classify(settings, now=NOW).rows
    seen: list[int] = []
    over = threading.Event()

    def read() -> None:
        with Database(settings.database) as database:
            while not over.is_set():
                with database.begin(write=False) as connection:
                    seen.append(int(connection.scalar(text(COUNT)) or 0))

    failures: list[Exception] = []

    def classify() -> None:
        try:
            for _ in range(3):
                segments.classify(settings, now=NOW)
        except Exception as error:  # told by the test's own thread
            failures.append(error)

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=classify) for _ in range(2)]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    over.set()
    reader.join()
    assert failures == []
    assert len(seen) > 10
    assert set(seen) == {whole}


def test_what_fails_half_way_leaves_the_former_cube(
    trained: Settings, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments.classify(trained, now=NOW)
    before = sql(CUBE)
    insert, done = store._insert, []

    def failing(*args: Any) -> None:
        if done:
            raise RuntimeError("killed")
        insert(*args)
        done.append(args)

    monkeypatch.setattr(store, "_insert", failing)
    with pytest.raises(RuntimeError, match="killed"):
        segments.classify(trained, now=NOW)
    assert done
    assert sql(CUBE) == before


BAD = {
    "no model": (
        "UPDATE analytics.segment_models SET in_use = false WHERE level = 'item'",
        "level item has no model in use: `ltr segments train` makes one",
    ),
    "several models": (
        "INSERT INTO analytics.segment_models SELECT level, 9, in_use, created_at, model, former_version, ari, "
        "kept_label, old_to_new, reason FROM analytics.segment_models",
        "2 models of level user are in use; choose one",
    ),
    "a model that is none": (
        "UPDATE analytics.segment_models SET model = '{}' WHERE level = 'user'",
        "segment_models, level user, version 1 is no model of segments: .*; train it again",
    ),
    "no label": (
        "DELETE FROM analytics.mapeamento_labels_engajamento WHERE centroid_id = 0 AND level = 'user'",
        "has no label for centroid 0 of version 1 of level user; add it, or train again",
    ),
    "no labels at all": (
        "DELETE FROM analytics.mapeamento_labels_engajamento WHERE language = 'pt' AND level = 'user'",
        "version 1 of level user has labels in en, but .*segment_parameters asks for pt; `ltr segments train` makes",
    ),
    "no period": (
        "UPDATE config.segment_parameters SET until = '2025-07-10'",
        "no whole week has landed before 2025-07-10: events are there from 2025-07-03 on; choose a shorter granularity",
    ),
    "no parameters": ("DELETE FROM config.segment_parameters", "segment_parameters has 0 rows, but needs one"),
    "no level": ("UPDATE config.segment_levels SET active = false", "no level is active"),
    "unknown granularity": (
        "UPDATE config.segment_parameters SET granularity = 'fortnight'",
        "segment_parameters: Invalid enum value 'fortnight' - at `\\$.granularity`; correct the row",
    ),
    "unknown language": ("UPDATE config.segment_parameters SET language = 'de'", "language is 'de', but .* pt"),
    "broken JSON": (
        "UPDATE config.segment_levels SET weights = 'lists=1' WHERE level = 'user'",
        "segment_levels, level user: weights is no JSON such as",
    ),
    "another JSON": (
        "UPDATE config.segment_levels SET features = '{}' WHERE level = 'user'",
        "segment_levels, level user: Expected `array`, got `object` - at `\\$.features`; correct the row",
    ),
    "unknown feature": (
        """UPDATE config.segment_levels SET features = '["dayz"]', weights = '{}' WHERE level = 'user'""",
        "features names dayz",
    ),
    "fewer labels than segments": (
        "DELETE FROM config.segment_labels WHERE place > 3",
        "has 3 labels in 'en', but level user has k = 5 segments; add labels, or lower k",
    ),
}


@pytest.mark.parametrize(("statement", "sentence"), BAD.values(), ids=BAD)
def test_what_cannot_be_classified_is_a_sentence_and_empties_nothing(
    trained: Settings, sql: Sql, statement: str, sentence: str
) -> None:
    segments.classify(trained, now=NOW)
    before = sql(CUBE)
    sql(statement)
    with pytest.raises(SegmentError, match=sentence) as failure:
        segments.classify(trained, now=NOW)
    assert ("config." in str(failure.value)) <= (trained.database.kind == "postgresql")
    assert sql(CUBE) == before


def test_sqlite_keeps_what_it_is_given_and_a_sentence_says_so(landed: Path, tmp_path: Path) -> None:
    settings = small_settings(landed, database_url=f"sqlite:///{tmp_path / 'ltr.db'}")
    segments.init(settings)
    for column, value in (("until", "soon"), ("periods", "many")):
        with Database(settings.database) as database, database.begin() as connection:
            connection.execute(text(f"UPDATE config_segment_parameters SET {column} = '{value}'"))
        with pytest.raises(SegmentError, match="config_segment_parameters"):
            segments.train(settings, now=NOW)


def test_few_distinct_rows_are_a_sentence_and_make_no_model(settings: Settings, sql: Sql) -> None:
    sql("UPDATE config.segment_parameters SET granularity = 'day', periods = 2")
    one = """features = '["days"]', weights = '{"days": 1}', active = (level = 'user')"""
    sql(f"UPDATE config.segment_levels SET {one}")
    with pytest.raises(SegmentError, match=r"level user: its .* rows differ in 2 ways only, too few for k = 5"):
        segments.train(settings, now=NOW)
    sql("UPDATE config.segment_parameters SET periods = 1")
    with pytest.raises(SegmentError, match=r"days is the same in all .* rows and tells nobody apart"):
        segments.train(settings, now=NOW)
    assert sql("SELECT count(*) FROM analytics.segment_models") == [(0,)]


def test_where_nothing_has_landed_a_sentence_says_so(tmp_path: Path, database_url: str) -> None:
    settings = small_settings(tmp_path, database_url=database_url)
    segments.init(settings)
    with pytest.raises(SegmentError, match=r"nothing has landed in .*data; `ltr run` lands events"):
        segments.train(settings, now=NOW)


def test_a_level_that_no_event_names_is_said(tmp_path: Path, database_url: str) -> None:
    simulate(tmp_path)
    mapping = load_mapping()
    fields = mapping.fields | {"user_id": ()}
    settings = small_settings(tmp_path, database_url=database_url)
    settings.__dict__["mapping"] = replace(mapping, fields=fields)
    up_to("extract_events", settings)
    segments.init(settings)
    with pytest.raises(SegmentError, match=r"level user: no event from 2025-07-07 to 2025-07-14 names one; say where"):
        segments.train(settings, now=NOW)


def test_postgresql_without_tables_says_which_command_makes_them(landed: Path, postgresql_url: str) -> None:
    settings = small_settings(landed, database_url=postgresql_url)
    for job in (segments.train, segments.classify, segments.show):
        with pytest.raises(DatabaseError, match="`ltr database init` makes them"):
            job(settings)


def test_a_right_that_is_missing_is_said_and_empties_nothing(
    landed: Path, models: list[SegmentModel], postgresql_url: str
) -> None:
    owner = small_settings(landed, database_url=postgresql_url)
    segments.init(owner)
    name = f"clerk_{uuid4().hex[:12]}"
    with Database(owner.database) as database, database.begin() as connection:
        for model in models:
            store.add_model(database, connection, model, None, use=True)
        for statement in (
            f"CREATE ROLE {name} LOGIN PASSWORD 'pass'",
            f"GRANT USAGE ON SCHEMA config, analytics TO {name}",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA config, analytics, public TO {name}",
        ):
            connection.execute(text(statement))
    whole = segments.classify(owner, now=NOW).rows
    address = owner.database
    clerk = small_settings(landed, database_url=f"postgresql://{name}:pass@127.0.0.1:{address.port}/{address.name}")
    with pytest.raises(DatabaseError, match="permission denied for table cubo_engajamento") as failure:
        segments.classify(clerk, now=NOW)
    assert name in str(failure.value)
    assert segments.show(clerk, now=NOW).levels  # who may only read can read
    assert _count(owner) == whole


def test_sqlite_makes_its_tables_by_itself(landed: Path, tmp_path: Path) -> None:
    settings = small_settings(landed, database_url=f"sqlite:///{tmp_path / 'new' / 'ltr.db'}")
    assert segments.show(settings).levels == []
    with pytest.raises(SegmentError, match="level user has no model in use"):
        segments.classify(settings, now=NOW)


def test_a_landed_file_that_was_altered_leaves_the_cube(tmp_path: Path, database_url: str) -> None:
    simulate(tmp_path)
    settings = small_settings(tmp_path, database_url=database_url)
    up_to("extract_events", settings)
    segments.init(settings)
    segments.train(settings, now=NOW)
    rows = segments.classify(settings, now=NOW).rows
    next((tmp_path / "data" / "events").rglob("impressions-*.parquet")).write_bytes(b"")
    with pytest.raises(LtrError, match=r"was altered since it landed|cannot be read"):
        segments.classify(settings, now=NOW)
    assert _count(settings) == rows


def test_init_is_idempotent_and_shows_its_statements(settings: Settings) -> None:
    planned = segments.init(settings, dry_run=True)
    assert any("segment_levels" in statement for statement in planned)
    assert segments.init(settings)
    assert segments.init(settings) == segments.init(settings, dry_run=True) == []


def test_show_tells_the_cube_and_what_is_typical(trained: Settings) -> None:
    shown = segments.show(trained, now=NOW)
    assert [(level.level, level.version, level.rows) for level in shown.levels] == [("user", 1, []), ("item", 1, [])]
    done = segments.classify(trained, now=NOW)
    shown = segments.show(trained, now=NOW)
    (users, _) = shown.levels
    assert sum(row.entities for level in shown.levels for row in level.rows) == done.rows
    assert {row.label: row.entities for row in users.rows} == done.levels[0].segments
    interactions = [typical["interactions"] for typical in users.typical]
    assert interactions == sorted(interactions, reverse=True)
    assert (users.rows[0].period, users.rows[0].granularity, users.rows[0].classified_at) == (WEEK, "week", NOW)


def by_day(settings: Settings, sql: Sql) -> None:
    """Classify users by day."""
    sql("UPDATE config.segment_parameters SET granularity = 'day', periods = 12")
    sql(
        """UPDATE config.segment_levels SET active = (level = 'user'), k = 3, features = '["lists", "interactions"]',
        weights = '{"lists": 1}'"""
    )
    segments.train(settings, now=NOW)
    segments.classify(settings, now=NOW)


def test_users_are_known_by_the_newest_period_before_the_test_days(settings: Settings, sql: Sql) -> None:
    by_day(settings, sql)
    (one,) = sql("SELECT min(entity) FROM analytics.cubo_engajamento WHERE period = '2025-07-08'")
    users = pl.Series([one[0], "stranger", None])
    found = segments.user_segments(settings, dt.date(2025, 7, 9), users)
    assert found is not None
    assert found.period == dt.date(2025, 7, 8)
    assert list(found.of_user) == [one[0]]
    assert found.labels == list(found.of_user.values())
    assert segments.user_segments(settings, dt.date(2025, 7, 3), users) is None  # no day was over


def test_a_night_is_sliced_by_segments_and_repeats_itself(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, database_url=f"sqlite:///{tmp_path / 'ltr.db'}")
    simulate(tmp_path)
    up_to("extract_events", settings)
    sql = edited(settings)
    by_day(settings, sql)
    up_to("evaluate_ranker", settings)
    run = Run(RUN, settings)
    evidence: Evidence = run.read(EVIDENCE)
    sliced = [part for part in evidence.slices if part.dimension == "user_segment"]
    assert {part.value for part in sliced} <= {*WORDING["pt"], "unknown"}
    assert sum(part.impressions for part in sliced) == run.read(DATASET).test.rows
    frozen = run.read(SEGMENTS)
    assert frozen.segments
    sql("DELETE FROM analytics.cubo_engajamento")
    up_to("evaluate_ranker", settings)
    assert run.read(SEGMENTS) == frozen
    again = [part for part in run.read(EVIDENCE).slices if part.dimension == "user_segment"]
    assert again == sliced


@pytest.mark.parametrize("away", [False, True], ids=["not classified", "away"])
def test_a_night_without_segments_has_none_when_it_is_retried(tmp_path: Path, away: bool) -> None:
    settings = small_settings(tmp_path, database_url=f"sqlite:///{tmp_path / 'ltr.db'}")
    simulate(tmp_path)
    first_tried = small_settings(tmp_path, database_url="postgresql://ltr:pass@127.0.0.1:1/away") if away else settings
    up_to("evaluate_ranker", first_tried)
    run = Run(RUN, settings)
    slices = run.read(EVIDENCE).slices
    assert "user_segment" not in {part.dimension for part in slices}

    by_day(settings, edited(settings))
    assert segments.user_segments(settings, run.read(DATASET).test.start.date(), pl.Series(["u"]))
    up_to("evaluate_ranker", settings)
    assert run.read(EVIDENCE).slices == slices


def test_a_night_does_without_a_database_and_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ltr_pipeline.jobs.segments", None)  # what would import it
    settings = small_settings(tmp_path, database_url=f"sqlite:///{tmp_path / 'none' / 'ltr.db'}")
    simulate(tmp_path)
    up_to("evaluate_ranker", settings)
    run = Run(RUN, settings)
    assert run.read(EVIDENCE).slices
    assert run.read(SEGMENTS).segments is None
    assert not (tmp_path / "none").exists()


def test_a_database_without_segments_gives_a_night_none(settings: Settings) -> None:
    users = pl.Series(["u"])
    assert segments.user_segments(settings, NIGHT, users) is None  # without tables
    segments.init(settings)
    assert segments.user_segments(settings, NIGHT, users) is None


def test_a_database_that_is_away_does_not_fail_a_night(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, database_url="postgresql://ltr:pass@127.0.0.1:1/nowhere")
    simulate(tmp_path)
    up_to("evaluate_ranker", settings)
    assert {part.dimension for part in Run(RUN, settings).read(EVIDENCE).slices} >= {"day", "day_part"}
