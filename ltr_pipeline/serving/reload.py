"""New weights without downtime: look, load, verify, warm, and only then let go of the old ones."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence

import msgspec
import structlog

from ltr_pipeline.errors import LtrError, NotFoundError, RequestError
from ltr_pipeline.serving import metrics
from ltr_pipeline.serving.models import Loaded, Models, load
from ltr_pipeline.storage import Storage

__all__ = ["Polls", "Reloader"]

STOP_SECONDS = 5.0

log = structlog.get_logger(__name__)


class Polls(msgspec.Struct, kw_only=True):
    """What looking for weights has come to; times are seconds since 1970.

    Attributes
    ----------
    outcome
        Of the last poll: ``loaded``, ``unchanged``, ``refused``, ``nothing published`` or ``failed``.
    last_error
        Why it could not look, or why it does not take what it found; null when all is well.
    """

    source: str
    polls: int = 0
    reloads: int = 0
    outcome: str = ""
    last_poll: float | None = None
    last_reload: float | None = None
    last_error: str | None = None


class Reloader:
    """Looks for new weights every so often, in a thread of its own.

    Parameters
    ----------
    models
        What takes them.
    source
        A storage and the key of the weights in it.
    seconds
        Between two looks.
    keys
        With keys, what none of them signed is refused.
    loaded
        Called with each model that was taken.
    """

    def __init__(
        self,
        models: Models,
        source: tuple[Storage, str],
        *,
        seconds: float,
        keys: Sequence[bytes] = (),
        loaded: Callable[[Loaded], None] = lambda _model: None,
    ) -> None:
        self._models = models
        self._storage, self._key = source
        self._seconds = seconds
        self._keys = keys
        self._loaded = loaded
        self._tag = ""
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)
        self.state = Polls(source=self._storage.uri(self._key))

    def start(self) -> None:
        """Look once, so that a service begins with weights where there are some, then go on in the background."""
        self.poll()
        self._thread.start()

    def stop(self) -> None:
        """End the background thread."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def poll(self) -> Polls:
        """Look now; whatever is wrong, the model in use stays."""
        with self._lock:
            state = self.state
            state.polls += 1
            state.last_poll = time.time()
            metrics.LAST_POLL.set(state.last_poll)
            try:
                state.outcome = self._look()
                if state.outcome in ("loaded", "unchanged"):
                    state.last_error = None
            except NotFoundError:
                state.outcome = "nothing published"
            except LtrError as error:
                state.outcome, state.last_error = "failed", str(error)
                metrics.RELOADS.labels("failed").inc()
                log.warning("weights cannot be looked for", source=state.source, error=str(error))
            return msgspec.structs.replace(state)

    def _look(self) -> str:
        fetched = self._storage.fetch(self._key, self._tag)
        if fetched is None:
            return "unchanged"
        sha256 = hashlib.sha256(fetched.data).hexdigest()
        if sha256 in self._models.refused:
            outcome = "refused"
        elif sha256 == self._models.current.sha256:
            outcome = "unchanged"
        else:
            outcome = self._take(fetched.data, sha256)
        self._tag = fetched.tag
        return outcome

    def _take(self, data: bytes, sha256: str) -> str:
        try:
            model = load(data, where=self.state.source, keys=self._keys)
        except (LtrError, RequestError) as error:
            self._models.refuse(sha256, "", str(error))
            self.state.last_error = str(error)
            metrics.RELOADS.labels("refused").inc()
            log.warning("weights refused", source=self.state.source, sha256=sha256, error=str(error))
            return "refused"
        self._models.take(model)
        self.state.reloads += 1
        self.state.last_reload = time.time()
        metrics.RELOADS.labels("loaded").inc()
        metrics.WEIGHTS_CREATED.set(model.created_at.timestamp() if model.created_at else 0)
        log.info("weights loaded", version=model.version, sha256=sha256)
        self._loaded(model)
        return "loaded"

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            self.poll()
