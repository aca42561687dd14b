"""Settings that the service reads from the environment, beside those of the nightly run."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Final, Literal

from pydantic import field_validator, model_validator

from ltr_pipeline.errors import UnknownVersionError
from ltr_pipeline.folders import REAL
from ltr_pipeline.serving.guard import Limits
from ltr_pipeline.settings import Settings, env
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.versions.ids import Version
from ltr_pipeline.versions.latest import LATEST, mirror_file

__all__ = ["LEGACY", "NEWEST", "NONE", "ServingSettings"]

LEGACY: Final = "legacy"
"""In place of a version: the linear ranker with the mapping's legacy weights."""

NONE: Final = "none"
"""In place of a version: nothing ranks, as there is no model yet and the mapping has no legacy weights."""

NEWEST: Final = "newest"
"""In place of a version: the version that was published last, whether `latest` moved to it or not."""

SHORTEST_KEY: Final = 16  # characters


class ServingSettings(Settings):
    """Settings of the service."""

    host: str = env("LTR_SERVE_HOST", "127.0.0.1", "Address the service listens on.")
    port: int = env("LTR_SERVE_PORT", 8000, "Port of the service.", ge=1, le=65535)
    workers: int = env("LTR_SERVE_WORKERS", 1, "Worker processes of the service.", ge=1, le=64)
    api_keys: str = env(
        "LTR_API_KEYS",
        "",
        "Keys that X-API-Key may hold, separated by spaces; empty = only this machine may write; never logged.",
        repr=False,
    )
    poll_seconds: float = env(
        "WEIGHTS_POLL_SECONDS", 300.0, "How often the service checks for new weights, in seconds.", ge=0.05, le=86400
    )
    deadline_ms: float = env(
        "LTR_DEADLINE_MS",
        50.0,
        "Longest time that scoring a request may take, in ms; then linear weights rank, or the request's order stays.",
        ge=1,
        le=60000,
    )
    max_candidates: int = env("LTR_MAX_CANDIDATES", 1000, "Most candidates that one request may have.", ge=1, le=10000)
    max_body_bytes: int = env(
        "LTR_MAX_BODY_BYTES", 4194304, "Largest body of one request, in bytes.", ge=1024, le=1 << 28
    )

    body_seconds: float = env(
        "LTR_BODY_SECONDS",
        10.0,
        "Longest time in which a request's body must arrive, in seconds; after it, the request is refused.",
        gt=0,
        le=3600,
    )

    guard_seconds: float = env(
        "LTR_GUARD_SECONDS",
        600.0,
        "How long new weights are watched after a reload, in seconds; 0 = not at all.",
        ge=0,
        le=86400,
    )
    guard_requests: int = env(
        "LTR_GUARD_REQUESTS",
        100,
        "Requests, at most one every 50 ms, that new weights must have answered before they are judged.",
        ge=10,
        le=1000000,
    )
    guard_fallback_max: float = env(
        "LTR_GUARD_FALLBACK_MAX",
        0.001,
        "Largest share of requests that new weights may fail to score.",
        ge=0,
        le=1,
    )
    guard_p95_max_ms: float = env(
        "LTR_GUARD_P95_MAX_MS",
        15.0,
        "Largest p95 that scoring may have under new weights where the former ones take less than half as long, in ms.",
        gt=0,
        le=60000,
    )
    auto_rollback: bool = env(
        "LTR_AUTO_ROLLBACK",
        False,
        "Whether the service, when it steps back from weights that fail, also rolls `latest` back for all.",
    )

    shadow_version: str = env(
        "LTR_SHADOW_VERSION",
        "",
        "Version that scores requests beside the served one: an id, newest or legacy; empty = none.",
    )
    shadow_share: float = env("LTR_SHADOW_SHARE", 0.0, "Share of requests that this version also scores.", ge=0, le=1)
    interleave_version: str = env(
        "LTR_INTERLEAVE_VERSION",
        "",
        "Version to interleave with the served one: an id, newest or legacy; empty = none.",
    )
    interleave_share: float = env(
        "LTR_INTERLEAVE_SHARE", 0.0, "Share of requests whose answers are interleaved.", ge=0, le=1
    )
    explore_share: float = env(
        "LTR_EXPLORE_SHARE", 0.0, "Share of requests in whose answers neighbours are swapped at random.", ge=0, le=1
    )

    shown: Literal["returned", "reported"] = env(
        "LTR_SHOWN",
        "returned",
        "Which items count as shown: returned = all of an answer, reported = those reported to /ltr/shown.",
    )
    shown_seconds: float = env(
        "LTR_SHOWN_SECONDS",
        3600.0,
        "With LTR_SHOWN=reported: how long an answer waits for its report, in seconds.",
        ge=1,
        le=86400,
    )
    spool: Path = env("LTR_SPOOL", Path(REAL.spool), "Folder where events wait until they are delivered.")
    spool_max_mb: int = env(
        "LTR_SPOOL_MAX_MB", 1024, "Most megabytes of events that may wait there; newer events are dropped.", ge=1
    )

    airflow_url: str | None = env(
        "LTR_AIRFLOW_URL",
        None,
        "Airflow that POST /monitoring/run-pipeline asks for a run, http(s)://host:port; empty = this machine runs it.",
        pattern=r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$",
    )
    airflow_user: str = env("LTR_AIRFLOW_USER", "", "User that asks Airflow for a run.")
    airflow_password: str = env("LTR_AIRFLOW_PASSWORD", "", "Password of that user; never logged.", repr=False)
    airflow_token: str = env(
        "LTR_AIRFLOW_TOKEN", "", "Token to ask Airflow with, in place of user and password; never logged.", repr=False
    )

    @field_validator("api_keys")
    @classmethod
    def _long_enough(cls, value: str) -> str:
        if any(len(key) < SHORTEST_KEY for key in value.split()):
            raise ValueError(f"a key is shorter than {SHORTEST_KEY} characters; make one with `openssl rand -hex 32`")
        return value

    @field_validator("shadow_version", "interleave_version")
    @classmethod
    def _names_a_version(cls, value: str) -> str:
        if value not in ("", NEWEST, LEGACY):
            try:
                Version.parse(value)
            except UnknownVersionError as error:
                raise ValueError(f"{error}, and neither {NEWEST} nor {LEGACY}") from None
        return value

    @model_validator(mode="after")
    def _has_legacy_weights(self) -> ServingSettings:
        if LEGACY in (self.shadow_version, self.interleave_version) and not self.mapping.legacy_weights:
            raise ValueError(
                f"LTR_SHADOW_VERSION or LTR_INTERLEAVE_VERSION is {LEGACY}, but the mapping has no legacy_weights; "
                "leave it out, or name a version"
            )
        return self

    @model_validator(mode="after")
    def _signs_its_rollbacks(self) -> ServingSettings:
        if self.auto_rollback and self.verify_keys and not self.signing_key:
            raise ValueError(
                "LTR_AUTO_ROLLBACK needs LTR_SIGNING_KEY where LTR_VERIFY_KEYS is set: a rollback is a signed entry of "
                "the ledger; leave one of the two out"
            )
        return self

    @property
    def own_url(self) -> str:
        """Where the service is reached on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)  # noqa: S104 - only compared
        return f"http://{host}:{self.port}"

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Keys that allow writes."""
        return tuple(self.api_keys.split())

    @cached_property
    def source(self) -> tuple[Storage, str]:
        """Storage and key of new weights: the file of WEIGHTS_PATH if that is set, else the registry's ``latest``."""
        if self.mirror is None:
            return self.registry.storage, LATEST
        mirror = mirror_file(self.mirror)
        return LocalStorage(mirror.parent), mirror.name

    @cached_property
    def guard(self) -> Limits:
        """Limits that new weights must keep."""
        return Limits(
            seconds=self.guard_seconds,
            requests=self.guard_requests,
            failed_share=self.guard_fallback_max,
            p95_ms=self.guard_p95_max_ms,
        )
