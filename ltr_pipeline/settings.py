"""Environment -> frozen settings.

Every variable, its default and a line of why stand once, in the fields of `Settings`; ``config_env.example`` is
rendered from them. Nothing below this floor reads the environment.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AliasChoices, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource, NoDecode, SettingsConfigDict

from ltr_pipeline import folders
from ltr_pipeline.calendar import Calendar, load_calendar
from ltr_pipeline.database.address import Address
from ltr_pipeline.errors import SettingsError
from ltr_pipeline.folders import REAL, SIMULATED
from ltr_pipeline.kafka.connection import Client, KafkaConnection, Mechanism, Protocol
from ltr_pipeline.mapping import Mapping, load_mapping
from ltr_pipeline.names import did_you_mean
from ltr_pipeline.signing import Key, signing_keys
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.storage.options import S3Options
from ltr_pipeline.storage.uri import open_storage
from ltr_pipeline.versions.registry import Registry

__all__ = ["ELSEWHERE", "Channels", "Settings", "env", "load", "load_settings", "notify_urls", "unread", "variable"]

LogFormat = Literal["json", "text"]


def env(name: str, default: Any, why: str, **limits: Any) -> Any:  # noqa: ANN401 - pydantic's own signature
    """Return a field that the variable `name` sets; `why` and the default stand in ``config_env.example``."""
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
    """Notification settings, loaded separately so that a wrong setting elsewhere can still be reported."""

    model_config = _CONFIG

    notify_urls: Annotated[tuple[str, ...], NoDecode] = env(
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

    kafka_servers: str | None = env(
        "KAFKA_BOOTSTRAP_SERVERS",
        None,
        "Kafka brokers to read events from, host:port,host:port; empty = read files only.",
    )
    kafka_topic: str = env("KAFKA_TOPIC", "match_events", "Topic of the events.")
    kafka_group: str = env(
        "KAFKA_GROUP_ID", "ltr_etl_consumer", "Consumer group whose offsets show how far events have landed."
    )
    kafka_protocol: Protocol = env(
        "KAFKA_SECURITY_PROTOCOL", "PLAINTEXT", "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."
    )
    kafka_mechanism: Mechanism | None = env(
        "KAFKA_SASL_MECHANISM", None, "SASL mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."
    )
    kafka_username: str = env("KAFKA_SASL_USERNAME", "", "SASL user name.")
    kafka_password: str = env("KAFKA_SASL_PASSWORD", "", "SASL password; never logged.", repr=False)
    kafka_ca_file: Path | None = env(
        "KAFKA_SSL_CAFILE", None, "PEM file of the certificate authorities to trust with SSL; empty = the system's."
    )
    kafka_cert_file: Path | None = env("KAFKA_SSL_CERTFILE", None, "PEM file of the client's certificate for SSL.")
    kafka_key_file: Path | None = env("KAFKA_SSL_KEYFILE", None, "PEM file of the key of that certificate.")
    kafka_timeout_seconds: float = env(
        "LTR_KAFKA_TIMEOUT_SECONDS", 30.0, "Seconds after which silent brokers count as unreachable.", ge=0.1, le=3600
    )
    kafka_client: Client = env(
        "LTR_KAFKA_CLIENT",
        "auto",
        "Kafka client: kafka-python, confluent-kafka, or auto (confluent-kafka where it is installed).",
    )
    fallback_on: Literal["unreachable", "any", "never"] = env(
        "LTR_FALLBACK_ON", "unreachable", "When to read files instead of Kafka: unreachable, any (any error) or never."
    )
    events_path: str = env(
        "LTR_EVENTS_PATH", REAL.events, "Event log without Kafka: a JSONL file, a folder or a glob (also .gz)."
    )
    mapping_path: Path | None = env(
        "LTR_MAPPING", None, "TOML file that says which field means what; empty = lawyers for cases (docs/events.md)."
    )
    calendar_path: Path | None = env(
        "LTR_CALENDAR",
        None,
        "TOML file of declared events, such as Black Friday; empty = none (docs/monitoring.md).",
    )
    data_uri: str = env(
        "LTR_DATA_URI", REAL.data, "Landing zone and run artefacts: a folder, or s3://bucket/prefix for many workers."
    )
    registry_uri: str = env("LTR_REGISTRY_URI", REAL.registry, "Folder of the registry where S3_BUCKET is empty.")
    database_url: str = env(
        "LTR_DATABASE_URL",
        "sqlite:///var/ltr.db",
        "Database of scores and segments, postgresql://user:password@host:5432/name or sqlite:///file; never logged.",
        repr=False,
    )
    scoring_path: Path | None = env(
        "LTR_SCORING",
        None,
        "TOML file with scoring jobs; empty = column lead_score of the table users (docs/database.md).",
    )
    score_batch: int = env(
        "LTR_SCORE_BATCH", 100, "Rows of a database that are scored by one transaction.", ge=1, le=100_000
    )
    s3_bucket: str | None = env(
        "S3_BUCKET", None, "Bucket of the registry, such as litgo-models; empty = LTR_REGISTRY_URI."
    )
    registry_prefix: str = env(
        "S3_PREFIX",
        "ltr",
        "Name of the model inside the registry.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$",
    )
    s3_endpoint: str | None = env("S3_ENDPOINT", None, "http(s)://host:port of MinIO or the like; empty = AWS.")
    s3_access_key_id: str | None = env(
        "AWS_ACCESS_KEY_ID", None, "S3 access key; empty = boto3's own chain (profile, role of the machine)."
    )
    s3_secret_access_key: str | None = env(
        "AWS_SECRET_ACCESS_KEY", None, "Secret of that access key; never logged.", repr=False
    )
    s3_session_token: str | None = env(
        "AWS_SESSION_TOKEN", None, "Session token of that access key, if it has one; never logged.", repr=False
    )
    s3_region: str = env("AWS_REGION", "us-east-1", "Region of the bucket.")
    s3_ca_file: Path | None = env(
        "LTR_S3_CA_FILE", None, "PEM file of the certificate authorities to trust for S3; empty = the system's."
    )
    s3_path_style: bool | None = env(
        "LTR_S3_PATH_STYLE",
        None,
        "true puts the bucket in the path instead of the host name; empty = true where S3_ENDPOINT is set.",
    )
    s3_timeout_seconds: float = env(
        "LTR_S3_TIMEOUT_SECONDS", 20.0, "Seconds after which a silent S3 server counts as unreachable.", ge=0.1, le=3600
    )
    s3_unconditional: Literal["refuse", "allow"] = env(
        "LTR_S3_UNCONDITIONAL",
        "refuse",
        "For an S3 server without conditional writes: refuse to use it, or allow it for one writer at a time.",
    )
    signing_key: str = env(
        "LTR_SIGNING_KEY",
        "",
        "Keys that sign documents, ledger and landed manifests, separated by spaces: the first signs, all verify; "
        "never logged.",
        repr=False,
    )
    verify_keys: str = env(
        "LTR_VERIFY_KEYS",
        "",
        "Public keys that only verify, separated by spaces: for services that read what another machine signs.",
    )
    mirror: Path | None = env(
        "WEIGHTS_PATH", None, "File or folder that also gets the promoted weights, for a service on this machine."
    )
    keep_versions: int | None = env(
        "LTR_KEEP_VERSIONS",
        None,
        "Number of nightly versions that the nightly run keeps; empty = all. Hourly ones it keeps for a week.",
        ge=1,
    )
    buckets: int = env(
        "LTR_BUCKETS",
        16,
        "Number of hash buckets that a day lands in; more buckets need less memory each.",
        ge=1,
        le=1024,
    )

    board_url: str | None = env(
        "LTR_BOARD_URL",
        None,
        "Board that messages and DAG pages link to, such as http://ranker:8000/board/; empty = no link.",
        pattern=r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$",
    )
    docs_url: str | None = env(
        "LTR_DOCS_URL",
        None,
        "Folder of this documentation that DAG pages link to, http(s)://…/docs/; empty = its pages are only named.",
        pattern=r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$",
    )
    monitoring_days: int = env(
        "LTR_MONITORING_DAYS",
        400,
        "Number of days that the history of nights, drift and outcomes is kept.",
        ge=30,
        le=3660,
    )

    window_days: int = env("LTR_WINDOW_DAYS", 28, "Rolling training window, in days.", ge=9, le=365)
    attribution_days: int = env(
        "LTR_ATTRIBUTION_DAYS", 3, "Number of days for which feedback counts after the list was shown.", ge=0, le=60
    )
    test_days: int = env(
        "LTR_TEST_DAYS",
        3,
        "Number of test days, the newest with complete feedback, held out for the gate.",
        ge=1,
        le=60,
    )
    group_share_min: float = env(
        "LTR_GROUP_SHARE_MIN",
        0.01,
        "Share of the impressions below which a protected group is not judged by itself but with all such others.",
        ge=0,
        le=1,
    )
    feedback_skew_seconds: float = env(
        "LTR_FEEDBACK_SKEW_SECONDS",
        5.0,
        "Feedback stamped up to this long before its impression counts for it: the two may be stamped by two clocks.",
        ge=0,
        le=3600,
    )
    valid_days: int = env(
        "LTR_VALID_DAYS", 2, "Number of validation days before them, for early stopping.", ge=1, le=60
    )
    debias: bool | Literal["coins"] = env(
        "LTR_DEBIAS",
        True,
        "Remove position bias while training: true = estimated beside the trees, coins = by exploration, false = no.",
    )
    hourly_mode: Literal["refit", "full"] = env(
        "LTR_HOURLY_MODE",
        "refit",
        "How the hourly DAG makes a model: refit = new values for the nightly model's trees, full = trained anew.",
    )
    parameters: Annotated[dict[str, Any], NoDecode] = env(
        "LTR_PARAMETERS", {}, "LightGBM parameters that join or replace defaults, as a JSON object (docs/training.md)."
    )
    outcome_fall_max: float = env(
        "LTR_OUTCOME_FALL_MAX",
        0.2,
        "Relative fall of what people do with the shown lists above which the monitor alerts (docs/monitoring.md).",
        gt=0,
        lt=1,
    )
    seed: int = env("LTR_SEED", 2025, "Seed of training and resampling.", ge=0, le=2**31 - 1)
    threads: int = env("LTR_THREADS", 1, "LightGBM threads for training; ranking always uses one.", ge=1, le=256)

    log_folder: Path | None = env(
        "LTR_LOG_FOLDER",
        None,
        "Folder of ltr_training.log and api.log; empty = logs go where Airflow or the terminal puts them.",
    )
    log_format: LogFormat = env("LTR_LOG_FORMAT", "json", "Format of ltr_training.log: json or text.")

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
    def _one_registry(self) -> Settings:
        moved = self.registry_uri != type(self).model_fields["registry_uri"].default
        if self.s3_bucket and moved:
            raise ValueError("S3_BUCKET and LTR_REGISTRY_URI both say where the registry is; set one of them")
        return self

    @model_validator(mode="after")
    def _leaves_training_days(self) -> Settings:
        if self.held_out_days >= self.window_days:
            raise ValueError(
                f"LTR_WINDOW_DAYS {self.window_days} leaves no day to train on: {self.attribution_days} attribution, "
                f"{self.test_days} test and {self.valid_days} validation days are held out"
            )
        return self

    @property
    def held_out_days(self) -> int:
        """Newest days that no training learns from."""
        return self.attribution_days + self.test_days + self.valid_days

    @cached_property
    def mapping(self) -> Mapping:
        """The event mapping; MappingError when the file is wrong."""
        return load_mapping(self.mapping_path)

    @cached_property
    def calendar(self) -> Calendar:
        """The declared events; CalendarError when the file is wrong."""
        return load_calendar(self.calendar_path)

    @property
    def simulated(self) -> bool:
        """Tell whether the event log is simulated."""
        return folders.is_simulated(self.events_path)

    @property
    def world(self) -> str:
        """Say which data these settings name: real or simulated, and where they are."""
        registry = f"s3://{self.s3_bucket}" if self.s3_bucket else self.registry_uri
        return f"{'simulated' if self.simulated else 'real'} events; data in {self.data_uri}, registry in {registry}"

    @property
    def board(self) -> str:
        """Address of the board, with a slash at its end; empty where none is known."""
        return f"{self.board_url.rstrip('/')}/" if self.board_url else ""

    @cached_property
    def kafka(self) -> KafkaConnection | None:
        """Return how to reach the topic, if there is one; SettingsError when a setting of it is wrong."""
        if not self.kafka_servers:
            return None
        return KafkaConnection(
            bootstrap_servers=self.kafka_servers,
            topic=self.kafka_topic,
            group_id=self.kafka_group,
            security_protocol=self.kafka_protocol,
            sasl_mechanism=self.kafka_mechanism,
            username=self.kafka_username,
            password=self.kafka_password,
            ca_file=self.kafka_ca_file,
            cert_file=self.kafka_cert_file,
            key_file=self.kafka_key_file,
            timeout_seconds=self.kafka_timeout_seconds,
            client=self.kafka_client,
        )

    @cached_property
    def s3(self) -> S3Options:
        """Return how to reach S3; SettingsError when a setting of it is wrong."""
        return S3Options(
            endpoint=self.s3_endpoint,
            region=self.s3_region,
            access_key_id=self.s3_access_key_id,
            secret_access_key=self.s3_secret_access_key,
            session_token=self.s3_session_token,
            ca_file=self.s3_ca_file,
            path_style=self.s3_path_style,
            timeout_seconds=self.s3_timeout_seconds,
            allow_unconditional=self.s3_unconditional == "allow",
        )

    @cached_property
    def trusted_keys(self) -> tuple[Key, ...]:
        """Keys that sign and verify; SettingsError when one is none."""
        return signing_keys(self.signing_key, self.verify_keys)

    @cached_property
    def data(self) -> Storage:
        """Storage of the landing zone and the run artefacts; SettingsError when its address is wrong."""
        return self._opened("LTR_DATA_URI", self.data_uri)

    @cached_property
    def database(self) -> Address:
        """Address of the database; SettingsError when it cannot be read."""
        return Address.parse(self.database_url)

    @cached_property
    def registry(self) -> Registry:
        """The registry, on S3 where a bucket is set; SettingsError when its address is wrong."""
        if self.s3_bucket:
            name, root = "S3_BUCKET", f"s3://{self.s3_bucket}"
        else:
            name, root = "LTR_REGISTRY_URI", self.registry_uri.rstrip("/")
        return Registry(
            self._opened(name, f"{root}/{self.registry_prefix}"),
            keys=self.trusted_keys,
            mirror=self.mirror,
        )

    def _opened(self, name: str, uri: str) -> Storage:
        """Return the storage at the address that a variable gives."""
        try:
            return open_storage(uri, self.s3, variable=name)
        except SettingsError as error:
            raise SettingsError(f"{name} is wrong: {error}") from error


PREFIX: Final = "LTR_"
"""How the names of this package's own variables begin."""

ELSEWHERE: Final = frozenset({"LTR_CACHE", "LTR_EXAMPLES", "LTR_REQUIRE_SERVICES"})
"""Variables that no setting reads, but the native servers of ``deploy/`` and the tests of this package."""


def unread(kind: type[Settings]) -> list[str]:
    """Say which variables ``LTR_…``, of the environment or its file, no setting reads, and which was probably meant.

    Parameters
    ----------
    kind
        Class that has all settings there are.
    """
    known = {variable(field) for field in kind.model_fields.values()}
    given = {*EnvSettingsSource(kind).env_vars, *DotEnvSettingsSource(kind).env_vars}
    unknown = sorted(name for name in given - known - ELSEWHERE if name.startswith(PREFIX))
    return [
        f"no setting reads {name}{did_you_mean(name, known, PREFIX) or '; see config_env.example'}" for name in unknown
    ]


S = TypeVar("S", bound=Settings)


def load_settings(**overrides: Any) -> Settings:  # noqa: ANN401 - as each field
    """Return the settings of the environment, with `overrides` by field name; see `load`."""
    return load(Settings, **overrides)


def load(kind: type[S], **overrides: Any) -> S:  # noqa: ANN401 - as each field
    """Return settings of one kind from the environment, with `overrides` by field name.

    Where none of them says where events or data are, they are those of the simulated world until an event log of one's
    own is at its default place or has landed (`folders.found`).

    Raises
    ------
    SettingsError
        Naming each wrong variable, its value's problem and what is allowed.
    """
    try:
        given = {variable(kind.model_fields[name]): value for name, value in overrides.items()}
        settings = _in_its_world(kind(**given), given)
    except ValidationError as error:
        problems = "; ".join(
            ": ".join([*map(str, problem["loc"][:1]), problem["msg"]]) for problem in error.errors(include_input=False)
        )
        raise SettingsError(f"{problems}; see config_env.example for what is allowed") from None
    _ = (
        settings.kafka,
        settings.data,
        settings.registry,
        settings.database,
    )  # what is wrong there is said now, not in the middle of a run
    return settings


def _in_its_world(settings: S, given: dict[str, Any]) -> S:
    """Return the settings with the simulated folders, where none says where events are and none of one's own have come.

    A value that is the default says nothing: whoever copies all of ``config_env.example`` has changed nothing yet.
    """
    fields = type(settings).model_fields
    if any(getattr(settings, name) != fields[name].default for name in _SAYS_WHERE) or folders.found() == REAL:
        return settings
    places = zip(("events_path", "data_uri", "registry_uri", "spool"), SIMULATED, strict=True)
    return type(settings)(**given | {variable(fields[name]): path for name, path in places if name in fields})


_SAYS_WHERE: Final = ("events_path", "data_uri", "registry_uri", "s3_bucket", "kafka_servers", "mapping_path")
"""Settings that say where events or data of one's own are: whoever has set one is not shown simulated data."""


def notify_urls() -> tuple[str, ...]:
    """Return the notification URLs, also when another setting is wrong."""
    return Channels().notify_urls


def variable(field: FieldInfo) -> str:
    """Return the name of the environment variable that sets `field`."""
    assert isinstance(field.validation_alias, AliasChoices)  # noqa: S101 - env sets it
    return str(field.validation_alias.choices[0])
