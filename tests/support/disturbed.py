"""A night on real servers, each task in a process of its own that is killed or cut off, and all that has to hold after.

Events come from a topic, landing zone, run artefacts and registry are on S3, and the processes share nothing else: so
workers run. Kafka and S3 are reached through proxies.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import json
import multiprocessing
import os
import re
import resource
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any, Final
from uuid import uuid4

from deploy.native.kafka import KafkaServer
from deploy.native.minio import BUCKET, S3Server
from ltr_pipeline.errors import LtrError
from ltr_pipeline.events.manifest import Manifest, manifest_of, read_manifest, read_quarantine
from ltr_pipeline.events.partitions import landed_at
from ltr_pipeline.jobs import nightly
from ltr_pipeline.jobs.chain import CHAIN, LAST
from ltr_pipeline.report.artefacts import DATASET
from ltr_pipeline.runs.names import run_name
from ltr_pipeline.runs.run import Json, Run
from ltr_pipeline.schedule import night_of
from ltr_pipeline.settings import load_settings
from ltr_pipeline.simulate.log import write_log
from ltr_pipeline.versions.weights import decode
from support.forks import copy
from support.programs import python_path
from support.proxy import Proxy
from support.small import DAY, FIRST, NIGHT, RUN, WHO, moment
from support.small import LENIENT as SMALL
from support.small import WORLD as EVENTS
from support.topics import Topic

TASKS: Final = (*CHAIN, "publish_weights", LAST)
KEEPING: Final = (*CHAIN, "keep_previous", LAST)
LENIENT: Final = SMALL | {"ltr_latency_p95_max_ms": "60000"}
STRICT: Final = LENIENT | {"ltr_ndcg_min": "0.99"}
SECOND: Final = NIGHT + DAY
FORMER, LATTER = RUN, run_name(dt.datetime.fromisoformat(moment(SECOND)))
PARTITIONS: Final = 3
PATIENCE_SECONDS: Final = 180.0
MEASURED: Final = ("seconds", "latency", "created_at", "when", "content_sha256")

Fields = dict[str, Any]
Variables = Mapping[str, str]


# ---- one task in a process of its own -------------------------------------------------------------------------------


def perform(task: str, given: Json, fields: Fields, variables: Variables, date: dt.date) -> Json:
    """Do what the DAG's task does; what it hands on."""
    settings = load_settings(**fields)
    match task:
        case "extract_events":
            return CHAIN[task]({"moment": moment(date), "last_try": False}, variables, settings)
        case "publish_weights":
            return nightly.publish_weights(given, WHO, settings)
        case "keep_previous":
            return nightly.keep_previous(given, settings)
        case "notify":
            nightly.notify(given, settings)
            return given
        case _:
            return CHAIN[task](given, variables, settings)


def _act(answer: Connection, scratch: Path, largest: int | None, work: tuple[Any, ...]) -> None:
    """In the child: perform, and answer what came of it."""
    tempfile.tempdir = str(scratch)
    with (scratch / "log").open("ab") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    if largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
    try:
        answer.send((perform(*work), "", ()))
    except Exception as error:
        kinds = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__]
        answer.send((None, f"{type(error).__name__}: {error}", kinds))


@functools.cache
def _context() -> Any:
    """Forks of a process that has imported everything and started no thread."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ["PYTHONPATH"] = python_path()  # for what it preloads
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["support.disturbed", "pandas", "confluent_kafka", "boto3.s3.transfer", "lightgbm"])
    return context


def _heals(kinds: Sequence[str]) -> bool:
    """Return whether Airflow tries again after such an error, by the DAG's own retry policy."""
    from ltr_pipeline.airflow.runtime import RETRY_POLICY

    rules = {rule.exception: rule.action.name for rule in RETRY_POLICY.rules}
    return next((rules[kind] == "RETRY" for kind in kinds if kind in rules), True)


@dataclass(frozen=True)
class Try:
    """How one attempt at a task ended: with a result, an error, or neither, as it was killed."""

    seconds: float
    result: Json | None = None
    error: str = ""
    heals: bool = True

    @property
    def killed(self) -> bool:
        return self.result is None and not self.error


class Attempt:
    """A task at work."""

    def __init__(self, work: tuple[Any, ...], largest: int | None = None) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix="ltr-disturbed-"))
        self._answer, theirs = _context().Pipe(duplex=False)
        self._begin = perf_counter()
        self._process = _context().Process(target=_act, args=(theirs, self.scratch, largest, work))
        self._process.start()
        theirs.close()

    def ended(self, seconds: float) -> bool:
        """Wait so long for its end."""
        return self._answer.poll(seconds)

    def kill(self) -> None:
        self._process.kill()

    def outcome(self) -> Try:
        """Wait for its end; AssertionError when it does not end."""
        try:
            if not self._answer.poll(PATIENCE_SECONDS):
                raise AssertionError(f"a task did not end within {PATIENCE_SECONDS} s: {self.log}")
            with contextlib.suppress(EOFError):
                result, error, kinds = self._answer.recv()
                self._process.join(PATIENCE_SECONDS)
                return Try(perf_counter() - self._begin, result, error, _heals(kinds))
            self._process.join(PATIENCE_SECONDS)
            if self._process.exitcode != -9:
                raise AssertionError(f"a task ended with {self._process.exitcode}: {self.log}")
            return Try(perf_counter() - self._begin)
        finally:
            self._process.kill()
            shutil.rmtree(self.scratch, ignore_errors=True)

    @property
    def log(self) -> str:
        return (self.scratch / "log").read_text(errors="replace")[-3000:]


# ---- a night --------------------------------------------------------------------------------------------------------


class Night:
    """Tasks one after the other, each handed what the one before gave."""

    def __init__(
        self, fields: Fields, direct: Fields, *, date: dt.date = SECOND, variables: Variables = LENIENT
    ) -> None:
        self.fields, self.variables, self.date = fields, variables, date
        self.tasks = KEEPING if variables is STRICT else TASKS
        self.settings = load_settings(**(fields | direct))
        self.given: Json = {}

    @property
    def run(self) -> Run:
        return Run(run_name(dt.datetime.fromisoformat(moment(self.date))), self.settings)

    def attempt(self, task: str, largest: int | None = None, **fields: Any) -> Attempt:
        return Attempt((task, self.given, self.fields | fields, self.variables, self.date), largest)

    def hand_on(self, task: str, result: Json) -> None:
        if task not in ("publish_weights", "keep_previous"):  # what they give is for the Asset's followers
            self.given = result

    def retry(self, task: str) -> None:
        """Try the task again, as Airflow does once all is well; AssertionError when it fails."""
        tried = self.attempt(task).outcome()
        assert tried.result is not None, f"the retry of {task} failed: {tried.error or 'killed'}"
        self.hand_on(task, tried.result)

    def artefacts(self) -> dict[str, bytes]:
        """Return what the night has made, without its measurements."""
        data, registry = self.settings.data, self.settings.registry.storage
        found = {}
        for storage, kind, folder in (
            (data, "", f"events/date={self.date}"),
            (data, "", self.run.key("").rstrip("/")),
            (registry, "registry/", ""),
        ):
            found |= {kind + key: unmeasured(key, storage.get(key)) for key in storage.keys(folder)}
        return found


def unmeasured(key: str, content: bytes) -> bytes:
    """An artefact without measurements: how long something took, and when it was made.

    The report shows them everywhere; of it only its presence is compared.
    """
    if key.endswith("report.html"):
        return b"report"
    if not key.endswith(".json"):
        return content
    record = _unmeasured(json.loads(content))
    if key.startswith("history/"):  # hashes of what has measurements; `verify` compares them with that
        record = {name: value for name, value in record.items() if name not in ("sha256", "previous")}
    if key.endswith("decision.json"):
        record.pop("document", None)  # a hash of what has measurements; the publish compares it with that
    return json.dumps(record).encode()


def _unmeasured(value: Any) -> Any:
    if isinstance(value, list):
        return [_unmeasured(one) for one in value]
    if isinstance(value, dict):
        if value.get("name") == "latency_p95":
            value = {name: value[name] for name in ("name", "status")}
        return {name: _unmeasured(one) for name, one in value.items() if name not in MEASURED}
    return re.sub(r"p95 [0-9.]+ ms", "p95", value) if isinstance(value, str) else value


# ---- promises -------------------------------------------------------------------------------------------------------


def broken_accounts(night: Night) -> list[str]:
    """Which sums of the accounting do not hold; a night in which nothing landed yet has none."""
    broken = []
    data = night.settings.data
    if partition := landed_at(data, night_of(night.date)):
        manifest = manifest_of(data, partition.folder)
        parts = manifest.impressions + manifest.feedback + manifest.quarantined + manifest.ignored
        if manifest.read != parts:
            broken.append(f"{manifest.read} records were read, {parts} are accounted for")
        if manifest.quarantined != len(list(read_quarantine(data, partition.folder))):
            broken.append("the quarantine does not hold what the manifest says")
        broken += _gaps(read_manifest(data, night_of(NIGHT)), manifest)
    if dataset := night.run.read_if_there(DATASET):
        for account in (dataset.impressions, dataset.feedback):
            if account.landed != account.used + account.duplicates + sum(account.dropped.values()):
                broken.append(f"the dataset does not account for all that landed: {account}")
    return broken


def _gaps(former: Manifest, latter: Manifest) -> list[str]:
    """Return where two nights of one topic leave a gap or overlap."""
    ends, starts = (
        {(part.source, part.partition, part.identity.get("topic_id")): bound(part) for part in night.range.segments}
        for night, bound in ((former, lambda part: part.end), (latter, lambda part: part.start))
    )
    common = ends.keys() & starts.keys()
    return [f"{place} is not read on from where it was left" for place in common if ends[place] != starts[place]]


def broken_latest(night: Night, allowed: set[str]) -> list[str]:
    """Return what is wrong with what a reader of ``latest`` finds."""
    registry = night.settings.registry
    try:
        found = decode(registry.storage.get("latest/ltr_weights.json")).version
    except LtrError as error:
        return [f"latest is not whole: {error}"]
    return [] if found in allowed else [f"latest is {found}"]


def broken_end(night: Night) -> list[str]:
    """Return what does not hold after the whole night."""
    registry, run = night.settings.registry, night.run
    published = night.tasks is TASKS
    head = LATTER if published else FORMER
    broken = broken_accounts(night) + broken_latest(night, {head})
    broken += [f"{found.version}: {found.problem}" for found in registry.verify() if not found.ok]
    moves = [move.version for move in registry.history()]
    if moves != ([FORMER, LATTER] if published else [FORMER]):
        broken.append(f"the ledger has {moves}")
    if registry.promoted() != head:
        broken.append(f"the ledger promotes {registry.promoted()}")
    if published:
        frozen = run.storage.get(run.key("ltr_weights.json"))
        if {registry.storage.get(f"{place}/ltr_weights.json") for place in (LATTER, "latest")} != {frozen}:
            broken.append("the published bytes are not the frozen ones")
    return broken


def differences(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> list[str]:
    """Keys of artefacts that are not the same."""
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))


# ---- the place ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Calm:
    """An undisturbed night: how long each task took, what passed each proxy, and what was there afterwards."""

    seconds: dict[str, float] = field(default_factory=dict)
    passed: dict[tuple[str, str], int] = field(default_factory=dict)
    after: dict[str, dict[str, bytes]] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)


class Site:
    """Servers behind proxies, a topic, and a first night that is published, which every disturbed night follows."""

    def __init__(self, kafka: KafkaServer, s3: S3Server, folder: Path, hook: str) -> None:
        self.kafka, self.s3, self.folder, self.hook = kafka, s3, folder, hook
        self.proxies = {
            "kafka": Proxy("127.0.0.1", kafka.ports["PROXIED"], kafka.proxy_port),
            "s3": Proxy("127.0.0.1", s3.port),
        }
        self.prefix = f"faults-{uuid4().hex}"
        self.topic = Topic(kafka, PARTITIONS)
        self.first_messages = self._messages(FIRST, (NIGHT - FIRST).days)
        self.messages = self._messages(NIGHT, 1)
        self.send(self.topic, self.first_messages)
        start = self.night("start", date=NIGHT)
        for task in start.tasks:
            start.retry(task)
        assert start.settings.registry.promoted() == FORMER
        self.start = start
        self.send(self.topic, self.messages)
        self.calm = {tuple(night.tasks): self.undisturbed(night) for night in (self.after_first(), self.keeping())}

    def close(self) -> None:
        for proxy in self.proxies.values():
            proxy.close()

    def _messages(self, first: dt.date, days: int) -> list[bytes]:
        log = self.folder / f"{first}.log"
        write_log(log, EVENTS, first, days)
        return log.read_bytes().splitlines()

    def send(self, topic: Topic, messages: list[bytes]) -> None:
        for part in range(PARTITIONS):
            topic.send(*messages[part::PARTITIONS], partition=part)

    def night(self, name: str, kafka_topic: str = "", **about: Any) -> Night:
        """A night at an empty place on S3."""
        uri = f"s3://{BUCKET}/{self.prefix}/{name}"
        places = {"data_uri": f"{uri}/data", "registry_uri": f"{uri}/registry"}
        places["kafka_topic"] = kafka_topic or self.topic.name
        return Night(self._fields() | places, {"s3_endpoint": self.s3.endpoint}, **about)

    def _fields(self) -> Fields:
        return {
            "kafka_servers": f"127.0.0.1:{self.kafka.proxy_port}",
            "kafka_timeout_seconds": 5.0,
            "s3_endpoint": f"http://127.0.0.1:{self.proxies['s3'].port}",
            "s3_access_key_id": self.s3.access_key_id,
            "s3_secret_access_key": self.s3.secret_access_key,
            "s3_timeout_seconds": 5.0,
            "notify_urls": self.hook,
            "events_path": str(self.folder / "no.log"),
            "window_days": 12,
            "buckets": 2,
        }

    def after_first(self, **about: Any) -> Night:
        """The night after the first, at a place of its own."""
        night = self.night(uuid4().hex, **about)
        self._copy_start(night)
        return night

    def keeping(self) -> Night:
        """The same night with a gate that lets nothing through."""
        return self.after_first(variables=STRICT)

    def local(self, folder: Path) -> Night:
        """The same night with a folder instead of S3."""
        places = {"data_uri": str(folder / "data"), "registry_uri": str(folder / "registry")}
        night = Night(self._fields() | places | {"kafka_topic": self.topic.name}, {})
        self._copy_start(night)
        night.settings.registry.storage.delete("latest/ltr_weights.json")
        (folder / "registry/ltr/latest").rmdir()  # a link on disk; made anew by the next command
        night.settings.registry.publish(night.settings.registry.load(FORMER), who=WHO, why="test")
        return night

    def _copy_start(self, night: Night) -> None:
        for place in (lambda settings: settings.data, lambda settings: settings.registry.storage):
            copy(place(self.start.settings), place(night.settings))

    def undisturbed(self, night: Night, root: Path | None = None) -> Calm:
        """Do a whole night and measure it; AssertionError when a promise is broken without any fault."""
        calm = Calm()
        for task in night.tasks:
            before = {name: proxy.passed for name, proxy in self.proxies.items()}
            size = _size(root)
            tried = night.attempt(task).outcome()
            assert tried.result is not None, f"{task} failed undisturbed: {tried.error}"
            night.hand_on(task, tried.result)
            calm.seconds[task] = tried.seconds
            calm.written[task] = _size(root) - size
            calm.after[task] = night.artefacts()
            for name, proxy in self.proxies.items():
                calm.passed[task, name] = proxy.passed - before[name]
        assert not (broken := broken_end(night)), broken
        return calm


def _size(root: Path | None) -> int:
    """Bytes below a folder, in the pages that a file system takes them in."""
    if root is None:
        return 0
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in root.rglob("*") if path.is_file())
