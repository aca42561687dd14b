"""From a running task's context to the plain values that `ltr_pipeline.jobs.nightly` takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import Connection, ExceptionRetryPolicy, RetryAction, RetryRule, Variable
from airflow.sdk.exceptions import AirflowNotFoundException

from ltr_pipeline.schedule import night_of
from ltr_pipeline.tuning import table
from ltr_pipeline.variables import VARIABLES

if TYPE_CHECKING:
    from ltr_pipeline.settings import Settings

__all__ = ["GATE_TABLE", "RETRY_POLICY", "gate_variables", "run_request", "run_settings", "scoring_occasion"]

RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule("ltr_pipeline.errors.StorageError", RetryAction.RETRY, reason="storage may come back"),
        RetryRule("ltr_pipeline.errors.SourceUnavailableError", RetryAction.RETRY, reason="brokers may come back"),
        RetryRule(
            "ltr_pipeline.errors.DatabaseUnavailableError", RetryAction.RETRY, reason="the database may come back"
        ),
        RetryRule("ltr_pipeline.errors.LtrError", RetryAction.FAIL, reason="the same input fails again"),
    ]
)
"""Retry what time can heal; fail at once where the same input would fail the same way."""


DATABASE_OPTIONS: Final = ("sslmode", "sslrootcert", "sslcert", "sslkey", "connect_timeout", "options")
"""Entries of the extra of a Connection to PostgreSQL that are passed on."""

BY_HAND: Final = ("manual", "backfill")
"""Kinds of runs that somebody asked for; the others come by the clock, by an Asset or from another DAG."""

GATE_TABLE: Final = table(VARIABLES)
"""The nights' Variables and their defaults in Markdown, for the documentation of a DAG."""


def gate_variables() -> dict[str, str]:
    """Return the Airflow Variables of the nights that are set, the gate's and when to train, read now."""
    values = {variable.name: Variable.get(variable.name, default=None) for variable in VARIABLES}
    return {name: str(value) for name, value in values.items() if value is not None}


def run_request(context: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request of a run: its moment, and the Params that a user set.

    A scheduled run is named after its logical date. A manual one has none and is named after the moment it was
    triggered, unless the Param ``date`` names a day: then it is that day's nightly run.
    """
    params = context["params"]
    if params.get("date"):
        moment = night_of(date.fromisoformat(params["date"]))
    else:
        moment = context.get("logical_date") or context["dag_run"].run_after
    return {
        "moment": moment.astimezone(UTC).isoformat(),
        "window_days": params.get("window_days"),
        "dry_run": bool(params.get("dry_run")),
        "retrain": bool(params.get("retrain")),
        "by_hand": _kind_of_run(context) in BY_HAND,
        "last_try": context["ti"].try_number > context["ti"].max_tries,
    }


def _kind_of_run(context: Mapping[str, Any]) -> str:
    """Return ``scheduled``, ``manual`` and the like; a task gets it as a member of an enumeration."""
    kind = context["dag_run"].run_type
    return str(getattr(kind, "value", kind))


def scoring_occasion(context: Mapping[str, Any]) -> str | None:
    """Return why rows are scored: ``daily`` by the clock, ``published`` by a night; None where a person asked.

    A version that no night has published, such as a refreshed one, is called by how it was made.
    """
    kind = _kind_of_run(context)
    if kind == "scheduled":
        return "daily"
    if kind != "asset_triggered":
        return None
    events = [event for events in context["triggering_asset_events"].values() for event in events]
    modes = {(event.extra or {}).get("mode", "daily") for event in events}
    return "published" if not modes or "daily" in modes else min(modes)


def run_settings() -> Settings:
    """Return the environment's settings; the Connections ``ltr_kafka``, ``ltr_s3``, ``ltr_database`` replace theirs."""
    from ltr_pipeline.settings import load_settings

    return load_settings(
        **_from_connection("ltr_kafka", _kafka),
        **_from_connection("ltr_s3", _s3),
        **_from_connection("ltr_database", _database),
    )


def _from_connection(name: str, read: Callable[[Connection, dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """Return the settings that a Connection gives; none when it is not there."""
    try:
        connection = Connection.get(name)
    except AirflowNotFoundException:
        return {}
    extra = {key.replace(".", "_"): value for key, value in connection.extra_dejson.items()}
    return {field: value for field, value in read(connection, extra).items() if value not in (None, "")}


def _kafka(connection: Connection, extra: dict[str, Any]) -> dict[str, Any]:
    """Read host and login, or from the extra what connections of the Kafka provider have there."""
    host = connection.host
    if host and connection.port and ":" not in host:
        host = f"{host}:{connection.port}"
    return {
        "kafka_servers": host or extra.get("bootstrap_servers"),
        "kafka_topic": connection.schema or extra.get("topic"),
        "kafka_group": extra.get("group_id"),
        "kafka_protocol": extra.get("security_protocol"),
        "kafka_mechanism": extra.get("sasl_mechanism"),
        "kafka_username": connection.login or extra.get("sasl_username"),
        "kafka_password": connection.password or extra.get("sasl_password"),
        "kafka_ca_file": extra.get("ssl_ca_location"),
        "kafka_cert_file": extra.get("ssl_certificate_location"),
        "kafka_key_file": extra.get("ssl_key_location"),
    }


def _s3(connection: Connection, extra: dict[str, Any]) -> dict[str, Any]:
    """Read the login, and from the extra what connections of the Amazon provider have there."""
    return {
        "s3_bucket": connection.schema or extra.get("bucket_name"),
        "s3_endpoint": extra.get("endpoint_url"),
        "s3_access_key_id": connection.login or extra.get("aws_access_key_id"),
        "s3_secret_access_key": connection.password or extra.get("aws_secret_access_key"),
        "s3_session_token": extra.get("aws_session_token"),
        "s3_region": extra.get("region_name"),
        "s3_ca_file": extra.get("verify") if isinstance(extra.get("verify"), str) else None,
    }


def _database(connection: Connection, extra: dict[str, Any]) -> dict[str, Any]:
    """Read the address that a Connection of type Postgres or SQLite has in its parts."""
    from ltr_pipeline.database.address import postgresql_url

    if connection.conn_type == "sqlite":
        return {"database_url": f"sqlite:///{connection.host or connection.schema}"}
    return {
        "database_url": postgresql_url(
            host=connection.host or "",
            port=connection.port,
            user=connection.login or "",
            password=connection.password or "",
            name=connection.schema or "",
            options={name: str(extra[name]) for name in DATABASE_OPTIONS if extra.get(name)},
        )
    }
