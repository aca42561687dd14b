"""New weights without downtime: look for them, load, verify and warm them, and only then let go of the old ones."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import structlog

from ltr_pipeline.errors import LtrError, NotFoundError
from ltr_pipeline.serving import prometheus
from ltr_pipeline.serving.guard import Guard, Watch
from ltr_pipeline.serving.weights.models import Loaded, Models, load
from ltr_pipeline.serving.weights.workers import Refused, Workers
from ltr_pipeline.signing import Key
from ltr_pipeline.storage.base import Storage

__all__ = ["Polls", "Reloader"]

FIRST_SECONDS: Final = 10.0
"""A service waits this long for its first weights, then it answers without."""

STOP_SECONDS: Final = 5.0

TICK_SECONDS: Final = 0.5
"""Time between two looks at the guard and at the other workers' notes."""

JITTER: Final = 0.1
"""Share of the time between two polls that is left to chance, so that services do not all ask at once."""

log = structlog.get_logger(__name__)


class Polls(msgspec.Struct, kw_only=True):
    """The results of looking for new weights; times are seconds since 1970.

    Attributes
    ----------
    source
        Address where new weights are looked for.
    polls, reloads
        How often the worker has looked, and how often it took new weights.
    outcome
        Outcome of the last poll: ``loaded``, ``unchanged``, ``refused``, ``nothing published`` or ``failed``.
    last_poll, last_reload
        When it last looked, and when it last took new weights.
    last_error
        Why it could not look, or why it refuses the weights there; null when all is well.
    """

    source: str
    polls: int = 0
    reloads: int = 0
    outcome: str = ""
    last_poll: float | None = None
    last_reload: float | None = None
    last_error: str | None = None


class Report(Polls, kw_only=True):
    """The state of one worker's weights.

    Attributes
    ----------
    pid
        Process id of the worker.
    version, sha256
        Version and hash of the weights in use.
    former
        Version to go back to when the weights in use turn out to be bad.
    guard
        What the guard has seen of the weights in use.
    refused
        Documents that are not tried again, by sha256.
    """

    pid: int
    version: str
    sha256: str
    former: str | None
    guard: Watch
    refused: dict[str, Refused]


class Reloader:
    """Looks for new weights again and again, in a thread of its own, and has the guard watch those it took.

    Parameters
    ----------
    models
        Takes the new weights.
    source
        A storage and the key of the weights in it.
    seconds
        Time between two looks, at most.
    guard
        Judges the weights that were taken.
    keys
        With keys, a document that none of them signed is refused.
    workers
        The other workers of this service.
    roll_back
        Called with a model that the service stepped back from, and the reason, to roll `latest` back as well; returns
        the outcome in words. If it raises, it is called again at the next poll. None = `latest` stays.
    """

    def __init__(
        self,
        models: Models,
        source: tuple[Storage, str],
        *,
        seconds: float,
        guard: Guard,
        keys: Sequence[Key] = (),
        workers: Workers | None = None,
        roll_back: Callable[[Loaded, str], str] | None = None,
    ) -> None:
        self._models = models
        self._storage, self._key = source
        self._seconds = seconds
        self._guard = guard
        self._keys = keys
        self._workers = workers or Workers()
        self._roll_back = roll_back
        self._due: tuple[Loaded, str] | None = None
        self._tag = self._found = ""
        self._left: Loaded | None = None
        self._lock = threading.RLock()
        self._looked, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)
        self.state = Polls(source=self._storage.uri(self._key))

    def start(self) -> None:
        """Look once, so that a service begins with weights where there are some, and go on in the background."""
        self._thread.start()
        self._looked.wait(FIRST_SECONDS)

    def stop(self) -> None:
        """End the background thread."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    @property
    def watch(self) -> Watch:
        """State of the guard."""
        return self._guard.watch

    def report(self) -> Report:
        """Report the state of this worker's weights."""
        models = self._models
        return Report(
            pid=os.getpid(),
            version=models.current.version,
            sha256=models.current.sha256,
            former=models.former.version if models.former else None,
            guard=msgspec.structs.replace(self._guard.watch),
            refused=dict(models.refused),
            **msgspec.structs.asdict(self.state),
        )

    def reload(self, *, force: bool = False) -> Report:
        """Look now, and ask the other workers to look; with `force`, refused documents get another chance."""
        with self._lock:
            if force:
                self._forgive()
            self._workers.call(forgive=force)
            self.poll()
            return self.report()

    def poll(self) -> Polls:
        """Look for new weights now; whatever is wrong, the model in use stays."""
        with self._lock:
            state = self.state
            state.polls += 1
            state.last_poll = time.time()
            prometheus.LAST_POLL.set(state.last_poll)
            try:
                state.outcome, state.last_error = self._look()
            except NotFoundError as error:
                state.outcome, state.last_error = "nothing published", str(error) if self._models.ready else None
            except Exception as error:  # whatever it is, the next poll comes
                prometheus.RELOADS.labels("failed").inc()
                state.outcome, state.last_error = "failed", str(error) or type(error).__name__
                log.warning(
                    "looking for weights failed",
                    source=state.source,
                    error=state.last_error,
                    exc_info=not isinstance(error, LtrError),
                )
            return msgspec.structs.replace(state)

    def _look(self) -> tuple[str, str | None]:
        """Look, and return the outcome and the error; a document that still has its former tag is not fetched."""
        fetched = self._storage.fetch(self._key, self._tag)
        sha256 = hashlib.sha256(fetched.data).hexdigest() if fetched else self._found
        outcome = "unchanged"
        if fetched and sha256 not in self._models.refused and sha256 != self._models.current.sha256:
            self._take(fetched.data, sha256)
            outcome = "loaded"
        if fetched:
            self._tag, self._found = fetched.tag, sha256
        refused = self._models.refused.get(sha256)
        return ("refused", refused.reason) if refused else (outcome, None)

    def _take(self, data: bytes, sha256: str) -> None:
        try:
            model = load(data, where=self.state.source, keys=self._keys, tried=self._workers.tried(sha256))
        except (MemoryError, OSError):  # not the document's fault
            raise
        except Exception as error:
            self._refuse(sha256, Refused(version="", reason=str(error) or type(error).__name__))
            prometheus.RELOADS.labels("refused").inc()
            log.warning("weights refused", source=self.state.source, sha256=sha256, error=str(error))
            return
        self._workers.try_passed(sha256)
        self._left = self._models.take(model)  # let go of at the next tick, off every request's path
        former = self._models.former
        self._guard.begin(model.version, sha256, model.traffic, former.traffic if former else None)
        self.state.reloads += 1
        self.state.last_reload = time.time()
        prometheus.RELOADS.labels("loaded").inc()
        self._in_use("weights loaded", before=self._left.version)
        _tell_of_features(self._left, model)

    def _refuse(self, sha256: str, refused: Refused) -> None:
        self._models.refuse({sha256: refused})
        self._workers.refuse(sha256, refused)

    def _forgive(self) -> None:
        self._models.forgive()
        self._tag = ""  # so that it is fetched again

    def _in_use(self, event: str, **about: object) -> None:
        """Export and log which model ranks from now on."""
        model = self._models.current
        prometheus.WEIGHTS_CREATED.set(model.night.timestamp() if model.night else 0)
        log.info(event, version=model.version, sha256=model.sha256, **about)

    def _run(self) -> None:
        self.poll()
        self._looked.set()
        next_poll = self._next_poll()
        while not self._stopped.wait(min(TICK_SECONDS, max(0.0, next_poll - time.monotonic()))):
            try:
                self._tick()
                if polls := time.monotonic() >= next_poll:
                    next_poll = self._next_poll()
                    self.poll()
                if self._due and (polls or not self._guard.watch.rollback):
                    self._roll_back_too(*self._due)
            except Exception:  # a service that looks no more would serve yesterday's weights for ever
                log.exception("the thread that looks for weights goes on after an error")

    def _next_poll(self) -> float:
        return time.monotonic() + self._seconds * random.uniform(1 - JITTER, 1)  # noqa: S311 - no secret

    def _tick(self) -> None:
        """Do what cannot wait for the next poll: listen to other workers, and look at the guard."""
        with self._lock:
            self._left = None
            self._hear()
            bad = self._models.current
            if breach := self._guard.look():
                self._step_back(bad, breach.reason)
                if breach.by == "failures":  # that it is slow here may be this machine's business
                    self._due = (bad, breach.reason)
            elif not self._guard.watching:
                self._models.settle()

    def _hear(self) -> None:
        """Refuse what other workers refuse, even when it is in use here, and look for weights when one asks to."""
        if call := self._workers.called():
            if call.forgive:
                self._forgive()
            self.poll()
        self._models.refuse(self._workers.refused())
        current = self._models.current
        if (told := self._models.refused.get(current.sha256)) and self._models.former:
            self._step_back(current, told.reason)

    def _step_back(self, bad: Loaded, reason: str) -> None:
        stepped = self._models.step_back(bad)
        self._refuse(bad.sha256, Refused(version=bad.version, reason=reason))
        if stepped:
            self._guard.step_back(self._models.current.traffic, reason)
            prometheus.RELOADS.labels("stepped_back").inc()
            self._in_use("stepped back from bad weights", bad=bad.version, bad_sha256=bad.sha256, reason=reason)

    def _roll_back_too(self, bad: Loaded, reason: str) -> None:
        """Roll `latest` back as well; what cannot be done now is tried again at the next poll."""
        watch = self._guard.watch
        if self._roll_back is None:
            self._due = None
            return
        try:
            watch.rollback = self._roll_back(bad, reason)
        except LtrError as error:
            watch.rollback = f"due: {error}"
            log.warning("latest cannot be rolled back yet", version=bad.version, sha256=bad.sha256, error=str(error))
            return
        self._due = None
        log.info("rollback of latest", version=bad.version, sha256=bad.sha256, outcome=watch.rollback, reason=reason)


def _tell_of_features(old: Loaded, new: Loaded) -> None:
    """Warn when the features changed: lists are then refused, or, if the number is the same, misread."""
    before, now = old.scorer.features, new.scorer.features
    if old.kind == new.kind and before != now:
        log.warning("features changed: send them by name", version=new.version, before=before, now=now)
