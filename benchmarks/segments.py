"""How many users a second are classified into segments, and how long training takes.

    python benchmarks/segments.py [--users 20000 200000 1000000] [--postgresql] [--repeats 5]

Users with simulated counts of engagement. *Assigned*: from counts to the nearest centroid, in memory, on one thread.
*Written*: the same, then the cube of the database emptied and filled in one transaction, with labels and features as
JSON; in SQLite, and with ``--postgresql`` in a real PostgreSQL on this machine. Reading landed events is not in it.
Training is K-Means with ten starts, scikit-learn's import not counted. Prints medians.

Then how far a new model of 20,000 users agrees with the former one (adjusted Rand index), and the share of the new rows
that keep their label: with another seed, other users, more traffic.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl

from ltr_pipeline.database.address import Address
from ltr_pipeline.database.engine import Database
from ltr_pipeline.database.tables import upgrade
from ltr_pipeline.jobs.segments import labelled
from ltr_pipeline.segments import store
from ltr_pipeline.segments.comparison import compare
from ltr_pipeline.segments.engagement import ENTITY, FEATURES, PERIOD
from ltr_pipeline.segments.parameters import WORDING, Parameters, default_levels
from ltr_pipeline.segments.periods import whole_periods
from ltr_pipeline.segments.store import Stored
from ltr_pipeline.segments.tables import TABLES
from ltr_pipeline.segments.training import train

NOW = dt.datetime(2025, 7, 21, 6, 15, tzinfo=dt.UTC)
PERIODS = whole_periods("week", 1, NOW.date())
LEVEL = default_levels()[0]
PARAMETERS = Parameters(levels=(LEVEL,), wording=WORDING)


def engagement(users: int, draw: int = 0, traffic: float = 1.0) -> pl.DataFrame:
    """Counts of users whose activity is spread as it is in logs: many with little, few with much."""
    rng = np.random.default_rng([users, draw])
    rates = traffic * rng.lognormal(1.0, 1.5, users)
    columns = {name: rng.poisson(rates * factor) for name, factor in zip(FEATURES, (1, 1, 8, 2, 4), strict=True)}
    columns["days"] = np.minimum(columns["days"], 7)
    names = pl.Series(ENTITY, np.arange(users)).cast(pl.String)
    return pl.DataFrame(columns).with_columns(names, pl.lit(PERIODS[0].start).alias(PERIOD))


def seconds(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


@contextlib.contextmanager
def databases(postgresql: bool) -> Iterator[dict[str, Database]]:
    folder = Path(tempfile.mkdtemp(prefix="ltr-benchmark-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        urls = {"SQLite": f"sqlite:///{folder / 'ltr.db'}"}
        if postgresql:
            from deploy.native.postgres import PostgresServer

            server = PostgresServer(folder / "postgresql")
            folder.chmod(0o755)  # its own user enters it
            server.start()
            stack.callback(server.stop)
            urls["PostgreSQL"] = server.url
        opened = {name: stack.enter_context(Database(Address.parse(url))) for name, url in urls.items()}
        for database in opened.values():
            upgrade(database, [TABLES])
        yield opened


def written(database: Database, stored: Stored, counted: pl.DataFrame) -> None:
    cube = counted.with_columns(pl.Series("centroid_id", stored.model.assign(counted)))
    with database.begin() as connection:
        store.replace_cube(database, connection, [labelled(stored, cube, dict(enumerate(WORDING["pt"])))], NOW)


def measured(users: int, opened: dict[str, Database], repeats: int) -> list[str]:
    counted = engagement(users)
    began = time.perf_counter()
    model = train(counted, LEVEL, PARAMETERS, PERIODS, seed=1, now=NOW)
    trained = time.perf_counter() - began
    stored = Stored(version=1, model=model)
    took = [seconds(lambda: model.assign(counted), repeats)]
    took += [
        seconds(lambda database=database: written(database, stored, counted), max(repeats // 2, 1))
        for database in opened.values()
    ]
    return [*(f"{users / one:>16,.0f}" for one in took), f"   trained in {trained:.1f} s"]


def stability(users: int = 20_000) -> None:
    former = train(engagement(users), LEVEL, PARAMETERS, PERIODS, seed=1, now=NOW)
    cases = {
        "another seed": (engagement(users), 2),
        "other users": (engagement(users, draw=1), 1),
        "traffic x 1.3": (engagement(users, draw=1, traffic=1.3), 1),
        "traffic x 3": (engagement(users, draw=1, traffic=3.0), 1),
    }
    print(f"\n{'':>14} {'ARI':>6} {'label kept':>11}")
    for name, (counted, seed) in cases.items():
        new = train(counted, LEVEL, PARAMETERS, PERIODS, seed=seed, now=NOW)
        found = compare(counted, new, former, 1)
        print(f"{name:>14} {found.ari:>6.3f} {found.kept_label:>11.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", default=[20_000, 200_000, 1_000_000])
    parser.add_argument("--postgresql", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    train(engagement(1000), LEVEL, PARAMETERS, PERIODS, seed=1, now=NOW)  # imports
    with databases(arguments.postgresql) as opened:
        print("users/s     ", *(f"{name:>16}" for name in ("assigned", *(f"written, {name}" for name in opened))))
        for users in arguments.users:
            print(f"{users:>12,}", *measured(users, opened, arguments.repeats))
    stability()


if __name__ == "__main__":
    main()
