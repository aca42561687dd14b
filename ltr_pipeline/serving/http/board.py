"""The board, mounted: its pages, a login that takes a key, and the reports of the nights."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from ltr_pipeline.board import page
from ltr_pipeline.board.answers import Answer, Answers, gone_to
from ltr_pipeline.board.asked import LONGEST_FORM, fields
from ltr_pipeline.board.links import COMPARE, PAGES, Links
from ltr_pipeline.errors import RequestError
from ltr_pipeline.serving.http import session
from ltr_pipeline.serving.http.auth import RefusedError, check_own, is_local
from ltr_pipeline.serving.http.bodies import FORM, BodyError

if TYPE_CHECKING:
    from ltr_pipeline.serving.http.app import Parts

__all__ = ["BOARD", "add_board"]

BOARD: Final = "/board/"

UNKNOWN_KEY: Final = "This key is not known."
CROWDED: Final = "Too many keys are being tried; wait a moment."
OTHERS: Final = "This page names people: it is shown on this machine only while no key is set; set LTR_API_KEYS."
NAMES_PEOPLE: Final = ("predictions", "recommendations")

_GOAL: Final = re.compile(r"[A-Za-z0-9_.~%=&?/-]*")
LONGEST_GOAL: Final = 512
LONGEST_LOGIN: Final = 8192  # bytes


class _Board:
    """Answers what is asked of the board."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._keys = parts.settings.keys
        self._logins = session.Logins()
        self._answers = Answers(parts.settings, parts.kept)

    def slash(self) -> Response:
        return _to("board/")

    def overview(self, request: Request) -> Response:
        return self._shown(request, "overview")

    def named(self, request: Request, name: str) -> Response:
        return self._shown(request, "" if name == "overview" else name)

    def compare(self, request: Request) -> Response:
        here = self._here(request)
        return self._barred(request) or _page(self._answers.compare(request.query_params, here))

    def feature(self, request: Request, feature: str) -> Response:
        here = self._here(request, 1)
        return self._barred(request, 1) or _page(self._answers.feature(feature, request.query_params, here))

    def report(self, request: Request, run: str) -> Response:
        return self._barred(request, 1) or _page(self._answers.report(run, self._here(request, 1)))

    def login(self, request: Request) -> Response:
        if session.may_read(request.headers, self._keys):
            return _to("./")
        goal = _goal(request.query_params.get("goal", ""))
        return _page(Answer(page.login_page(self._here(request), goal)))

    async def enter(self, request: Request) -> Response:
        if away := self._foreign(request):
            return away
        given = await self._form(request, LONGEST_LOGIN)
        key, goal = given.get("key", [""])[0].strip(), _goal(given.get("goal", [""])[0])
        allowed = await self._logins.allow(key, self._keys)
        if not allowed:
            said, status = (CROWDED, 429) if allowed is None else (UNKNOWN_KEY, 401)
            return _page(Answer(page.login_page(self._here(request), goal, said), status))
        answer = _to(f"./{goal}")
        value = await run_in_threadpool(session.opened, key)
        answer.headers["set-cookie"] = _cookie(request, value, session.SECONDS)
        return answer

    def leave(self, request: Request) -> Response:
        if away := self._foreign(request):
            return away
        answer = _to("login" if self._keys else "./")
        answer.headers["set-cookie"] = _cookie(request, "", 0)
        return answer

    async def answer(self, request: Request) -> Response:
        """Take an answer to recommendations."""
        here = self._here(request)
        try:
            session.may_write(request.headers, self._keys, request.client.host if request.client else None)
        except RefusedError as error:
            return _page(Answer(page.message_page(here, "No entry", str(error)), error.status))
        given = await self._form(request, LONGEST_FORM)
        return _page(await run_in_threadpool(self._answers.answered, given, here))

    async def _form(self, request: Request, longest: int) -> dict[str, list[str]]:
        """Return the fields of a form; BodyError where it is too large."""
        body = await self._parts.bodies.read(request, FORM)
        try:
            return fields(body, longest)
        except RequestError as error:
            raise BodyError(413, str(error)) from None

    def _shown(self, request: Request, name: str) -> Response:
        if barred := self._barred(request):
            return barred
        here = self._here(request)
        if name in NAMES_PEOPLE and not self._keys and not _is_local(request):
            return _page(Answer(page.message_page(here, PAGES[name], OTHERS), 403))
        return _page(self._answers.page(name, request.query_params, here))

    def _here(self, request: Request, depth: int = 0) -> page.Here:
        leave = bool(self._keys) and session.reads(request.headers, self._keys)
        return page.Here(Links(depth), ranks=self._parts.models.current.version, leave=leave)

    def _barred(self, request: Request, depth: int = 0) -> Response | None:
        """Return the way to the login for whoever may not read; None for who may."""
        if session.may_read(request.headers, self._keys):
            return None
        if "x-api-key" in request.headers:
            told = page.message_page(page.Here(Links(depth)), "No entry", "the key in X-API-Key is not known")
            return _page(Answer(told, 403))
        goal = request.url.path.partition(BOARD)[2] + (f"?{request.url.query}" if request.url.query else "")
        return _to(f"{'../' * depth}login" + (f"?{urlencode({'goal': goal})}" if goal else ""))

    def _foreign(self, request: Request) -> Response | None:
        """Return a refusal where a browser sends a form for a page of another site; None elsewhere."""
        try:
            check_own(request.headers)
        except RefusedError as error:
            told = page.message_page(page.Here(Links()), "No entry", str(error))
            return _page(Answer(told, error.status))
        return None


def add_board(app: FastAPI, parts: Parts) -> None:
    """Add the board's routes, which are for people and no part of the described API."""
    board, routes = _Board(parts), APIRouter(include_in_schema=False)
    for path, answer in (
        ("/board", board.slash),
        ("/board/", board.overview),
        ("/board/login", board.login),
        ("/board/drift/{feature:path}", board.feature),
        ("/board/reports/{run}", board.report),
        (f"/board/{COMPARE}", board.compare),
        ("/board/{name}", board.named),
    ):
        routes.get(path)(answer)
    routes.post("/board/login")(board.enter)
    routes.post("/board/logout")(board.leave)
    routes.post("/board/recommendations")(board.answer)
    app.include_router(routes)


def _page(answer: Answer) -> Response:
    return HTMLResponse(answer.content, answer.status, answer.headers)


def _to(address: str) -> Response:
    """Send a browser elsewhere on the board."""
    return _page(gone_to(address))


def _is_local(request: Request) -> bool:
    return is_local(request.headers, request.client.host if request.client else None)


def _goal(given: str) -> str:
    """Return the page to go to after the login, if it is one of the board's: below it, and nowhere else."""
    fits = len(given) <= LONGEST_GOAL and _GOAL.fullmatch(given) and not given.startswith("/") and ".." not in given
    return given if fits else ""


def _cookie(request: Request, value: str, seconds: int) -> str:
    """Return the header that sets or ends the session, for the folder that the browser sees the board in.

    Without a path the cookie holds for that folder, whatever prefix a proxy has put before it.
    """
    secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto", "").startswith("https")
    flags = f"Max-Age={seconds}; HttpOnly; SameSite=Strict{'; Secure' if secure else ''}"
    return f"{session.COOKIE}={value}; {flags}"
