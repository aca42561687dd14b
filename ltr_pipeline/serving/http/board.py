"""The board, mounted: its pages, a login that takes a key, and the reports of the nights."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlencode

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from ltr_pipeline.board import page
from ltr_pipeline.board.asked import asked
from ltr_pipeline.board.links import PAGES, Links
from ltr_pipeline.errors import NotFoundError, RequestError, StorageError
from ltr_pipeline.serving.http import session
from ltr_pipeline.serving.http.auth import RefusedError, check_own, is_local
from ltr_pipeline.serving.http.bodies import FORM
from ltr_pipeline.versions.documents import is_id

if TYPE_CHECKING:
    from ltr_pipeline.serving.http.app import Parts

__all__ = ["BOARD", "add_board"]

BOARD: Final = "/board/"

HEADERS: Final = {
    "cache-control": "no-store",
    "referrer-policy": "same-origin",  # with no-referrer, browsers would send their own forms without an origin
    "x-content-type-options": "nosniff",
}
REPORT_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
FRAMES: Final = "; frame-ancestors 'self'"

UNKNOWN_KEY: Final = "This key is not known."
CROWDED: Final = "Too many keys are being tried; wait a moment."
OTHERS: Final = "Lists name users: they are shown on this machine only while no key is set; set LTR_API_KEYS."

_GOAL: Final = re.compile(r"[A-Za-z0-9_.~%=&?/-]*")
LONGEST_GOAL: Final = 512


def add_board(app: FastAPI, parts: Parts) -> None:
    """Add the board's routes, and warm up what the first page would wait for."""
    routes = APIRouter(include_in_schema=False)
    logins, keys = session.Logins(), parts.settings.keys

    def here(request: Request, depth: int = 0) -> page.Here:
        leave = bool(keys) and session.reads(request.headers, keys)
        return page.Here(Links(depth), ranks=parts.models.current.version, leave=leave)

    def barred(request: Request, depth: int = 0) -> Response | None:
        """Return the way to the login for whoever may not read; None for who may."""
        if session.may_read(request.headers, keys):
            return None
        if "x-api-key" in request.headers:
            return _page(page.message_page(page.Here(Links(depth)), "No entry", "the key in X-API-Key is not known"), 403)
        goal = str(request.url.path).partition(BOARD)[2] + (f"?{request.url.query}" if request.url.query else "")
        return _to(f"{'../' * depth}login" + (f"?{urlencode({'goal': goal})}" if goal else ""))

    @routes.get("/board")
    def slash() -> Response:
        return _to("board/")

    def shown(request: Request, name: str) -> Response:
        if away := barred(request):
            return away
        local = is_local(request.headers, request.client.host if request.client else None)
        if name == "predictions" and not keys and not local:
            return _page(page.message_page(here(request), PAGES[name], OTHERS), 403)
        words = asked(request.query_params)
        report = parts.kept.reader.drift(words.date) if name == "drift" else None
        lists = parts.kept.lists() if name == "predictions" else ()
        return _page(page.render(name, parts.kept.facts(), words, here(request), report=report, lists=lists))

    @routes.get("/board/")
    def overview(request: Request) -> Response:
        return _told(lambda: shown(request, "overview"), here(request))

    @routes.get("/board/login")
    def login(request: Request) -> Response:
        if not keys or session.may_read(request.headers, keys):
            return _to("./")
        return _page(page.login_page(here(request), _goal(request.query_params.get("goal", ""))))

    @routes.post("/board/login")
    async def enter(request: Request) -> Response:
        try:
            check_own(request.headers)
        except RefusedError as error:
            return _page(page.message_page(here(request), "No entry", str(error)), error.status)
        given = parse_qs((await parts.bodies.read(request, FORM)).decode(errors="replace"), max_num_fields=10)
        key, goal = given.get("key", [""])[0].strip(), _goal(given.get("goal", [""])[0])
        allowed = await logins.allow(key, keys)
        if not allowed:
            said, status = (CROWDED, 429) if allowed is None else (UNKNOWN_KEY, 401)
            return _page(page.login_page(here(request), goal, said), status)
        answer = _to(f"./{goal}")
        value = await run_in_threadpool(session.opened, key)
        answer.headers["set-cookie"] = _cookie(request, value, session.SECONDS)
        return answer

    @routes.post("/board/logout")
    def leave(request: Request) -> Response:
        try:
            check_own(request.headers)
        except RefusedError as error:
            return _page(page.message_page(here(request), "No entry", str(error)), error.status)
        answer = _to("login" if keys else "./")
        answer.headers["set-cookie"] = _cookie(request, "", 0)
        return answer

    @routes.get("/board/drift/{feature:path}")
    def feature(request: Request, feature: str) -> Response:
        if away := barred(request, 1):
            return away

        def told() -> Response:
            words = asked(request.query_params)
            report = parts.kept.reader.drift(words.date)
            found = page.feature_page(parts.kept.facts(), words, here(request, 1), report, feature)
            return _page(found) if found else _missing(here(request, 1), "nothing is known of this feature on that day")

        return _told(told, here(request, 1))

    @routes.get("/board/reports/{run}")
    def report(request: Request, run: str) -> Response:
        if away := barred(request, 1):
            return away
        try:
            if not is_id(run):
                raise NotFoundError(run)
            return _page(parts.kept.reader.report(run), policy=REPORT_POLICY)
        except NotFoundError:
            return _missing(here(request, 1), "there is no report of this night")
        except StorageError as error:
            return _page(page.message_page(here(request, 1), "Not now", str(error)), 503)

    @routes.get("/board/{name}")
    def one(request: Request, name: str) -> Response:
        if name not in PAGES or name == "overview":
            return barred(request) or _missing(here(request), "there is no such page")
        return _told(lambda: shown(request, name), here(request))

    app.include_router(routes)


def _told(tell: Callable[[], Response], here: page.Here) -> Response:
    """Return a page, or one that says what is wrong with what was asked, or with the storage."""
    try:
        return tell()
    except RequestError as error:
        return _page(page.message_page(here, "This address is wrong", str(error)), 422)
    except StorageError as error:
        return _page(page.message_page(here, "Not now", str(error)), 503)


def _missing(here: page.Here, said: str) -> Response:
    return _page(page.message_page(here, "Nothing here", said), 404)


def _page(content: str | bytes, status: int = 200, policy: str = "") -> Response:
    headers = HEADERS | {"content-security-policy": (policy or page.policy()) + FRAMES}
    return HTMLResponse(content, status, headers)


def _to(address: str) -> Response:
    """Send a browser elsewhere on the board: relative, so that a prefix or a proxy in front changes nothing."""
    return Response(status_code=303, headers=HEADERS | {"location": address})


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
