"""Notifications through Apprise URLs: what is said, and saying it without ever failing or delaying a run.

A message is built by a pure function of records; `send` delivers it to every channel at once, in the format that each
shows best (`formats`), within one deadline, and turns whatever goes wrong into a `Delivery`. Addresses hold secrets: of
a channel only its scheme and its masked host are ever shown.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Self
from urllib.parse import urlsplit

import apprise
import msgspec
import structlog

from ltr_pipeline.gate.decision import Decision
from ltr_pipeline.monitoring.alerts import Standing
from ltr_pipeline.printable import printable
from ltr_pipeline.report import formats
from ltr_pipeline.report.champion import Alarm
from ltr_pipeline.report.message import Link, Message, Part, Points
from ltr_pipeline.report.wording import gate_table

__all__ = [
    "Delivery",
    "alerts",
    "answered",
    "failure",
    "question",
    "rejection",
    "resting",
    "send",
    "success",
]

_LONGEST_TITLE = 200  # characters
_LONGEST_ERROR = 1500  # characters; chat channels refuse messages of more than about 2000
_THREAD = "ltr-notify"

log = structlog.get_logger(__name__)


class Delivery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether one channel took a message; `reason` is empty when it did."""

    channel: str
    delivered: bool
    reason: str = ""


def success(
    version: str,
    decision: Decision,
    *,
    promoted: bool = True,
    alarm: Alarm | None = None,
    note: str = "",
    report: str = "",
    board: str = "",
) -> Message:
    """Say that a version was published.

    Parameters
    ----------
    version
        The new version.
    decision
        Why the gate let it through.
    promoted
        Whether ``latest`` moved to it; false under a pin and in a backfill.
    alarm
        What is to be said of an unfair champion.
    note
        Why it did not move, or anything else worth saying.
    report, board
        Addresses of the HTML report and of the board.
    """
    outcome = f"latest is now {version}." if promoted else "latest stays where it was."
    title = f"LTR {version} published" if promoted else f"LTR {version} published, latest unchanged"
    parts = (outcome, _said(alarm), note, gate_table(decision), *_links(report, board))
    return Message(title=_titled(title, alarm), parts=parts, kind="warning" if alarm and alarm.raised else "success")


def rejection(
    run: str,
    decision: Decision,
    *,
    latest: str | None,
    alarm: Alarm | None = None,
    note: str = "",
    report: str = "",
    board: str = "",
) -> Message:
    """Say that the gate kept the former version; a normal outcome, not an error.

    Parameters
    ----------
    run
        The run whose model was not published.
    decision
        Every check and the reasons in plain words.
    latest
        The version that stays in use, if there is any.
    alarm
        What is to be said of an unfair champion.
    note
        Anything else worth saying.
    report, board
        Addresses of the HTML report and of the board.
    """
    outcome = f"{latest} stays in use." if latest else "No version is in use yet."
    parts = (outcome, _said(alarm), Points(decision.reasons), note, gate_table(decision), *_links(report, board))
    return Message(title=_titled(f"LTR run {run} not published", alarm), parts=parts, kind="warning")


def question(
    title: str, said: Sequence[str], *, until: dt.datetime, link: str, table: Part = "", report: str = ""
) -> Message:
    """Say that a person is asked, and where to answer.

    Parameters
    ----------
    title
        Of the message.
    said
        What cannot be decided, in plain words.
    until
        When the time for an answer is over.
    link
        Where the question is answered.
    table
        Gate table, where there is one.
    report
        Address of the HTML report.
    """
    asked = f"Please decide until {until:%Y-%m-%d %H:%M} UTC."
    unanswered = "Nothing changes without an answer."
    parts = (asked, Link("Answer", link), Points(said), unanswered, table, Link("Report", report))
    return Message(title=title[:_LONGEST_TITLE], parts=parts, kind="warning")


def answered(title: str, said: Sequence[str]) -> Message:
    """Say what came of a question that was asked."""
    return Message(title=title[:_LONGEST_TITLE], parts=tuple(said), kind="info")


def resting(
    run: str,
    decision: Decision,
    *,
    latest: str | None,
    alarm: Alarm | None = None,
    note: str = "",
    report: str = "",
    board: str = "",
) -> Message:
    """Say that no training was due, and what was found of the version in use; a warning only where that is bad.

    Parameters
    ----------
    run
        The run that trained nothing.
    decision
        The checks of the version in use; the first reason says why no training was due, the others what fails.
    latest
        The version in use.
    alarm
        What is to be said of it where it is unfair.
    note
        Anything else worth saying.
    report, board
        Addresses of the HTML report and of the board.
    """
    why, *failed = decision.reasons
    outcome = f"{latest} stays in use, and was judged: {why}." if latest else f"No version is in use yet: {why}."
    parts = (outcome, _said(alarm), Points(failed), note, gate_table(decision), *_links(report, board))
    return Message(
        title=_titled(
            f"LTR run {run}: {'no training was due' if not failed else 'no training was due, but a check fails'}", alarm
        ),
        parts=parts,
        kind="warning" if failed or (alarm and alarm.raised) else "info",
    )


def failure(
    run: str,
    task: str,
    error: BaseException | str,
    *,
    latest: str | None = None,
    alarm: Alarm | None = None,
    logs: str = "",
    board: str = "",
) -> Message:
    """Say that a task crashed.

    Parameters
    ----------
    run, task
        Where it happened.
    error
        The exception, or its text; long texts are cut.
    latest
        The version in use, if known.
    alarm
        What the newest judged night showed of it.
    logs, board
        Addresses of the task's log and of the board.
    """
    text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    in_use = f"{latest} is in use." if latest else ""
    told = _said(alarm)
    cut = printable(text)[: _LONGEST_ERROR - len(told)]
    parts = (cut, in_use, told, Link("Log", logs), Link("Board", board))
    return Message(title=_titled(f"LTR run {run} failed in {task}", alarm), parts=parts, kind="failure")


def alerts(night: dt.date, found: Sequence[Standing], board: str = "") -> Message:
    """Say what the watch found: what is new before what people know already.

    Parameters
    ----------
    night
        Landed night that was watched.
    found
        Every alert that stands.
    board
        Address of the board.
    """
    news = [one for one in found if one.is_news]
    known = [one for one in found if not one.is_news]
    said = [f"{one.alert.what} {one.alert.remedy}".strip() for one in news]
    still = [f"Since {one.since}: {one.alert.what}" for one in known]
    subjects = ", ".join(dict.fromkeys(one.alert.subject for one in news))
    return Message(
        title=f"LTR {night}: {subjects} should be looked at"[:_LONGEST_TITLE],
        parts=(*said, *still, Link("Board", board)),
        kind="warning",
    )


def _titled(title: str, alarm: Alarm | None) -> str:
    """Let the title say so, too, where somebody has to act: a long body is not always read."""
    return f"{title}; the version in use is unfair" if alarm and alarm.raised else title


def _said(alarm: Alarm | None) -> str:
    return str(alarm) if alarm else ""


def _links(report: str, board: str) -> tuple[Part, Part]:
    return Link("Report", report), Link("Board", board)


def send(urls: Sequence[str], message: Message, *, timeout_seconds: float = 20.0) -> list[Delivery]:
    """Deliver `message` to every channel at once; never raises, and returns within `timeout_seconds`.

    Parameters
    ----------
    urls
        Apprise URLs.
    message
        What to say.
    timeout_seconds
        Deadline for all channels together; one that is still busy then counts as not delivered and is left behind.

    Returns
    -------
    list of Delivery
        One for each URL, in their order. Each that failed is also logged as a warning.
    """
    channels = [_Channel(number, url, message) for number, url in enumerate(urls, 1)]
    deadline = time.monotonic() + timeout_seconds
    for channel in channels:
        channel.start()
    for channel in channels:
        channel.join(max(0.0, deadline - time.monotonic()))
    deliveries = [channel.delivery(f"no answer within {timeout_seconds:g} s") for channel in channels]
    for delivery in deliveries:
        if not delivery.delivered:
            log.warning("notification not delivered", channel=delivery.channel, reason=delivery.reason)
    return deliveries


class _Channel(threading.Thread):
    """One message on its way to one channel.

    A daemon thread: those of an executor would hold up the exit of the process while a channel hangs.
    """

    def __init__(self, number: int, url: str, message: Message) -> None:
        super().__init__(name=f"{_THREAD}-{number}", daemon=True)
        self.url = url
        self.message = message
        self.label = f"channel {number}"
        self.problem: str | None = None  # empty once delivered

    def run(self) -> None:
        try:
            self.problem = self._deliver()
        except Exception as error:
            self.problem = f"the channel's plugin raised {type(error).__name__}"

    def delivery(self, late: str) -> Delivery:
        reason = late if self.problem is None else self.problem
        return Delivery(channel=self.label, delivered=not reason, reason=reason)

    def _deliver(self) -> str:
        service = apprise.Apprise.instantiate(self.url)
        if service is None:
            return "not an Apprise URL, or incomplete; compare LTR_NOTIFY_URLS with https://appriseit.com/services/"
        masked: str = service.url(privacy=True)  # type: ignore[no-untyped-call]
        self.label += f" ({_address(masked)})"
        if service.overflow_mode == apprise.OverflowMode.UPSTREAM:
            service.overflow_mode = apprise.OverflowMode.SPLIT  # rather two messages than a refused one
        written = _Written.of(self.message, service)
        # Not through an Apprise object: its pool of threads would outlive this one.
        sent = service.notify(
            title=written.title,
            body=written.body,
            notify_type=apprise.NotifyType(self.message.kind),
            body_format=written.format,
        )
        return "" if sent else "not accepted: unreachable, refused, or wrong credentials"


_TEAMS: Final = "workflows"
_DISCORD: Final = "discord"
_RENDERS: Final = (_TEAMS, _DISCORD, "guilded", "mmost", "zulip")
"""Schemes of channels that read title and body as Markdown, even where Apprise calls that text."""

_TEAMS_LONGEST: Final = 20_000
"""Characters of a card; Apprise would split after 1,000, Teams takes 28 KB."""


class _Written(NamedTuple):
    """A message in the format that a channel shows best; ``?format=`` in its URL asks for another."""

    title: str
    body: str
    format: apprise.NotifyFormat

    @classmethod
    def of(cls, message: Message, service: Any) -> Self:  # noqa: ANN401 - Apprise's own
        schemes = _schemes(service)
        renders = bool(schemes.intersection(_RENDERS))
        chosen = service.resolve_format(apprise.NotifyFormat.MARKDOWN if renders else None)
        if _TEAMS in schemes:
            service.body_maxlen = _TEAMS_LONGEST
        joined = service.title_maxlen <= 0  # then Apprise puts the title into the body, as it is
        if chosen == apprise.NotifyFormat.HTML:
            title = formats.html_title(message.title) if joined else formats.quiet(message.title)
            return cls(title, formats.html(message, tables=not joined), chosen)
        if chosen == apprise.NotifyFormat.MARKDOWN or renders:
            escaped = renders or joined
            title = formats.markdown_title(message.title) if escaped else formats.quiet(message.title)
            body = formats.markdown(message)
            splits = len(title) + len(body) >= service.body_maxlen
            if _TEAMS in schemes or (splits and chosen != apprise.NotifyFormat.MARKDOWN):  # Apprise mends code in that
                body = formats.markdown(message, code=False)
            # Apprise would have Discord call the user 5 for each nDCG@5.
            return cls(title, formats.uncalled(body) if _DISCORD in schemes else body, chosen)
        return cls(formats.quiet(message.title), formats.plain(message), chosen)


def _schemes(service: Any) -> set[str]:  # noqa: ANN401 - Apprise's own
    """Return the schemes of a channel's URLs."""
    found: set[str] = set()
    for one in (service.protocol, service.secure_protocol):
        found.update([one] if isinstance(one, str) else one or ())
    return found


def _address(masked_url: str) -> str:
    """Return scheme and host of a URL whose secrets Apprise masked; path and query can hold unmasked ones.

    >>> _address("json://user:****@10.0.0.7:8080/hook/5f2c?+Authorization=Bearer%20x")
    'json://10.0.0.7:8080'
    """
    parts = urlsplit(masked_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


class _NotFromUs(logging.Filter):
    """Drops what libraries log while we deliver: at DEBUG, and for bad URLs at any level, whole addresses."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.threadName or "").startswith(_THREAD)


for _library in ("apprise", "urllib3.connectionpool"):
    logging.getLogger(_library).addFilter(_NotFromUs())
