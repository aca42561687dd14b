"""The board as an app below Airflow's own: reading for who may read the DAG, acts for who may also set the gate.

Its pages are those of `board`; an act is confirmed on a page, as the frame that Airflow shows it in lets no script ask.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Final

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.core_api.security import get_user, requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as StarletteHTTPException

from ltr_pipeline.airflow.keys import JUDGED, NIGHTLY_DAG
from ltr_pipeline.airflow.plugin import access
from ltr_pipeline.airflow.plugin.access import SCORING, Seal
from ltr_pipeline.airflow.plugin.acts import Acts, Asked
from ltr_pipeline.airflow.plugin.runs import our_run
from ltr_pipeline.airflow.runtime import run_settings
from ltr_pipeline.board import page
from ltr_pipeline.board.answers import Answer, Answers, gone_to, missing, told
from ltr_pipeline.board.asked import LONGEST_FORM, fields
from ltr_pipeline.board.confirm import ACTS, LONGEST_REASON, Form
from ltr_pipeline.board.kept import Kept
from ltr_pipeline.board.links import COMPARE, Links
from ltr_pipeline.board.page import Here
from ltr_pipeline.errors import LtrError, OvertakenError, RequestError, StorageError
from ltr_pipeline.printable import one_line

__all__ = ["board_app"]

FORM: Final = "application/x-www-form-urlencoded"
LISTS_SECONDS: Final = 60.0
"""Shown lists are looked for again when somebody asks after this time."""

ANSWER: Final = "recommendations"
"""The page of recommendations, and what its seal holds for."""

NO_REASON: Final = "Say why: it stands in the ledger."
NOT_YOURS: Final = f"This is for who may edit {NIGHTLY_DAG} and set the gate's Variables."
NOT_YOUR_ANSWER: Final = f"Recommendations are answered by who may edit {SCORING}."
NOT_SHOWN: Final = f"Recommendations name people: they are shown to who may read {SCORING}."
NO_SEAL: Final = "This form is refused: its page is too old, or was not made for you. Open it again."
NOT_YET: Final = "this run has no report yet; one is written when its gate has judged"
TITLES: Final = {401: "Log in to Airflow", 403: "No entry", 404: "Nothing here"}

READ: Final = Depends(requires_access_dag("GET", param_dag_id=NIGHTLY_DAG))
USER: Final = Depends(get_user)


class _Board:
    """All that is shown and done, by the settings of this process."""

    def __init__(self) -> None:
        page.warm()
        settings = run_settings()
        self.kept = Kept(settings)
        self.answers = Answers(settings, self.kept)
        self.acts = Acts(settings, self.kept)
        self._looked = -LISTS_SECONDS
        self._looking = threading.Lock()

    def look_for_lists(self) -> None:
        """Read the shown lists, where that is long ago."""
        with self._looking:
            if time.monotonic() - self._looked >= LISTS_SECONDS:
                self.kept.look_for_lists()
                self._looked = time.monotonic()


class _Pages:
    """Answers what is asked for; the board is made when somebody looks first, as settings may be wrong before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @property
    def board(self) -> _Board:
        """The board; LtrError where it cannot be made."""
        with self._lock:
            return self._made

    @cached_property
    def _made(self) -> _Board:
        return _Board()

    def overview(self, request: Request, user: BaseUser = USER) -> Response:
        return self._page(request, "overview", user)

    def named(self, request: Request, name: str, user: BaseUser = USER) -> Response:
        return self._page(request, "" if name == "overview" else name, user)

    def feature(self, request: Request, feature: str, user: BaseUser = USER) -> Response:
        here = _here(user, 1)
        return _told(here, lambda: self.board.answers.feature(feature, request.query_params, here))

    def report(self, run: str, user: BaseUser = USER) -> Response:
        here = _here(user, 1)
        return _told(here, lambda: self.board.answers.report(run, here))

    def report_of(self, dag: str, run: str, user: BaseUser = USER) -> Response:
        """Answer with the report of a run that Airflow names: what the tab on its page shows."""
        here = _here(user)

        def tell() -> Answer:
            if dag not in JUDGED:
                return missing(here, f"runs of {dag} have no report; those of {' and '.join(JUDGED)} do")
            ours = our_run(dag, run)
            if ours is None:
                return missing(here, f"Airflow has no run {run} of {dag}")
            found = self.board.answers.report(ours, here)
            return found if found.status != 404 else missing(here, NOT_YET)

        return _told(here, tell)

    def compare(self, request: Request, user: BaseUser = USER) -> Response:
        here = _here(user)
        return _told(here, lambda: self.board.answers.compare(request.query_params, here))

    def done(self, seq: int, user: BaseUser = USER) -> Response:
        """Tell what was done: an entry of the ledger."""
        here = _here(user, 1)

        def tell() -> Answer:
            move = next((move for move in self.board.kept.facts_of_now().moves if move.seq == seq), None)
            if move is None:
                return missing(here, "the ledger has no such entry")
            return Answer(page.message_page(here, "Done", str(move)))

        return _told(here, tell)

    def confirm(self, request: Request, act: str, user: BaseUser = USER) -> Response:
        """Show the page that an act is confirmed on."""
        _check(access.may_act(user), NOT_YOURS)
        here = _here(user, 1)
        asked = Asked.of(request.query_params)
        return _told(here, lambda: self._confirming(here, user, act, asked))

    async def do(self, request: Request, act: str, user: BaseUser = USER) -> Response:
        """Do what a form orders that such a page has sent."""
        await run_in_threadpool(lambda: _check(access.may_act(user), NOT_YOURS))
        form = {name: values[0] for name, values in (await _form(request)).items()}
        return await run_in_threadpool(self._do, user, act, form)

    async def answer(self, request: Request, user: BaseUser = USER) -> Response:
        """Take an answer to recommendations."""
        await run_in_threadpool(lambda: _check(access.may_answer(user), NOT_YOUR_ANSWER))
        return await run_in_threadpool(self._answer, user, await _form(request))

    def _page(self, request: Request, name: str, user: BaseUser) -> Response:
        here = _here(user)
        if name == ANSWER:
            _check(access.may_see_recommendations(user), NOT_SHOWN)
            here = _answering(here, user)

        def tell() -> Answer:
            if name == "predictions":
                self.board.look_for_lists()
            return self.board.answers.page(name, request.query_params, here)

        return _told(here, tell)

    def _confirming(
        self, here: Here, user: BaseUser, act: str, about: Asked, *, why: str = "", fault: str = "", status: int = 200
    ) -> Answer:
        if act not in ACTS:
            return missing(here, "there is no such act")
        acts = self.board.acts
        try:
            facts, shown, asked = acts.shown(act, about)
        except StorageError:
            raise
        except LtrError as error:
            return Answer(page.message_page(here, "This cannot be done", str(error)), 404)
        hidden = asked._asdict() | {"seal": access.sealed(Seal(user.get_id(), act, asked))}
        return Answer(page.confirm_page(facts, here, shown, Form(hidden, why, fault)), status)

    def _do(self, user: BaseUser, act: str, form: Mapping[str, str]) -> Response:
        here, asked = _here(user, 1), Asked.of(form)
        page_id = access.unsealed(form.get("seal", ""), Seal(user.get_id(), act, asked))
        if act not in ACTS or page_id is None:
            raise HTTPException(403, NO_SEAL)
        why = one_line(" ".join(form.get("reason", "").split()))[:LONGEST_REASON]

        def tell() -> Answer:
            if not why:
                return self._confirming(here, user, act, asked, fault=NO_REASON, status=422)
            acts = self.board.acts
            try:
                move = acts.do(act, asked, who=here.reader, why=why, move_id=f"airflow:{page_id}")
            except OvertakenError as error:
                return self._confirming(here, user, act, asked, why=why, fault=str(error), status=409)
            except StorageError:
                raise
            except LtrError as error:
                return Answer(page.message_page(here, "Nothing was done", str(error)), 409)
            return gone_to(f"../done/{move.seq}")

        return _told(here, tell)

    def _answer(self, user: BaseUser, form: Mapping[str, Sequence[str]]) -> Response:
        seal = form.get("seal", [""])[0]
        _check(access.unsealed(seal, Seal(user.get_id(), ANSWER, ())) is not None, NO_SEAL)
        here = _answering(_here(user), user)
        return _told(here, lambda: self.board.answers.answered(form, here))


def board_app() -> FastAPI:
    """Return the app; it describes itself to nobody, as its own pages for that would be open to all."""
    app, pages = FastAPI(dependencies=[READ], docs_url=None, redoc_url=None, openapi_url=None), _Pages()
    app.add_exception_handler(StarletteHTTPException, _refused)
    for path, answer in (
        ("/", pages.overview),
        ("/run", pages.report_of),
        ("/reports/{run}", pages.report),
        ("/drift/{feature:path}", pages.feature),
        (f"/{COMPARE}", pages.compare),
        ("/done/{seq}", pages.done),
        ("/act/{act}", pages.confirm),
        ("/{name}", pages.named),
    ):
        app.get(path)(answer)
    app.post("/act/{act}")(pages.do)
    app.post(f"/{ANSWER}")(pages.answer)
    return app


def _here(user: BaseUser, depth: int = 0) -> Here:
    return Here(Links(depth), acts=access.may_act(user), answers=False, reader=one_line(user.get_name()))


def _answering(here: Here, user: BaseUser) -> Here:
    """Return the place of the page of recommendations."""
    seal = access.sealed(Seal(user.get_id(), ANSWER, ()))
    return replace(here, answers=access.may_answer(user), seal=seal)


def _check(holds: bool, else_said: str) -> None:
    if not holds:
        raise HTTPException(403, else_said)


def _told(here: Here, tell: Callable[[], Answer]) -> Response:
    answer = told(here, tell)
    return HTMLResponse(answer.content, answer.status, answer.headers)


async def _form(request: Request) -> dict[str, list[str]]:
    """Return the fields of a form that a page of this Airflow sends."""
    if refused := access.not_from_us(request.headers):
        raise HTTPException(403, f"This form is refused: {refused}.")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise HTTPException(415, "Send the form of a page of the board.")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LONGEST_FORM:
            break
    try:
        return fields(body, LONGEST_FORM)
    except RequestError as error:
        raise HTTPException(413, str(error)) from None


async def _refused(request: Request, error: Exception) -> Response:
    """Say on a page why somebody is not let in, as it is shown in a frame."""
    assert isinstance(error, StarletteHTTPException)  # noqa: S101 - it is registered for no other
    depth = request.url.path.removeprefix(request.scope["root_path"]).strip("/").count("/")
    title = TITLES.get(error.status_code, "Refused")
    answer = Answer(page.message_page(Here(Links(depth)), title, str(error.detail)), error.status_code)
    return HTMLResponse(answer.content, answer.status, answer.headers | dict(error.headers or {}))
