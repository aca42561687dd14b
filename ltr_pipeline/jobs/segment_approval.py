"""The question whether new segments, which agree too little with those in use, take their place.

Handed on from task to task is what came of the training, level by level. The models whose former one stays are the
matter, by the SHA-256 of each: what was altered since, or overtaken by another training, is not put in use.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec
import structlog

from ltr_pipeline.errors import SegmentError
from ltr_pipeline.gate.approval import Answer, Asking, Choice, said
from ltr_pipeline.jobs.segments import check_unchanged, opened
from ltr_pipeline.monitoring.records import SegmentsTrained
from ltr_pipeline.monitoring.store import History, remember
from ltr_pipeline.report import notify
from ltr_pipeline.report.question import about_segments
from ltr_pipeline.runs.run import Json
from ltr_pipeline.segments import store
from ltr_pipeline.segments.model import digest
from ltr_pipeline.segments.outcome import REPLACE, TrainedLevel
from ltr_pipeline.settings import Settings, load_settings

__all__ = ["answer", "begin", "keep", "replace", "tell"]

log = structlog.get_logger(__name__)

TITLE: Final = "LTR segments: replace those in use?"


def begin(handed: Sequence[Json], question: str, settings: Settings | None = None) -> Json | None:
    """Return what to ask, or what has been chosen already; None where every new model is in use.

    Parameters
    ----------
    handed
        What came of the training, as JSON.
    question
        Id of the question; a task that is tried again gives the same.

    Returns
    -------
    As that of `approval.begin`.
    """
    waiting = _waiting(handed)
    if not waiting:
        return None
    known = _asking(waiting, settings or load_settings())
    if choice := known.settled(question):
        return {"choice": choice}
    subject, body = about_segments([_plain(level) for level in waiting])
    return {"subject": subject, "body": body, "until": known.asked_until(question)}


def tell(
    handed: Sequence[Json], question: str, link: str, until: dt.datetime, settings: Settings | None = None
) -> None:
    """Tell the channels that a person is asked, and remember that they were told."""
    settings, waiting = settings or load_settings(), _waiting(handed)
    message = notify.question(TITLE, [_plain(level) for level in waiting], until=until, link=link)
    notify.send(settings.notify_urls, message)
    _asking(waiting, settings).ask(question, asked=dt.datetime.now(dt.UTC), until=until, link=link)


def answer(
    handed: Sequence[Json],
    question: str,
    *,
    choice: Choice,
    who: str,
    why: str,
    unheard: str | None = None,
    settings: Settings | None = None,
) -> Choice:
    """Store what was answered, and return what follows from it, as `approval.answer` does."""
    known = _asking(_waiting(handed), settings or load_settings())
    counts = known.hear(question, choice=choice, who=who, why=why, unheard=unheard)
    log.info("a person was asked", choice=counts.choice, who=counts.who, why=counts.why, note=counts.note)
    return counts.choice


def replace(handed: Sequence[Json], settings: Settings | None = None) -> None:
    """Put the models in use that somebody has approved: all of them, or none.

    Raises
    ------
    SegmentError
        Nobody has approved these very models, one was altered since, or another training was faster.
    """
    settings, waiting = settings or load_settings(), _waiting(handed)
    approval = _asking(waiting, settings).answer()
    if approval is None or approval.choice != "publish":
        raise SegmentError("nobody has approved these segments, so the former ones stay; answer approve_segments")
    with opened(settings) as database, database.begin() as connection:
        store.lock_models(database, connection)
        for level in waiting:
            new = store.model_of(database, connection, level.level, level.version)
            if digest(new.model) != level.sha256:
                raise SegmentError(
                    f"version {level.version} of level {level.level} was altered since it was trained; nothing was "
                    "changed, train again"
                )
            now = store.model_in_use(database, connection, level.level)
            if now and now.version == level.version:  # by a try before
                continue
            check_unchanged(now, level.comparison.former if level.comparison else None)
            store.use_model(database, connection, level.level, level.version, said(approval))
    _conclude(waiting, approval, settings, in_use=True)


def keep(handed: Sequence[Json], settings: Settings | None = None) -> None:
    """Leave the former models in use, and tell why."""
    settings, waiting = settings or load_settings(), _waiting(handed)
    _conclude(waiting, _asking(waiting, settings).answer(), settings, in_use=False)


def _conclude(waiting: Sequence[TrainedLevel], found: Answer | None, settings: Settings, *, in_use: bool) -> None:
    """Tell the history, the log and the channels what came of the question."""
    heard = said(found) if found else "a person decides this, and nobody could be asked"
    records = {(one.level, one.version): one for one in History(settings.data).read(SegmentsTrained)}
    told = []
    for level in waiting:
        if in_use:
            what = f"model {level.version} of level {level.level} is in use, {heard}, though {_reason(level)}"
        else:
            what = f"{_plain(level)}; {heard}"
        told.append(what)
        log.info("segments decided", segmented=level.level, version=level.version, in_use=in_use, said=what)
        if record := records.get((level.level, level.version)):
            answered = {"answer": heard, "answered_by": found.who, "answer_reason": found.why} if found else {}
            changed = {"in_use": in_use, "said": what, "asked": True} | answered
            remember(settings.data, msgspec.structs.replace(record, **changed))
    notify.send(settings.notify_urls, notify.answered(f"LTR segments {'replaced' if in_use else 'kept'}", told))


def _waiting(handed: Sequence[Json]) -> list[TrainedLevel]:
    """Return the levels whose former model is in use."""
    return [level for level in msgspec.convert(handed, list[TrainedLevel], str_keys=True) if not level.in_use]


def _asking(waiting: Sequence[TrainedLevel], settings: Settings) -> Asking:
    """Return what was asked about these very models, and answered."""
    models = [(level.level, level.version, level.sha256) for level in waiting]
    about = hashlib.sha256(msgspec.json.encode(models)).hexdigest()
    return Asking(settings.data, f"segments/{about}", about)


def _plain(level: TrainedLevel) -> str:
    """Say what came of training a level, for those who are asked."""
    return level.said.removesuffix(REPLACE)


def _reason(level: TrainedLevel) -> str:
    return level.comparison.reason if level.comparison else "there was none"
