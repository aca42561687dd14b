"""A table of candidates of queries, and the job that ranks them."""

from __future__ import annotations

from sqlalchemy import text

from ltr_pipeline.batch.job import RankJob
from ltr_pipeline.database.engine import Database
from support.databases import run

RANK = RankJob(table="candidates", query="case_id", item="lawyer_id", features={"A": "a", "S": "s"}, first=2, reasons=1)


def candidates(database: Database, queries: int, per_query: int = 3) -> None:
    """Make the table; of each query the last item is the best."""
    run(database, "CREATE TABLE candidates (case_id integer, lawyer_id text, a double precision, s double precision)")
    rows = [{"q": q, "i": f"l{i}", "a": i / 10} for q in range(1, queries + 1) for i in range(per_query)]
    with database.begin() as connection:
        connection.execute(text("INSERT INTO candidates (case_id, lawyer_id, a) VALUES (:q, :i, :a)"), rows)
