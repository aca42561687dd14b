"""Our tables: made, upgraded from the first release on, and never half."""

from __future__ import annotations

import re
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, inspect

from ltr_pipeline.database.address import Address
from ltr_pipeline.database.engine import Database
from ltr_pipeline.database.tables import Step, Tables, pending, ready, upgrade
from ltr_pipeline.errors import DatabaseError
from ltr_pipeline.jobs.database import TABLES
from support.databases import opened, run
from support.killing import finish, fork

FIRST_RELEASE = Path(__file__).parent / "first_release"


def shape(database: Database) -> dict[str, object]:
    """Return columns, keys and indexes of every table, and the columns of every view."""
    with database.begin(write=False) as connection:
        look = inspect(connection)
        schemas = [one for one in look.get_schema_names() if one != "information_schema"]
        found: dict[str, object] = {}
        for schema in schemas:
            for name in [*look.get_table_names(schema), *look.get_view_names(schema)]:
                columns = {one["name"]: (str(one["type"]), one["nullable"]) for one in look.get_columns(name, schema)}
                key = look.get_pk_constraint(name, schema)["constrained_columns"]
                indexes = sorted(str((one["name"], one["column_names"])) for one in look.get_indexes(name, schema))
                found[f"{schema}.{name}"] = (columns, key, indexes)
        return found


def make_first_release(database: Database) -> None:
    """Make the tables as the first release did."""
    with database.begin() as connection:
        for statement in (FIRST_RELEASE / f"{database.address.kind}.sql").read_text().split(";\n\n"):
            connection.exec_driver_sql(statement)


def declared(*, older: bool = False) -> Tables:
    """Return tables of a room that has had a release since its first."""
    metadata = MetaData()
    kept = Table("kept", metadata, Column("id", Integer, primary_key=True), schema="config")
    if older:
        return Tables(name="room", metadata=metadata, views={"shown": "SELECT 1 AS one"})
    kept.append_column(Column("note", String))
    Table("later", metadata, Column("id", Integer, primary_key=True))

    def second(database: Database) -> list[str]:
        return [f"ALTER TABLE {name(database)} ADD COLUMN note VARCHAR", "CREATE TABLE later (id INTEGER PRIMARY KEY)"]

    return Tables(
        name="room",
        metadata=metadata,
        views={"shown": "SELECT 2 AS two"},
        rows=lambda database: [insert(database.table(kept)).values(id=1, note="10 % of it's")],
        steps=[Step(2, second)],
    )


def name(database: Database) -> str:
    return "config.kept" if database.is_postgresql else "config_kept"


def test_tables_are_made_once(database_url: str) -> None:
    with opened(database_url, tables=False) as database:
        due = pending(database, TABLES)
        assert "CREATE VIEW recommendations_current AS" in "\n".join(due)
        assert pending(database, TABLES) != []
        made = upgrade(database, TABLES)
        assert [re.sub(r"'20\d\d-.*?'", "", one) for one in made] == [re.sub(r"'20\d\d-.*?'", "", one) for one in due]
        assert (pending(database, TABLES), upgrade(database, TABLES)) == ([], [])
        ready(database, TABLES)


def test_statements_of_a_dry_run_make_the_same_tables(database_url: str, tmp_path: Path) -> None:
    with opened(database_url, tables=False) as database:
        with database.begin() as connection:
            for statement in pending(database, TABLES):
                connection.exec_driver_sql(statement)
        assert upgrade(database, TABLES) == []
        printed = shape(database)
        if not database.is_postgresql:
            with opened(f"sqlite:///{tmp_path / 'other.db'}", tables=False) as other:
                upgrade(other, TABLES)
                assert shape(other) == printed


def test_tables_of_the_first_release_become_those_of_now(database_url: str, tmp_path: Path) -> None:
    kind = Address.parse(database_url).kind
    with opened(database_url, tables=False) as database:
        make_first_release(database)
        run(database, "INSERT INTO score_rejects VALUES ('job', '7', 'because', 1, '2025-07-15 00:00:00')")
        upgrade(database, TABLES)
        assert run(database, "SELECT reason FROM score_rejects") == [("because",)]
        upgraded = shape(database)
        if kind == "postgresql":
            run(database, "DROP VIEW recommendations_current")
            for table in ("score_runs", "score_batches", "score_rejects", "score_references", "recommendations_v1"):
                run(database, f"DROP TABLE {table}")
            run(database, "DELETE FROM ltr_tables WHERE name = 'batch'")
            upgrade(database, TABLES)
            assert shape(database) == upgraded
        else:
            with opened(f"sqlite:///{tmp_path / 'fresh.db'}", tables=False) as fresh:
                upgrade(fresh, TABLES)
                assert shape(fresh) == upgraded


def recommend(database: Database, run_id: int, query: str, item: str, status: str = "proposed") -> None:
    """As the first release recommended."""
    run(
        database,
        "INSERT INTO recommendations_v1 (run_id, job, query_id, item_id, rank, score, reasons, model_version, status, "
        "recommended_at) VALUES (:run, 'best', :query, :item, 1, 50, '', 'v', :status, '2025-07-15 00:00:00')",
        run=run_id,
        query=query,
        item=item,
        status=status,
    )


def test_what_the_first_release_recommended_stays_in_the_view(database_url: str) -> None:
    with opened(database_url, tables=False) as database:
        make_first_release(database)
        recommend(database, 1, "1", "old")
        recommend(database, 2, "1", "new")
        recommend(database, 1, "2", "only")
        recommend(database, 2, "3", "by hand", "rejected")
        shown = "SELECT query_id, item_id FROM recommendations_current WHERE status = 'proposed' ORDER BY query_id"
        before = run(database, shown)
        upgrade(database, TABLES)
        assert run(database, shown.replace("proposed", "approved")) == before == [("1", "new"), ("2", "only")]
        rows = run(
            database, "SELECT item_id, status, answered_by, answer_reason FROM recommendations_v1 ORDER BY item_id"
        )
        assert [tuple(row) for row in rows] == [
            ("by hand", "rejected", None, None),
            ("new", "approved", "ltr-pipeline", "shown before people approved recommendations"),
            ("old", "superseded", "ltr-pipeline", "a newer run had proposed anew"),
            ("only", "approved", "ltr-pipeline", "shown before people approved recommendations"),
        ]


def test_who_may_read_the_view_still_may_after_an_upgrade(postgresql_url: str) -> None:
    with opened(postgresql_url, tables=False) as database:
        make_first_release(database)
        reader = f"bi_{uuid4().hex[:12]}"
        run(database, f"CREATE ROLE {reader}")
        run(database, f"GRANT SELECT ON recommendations_current TO {reader}")
        run(database, "CREATE VIEW of_bi AS SELECT item_id, score FROM recommendations_current")
        try:
            upgrade(database, TABLES)
            right = f"SELECT has_table_privilege('{reader}', 'recommendations_current', 'SELECT')"
            assert run(database, right) == [(True,)]
            assert run(database, "SELECT * FROM of_bi") == []
        finally:
            run(database, f"DROP OWNED BY {reader}")
            run(database, f"DROP ROLE {reader}")


def test_steps_lead_from_any_version_to_the_same_tables_as_none(database_url: str, tmp_path: Path) -> None:
    with opened(database_url, tables=False) as database:
        upgrade(database, [declared(older=True)])
        run(database, f"INSERT INTO {name(database)} VALUES (1)")
        due = pending(database, [declared()])
        assert [one.split()[0] for one in due] == ["DROP", "ALTER", "CREATE", "CREATE", "UPDATE"]
        upgrade(database, [declared()])
        assert run(database, f"SELECT * FROM {name(database)}") == [(1, None)]
        assert run(database, "SELECT two FROM shown") == [(2,)]
        assert run(database, "SELECT name, version FROM ltr_tables") == [("room", 2)]
        with pytest.raises(DatabaseError, match=r"the tables of room are at version 2, this release .* knows 1"):
            ready_or_upgrade(database)


def ready_or_upgrade(database: Database) -> None:
    upgrade(database, [declared(older=True)])


def test_first_rows_come_with_fresh_tables(database_url: str) -> None:
    with opened(database_url, tables=False) as database:
        assert any("10 % of it''s" in one for one in pending(database, [declared()]))
        upgrade(database, [declared()])
        assert run(database, f"SELECT * FROM {name(database)}") == [(1, "10 % of it's")]


def test_sqlite_makes_them_by_itself_and_postgresql_says_how(database_url: str) -> None:
    with opened(database_url, tables=False) as database:
        if database.is_postgresql:
            with pytest.raises(
                DatabaseError,
                match=r"lacks tables of this release \(batch, segments, monitoring\): `ltr database init`",
            ):
                ready(database, TABLES)
            assert pending(database, TABLES) != []
        else:
            ready(database, TABLES)
            assert pending(database, TABLES) == []


def test_two_who_make_them_at_once_make_them_once(database_url: str) -> None:
    def make() -> None:
        with Database(Address.parse(database_url)) as database:
            upgrade(database, TABLES)

    assert [finish(one) for one in [fork(make) for _ in range(3)]] == [0, 0, 0]
    with opened(database_url, tables=False) as database:
        assert run(database, "SELECT count(*) FROM ltr_tables WHERE name = 'batch'") == [(1,)]


def test_what_fails_in_the_middle_leaves_nothing(database_url: str) -> None:
    broken = Tables(name="broken", metadata=declared().metadata, views={"shown": "SELECT nothing FROM nowhere"})
    if Address.parse(database_url).kind == "sqlite":  # which looks at a view only when it is read
        broken = Tables(name="broken", metadata=declared().metadata, views={"shown": "SELEKT"})
    with opened(database_url, tables=False) as database:
        with pytest.raises(DatabaseError):
            upgrade(database, [broken])
        assert pending(database, [broken])[0].startswith("CREATE TABLE ltr_tables")
