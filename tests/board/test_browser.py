"""The board in a real browser: nothing is missing under its policy, and nobody is kept out."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Page

from ltr_pipeline.batch.rank import rank
from ltr_pipeline.board.files import write_files
from ltr_pipeline.board.links import PAGES
from support import axe
from support.browser import chromium
from support.databases import model, on_sqlite, opened
from support.history import DAY, DRIFTED, MOVED, name_of, reader_of
from support.recommending import RANK, candidates
from support.service import Server

KEY = "a-key-for-the-browser"
PLACES = [
    "",
    *(name for name in PAGES if name != "overview"),
    f"drift/{MOVED}?date=2025-07-06",
    "drift?date=2025-07-06",
]
WIDTHS = {"phone": 390, "desk": 1280}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def server(month_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    url = on_sqlite(tmp_path_factory.mktemp("database"))
    with opened(url) as database:
        candidates(database, 3)
        rank(database, "best", RANK, model(), size=100)
    given = {"LTR_DATA_URI": str(month_folder / "data"), "LTR_REGISTRY_URI": str(month_folder), "S3_PREFIX": "registry"}
    given["LTR_DATABASE_URL"] = url
    with Server(tmp_path_factory.mktemp("service"), given, LTR_API_KEYS=KEY) as server:
        yield server


class Visit:
    """A page, and what went wrong on it: errors, and requests to elsewhere."""

    def __init__(self, page: Page, home: str) -> None:
        self.page = page
        self.wrong: list[str] = []
        page.on("console", lambda message: self.wrong.append(message.text))
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", lambda asked: self._look(asked.url, home))

    def _look(self, url: str, home: str) -> None:
        if not url.startswith((home, "data:")):
            self.wrong.append(url)


@pytest.fixture(scope="module", params=["light", "dark"])
def visit(request: pytest.FixtureRequest, browser: Browser, server: Server) -> Iterator[Visit]:
    """Somebody who has logged in."""
    context = browser.new_context(color_scheme=request.param, reduced_motion="reduce")
    visit = Visit(context.new_page(), server.url)
    visit.page.goto(f"{server.url}/board/drift")
    visit.page.get_by_label("Key").fill(KEY)
    visit.page.get_by_role("button", name="Log in").click()
    visit.page.wait_for_url("**/board/drift")
    yield visit
    context.close()


@pytest.mark.parametrize("place", PLACES)
def test_pages_fit_a_phone_and_a_desk_and_nothing_is_refused(visit: Visit, server: Server, place: str) -> None:
    for width in WIDTHS.values():
        visit.page.set_viewport_size({"width": width, "height": 844})
        visit.page.goto(f"{server.url}/board/{place}")
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
        assert visit.page.locator("h1").count() == 1
        styled = visit.page.evaluate("getComputedStyle(document.querySelector('main')).maxWidth")
        assert styled != "none"  # the policy has let the style sheet in
    assert visit.wrong == []


@pytest.mark.parametrize("place", PLACES)
def test_axe_finds_nothing_serious(visit: Visit, server: Server, place: str) -> None:
    dark = visit.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    visit.page.set_viewport_size({"width": WIDTHS["phone" if dark else "desk"], "height": 844})
    visit.page.goto(f"{server.url}/board/{place}")
    visit.page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert axe.problems(visit.page) == []


def test_axe_finds_what_is_wrong(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content("<html><title>x</title><main><img src='data:,'><p style='color:#ccc;background:#fff'>pale</p>")
    found = "\n".join(axe.problems(page))
    page.close()
    assert "image-alt" in found
    assert "color-contrast" in found


def test_the_login_and_a_wrong_key(browser: Browser, server: Server) -> None:
    page = browser.new_page()
    page.goto(f"{server.url}/board/nights")
    assert axe.problems(page) == []
    page.get_by_label("Key").fill("not-one-of-the-keys")
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    assert axe.problems(page) == []
    assert page.get_by_label("Key").input_value() == ""
    page.get_by_label("Key").fill(KEY)
    page.keyboard.press("Enter")
    page.wait_for_url("**/board/nights")
    assert "key" not in urlsplit(page.url).query
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/board/login")
    page.goto(f"{server.url}/board/nights")
    assert "/board/login" in page.url
    page.context.close()


def test_a_keyboard_reaches_content_and_every_page(visit: Visit, server: Server) -> None:
    page = visit.page
    page.goto(f"{server.url}/board/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    box = page.evaluate("document.activeElement.getBoundingClientRect().left")
    assert box >= 0  # it comes into view
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.goto(f"{server.url}/board/")
    seen = set()
    for _ in range(len(PAGES) + 2):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.textContent"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert set(PAGES.values()) <= seen


def test_a_screen_reader_finds_landmarks_headings_and_tables(visit: Visit, server: Server) -> None:
    page = visit.page
    page.goto(f"{server.url}/board/drift?date=2025-07-0{15 - DRIFTED[0]}")
    assert page.get_by_role("banner").count() == 1
    assert page.get_by_role("main").count() == 1
    assert page.get_by_role("contentinfo").count() == 1
    assert (
        page.get_by_role("navigation", name="Pages").get_by_role("link", name="Drift").get_attribute("aria-current")
        == "page"
    )
    heat = page.get_by_role("table", name="Features by day: distance from the references")
    assert heat.get_by_role("row").count() == 9
    strip = heat.get_by_role("row").nth(1).get_by_role("img")
    assert "in alert on 6 Jul 2025 and 7 Jul 2025" in str(strip.get_attribute("aria-label"))
    heat.get_by_role("link", name=MOVED, exact=True).click()
    page.wait_for_url("**/drift/S**")
    assert page.get_by_role("heading", level=1).inner_text() == MOVED


def test_a_night_is_one_click_from_its_report(visit: Visit, server: Server) -> None:
    page = visit.page
    page.goto(f"{server.url}/board/nights")
    page.get_by_role("link", name="15 Jul 2025").click()
    page.wait_for_url(f"**/board/reports/{name_of(DAY)}")
    assert page.get_by_role("heading", level=1).inner_text() == f"Published {name_of(DAY)}"


def test_files_work_from_a_disk(browser: Browser, month_folder: Path, tmp_path: Path) -> None:
    first = write_files(tmp_path / "board", reader_of(month_folder))
    page = browser.new_page()
    visit = Visit(page, (tmp_path / "board").as_uri())
    page.goto(first.as_uri())
    for label in PAGES.values():
        page.get_by_role("navigation", name="Pages").get_by_role("link", name=label).click()
        assert page.locator("nav [aria-current=page]").inner_text() == label
        assert page.evaluate("getComputedStyle(document.querySelector('main')).maxWidth") != "none"
    page.goto((tmp_path / "board" / "drift.html").as_uri())
    page.get_by_role("table", name="Features by day").get_by_role("link", name="S", exact=True).click()
    page.get_by_role("link", name="Drift of the data").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Drift of the data"
    assert visit.wrong == []
    page.close()


class Prefix(BaseHTTPRequestHandler):
    """A proxy that has the service below a prefix, as a company's one address for many tools."""

    PREFIX = "/tools/ltr"
    target: Server

    def do_GET(self) -> None:
        self._pass_on()

    def do_POST(self) -> None:
        self._pass_on()

    def log_message(self, *_: object) -> None: ...

    def _pass_on(self) -> None:
        if not self.path.startswith(f"{self.PREFIX}/"):
            self.send_error(404)
            return
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        sent = {name: value for name, value in self.headers.items() if name.lower() != "accept-encoding"}
        path = self.path.removeprefix(self.PREFIX)
        answer = httpx.request(self.command, f"{self.target.url}{path}", headers=sent, content=body, trust_env=False)
        self.send_response(answer.status_code)
        for name, value in answer.headers.multi_items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.content)


@pytest.fixture
def prefixed(server: Server) -> Iterator[str]:
    handler = type("Handler", (Prefix,), {"target": server})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{proxy.server_port}{Prefix.PREFIX}"
        proxy.shutdown()
        thread.join()


def test_below_a_prefix_behind_a_proxy_login_and_links_work(browser: Browser, prefixed: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{prefixed}/board/nights")
    assert page.url.startswith(f"{prefixed}/board/login")
    page.get_by_label("Key").fill(KEY)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{prefixed}/board/nights")
    assert [cookie["path"] for cookie in context.cookies()] == [f"{Prefix.PREFIX}/board"]
    page.get_by_role("link", name="Drift").click()
    page.get_by_role("link", name=MOVED, exact=True).first.click()
    assert page.get_by_role("heading", level=1).inner_text() == MOVED
    page.goto(f"{prefixed}/board")
    assert page.url == f"{prefixed}/board/"
    context.close()


def test_a_person_marks_a_row_rejects_it_and_approves_the_rest(visit: Visit, server: Server) -> None:
    page = visit.page
    page.set_viewport_size({"width": WIDTHS["phone"], "height": 844})
    page.goto(f"{server.url}/board/recommendations")
    if page.get_by_role("button", name="Approve").count() == 0:  # answered by the one before, in other colours
        return
    page.get_by_role("button", name="Approve").click()  # without a name: the browser asks for it
    assert page.evaluate("document.activeElement.name") == "who"
    page.get_by_label("l2 for 1").check()
    page.get_by_label("to the marked ones alone").check()
    page.get_by_label("Your name").fill("Ana")
    page.get_by_label("Reason").fill("on leave")
    page.get_by_role("button", name="Reject").click()
    page.get_by_text("5 recommendations of run 1 of best wait for an answer.").wait_for()
    page.get_by_label("Your name").fill("Ana")
    page.get_by_label("Reason").fill("")
    page.get_by_label("Reason").fill("as in the meeting")
    page.keyboard.press("Enter")  # as the first button does
    page.get_by_text("Nothing waits for an answer.").wait_for()
    assert page.get_by_text("Ana, by the board").count() == 6
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS["phone"]
    assert visit.wrong == []
