"""The board as it is served: who may read, by which session, under which policy, and what wrong addresses get."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from ltr_pipeline.board.links import PAGES
from ltr_pipeline.serving.http import session
from ltr_pipeline.versions.registry import Registry
from support.history import DAY, Quick, name_of, write_history
from support.service import Server

KEYS = ("first-key-of-the-board", "second-key-of-the-board")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("board")
    write_history(Quick(folder / "data"), Registry(Quick(folder / "registry" / "ltr")).ledger)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Asks for keys."""
    given = {"LTR_DATA_URI": str(folder / "data"), "LTR_REGISTRY_URI": str(folder / "registry")}
    with Server(tmp_path_factory.mktemp("keys"), given, LTR_API_KEYS=" ".join(KEYS)) as server:
        yield server


@pytest.fixture(scope="module")
def keyless(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    given = {"LTR_DATA_URI": str(folder / "data"), "LTR_REGISTRY_URI": str(folder / "registry")}
    with Server(tmp_path_factory.mktemp("keyless"), given) as server:
        yield server


def visitor(server: Server) -> httpx.Client:
    """A browser of its own."""
    return httpx.Client(base_url=server.url, timeout=60, trust_env=False)


def log_in(client: httpx.Client, key: str = KEYS[0], goal: str = "", **headers: str) -> httpx.Response:
    return client.post("/board/login", data={"key": key, "goal": goal}, headers=headers)


class TestWhoMayRead:
    @pytest.mark.parametrize("page", ["", *(name for name in PAGES if name != "overview")])
    def test_without_a_key_the_login_is_the_way(self, server: Server, page: str) -> None:
        with visitor(server) as client:
            answer = client.get(f"/board/{page}?days=30")
            assert answer.status_code == 303
            where = urlsplit(answer.headers["location"])
            assert where.path == "login"
            assert parse_qs(where.query)["goal"] == [f"{page}?days=30"]
            assert "nDCG" not in answer.text

    def test_features_and_reports_are_barred_too(self, server: Server) -> None:
        with visitor(server) as client:
            for page in ("drift/S", f"reports/{name_of(DAY)}"):
                answer = client.get(f"/board/{page}")
                assert answer.status_code == 303
                assert answer.headers["location"].startswith("../login?goal=")
            assert client.get("/board/anything").status_code == 303

    def test_a_key_opens_a_session_and_leaving_ends_it(self, server: Server) -> None:
        with visitor(server) as client:
            assert "<h1>Log in</h1>" in client.get("/board/login").text
            entered = log_in(client, KEYS[1], goal="drift/S?days=90")
            assert (entered.status_code, entered.headers["location"]) == (303, "./drift/S?days=90")
            page = client.get("/board/nights")
            assert page.status_code == 200
            assert "Log out" in page.text
            assert client.get("/board/login").headers["location"] == "./"
            left = client.post("/board/logout")
            assert (left.status_code, left.headers["location"]) == (303, "login")
            assert client.get("/board/nights").status_code == 303

    def test_the_header_opens_every_page(self, server: Server) -> None:
        with visitor(server) as client:
            assert client.get("/board/nights", headers={"x-api-key": KEYS[0]}).status_code == 200
            refused = client.get("/board/nights", headers={"x-api-key": "another-key-altogether"})
            assert refused.status_code == 403
            assert "not known" in refused.text

    def test_a_cookie_says_nothing_of_the_key_and_keeps_to_itself(self, server: Server) -> None:
        with visitor(server) as client:
            cookie = log_in(client).headers["set-cookie"]
            assert re.fullmatch(r"ltr_board=\S+; Max-Age=28800; HttpOnly; SameSite=Strict", cookie)
            assert KEYS[0] not in cookie
        with visitor(server) as client:
            assert log_in(client, **{"X-Forwarded-Proto": "https"}).headers["set-cookie"].endswith("; Secure")

    @pytest.mark.parametrize("key", ["", "wrong", "a-key-that-is-long-enough", KEYS[0][:-1], "ü" * 20])
    def test_wrong_keys_are_answered_alike_and_late(self, server: Server, key: str) -> None:
        with visitor(server) as client:
            begin = time.monotonic()
            answer = log_in(client, key)
            assert time.monotonic() - begin >= session.PAUSE_SECONDS
            assert answer.status_code == 401
            assert "This key is not known." in answer.text
            assert "set-cookie" not in answer.headers
            if key:
                assert key not in answer.text

    def test_many_wrong_keys_at_once_are_refused(self, server: Server) -> None:
        async def together() -> list[int]:
            async with httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client:
                tries = [client.post("/board/login", data={"key": f"wrong-{number}"}) for number in range(20)]
                return [answer.status_code for answer in await asyncio.gather(*tries)]

        statuses = asyncio.run(together())
        assert set(statuses) == {401, 429}
        assert statuses.count(401) < 2 * session.AT_ONCE

    def test_no_key_and_no_session_is_logged(self, server: Server) -> None:
        with visitor(server) as client:
            value = log_in(client).cookies["ltr_board"]
            client.get("/board/")
        server.until(lambda: '"path":"/board/login"' in server.log)
        assert not any(key in server.log for key in (*KEYS, value))

    @pytest.mark.parametrize(
        "headers",
        [
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
        ],
    )
    def test_forms_of_other_sites_are_refused(self, server: Server, headers: dict[str, str]) -> None:
        with visitor(server) as client:
            answer = log_in(client, **headers)
            assert answer.status_code == 403
            assert "set-cookie" not in answer.headers
            log_in(client)
            assert client.post("/board/logout", headers=headers).status_code == 403
            assert client.get("/board/").status_code == 200

    def test_a_login_is_a_small_form(self, server: Server) -> None:
        with visitor(server) as client:
            assert client.post("/board/login", json={"key": KEYS[0]}).status_code == 415
            assert client.post("/board/login", data={"key": "x" * 9000}).status_code == 413

    @pytest.mark.parametrize(
        "goal",
        ["//evil.example", "/ltr/health", "https://evil.example", "../docs", "a\r\nset-cookie: x", "x" * 600, "\\x"],
    )
    def test_the_way_after_the_login_stays_on_the_board(self, server: Server, goal: str) -> None:
        with visitor(server) as client:
            assert log_in(client, goal=goal).headers["location"] == "./"

    def test_without_keys_the_pages_are_open_but_lists_stay_here(self, keyless: Server) -> None:
        with visitor(keyless) as client:
            assert client.get("/board/nights").status_code == 200
            assert client.get("/board/login").headers["location"] == "./"
            assert client.get("/board/predictions").status_code == 200
            away = client.get("/board/predictions", headers={"X-Forwarded-For": "192.0.2.7"})
            assert away.status_code == 403
            assert "LTR_API_KEYS" in away.text


class TestSessions:
    def test_it_ends_by_itself(self) -> None:
        now = time.time()
        cookie = {"cookie": f"ltr_board={session.opened(KEYS[0], lambda: now)}"}
        assert session.reads(cookie, KEYS, lambda: now + session.SECONDS - 2)
        assert not session.reads(cookie, KEYS, lambda: now + session.SECONDS + 1)

    def test_it_ends_with_its_key(self) -> None:
        cookie = {"cookie": f"ltr_board={session.opened(KEYS[0])}"}
        assert session.reads(cookie, KEYS)
        assert not session.reads(cookie, KEYS[1:])
        assert not session.reads(cookie, ())

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "1",
            "1.9999999999.abc",
            "1.9999999999.abc.",
            "2.9999999999.abc.{signature}",
            "1.99999999999.{nonce}.{signature}",
            "1.{until}.{nonce}x.{signature}",
            "1.{until}.{nonce}.{signature}0",
            "1.-1.{nonce}.{signature}",
            "1.٣.{nonce}.{signature}",
        ],
    )
    def test_what_was_altered_opens_nothing(self, value: str) -> None:
        _, until, nonce, signature = session.opened(KEYS[0]).split(".")
        altered = value.format(until=until, nonce=nonce, signature=signature)
        assert not session.reads({"cookie": f"ltr_board={altered}"}, KEYS)

    def test_other_cookies_do_not_matter(self) -> None:
        mine = session.opened(KEYS[0])
        assert session.reads({"cookie": f"a=b; ltr_board={mine}; c=d"}, KEYS)
        assert not session.reads({"cookie": "\x00=;;=;\xff"}, KEYS)
        assert not session.reads({}, KEYS)


class TestPages:
    def test_headers_let_no_script_in_and_keep_no_copy(self, keyless: Server) -> None:
        for path in ("/board/", "/board/drift/S", "/board/nothing", "/board/nights?page=-1"):
            headers = keyless.http.get(path).headers
            policy = headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; style-src 'sha256-")
            assert "unsafe" not in policy
            assert policy.endswith("frame-ancestors 'self'")
            assert headers["cache-control"] == "no-store"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["content-type"] == "text/html; charset=utf-8"

    def test_a_report_is_one_click_away_and_under_a_policy_of_its_own(self, keyless: Server) -> None:
        answer = keyless.http.get(f"/board/reports/{name_of(DAY)}")
        assert f"Published {name_of(DAY)}" in answer.text
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline'")
        for run in ("20200101_0215", "nothing", "..%2f..%2fdecision.json", "%2e%2e"):
            assert keyless.http.get(f"/board/reports/{run}").status_code == 404

    @pytest.mark.parametrize("words", ["page=-1", "page=one", "days=31", "date=yesterday", "until=2025-02-30"])
    @pytest.mark.parametrize("page", ["", "nights", "drift", "drift/S"])
    def test_a_wrong_address_is_said(self, keyless: Server, page: str, words: str) -> None:
        answer = keyless.http.get(f"/board/{page}?{words}")
        assert answer.status_code == 422
        assert f"{words.partition('=')[0].capitalize()} must be" in answer.text

    def test_what_is_not_there(self, keyless: Server) -> None:
        for path in ("/board/nothing", "/board/overview", "/board/drift/nothing", "/board/drift/S?date=2020-01-01"):
            answer = keyless.http.get(path)
            assert answer.status_code == 404
            assert "Nothing here" in answer.text

    def test_the_folder_has_a_slash(self, keyless: Server) -> None:
        answer = keyless.http.get("/board")
        assert (answer.status_code, answer.headers["location"]) == (303, "board/")

    def test_a_page_is_fresh(self, tmp_path: Path) -> None:
        with Server(tmp_path / "run", LTR_DATA_URI=str(tmp_path / "data"), WEIGHTS_POLL_SECONDS="0.2") as server:
            assert "No night has run yet" in server.http.get("/board/").text
            write_history(Quick(tmp_path / "data"), days=2)
            server.until(lambda: "in the night of 15 Jul 2025" in server.http.get("/board/").text)
