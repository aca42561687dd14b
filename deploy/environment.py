"""Prints ``config_env.example``: every variable with its default and a line of why.

``python -m deploy.environment > config_env.example`` after a setting has changed.
"""

from __future__ import annotations

import json
import sys

from ltr_pipeline.serving.settings import ServingSettings
from ltr_pipeline.settings import Settings, variable

__all__ = ["STACK", "example"]

STACK = {
    "POSTGRES_PASSWORD": ("", "Password of Airflow's database; letters and digits only, because it goes into a URL."),
    "POSTGRES_LTR_PASSWORD": ("", "Password of the user `ltr`, whose database is for scores; letters and digits, too."),
    "MINIO_ROOT_PASSWORD": ("", "Password of MinIO's owner, who makes the logins."),
    "MINIO_SERVING_PASSWORD": ("", "Password of the service's login at MinIO, ltr-serving."),
    "AIRFLOW__CORE__FERNET_KEY": ("", "Encrypts Airflow's Connections and Variables; losing it loses them."),
    "AIRFLOW__API__SECRET_KEY": ("", "Signs sessions of Airflow's pages."),
    "AIRFLOW__API_AUTH__JWT_SECRET": ("", "Signs the tokens of Airflow's users and tasks; 64 characters or more."),
    "MINIO_ROOT_USER": ("minio-root", "Name of MinIO's owner; another than AWS_ACCESS_KEY_ID."),
    "SERVING_SIGNING_KEY": ("", "Key of its own by which the service signs its rollbacks, where the night signs, too."),
    "COMPOSE_PROFILES": ("", "celery = tasks run on workers; set the executor, too."),
    "AIRFLOW__CORE__EXECUTOR": ("LocalExecutor", "LocalExecutor, or CeleryExecutor with that profile."),
    "AIRFLOW__CORE__PARALLELISM": ("4", "Tasks that may run at once."),
    "AIRFLOW_UID": ("50000", "User that Airflow's containers run as, in group 0."),
    "AIRFLOW_PORT": ("8080", "Port of Airflow on 127.0.0.1."),
    "KAFKA_PORT": ("9092", "Port of Kafka on 127.0.0.1."),
    "MINIO_PORT": ("9000", "Port of MinIO on 127.0.0.1."),
    "MINIO_CONSOLE_PORT": ("9001", "Port of its console on 127.0.0.1."),
}
"""Variables that only docker-compose.yaml reads: name → default, why."""


def example(kind: type[Settings] = ServingSettings) -> str:
    """Return the text of ``config_env.example``: each variable of `kind` with its default and a line of why."""
    lines = ["# Every environment variable with its default. Copy the lines you change to .env.", ""]
    for field in kind.model_fields.values():
        lines += [f"# {field.description}", f"{variable(field)}={_rendered(field.default)}", ""]
    lines += ["# Only for docker-compose.yaml; `make secrets` generates the first seven (docs/stack.md).", ""]
    for name, (default, why) in STACK.items():
        lines += [f"# {why}", f"{name}={default}", ""]
    return "\n".join(lines).rstrip() + "\n"


def _rendered(default: object) -> str:
    match default:
        case None:
            return ""
        case bool():
            return str(default).lower()
        case dict():
            return json.dumps(default) if default else ""
        case tuple():
            return " ".join(default)
        case _:
            return str(default)


if __name__ == "__main__":
    sys.stdout.write(example())
