"""Shared by all tests: an Airflow of their own, set up before anything imports Airflow."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import hypothesis
import pytest

from deploy.native.kafka import VERSION, KafkaServer, lacking
from deploy.native.minio import BUCKET, MINIO, S3Server
from deploy.native.postgres import PostgresServer
from deploy.native.server import NoServerError
from ltr_pipeline.settings import ELSEWHERE, Channels, Settings
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.storage.options import S3Options
from ltr_pipeline.storage.uri import open_storage
from support import servers
from support.pooler import Pooler
from support.pooler import version as pooler_version
from support.programs import CHECKOUT

if TYPE_CHECKING:
    from airflow.sdk import DAG

    from ltr_pipeline.database.engine import Database

HOME = tempfile.mkdtemp(prefix="ltr-tests-airflow-")
os.environ.update(
    AIRFLOW_HOME=HOME,
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__DAGS_FOLDER=str(Path("dags").resolve()),
    AIRFLOW__CORE__UNIT_TEST_MODE="False",
    OMP_WAIT_POLICY="PASSIVE",
)
for name in [name for name in os.environ if name.startswith(("LTR_", "AIRFLOW_VAR_LTR_")) and name not in ELSEWHERE]:
    del os.environ[name]

LONG_ROOMS = ("whole", "native", "versions", "jobs", "events", "serving", "dags", "cli")

PATIENT = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
"""How long an example takes is the machine's business."""
hypothesis.settings.register_profile("short", max_examples=30, **PATIENT)
hypothesis.settings.register_profile("long", max_examples=300, **PATIENT)  # `make test-long`
hypothesis.settings.load_profile(os.environ.get("LTR_EXAMPLES", "short"))

for part in (Channels, Settings):
    part.model_config["env_file"] = None  # not what the checkout's user has set


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server with an empty bucket; a test that stops it starts it again."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    try:
        server.start()
    except NoServerError as error:
        servers.missing("S3", str(error))
    try:
        server.make_bucket()
        servers.used("S3", f"MinIO {MINIO}")
        yield server
    finally:
        server.stop()


@pytest.fixture
def s3_options(s3_server: S3Server) -> S3Options:
    """Return how to reach that server."""
    return S3Options(
        endpoint=s3_server.endpoint,
        access_key_id=s3_server.access_key_id,
        secret_access_key=s3_server.secret_access_key,
    )


@pytest.fixture
def s3_storage(s3_options: S3Options) -> Storage:
    """An empty place on the real server."""
    return open_storage(f"s3://{BUCKET}/{uuid4().hex}", s3_options)


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """An empty storage of every backend; the tests that take it hold for all of them."""
    if request.param == "local":
        return LocalStorage(tmp_path / "root")
    found: Storage = request.getfixturevalue("s3_storage")
    return found


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A real broker; whoever stops it starts it again."""
    if programs := lacking():
        servers.missing("Apache Kafka", f"install {', '.join(programs)}")
    server = KafkaServer(tmp_path_factory.mktemp("kafka"))
    try:
        server.start()
        servers.used("Apache Kafka", f"{VERSION}, one broker in KRaft mode")
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL; a test that stops it starts it again."""
    # pytest's own folders are closed to others, and where tests run as root PostgreSQL does not
    folder = Path(tempfile.mkdtemp(prefix="ltr-tests-postgres-"))
    server = PostgresServer(folder)
    try:
        server.start()
        _do_without_fsync(server)
        servers.used("PostgreSQL", server.version())
        yield server
    except NoServerError as error:
        servers.missing("PostgreSQL", str(error))
    finally:
        server.stop()
        shutil.rmtree(folder)


def _do_without_fsync(server: PostgresServer) -> None:
    """Let PostgreSQL not wait for the disk, for minutes in all: only the machine's own end could lose anything then."""
    with contextlib.closing(server.connect()) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("ALTER SYSTEM SET fsync = off")
        cursor.execute("SELECT pg_reload_conf()")


@pytest.fixture(scope="session")
def pooler(postgres: PostgresServer) -> Iterator[Pooler]:
    """A real PgBouncer before that PostgreSQL."""
    folder = Path(tempfile.mkdtemp(prefix="ltr-tests-pgbouncer-"))  # as PostgreSQL's
    try:
        server = Pooler(folder, postgres)
        server.start()
    except NoServerError as error:
        servers.missing("PgBouncer", str(error))
    try:
        servers.used("PgBouncer", f"{pooler_version()}, in transaction mode")
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture
def postgresql_url(postgres: PostgresServer) -> str:
    """Address of an empty database of PostgreSQL."""
    from support.databases import on_postgresql

    return on_postgresql(postgres)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of an empty database of each kind; the tests that take it hold for both."""
    from support.databases import on_postgresql, on_sqlite

    return on_sqlite(tmp_path) if request.param == "sqlite" else on_postgresql(request.getfixturevalue("postgres"))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """That database, with our tables."""
    from support.databases import opened

    with opened(database_url) as found:
        yield found


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """Airflow's tables."""
    from airflow.utils.db import initdb

    initdb()
    servers.used("Airflow, dag.test()", version("apache-airflow"))


@pytest.fixture
def dag(airflow_database: None) -> DAG:
    """The nightly DAG, to be run in this process; it waits for nothing before it tries a task again."""
    from airflow.dag_processing.dagbag import DagBag

    dag = DagBag("dags").dags["train_ltr_daily"]
    dag.deadline = None  # https://github.com/apache/airflow/issues/73428
    for task in dag.tasks:
        task.retry_delay = dt.timedelta()
        task.retry_exponential_backoff = 0
    return dag


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes minutes: begun last, one worker would end long after the others."""
    rooms = {CHECKOUT / "tests" / room: place for place, room in enumerate(LONG_ROOMS)}
    items.sort(key=lambda item: min(rooms.get(folder, len(rooms)) for folder in item.path.parents))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell who started this worker which servers it used."""
    if (told := getattr(session.config, "workeroutput", None)) is not None:
        told["servers"] = servers.STATES


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker told."""
    servers.also(getattr(node, "workeroutput", {}).get("servers", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end which real servers were used."""
    if servers.STATES:
        terminalreporter.section("real servers")
        for name, state in sorted(servers.STATES.items()):
            terminalreporter.write_line(f"{name}: {state}")
