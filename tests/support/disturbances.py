"""What may happen to a night, injected at random but repeatable moments, and the count of what came of it."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ltr_pipeline.events.manifest import read_manifest
from ltr_pipeline.events.partitions import folder_of
from ltr_pipeline.report.artefacts import DATASET
from ltr_pipeline.schedule import night_of
from support.disturbed import (
    FORMER,
    LATTER,
    TASKS,
    Attempt,
    Calm,
    Night,
    Site,
    Try,
    broken_accounts,
    broken_end,
    broken_latest,
    differences,
)
from support.topics import Topic

TIMES_ASKED: Final = 5
"""A fault may come too late, as its task has ended; so many nights are spent on each time that it is wanted."""


@dataclass
class Scene:
    """A task of a night that is about to be disturbed."""

    site: Site
    night: Night
    task: str
    calm: Calm
    chance: random.Random

    def start(self, **about: Any) -> Attempt:
        return self.night.attempt(self.task, **about)

    @contextlib.contextmanager
    def in_mid_transfer(self, server: str, *, latest: float = 0.95, **about: Any) -> Iterator[Attempt]:
        """The task, while everything between it and a server stands still, unless it ended before.

        That is after a share of the bytes that a calm night transfers, up to `latest`.
        """
        proxy = self.site.proxies[server]
        proxy.hold(after=int(self.chance.uniform(0.05, latest) * self.calm.passed[self.task, server]))
        attempt = self.start(**about)
        try:
            while not proxy.held.wait(0.01) and not attempt.ended(0):
                pass
            yield attempt
        finally:
            proxy.release()


Injected = tuple[bool, Try]
"""Whether the fault happened, and how the task ended."""


def killed(scene: Scene) -> Injected:
    attempt = scene.start()
    if not attempt.ended(scene.chance.uniform(0, scene.calm.seconds[scene.task])):
        attempt.kill()
    tried = attempt.outcome()
    return tried.killed, tried


def broker_stopped(scene: Scene) -> Injected:
    """Stopped, in an orderly way or by a power cut, until the task has given up.

    Early on, for a task that has all it needs does not notice.
    """
    kafka = scene.site.kafka
    with scene.in_mid_transfer("kafka", latest=0.5) as attempt:
        happens = not attempt.ended(0)
        if happens:
            scene.chance.choice((kafka.stop, kafka.kill))()
    try:
        return happens, attempt.outcome()
    finally:
        if happens:
            kafka.start()


def broker_restarted(scene: Scene) -> Injected:
    """Killed and at once started again, while the task waits."""
    kafka = scene.site.kafka
    with scene.in_mid_transfer("kafka", kafka_timeout_seconds=60.0) as attempt:
        happens = not attempt.ended(0)
        if happens:
            kafka.kill()
    if happens:
        kafka.start()
    return happens, attempt.outcome()


def broker_silent(scene: Scene) -> Injected:
    """Connections stay open and nothing is answered any more, until the task has given up."""
    with scene.in_mid_transfer("kafka") as attempt:
        scene.site.proxies["kafka"].silent = happens = not attempt.ended(0)
    tried = attempt.outcome()
    scene.site.proxies["kafka"].heal()
    scene.site.proxies["kafka"].cut_now()
    return happens, tried


def connections_cut(server: str) -> Callable[[Scene], Injected]:
    def inject(scene: Scene) -> Injected:
        """All connections at once, in mid-transfer."""
        with scene.in_mid_transfer(server) as attempt:
            happens = not attempt.ended(0)
            if happens:
                scene.site.proxies[server].cut_now()
        return happens, attempt.outcome()

    return inject


def delayed(server: str) -> Callable[[Scene], Injected]:
    def inject(scene: Scene) -> Injected:
        """Every piece of an answer is late."""
        scene.site.proxies[server].delay = scene.chance.uniform(0.02, 0.1)
        tried = scene.start().outcome()
        scene.site.proxies[server].heal()
        return True, tried

    return inject


def s3_restarted(scene: Scene) -> Injected:
    """Stopped, in an orderly way or killed, and started again after up to four seconds."""
    s3 = scene.site.s3
    with scene.in_mid_transfer("s3") as attempt:
        happens = not attempt.ended(0)
        if happens:
            s3.stop(scene.chance.choice((signal.SIGTERM, signal.SIGKILL)))
    if happens:
        threading.Event().wait(scene.chance.uniform(0, 4))
        s3.start()
    return happens, attempt.outcome()


def s3_stopped(scene: Scene) -> Injected:
    """Stopped until the task has given up."""
    s3 = scene.site.s3
    with scene.in_mid_transfer("s3", latest=0.5) as attempt:
        happens = not attempt.ended(0)
        if happens:
            s3.stop(scene.chance.choice((signal.SIGTERM, signal.SIGKILL)))
    try:
        return happens, attempt.outcome()
    finally:
        if happens:
            s3.start()


def answers_lost(scene: Scene) -> Injected:
    """Of every third request; it was carried out all the same."""
    return _answered(scene, b"", every=3)


def answered(status: str, code: str, *, always: bool = False) -> Callable[[Scene], Injected]:
    def inject(scene: Scene) -> Injected:
        """Instead of the answer of every third request, or of all from a moment on; they were carried out, too."""
        body = f"<Error><Code>{code}</Code><Message>injected</Message></Error>"
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
        return _answered(scene, f"{head}Connection: close\r\n\r\n{body}".encode(), every=1 if always else 3)

    return inject


def _answered(scene: Scene, instead: bytes, every: int) -> Injected:
    proxy = scene.site.proxies["s3"]
    before = proxy.dropped
    with scene.in_mid_transfer("s3") as attempt:
        proxy.drop_answers(times=sys.maxsize, every=every, instead=instead)
    tried = attempt.outcome()
    proxy.heal()
    return proxy.dropped > before, tried


def disk_full(scene: Scene) -> Injected:
    """A file system that holds less than the task writes; room is made before the retry."""
    root = scene.night.settings.data.root.parent
    free = int(scene.chance.uniform(0, 0.95) * scene.calm.written[scene.task])
    ballast = root / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    with ballast.open("r+b") as file:
        file.truncate(max(0, ballast.stat().st_size // 4096 - free // 4096) * 4096)
    tried = scene.start().outcome()
    ballast.unlink()
    return bool(tried.error), tried


def quota_full(scene: Scene) -> Injected:
    """Where no file system can be mounted: a limit on the size of a file, which gives an error in mid-write, too."""
    tried = scene.start(largest=scene.chance.randrange(1, 2000)).outcome()
    return bool(tried.error), tried


@dataclass(frozen=True)
class Fault:
    """Something that may happen, to which tasks, and where the night's files are then."""

    name: str
    inject: Callable[[Scene], Injected]
    tasks: Sequence[str] = (*TASKS, "keep_previous")
    local: bool = False


EXTRACTING: Final = ("extract_events",)
WRITING: Final = tuple(task for task in TASKS if task != "notify")

KILLED: Final = Fault("the task's process killed (kill -9)", killed)
ON_SERVERS: Final = (
    Fault("broker stopped in mid-transfer until the task failed", broker_stopped, EXTRACTING),
    Fault("broker killed and restarted in mid-transfer", broker_restarted, EXTRACTING),
    Fault("broker accepts and never answers", broker_silent, EXTRACTING),
    Fault("connections to Kafka cut in mid-transfer", connections_cut("kafka"), EXTRACTING),
    Fault("answers of Kafka delayed", delayed("kafka"), EXTRACTING),
    Fault("S3 stopped and restarted in mid-transfer", s3_restarted, WRITING),
    Fault("S3 stopped in mid-transfer until the task failed", s3_stopped, WRITING),
    Fault("connections to S3 cut in mid-transfer", connections_cut("s3"), WRITING),
    Fault("answers of S3 lost, every third", answers_lost, WRITING),
    Fault("S3 answers 500, every third", answered("500 Internal Server Error", "InternalError"), WRITING),
    Fault("S3 answers 503 until the task failed", answered("503 Slow Down", "SlowDown", always=True), WRITING),
    Fault("S3 slow", delayed("s3"), WRITING),
)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Fault]:
    """A file system of 64 MB in `folder` if one may be mounted, and the fault that fits."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        if mounted:
            yield Fault("disk of landing zone, run folder and registry full", disk_full, WRITING, local=True)
        else:
            yield Fault("files of landing zone and run folder over a limit", quota_full, WRITING, local=True)
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@dataclass
class Tally:
    """What came of a fault.

    Attributes
    ----------
    injected, unnoticed, retried
        How often it happened, the task ended well all the same, and it was tried again.
    tasks
        How often it happened to each.
    errors
        What the task said where it failed.
    broken
        Promises that did not hold.
    """

    fault: str
    injected: int = 0
    unnoticed: int = 0
    retried: int = 0
    tasks: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def disturb(site: Site, wanted: Sequence[Fault], chance: random.Random, disk: Path | None = None) -> list[Tally]:
    """Let every fault of the list happen, one a task, in as many nights as that takes.

    Every third night is one whose model the gate keeps back. On the `disk`, nights have folders instead of S3.
    """
    tallies = {fault.name: Tally(fault.name) for fault in wanted}
    left = deque(chance.sample(wanted, len(wanted)))
    calm = site.undisturbed(site.local(disk / "calm"), disk) if disk else None
    for number in range(TIMES_ASKED * len(wanted)):
        if left:
            night = (
                site.local(disk / str(number)) if disk else (site.keeping if number % 3 == 2 else site.after_first)()
            )
            _disturbed_night(site, night, calm or site.calm[night.tasks], left, chance, tallies)
    assert not left, f"never happened: {[fault.name for fault in left]}"
    return list(tallies.values())


def _disturbed_night(
    site: Site, night: Night, calm: Calm, left: deque[Fault], chance: random.Random, tallies: dict[str, Tally]
) -> None:
    seen = []
    for task in night.tasks:
        fault = next((fault for fault in left if task in fault.tasks), None)
        if fault is None:
            night.retry(task)
            continue
        happened, tried = fault.inject(Scene(site, night, task, calm, chance))
        tally = tallies[fault.name]
        if happened:
            left.remove(fault)
            seen.append(tally)
            tally.injected += 1
            tally.tasks[task] += 1
            tally.unnoticed += tried.result is not None
        elif tried.result is None:
            tally.broken.append(f"{task} failed though nothing had happened: {tried.error}")
        tally.broken += [f"{task}: {what}" for what in _retried(night, task, tried, tally, calm)]
    for what in _after_all(night, calm):
        for tally in seen:
            tally.broken.append(f"after the night: {what}")


def _retried(night: Night, task: str, tried: Try, tally: Tally, calm: Calm) -> list[str]:
    """Try the task again unless it ended well; what does not hold then."""
    broken = broken_latest(night, {FORMER, LATTER})
    if tried.result is None:
        if not tried.heals:
            broken.append(f"Airflow would not try again after: {tried.error}")
        tally.errors += [f"{task}: {tried.error}"] if tried.error else []
        night.retry(task)
        tally.retried += 1
    else:
        night.hand_on(task, tried.result)
    differ = differences(night.artefacts(), calm.after[task])
    return broken + broken_accounts(night) + [f"{key} is not as in an undisturbed night" for key in differ]


def _after_all(night: Night, calm: Calm) -> list[str]:
    differ = differences(night.artefacts(), calm.after[night.tasks[-1]])
    return broken_end(night) + [f"{key} is not as in an undisturbed night" for key in differ]


def redelivered(site: Site, chance: random.Random) -> Tally:
    """A night whose messages come twice and in any order, some of the night before among them."""
    tally = Tally("events redelivered and reordered", injected=1, unnoticed=1)
    again = site.messages + chance.sample(site.first_messages, 300)
    messages = chance.sample(site.messages + again, len(site.messages) + len(again))
    topic = Topic(site.kafka, 3)
    site.send(topic, messages)
    night, calm = site.after_first(kafka_topic=topic.name), site.calm[TASKS]
    for task in night.tasks:
        night.retry(task)
    tally.broken += broken_end(night)
    run, twin = night.run, calm.after["notify"]
    same = [run.key("model.txt"), *(key for key in twin if key.startswith(run.key("dataset/")))]
    found = night.artefacts()
    tally.broken += [f"{key} is not as in an undisturbed night" for key in same if found[key] != twin[key]]
    read = read_manifest(night.settings.data, night_of(night.date)).read
    if read < 2 * len(site.messages):
        tally.broken.append(f"only {read} records were read")
    if not run.read(DATASET).impressions.duplicates:
        tally.broken.append("nothing fell out")
    return tally


def arriving(site: Site, chance: random.Random) -> Tally:
    """A landing that is killed, and retried when more has arrived: for the next night, as its own range is stored.

    It changes the topic, so it is to come last.
    """
    tally = Tally("killed, and more events arrive before the retry", injected=1, retried=1)
    night = site.after_first()
    data = night.settings.data
    attempt = night.attempt("extract_events")
    while not data.exists(f"{folder_of(night_of(night.date))}/range.json") and not attempt.ended(0.01):
        pass
    attempt.kill()
    attempt.outcome()
    site.send(site.topic, chance.sample(site.messages, 50))
    for task in night.tasks:
        night.retry(task)
    tally.broken += _after_all(night, site.calm[night.tasks])
    return tally
