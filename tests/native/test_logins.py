"""The logins of deploy/minio on the real MinIO: what the service, the night and a stranger may do there."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from deploy.native.compose import Compose
from deploy.native.minio import S3Server, make_logins
from deploy.native.server import NoServerError
from ltr_pipeline.errors import SettingsError
from ltr_pipeline.signing import Key, make_private_key, public_keys, signing_keys
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.storage.options import S3Options
from ltr_pipeline.storage.uri import open_storage
from ltr_pipeline.versions.ids import Version
from ltr_pipeline.versions.registry import Registry
from support.documents import document
from support.service import Server
from support.weights import RANK, A, B, C, D, infinite

pytestmark = pytest.mark.long

DEBUG = "/api/debug/reload_weights"


@dataclasses.dataclass
class Stack:
    """What the compose file gives to its containers, with a bucket of its own on the tests' server."""

    logins: dict[str, str]
    night: dict[str, str]
    service: dict[str, str]

    def storage(self, environment: dict[str, str], key: str = "") -> Storage:
        """Open a folder of the bucket with the login of a container."""
        options = S3Options(
            endpoint=environment["S3_ENDPOINT"],
            access_key_id=environment["AWS_ACCESS_KEY_ID"],
            secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        )
        return open_storage(f"s3://{environment['S3_BUCKET']}/{key}", options)

    @property
    def registry(self) -> Registry:
        """The registry, as the night has it."""
        return Registry(self.storage(self.night, self.night["S3_PREFIX"]))


@pytest.fixture(scope="module")
def stack(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The tests publish different versions: a night's clock goes on."""
    given = {"S3_BUCKET": f"ltr-{uuid4().hex[:12]}", "WEIGHTS_POLL_SECONDS": "0.2", "LTR_GUARD_REQUESTS": "20"}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LTR_AUTO_ROLLBACK", "LTR_SIGNING_KEY", "LTR_VERIFY_KEYS", "SERVING_SIGNING_KEY"):
            patch.delenv(name, raising=False)
        for name, value in given.items():
            patch.setenv(name, value)
        return made(s3_server, Compose(tmp_path_factory.mktemp("stack"), "http://127.0.0.1:8080"))


def made(s3_server: S3Server, compose: Compose) -> Stack:
    here = {"S3_ENDPOINT": s3_server.endpoint}
    root = {"MINIO_ROOT_USER": s3_server.access_key_id, "MINIO_ROOT_PASSWORD": s3_server.secret_access_key}
    stack = Stack(
        logins=compose.environment("minio-init") | here | root,
        night=compose.airflow() | here,
        service=compose.serving() | here | {"KAFKA_BOOTSTRAP_SERVERS": ""},
    )
    make_logins(stack.logins)
    return stack


def refused(act: Any, *arguments: Any) -> bool:
    """Return whether the server denies it."""
    try:
        act(*arguments)
    except SettingsError as error:
        return "AccessDenied" in str(error)
    return False


def keys_of(environment: dict[str, str]) -> tuple[Key, ...]:
    return signing_keys(environment["LTR_SIGNING_KEY"], environment["LTR_VERIFY_KEYS"])


def post(server: Server, path: str, body: Any = None) -> Any:
    """Write as somebody who has the key."""
    key = server.environment["LTR_API_KEYS"]
    return server.post(path, body, headers={"X-API-Key": key, "content-type": "application/json"})


def test_the_service_reads_the_registry_and_which_night_was_judged(stack: Stack, tmp_path: Path) -> None:
    stack.registry.publish(document(A), who="night", why="passed the gate")
    gap = {"name": "fairness_gap", "status": "pass", "observed": 0.02}
    stack.storage(stack.night, "data").put(f"runs/{A}/decision.json", msgspec.json.encode({"checks": [gap]}))
    with Server(tmp_path / "run", stack.service) as server:
        server.until(lambda: server.get("/ltr/health")["version"] == A)
        assert post(server, "/ltr/rank", RANK)["version"] == A
        server.until(lambda: server.metric("ltr_weights_fairness_gap") == 0.02)
        stack.registry.publish(document(B, high=0.9), who="night", why="passed the gate")
        assert post(server, DEBUG)["version"] == B
        listed = server.until(lambda: server.http.get("/ltr/versions").json().get("versions"))
        assert [one["version"] for one in listed] == [B, A]
        judged = server.until(lambda: server.metric("ltr_last_judged_timestamp_seconds"))
        assert judged == Version.parse(A).time.timestamp()  # else it is 0, and LtrNoJudgedRun fires for ever


def test_the_service_writes_below_monitoring_and_nowhere_else(stack: Stack) -> None:
    data, registry = (stack.storage(stack.service, folder) for folder in ("data", "ltr"))
    monitoring = stack.storage(stack.service, "data/monitoring")
    monitoring.create("metrics/2025-07-15/1.json", b"{}")
    monitoring.put("metrics/2025-07-15/2.json", b"{}")
    assert monitoring.keys() == ["metrics/2025-07-15/1.json", "metrics/2025-07-15/2.json"]
    assert refused(registry.put, f"{A}/ltr_weights.json", b"{}")
    assert refused(registry.create, "history/00000001.json", b"{}")
    assert refused(registry.put, "latest/ltr_weights.json", b"{}")
    assert refused(registry.delete, "latest/ltr_weights.json")
    assert refused(data.put, f"runs/{A}/decision.json", b"{}")
    assert refused(data.get, "events/date=2025-07-15/run=20250715_0215/feedback-000.parquet")
    assert refused(data.get, "events/date=2025-07-15/run=20250715_0215/quarantine.jsonl")
    assert refused(data.put, "events/date=2025-07-15/run=20250715_0215/manifest.json", b"{}")
    assert refused(data.get, f"runs/{A}/evidence.json")
    assert refused(data.keys, "")
    assert refused(monitoring.delete, "metrics/2025-07-15/1.json")


def test_the_service_reads_what_the_board_shows(stack: Stack) -> None:
    night, service = (stack.storage(login, "data") for login in (stack.night, stack.service))
    shown = [
        "events/date=2025-07-15/run=20250715_0215/impressions-000.parquet",
        "events/date=2025-07-15/run=20250715_0215/manifest.json",
        f"runs/{A}/report.html",
    ]
    for key in shown:
        night.put(key, b"x")
        assert service.get(key) == b"x"
    assert set(shown[:2]) <= set(service.keys("events"))


def test_only_with_auto_rollback_the_service_moves_latest(stack: Stack, tmp_path: Path) -> None:
    stack.registry.publish(document(C, high=0.8), who="night", why="passed the gate")
    stack.registry.publish(infinite(D), who="night", why="passed the gate")
    mine = Registry(stack.storage(stack.service, "ltr"))
    assert refused(lambda: mine.rollback(who="guard", why="bad", leaving=D))
    assert stack.registry.promoted() == D

    make_logins(stack.logins | {"LTR_AUTO_ROLLBACK": "True"})
    stack.registry.rollback(C, who="ann", why="to begin with")
    with Server(tmp_path / "run", stack.service, LTR_AUTO_ROLLBACK="True") as server:
        server.until(lambda: server.get("/ltr/health")["version"] == C)
        stack.registry.rollback(D, who="ann", why="to see")
        stack.registry.unpin(who="ann", why="to see")
        server.until(lambda: server.get("/ltr/health")["version"] == D)
        server.until(lambda: post(server, "/ltr/rank", RANK)["version"] == C)
        server.until(lambda: (server.get(DEBUG)["guard"]["rollback"] or "").startswith("done"))
    assert stack.registry.promoted() == C
    assert stack.registry.history()[-1].who.startswith("guard, ")
    registry = stack.storage(stack.service, "ltr")
    assert refused(registry.put, "20300101_0215/ltr_weights.json", b"{}")
    assert refused(registry.delete, "history/00000001.json")

    make_logins(stack.logins)
    assert refused(registry.put, "latest/ltr_weights.json", b"{}")


def test_the_night_writes_data_and_registry_and_no_other_folder(stack: Stack, s3_server: S3Server) -> None:
    for folder in ("data/events", "ltr"):
        place = stack.storage(stack.night, folder)
        place.create("x/y.json", b"{}")
        assert place.keys("x") == ["x/y.json"]
        place.delete("x/y.json")
    assert refused(stack.storage(stack.night, "other").put, "x", b"{}")
    foreign = stack.night | {"S3_BUCKET": s3_server.make_bucket(f"ltr-{uuid4().hex[:12]}")}
    assert refused(stack.storage(foreign, "ltr").put, "x", b"{}")


def test_where_the_night_signs_a_service_without_its_public_key_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LTR_VERIFY_KEYS", raising=False)
    monkeypatch.setenv("LTR_SIGNING_KEY", key := make_private_key())
    compose = Compose(tmp_path, "http://127.0.0.1:8080")
    with pytest.raises(SettingsError, match="LTR_VERIFY_KEYS: key 1 is not ed25519-public:"):
        keys_of(compose.serving())
    monkeypatch.setenv("LTR_VERIFY_KEYS", " ".join(public_keys(signing_keys(key))))
    (public,) = keys_of(compose.serving())
    assert public.sign(b"") is None


def test_data_in_a_bucket_that_the_logins_are_not_for_is_refused(stack: Stack) -> None:
    with pytest.raises(NoServerError, match="LTR_DATA_URI is s3://elsewhere/data: set it to a folder in s3://"):
        make_logins(stack.logins | {"LTR_DATA_URI": "s3://elsewhere/data"})
