"""Environment -> frozen settings.

Every variable, its default and a line of why stand once, in the fields of `Settings`; ``config_env.example`` is
rendered from them. Nothing below this floor reads the environment.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ltr_pipeline.errors import SettingsError
from ltr_pipeline.mapping import Mapping, load_mapping
from ltr_pipeline.storage import Storage, open_storage

__all__ = ["STACK", "Channels", "Settings", "example", "load_settings", "notify_urls"]

LogFormat = Literal["json", "text"]

STACK = {
    "POSTGRES_PASSWORD": ("", "Of Airflow's database; letters and digits, as it becomes a part of a URL."),
    "AIRFLOW__CORE__FERNET_KEY": ("", "Encrypts Airflow's Connections and Variables; losing it loses them."),
    "AIRFLOW__API__SECRET_KEY": ("", "Signs sessions of Airflow's pages."),
    "AIRFLOW__API_AUTH__JWT_SECRET": ("", "Signs the tokens of Airflow's users and tasks; 64 characters or more."),
    "COMPOSE_PROFILES": ("", "celery = tasks run on workers; set the executor, too."),
    "AIRFLOW__CORE__EXECUTOR": ("LocalExecutor", "LocalExecutor, or CeleryExecutor with that profile."),
    "AIRFLOW__CORE__PARALLELISM": ("4", "Tasks that may run at once."),
    "AIRFLOW_UID": ("50000", "User that Airflow's containers run as, in group 0."),
    "AIRFLOW_PORT": ("8080", "Port of Airflow on 127.0.0.1."),
    "KAFKA_PORT": ("9092", "Port of Kafka on 127.0.0.1."),
    "MINIO_PORT": ("9000", "Port of MinIO on 127.0.0.1."),
    "MINIO_CONSOLE_PORT": ("9001", "Port of its console on 127.0.0.1."),
}
"""What only docker-compose.yaml reads: name → default, why."""


def _env(name: str, default: Any, why: str, **limits: Any) -> Any:  # noqa: ANN401 - pydantic's own signature
    return Field(default, validation_alias=AliasChoices(name), description=why, **limits)


_CONFIG = SettingsConfigDict(
    frozen=True,
    extra="ignore",
    env_ignore_empty=True,
    case_sensitive=True,
    env_file=".env",
    hide_input_in_errors=True,  # it may hold secrets
)


class Channels(BaseSettings):
    """Whom to tell: apart, because that a setting is wrong has to be told, too."""

    model_config = _CONFIG

    notify_urls: Annotated[tuple[str, ...], NoDecode] = _env(
        "LTR_NOTIFY_URLS",
        (),
        "Apprise URLs, separated by spaces; they may hold secrets and are never logged.",
        repr=False,
    )

    @field_validator("notify_urls", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(value.split()) if isinstance(value, str) else value


class Settings(Channels):
    """Everything the environment decides, validated and frozen.

    Raises
    ------
    pydantic.ValidationError
        A variable has a wrong value; `load_settings` turns it into a SettingsError that names the variable.
    """

    events_path: str = _env(
        "LTR_EVENTS_PATH", "logs/audit.log", "Event log to learn from: a JSONL file, a folder or a glob (also .gz)."
    )
    mapping_path: Path | None = _env(
        "LTR_MAPPING", None, "TOML file that says which field means what; empty = lawyers for cases (docs/events.md)."
    )
    data_uri: str = _env("LTR_DATA_URI", "var/data", "Landing zone and run artefacts: a folder or file:// URI.")
    registry_uri: str = _env("LTR_REGISTRY_URI", "var/registry", "Folder or file:// URI that holds the registry.")
    registry_prefix: str = _env(
        "S3_PREFIX", "ltr", "Name of the model inside the registry.", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
    )
    buckets: int = _env(
        "LTR_BUCKETS", 16, "Hash buckets a day is landed in; more = less memory a bucket.", ge=1, le=1024
    )

    window_days: int = _env("LTR_WINDOW_DAYS", 28, "Rolling training window, in days.", ge=9, le=365)
    attribution_days: int = _env(
        "LTR_ATTRIBUTION_DAYS", 3, "Feedback counts this many days after the list was shown.", ge=0, le=60
    )
    test_days: int = _env("LTR_TEST_DAYS", 3, "Newest matured days, held out for the gate.", ge=1, le=60)
    valid_days: int = _env("LTR_VALID_DAYS", 2, "Days before them, for early stopping.", ge=1, le=60)
    debias: bool = _env("LTR_DEBIAS", True, "Estimate and remove position bias while training.")
    parameters: Annotated[dict[str, Any], NoDecode] = _env(
        "LTR_PARAMETERS", {}, "LightGBM parameters that replace defaults, as a JSON object."
    )
    seed: int = _env("LTR_SEED", 2025, "Seed of training and resampling.", ge=0, le=2**31 - 1)
    threads: int = _env("LTR_THREADS", 1, "LightGBM threads for training; ranking always uses one.", ge=1, le=256)

    log_folder: Path | None = _env(
        "LTR_LOG_FOLDER", None, "Folder of ltr_training.log; empty = logs go where Airflow or the terminal puts them."
    )
    log_format: LogFormat = _env("LTR_LOG_FORMAT", "json", "Format of that file: json or text.")

    @field_validator("parameters", mode="before")
    @classmethod
    def _json_object(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            parsed = json.loads(value)
        except ValueError as error:
            raise ValueError(f"not JSON: {error}") from error
        if not isinstance(parsed, dict):
            raise ValueError('not a JSON object such as {"learning_rate": 0.05}')  # noqa: TRY004 - pydantic wants it
        return parsed

    @model_validator(mode="after")
    def _leaves_training_days(self) -> Settings:
        held_out = self.attribution_days + self.test_days + self.valid_days
        if held_out >= self.window_days:
            raise ValueError(
                f"LTR_WINDOW_DAYS {self.window_days} leaves no day to train on: {self.attribution_days} attribution, "
                f"{self.test_days} test and {self.valid_days} validation days are held out"
            )
        return self

    @cached_property
    def mapping(self) -> Mapping:
        """The event mapping; MappingError when the file is wrong."""
        return load_mapping(self.mapping_path)

    @cached_property
    def data(self) -> Storage:
        """Storage of the landing zone and the run artefacts."""
        return open_storage(self.data_uri)

    @cached_property
    def registry_storage(self) -> Storage:
        """Storage whose root is the model's folder in the registry."""
        return open_storage(f"{self.registry_uri.rstrip('/')}/{self.registry_prefix}")


def load_settings(**overrides: object) -> Settings:
    """Settings from the environment, with `overrides` by field name.

    Raises
    ------
    SettingsError
        Naming each wrong variable, its value's problem and what is allowed.
    """
    try:
        settings = Settings()
        return settings.model_copy(update=overrides) if overrides else settings
    except ValidationError as error:
        problems = "; ".join(
            ": ".join([*map(str, problem["loc"]), problem["msg"]]) for problem in error.errors(include_input=False)
        )
        raise SettingsError(f"{problems}; see config_env.example for what is allowed") from None


def notify_urls() -> tuple[str, ...]:
    """Whom to tell, also when another setting is wrong."""
    return Channels().notify_urls


def example() -> str:
    """Text of ``config_env.example``: every variable with its default and a line of why."""
    lines = ["# Every environment variable with its default. Copy the lines you change to .env.", ""]
    for field in Settings.model_fields.values():
        lines += [f"# {field.description}", f"{variable(field)}={_rendered(field.default)}", ""]
    lines += ["# Only for docker-compose.yaml; `make secrets` makes the first four up (docs/stack.md).", ""]
    for name, (default, why) in STACK.items():
        lines += [f"# {why}", f"{name}={default}", ""]
    return "\n".join(lines).rstrip() + "\n"


def variable(field: FieldInfo) -> str:
    """Name of the environment variable that sets `field`."""
    assert isinstance(field.validation_alias, AliasChoices)  # noqa: S101 - _env sets it
    return str(field.validation_alias.choices[0])


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
