"""The board in Airflow's own pages, in a real browser: found, read, and acted on from the frame that it is shown in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, FrameLocator, Page

from ltr_pipeline.board.links import PAGES
from ltr_pipeline.settings import Settings
from support import axe
from support.apiserver import ApiServer
from support.board import NEWEST, registry_of
from support.browser import chromium
from support.kept import KEPT, KEPT_TOO
from support.small import RUN

pytestmark = pytest.mark.long

WAIT = 60_000  # ms: Airflow's pages load much before they show a frame
WIDTHS = {"phone": 390, "desk": 1280}
Opened = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opened]:
    """Open an address of an Airflow as somebody who has logged in."""
    contexts = []

    def open_page(airflow: ApiServer, path: str, user: str = "otto", scheme: str = "light", width: int = 1280) -> Page:
        context = browser.new_context(
            color_scheme=scheme,  # type: ignore[arg-type]
            viewport={"width": width, "height": 844},
            reduced_motion="reduce",
        )
        contexts.append(context)
        context.add_cookies([{"name": "_token", "value": airflow.token(user), "url": airflow.url}])
        context.set_default_timeout(WAIT)
        page = context.new_page()
        page.goto(f"{airflow.url}{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()


def framed(page: Page) -> FrameLocator:
    """The frame in which Airflow shows what a plugin has."""
    return page.frame_locator("iframe")


def confirm(frame: FrameLocator, button: str, reason: str) -> str:
    """Give a reason, do it, and return what the page says then."""
    frame.get_by_label("Reason").fill(reason)
    frame.get_by_role("button", name=button, exact=True).click()
    frame.get_by_role("heading", name="Done").wait_for()
    return frame.locator(".lead").inner_text()


def test_a_person_finds_the_board_rolls_back_pins_unpins_and_publishes(
    opened: Opened, beside_nights: ApiServer, nights: Settings
) -> None:
    page = opened(beside_nights, "/")
    page.get_by_role("link", name="LTR board").click()
    frame = framed(page)
    frame.get_by_role("heading", name=f"{nights.registry.promoted()} is in use").wait_for()

    frame.get_by_role("link", name="Nights", exact=True).click()
    frame.get_by_role("link", name=f"Publish run {KEPT_TOO} …").click()
    frame.get_by_text("scores its 5 golden requests").wait_for()
    assert frame.get_by_role("region", name="What the gate found").count() == 1
    frame.get_by_role("button", name="Publish").click()  # without a reason the browser asks for it
    assert frame.locator("textarea:invalid").count() == 1
    assert f"to {KEPT_TOO} (publish by otto: read fifty lists)" in confirm(frame, "Publish", "read fifty lists")

    frame.get_by_role("link", name="To the overview").click()
    frame.get_by_role("link", name="Pin …").click()
    assert "pin by otto: the fair is on" in confirm(frame, "Pin", "the fair is on")
    frame.get_by_role("link", name="To the overview").click()
    frame.get_by_role("link", name="Unpin …").click()
    assert "unpin by otto: it is over" in confirm(frame, "Unpin", "it is over")

    frame.get_by_role("link", name="To the overview").click()
    frame.get_by_role("link", name="Roll back …").click()
    frame.get_by_text("on the same").wait_for()  # the paired difference of the two
    assert frame.get_by_role("region", name="Figures of both").get_by_role("row").count() > 5
    done = confirm(frame, "Roll back", "offers dropped")
    move = nights.registry.history()[-1]
    assert (move.move, move.before, move.who, move.why) == ("rollback", KEPT_TOO, "otto", "offers dropped")
    assert (
        done == f"Latest moved from {KEPT_TOO} to {move.to} (rollback by otto: offers dropped), pinned until ltr unpin."
    )
    assert [each.move for each in nights.registry.history()[-4:]] == ["publish", "pin", "unpin", "rollback"]
    nights.registry.unpin(who="test", why="other tests publish, too")


def test_each_run_has_a_tab_with_its_own_report(opened: Opened, beside_nights: ApiServer) -> None:
    page = opened(beside_nights, "/dags/train_ltr_daily/runs/judged")
    page.get_by_role("link", name="LTR report").click()
    framed(page).get_by_text(f"Run {KEPT}").first.wait_for()
    page.goto(f"{beside_nights.url}/dags/train_ltr_daily/runs/not-judged/plugin/ltr-report")
    framed(page).get_by_text("This run has no report yet").wait_for()


def test_two_versions_stand_side_by_side(opened: Opened, beside_nights: ApiServer, nights: Settings) -> None:
    page = opened(beside_nights, f"/ltr/compare?one={RUN}&other={RUN}", "vera")
    assert page.get_by_role("heading", level=1).inner_text() == f"{RUN} beside {RUN}"
    page.goto(f"{beside_nights.url}/ltr/compare?one={RUN}&other=20200101_0215")
    assert "20200101_0215" in page.locator(".lead").inner_text()


def test_a_viewer_reads_and_is_offered_nothing(opened: Opened, beside_nights: ApiServer) -> None:
    page = opened(beside_nights, "/plugin/ltr-board", "vera")
    framed(page).get_by_text("you may read, and not roll back or publish").wait_for()
    assert framed(page).get_by_role("link", name="Roll back").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_and_all_fits_a_phone_and_a_desk(
    opened: Opened, beside_nights: ApiServer, simple: ApiServer, scheme: str
) -> None:
    acts = ("act/rollback", f"act/publish?run={KEPT}", "act/pin", "act/unpin", "done/1", "compare")
    places = [*(f"/ltr/{name if name != 'overview' else ''}" for name in PAGES), *(f"/ltr/{act}" for act in acts)]
    page = opened(beside_nights, "/ltr/", scheme=scheme)
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    for place in places:
        for width in WIDTHS.values():
            page.set_viewport_size({"width": width, "height": 844})
            page.goto(f"{beside_nights.url}{place}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, place
        assert page.locator("h1").count() == 1
        assert axe.problems(page) == [], place
    assert [text for text in wrong if "404" not in text] == []


def test_below_a_path_behind_which_people_see_airflow_all_of_it_works(
    opened: Opened, tmp_path: Path, simple: ApiServer
) -> None:
    """`[api] base_url` has a path, as behind a company's proxy."""
    folder = simple.folder.parent
    registry = registry_of(folder)
    places = {"LTR_DATA_URI": str(folder / "data"), "LTR_REGISTRY_URI": str(folder / "registry")}
    with ApiServer(tmp_path / "airflow", path="/tools/airflow", **places) as airflow:
        page = opened(airflow, "/plugin/ltr-board")
        frame = framed(page)
        frame.get_by_role("heading", name=f"{NEWEST} is in use").wait_for()
        frame.get_by_role("link", name="Versions", exact=True).click()
        frame.get_by_role("heading", name="Versions", level=1).wait_for()
        frame.get_by_role("link", name="Overview", exact=True).click()
        frame.get_by_role("link", name="Pin …").click()
        confirm(frame, "Pin", "below a path")
        frame.get_by_role("link", name="To the overview").click()
        frame.get_by_role("link", name="Unpin …").click()
        confirm(frame, "Unpin", "it worked")
        assert [(move.move, move.why) for move in registry.history()[-2:]] == [
            ("pin", "below a path"),
            ("unpin", "it worked"),
        ]
        page.goto(f"{airflow.url}/ltr/act/nothing")
        page.get_by_role("link", name="To the overview").click()
        page.wait_for_url(f"{airflow.url}/ltr/")
