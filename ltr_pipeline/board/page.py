"""Pages of facts, in HTML without a script: one template a page, the look of the nightly report."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from typing import Any, Final, NamedTuple

import jinja2
from markupsafe import Markup, escape

from ltr_pipeline.board import (
    batches,
    drift,
    nights,
    outcomes,
    overview,
    predictions,
    recommendations,
    segments,
    versions,
    words,
)
from ltr_pipeline.board.asked import PERIODS, Asked
from ltr_pipeline.board.confirm import LONGEST_REASON, Confirmation, Form
from ltr_pipeline.board.facts import Facts
from ltr_pipeline.board.links import PAGES, Links
from ltr_pipeline.board.recommendations import Draft, Proposed
from ltr_pipeline.board.shown import ShownList
from ltr_pipeline.monitoring.records import DriftReport
from ltr_pipeline.report import text
from ltr_pipeline.report.scale import Scale
from ltr_pipeline.report.wording import NONE, STATUS, figure, interval, limit, named, observed
from ltr_pipeline.versions.ids import hourly
from ltr_pipeline.versions.weights import Weights

__all__ = [
    "Here",
    "compare_page",
    "confirm_page",
    "feature_page",
    "login_page",
    "message_page",
    "policy",
    "render",
    "warm",
]

STYLE_FILES: Final = (("ltr_pipeline.report", "report.css"), ("ltr_pipeline.board", "board.css"))


@dataclass(frozen=True)
class Here:
    """Where a page stands.

    Attributes
    ----------
    links
        Addresses of the other pages.
    ranks
        The version that ranks in this process; None where no service shows the page.
    leave
        Whether there is a session to end.
    acts
        Whether who looks may roll back, pin and publish here.
    answers
        Whether who looks may answer recommendations.
    reader
        Name of who looks, by their login; empty where it does not say, and who answers types it.
    seal
        What the form for an answer is sent with; empty where nobody asks for it.
    """

    links: Links
    ranks: str | None = None
    leave: bool = False
    acts: bool = False
    answers: bool = True
    reader: str = ""
    seal: str = ""


def render(
    name: str,
    facts: Facts,
    asked: Asked,
    here: Here,
    *,
    report: DriftReport | None = None,
    lists: Sequence[ShownList] = (),
    proposed: Proposed | None = None,
    draft: Draft | None = None,
    problem: str = "",
) -> str:
    """Render a page of `PAGES`.

    Parameters
    ----------
    report
        The day that the page of drift tells of.
    lists
        What the page of predictions lists.
    proposed, draft, problem
        What the page of recommendations shows; an answer that was refused, and why.
    """
    match name:
        case "overview":
            view: Any = overview.overview(facts, asked)
        case "nights":
            view = nights.nights(facts, asked)
        case "versions":
            view = versions.versions(facts, asked)
        case "drift":
            view = drift.drift(facts, asked, report)
        case "outcomes":
            view = outcomes.outcomes(facts, asked)
        case "predictions":
            view = predictions.predictions(lists, asked)
        case "batches":
            view = batches.batches(facts, asked)
        case "recommendations":
            view = recommendations.recommendations(proposed, draft, problem)
        case _:
            view = segments.segments(facts, asked)
    return _rendered(name, PAGES[name], here, facts=facts, asked=asked, view=view)


def feature_page(facts: Facts, asked: Asked, here: Here, report: DriftReport | None, name: str) -> str | None:
    """Render the page of a feature on the day of a report; None where nothing is known of it."""
    view = drift.feature(facts, asked, report, name)
    if view is None:
        return None
    return _rendered("drift", name, here, template="feature", facts=facts, asked=asked, view=view)


def compare_page(facts: Facts, here: Here, one: Weights, other: Weights) -> str:
    """Render the page of two versions."""
    view = versions.compared(one, other)
    title = f"{one.version} beside {other.version}"
    return _rendered("versions", title, here, template="compare", facts=facts, promoted=facts.promoted, view=view)


def confirm_page(facts: Facts, here: Here, asked: Confirmation, form: Form) -> str:
    """Render the page that somebody confirms an act on."""
    name = "nights" if asked.act == "publish" else "versions"
    return _rendered(name, asked.title, here, template="confirm", facts=facts, view=asked, form=form)


def login_page(here: Here, goal: str = "", problem: str = "") -> str:
    """Render the page that asks for a key; `goal` is the page to go to then."""
    return _rendered("login", "Log in", here, goal=goal, problem=problem)


def message_page(here: Here, title: str, said: str) -> str:
    """Render a page with a sentence, such as one about a wrong address."""
    return _rendered("", title, here, template="message", said=said)


def _rendered(name: str, title: str, here: Here, *, template: str = "", **more: Any) -> str:  # noqa: ANN401
    page = _environment().get_template(f"{template or name}.html.j2")
    return page.render(name=name, title=title, here=here, link=here.links, **more)


class _Style(NamedTuple):
    css: str
    policy: str


@cache
def _style() -> _Style:
    """Return the style sheet without comments and indentation, and the policy that allows it and nothing else."""
    css = "\n".join(files(room).joinpath("templates", name).read_text(encoding="utf-8") for room, name in STYLE_FILES)
    css = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    css = "\n".join(line.strip() for line in css.splitlines() if line.strip())
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'self'"
    return _Style(css, policy)


def warm() -> None:
    """Read the templates, which the first page would otherwise wait for."""
    for name in (*PAGES, "compare", "confirm", "feature", "login", "message"):
        _environment().get_template(f"{name}.html.j2")


def policy() -> str:
    """Return the Content-Security-Policy of every page: its own style sheet, its own forms, no script."""
    return _style().policy


def _code(said: str) -> Markup:
    """Return text as HTML, what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(said))))  # noqa: S704 - it was escaped


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [
                jinja2.PackageLoader("ltr_pipeline.board"),
                jinja2.PrefixLoader({"report": jinja2.PackageLoader("ltr_pipeline.report")}),
            ]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "between": words.between,
        "code": _code,
        "count": partial(figure, kind="count"),
        "delta": partial(figure, kind="delta"),
        "day": text.day,
        "interval": interval,
        "limit": limit,
        "minute": text.minute,
        "named": named,
        "observed": observed,
        "score": figure,
        "sentence": text.sentence,
        "share": text.percent,
        "short": words.short,
        "valued": words.valued,
        "when": words.when,
    }
    environment.globals |= {
        "CSS": Markup(_style().css),  # noqa: S704 - our own file
        "LOOKS": recommendations.LOOKS,
        "LONGEST_REASON": LONGEST_REASON,
        "MEASURES": words.MEASURES,
        "NONE": NONE,
        "PAGES": PAGES,
        "PERIODS": PERIODS,
        "POLICY": _style().policy,
        "STATES": batches.STATES,
        "STATUS": STATUS,
        "Scale": Scale,
        "approvable": nights.approvable,
        "counted": words.count,
        "hourly": hourly,
        "judged": nights.judged,
        "mark": recommendations.mark,
        "since": overview.since,
        "verdict": nights.verdict,
    }
    return environment
