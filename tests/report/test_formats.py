"""Messages as real servers get them, each channel in its own format: the gate table well shown, names as text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from apprise.plugins.discord import NotifyDiscord
from apprise.plugins.slack import NotifySlack
from apprise.plugins.telegram import NotifyTelegram
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ltr_pipeline.gate.checks.check import Check
from ltr_pipeline.gate.decision import Decision
from ltr_pipeline.gate.policy import Policy
from ltr_pipeline.report import formats
from ltr_pipeline.report.message import Link, Message, Points, Table
from ltr_pipeline.report.notify import failure, rejection, send
from support.certificates import issue
from support.mail import Mailbox, taking_mail
from support.webhook import Server, running

BOARD = "http://ranker:8000/board/"
REPORT = f"{BOARD}reports/20251120_0215"
HOSTILE = (
    "<script>alert(1)</script>",
    "*bold* _it_ ~gone~ `",
    "<!channel> <@U123> <#C1> <!subteam^S1>",
    "@everyone @here @channel @all",
    "[x](http://evil.example)",
    "<http://evil.example|Report>",
    "[x](<http://evil.example>) ![x](http://evil.example)",
    "<at>admin</at>",
    "</pre></code></table><b>",
    "# head\n- point\n1. one\n> said\n    code\n***\n```\nfence",
    '"><img src=x onerror=alert(1)>',
    "{{ 7*7 }} %s {} {0}",
)
NAME = " ".join(HOSTILE)


def check(name: str, status: Any, observed: float | None, threshold: float) -> Check:
    return Check(
        name=name, status=status, observed=observed, low=None, high=None, threshold=threshold, unit="", reason=""
    )


DECISION = Decision(
    verdict="keep",
    checks=[check("ndcg_at_5", "pass", 0.7123, 0.65), check("fairness_gap", "fail", 0.091, 0.05)],
    reasons=["the fairness gap is 0.091, above the limit of 0.05"],
    mode="enforce",
    policy=Policy(),
)
KEPT = rejection("20251120_0215", DECISION, latest="20251119_0215", report=REPORT, board=BOARD)
EVIL = Message(
    title=NAME,
    kind="failure",
    parts=(NAME, Points([NAME, NAME]), Table(("Check", "Verdict"), [(NAME, "pass")]), Link("Report", REPORT)),
)


@pytest.fixture
def webhook() -> Iterator[Server]:
    with running(Server()) as server:
        yield server


@pytest.fixture
def slack(webhook: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A Slack webhook whose server is here."""
    monkeypatch.setattr(NotifySlack, "webhook_url", f"http://127.0.0.1:{webhook.port}/services")
    return "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#ranking"


@pytest.fixture
def discord(webhook: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(NotifyDiscord, "notify_url", f"http://127.0.0.1:{webhook.port}")
    return f"discord://{'1' * 18}/{'a' * 64}?avatar=no"


@pytest.fixture
def telegram(webhook: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(NotifyTelegram, "notify_url", f"http://127.0.0.1:{webhook.port}/bot")
    return "tgram://123456789:abcdefg_hijklmnop/12315544/"


@pytest.fixture
def teams(tmp_path: Path) -> Iterator[tuple[str, Server]]:
    """A workflow of Teams, which Apprise speaks to by TLS alone."""
    issue(tmp_path)
    with running(Server(certificate=tmp_path)) as server:
        yield f"workflows://127.0.0.1:{server.port}/workflow/signature/?verify=no&image=no", server


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with taking_mail() as server:
        yield server


def address(mailbox: Mailbox) -> str:
    return f"mailto://127.0.0.1:{mailbox.port}/?from=ltr@example.org&to=team@example.org&mode=insecure"


def delivered(url: str, message: Message) -> None:
    (delivery,) = send([url], message)
    assert delivery.delivered, delivery.reason


class Seen(HTMLParser):
    """The text of HTML that a person sees, its tags, and where its links lead."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: set[str] = set()
        self.links: list[str | None] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in ("href", "src") or name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


def rendered(markdown: str) -> Seen:
    """CommonMark as Teams and others show it."""
    return Seen(MarkdownIt("commonmark").render(markdown))


def words(text: str) -> str:
    """Text without what nobody sees."""
    return re.sub(r"\s+", " ", text.replace("\u200b", "")).strip()


CALLS = re.compile(r"@(?:everyone|here|channel|all)\b|<[!@#]", re.IGNORECASE)


class TestTable:
    def test_slack_shows_it_in_a_monospaced_font_with_links_below(self, slack: str, webhook: Server) -> None:
        delivered(slack, KEPT)
        (got,) = webhook.got
        (shown,) = got["attachments"]
        assert (got["mrkdwn"], shown["title"]) == (True, "LTR run 20251120_0215 not published")
        assert shown["text"].splitlines() == [
            "20251119_0215 stays in use.",
            "",
            "- the fairness gap is 0.091, above the limit of 0.05",
            "",
            "```",
            "Check         Observed  95 % CI  Threshold  Verdict",
            "nDCG@5        0.712     –        ≥ 0.650    pass",
            "Fairness gap  0.091     –        ≤ 0.050    fail",
            "```",
            "",
            f"<{REPORT}|Report>",
            "",
            f"<{BOARD}|Board>",
        ]

    def test_teams_which_shows_neither_tables_nor_code_gets_a_list(self, teams: tuple[str, Server]) -> None:
        url, server = teams
        delivered(url, KEPT)
        (got,) = server.got
        title, body = got["attachments"][0]["content"]["body"]
        assert title["text"] == "LTR run 20251120_0215 not published"
        assert "- nDCG@5: pass, 0.712 · – · ≥ 0.650\n- Fairness gap: **fail**, 0.091 · – · ≤ 0.050" in body["text"]
        assert rendered(body["text"]).links == [REPORT, BOARD]
        assert "msteams" in got["attachments"][0]["content"]

    def test_a_long_table_is_one_message_in_teams(self, teams: tuple[str, Server]) -> None:
        url, server = teams
        many = rejection("r", Decision(**{**as_arguments(DECISION), "checks": DECISION.checks * 15}), latest=None)
        delivered(url, many)
        assert len(server.got) == 1

    def test_a_mail_has_a_table_and_its_text_has_the_addresses(self, mailbox: Mailbox) -> None:
        delivered(address(mailbox), KEPT)
        (mail,) = mailbox.got
        assert mail["subject"] == "LTR run 20251120_0215 not published"
        html = mail.get_body(("html",)).get_content()
        seen = Seen(html)
        assert {"table", "tr", "th", "td", "ul", "li"} <= seen.tags
        assert re.findall(r'<td align="left">([^/]*)</td>', html)[:4] == ["nDCG@5", "0.712", "–", "≥ 0.650"]
        assert "<b>fail</b>" in html
        assert seen.links == [REPORT, BOARD]
        text = mail.get_body(("plain",)).get_content()
        assert "0.091" in text
        assert f"Report: {REPORT}" in text

    def test_a_mail_may_be_asked_for_as_text(self, mailbox: Mailbox) -> None:
        delivered(f"{address(mailbox)}&format=text", KEPT)
        (mail,) = mailbox.got
        assert mail.get_content_type() == "text/plain"
        assert "nDCG@5        0.712     –        ≥ 0.650    pass" in mail.get_content().splitlines()

    def test_discord_and_telegram_show_it_in_a_monospaced_font(
        self, discord: str, telegram: str, webhook: Server
    ) -> None:
        delivered(discord, KEPT)
        assert "```\nCheck " in webhook.got[0]["content"]
        delivered(telegram, KEPT)
        assert "<pre>Check         Observed" in webhook.got[1]["text"]
        assert webhook.got[1]["parse_mode"] == "HTML"
        assert Seen(webhook.got[1]["text"]).links == [REPORT, BOARD]

    def test_a_channel_that_knows_no_markup_gets_text(self, webhook: Server) -> None:
        delivered(f"json://127.0.0.1:{webhook.port}", KEPT)
        assert webhook.got[0]["message"] == KEPT.body
        delivered(f"json://127.0.0.1:{webhook.port}/?format=html", KEPT)
        assert "<table " in webhook.got[1]["message"]

    def test_a_report_that_no_browser_opens_is_named_and_no_link(self) -> None:
        message = Message(title="t", kind="info", parts=(Link("Report", "s3://data/runs/a b/report.html"),))
        assert formats.markdown(message) == "Report: `s3://data/runs/a b/report.html`"
        assert Seen(formats.html(message)).links == []
        assert formats.plain(message) == "Report: s3://data/runs/a b/report.html"


def as_arguments(decision: Decision) -> dict[str, Any]:
    return {name: getattr(decision, name) for name in decision.__struct_fields__}


def test_what_stands_between_backticks_is_code_where_the_channel_shows_code() -> None:
    message = Message(title="t", kind="info", parts=("until `ltr unpin --x_y` moves it; a ` alone",))
    assert formats.markdown(message) == "until `ltr unpin --x_y` moves it; a \\` alone"
    assert formats.markdown(message, code=False) == "until \\`ltr unpin --x_y\\` moves it; a \\` alone"
    assert formats.plain(message) == "until `ltr unpin --x_y` moves it; a ` alone"
    assert words(Seen(formats.html(message)).text) == "until ltr unpin --x_y moves it; a ` alone"


class TestHostileNames:
    def test_slack_calls_nobody_and_links_to_nothing_else(self, slack: str, webhook: Server) -> None:
        for one in ("", "?blocks=yes"):
            delivered(slack + one, EVIL)
        for got in webhook.got:
            text = str(got)
            assert re.findall(r"<[^>]*>", text) == [f"<{REPORT}|Report>"]
            assert CALLS.findall(unescape(text)) == []

    def test_teams_shows_them_as_they_are(self, teams: tuple[str, Server]) -> None:
        url, server = teams
        delivered(url, EVIL)
        content = server.got[0]["attachments"][0]["content"]
        assert "entities" not in content["msteams"]
        title, body = (rendered(part["text"]) for part in content["body"])
        assert title.tags == {"p"}
        assert body.tags <= {"p", "ul", "li", "a", "br", "code"}
        assert (title.links, body.links) == ([], [REPORT])

    def test_mails_hold_no_markup_but_ours(self, mailbox: Mailbox) -> None:
        delivered(address(mailbox), EVIL)
        (mail,) = mailbox.got
        seen = Seen(mail.get_body(("html",)).get_content())
        assert seen.tags == {"p", "br", "ul", "li", "table", "tr", "th", "td", "a", "span"}
        assert seen.links == [REPORT]
        assert words(NAME) in words(seen.text.replace("\\n", "\n")) or "<script>alert(1)</script>" in seen.text
        assert "\n" not in mail["subject"]

    def test_a_subject_adds_no_header(self, mailbox: Mailbox) -> None:
        evil = Message(title="a\r\nBcc: eve@evil.example\r\n\r\nbody", kind="info", parts=("b",))
        delivered(address(mailbox), evil)
        (mail,) = mailbox.got
        assert mail["bcc"] is None
        assert mail["to"] == "team@example.org"

    def test_discord_calls_nobody(self, discord: str, webhook: Server) -> None:
        for one in ("", "&format=markdown", "&format=text"):
            delivered(discord + one, EVIL)
        delivered(f"{discord}&format=markdown", KEPT)  # of which nDCG@5 calls no user 5
        for got in webhook.got:
            assert CALLS.findall(str(got)) == []
            assert "allow_mentions" not in got
        parts = [rendered(got["content"]) for got in webhook.got if "content" in got]  # it is split
        assert {link for part in parts for link in part.links} == {REPORT}
        assert {tag for part in parts for tag in part.tags} <= {"p", "ul", "li", "a", "br", "code", "pre"}

    def test_mattermost_reads_text_as_markdown(self, webhook: Server) -> None:
        delivered(f"mmost://127.0.0.1:{webhook.port}/abcdefghijklmnopqrstuvwxyz", EVIL)
        seen = [rendered(got["text"]) for got in webhook.got]
        assert {link for part in seen for link in part.links} == {REPORT}
        assert CALLS.findall(str(webhook.got)) == []

    def test_telegram_gets_tags_that_it_knows_alone(self, telegram: str, webhook: Server) -> None:
        delivered(telegram, EVIL)
        seen = Seen("".join(got["text"] for got in webhook.got))
        assert seen.tags <= {"b", "code", "pre", "a"}
        assert seen.links == [REPORT]

    def test_plain_text_calls_nobody_either(self, webhook: Server) -> None:
        delivered(f"json://127.0.0.1:{webhook.port}", EVIL)
        assert CALLS.findall(str(webhook.got)) == []

    def test_an_error_of_anybodys_is_text(self, slack: str, webhook: Server) -> None:
        delivered(slack, failure("r", NAME, ValueError(NAME), board=BOARD))
        assert re.findall(r"<[^>]*>", str(webhook.got)) == [f"<{BOARD}|Board>"]


SIGNS = st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="&`")
TEXTS = st.text(SIGNS | st.sampled_from(" \n"))


@given(TEXTS | st.lists(st.sampled_from([*(one.replace("`", "'") for one in HOSTILE), "x", " ", "\n"])).map("".join))
def test_markdown_shows_any_text_as_it_is(text: str) -> None:
    message = Message(title="t", kind="info", parts=(text, Points([text])))
    seen = rendered(formats.markdown(message))
    assert seen.tags <= {"p", "ul", "li", "br"}
    assert words(seen.text.replace("\\n", "\n")) == words(f"{text} {text}".replace("\\n", "\n"))


@given(st.text(), st.booleans())
def test_html_shows_any_text_as_it_is(text: str, tables: bool) -> None:
    message = Message(title="t", kind="info", parts=(text, Table(("a",), [(text,)]), Link(text, text)))
    seen = Seen(formats.html(message, tables=tables))
    assert seen.tags <= {"p", "br", "table", "tr", "th", "td", "b", "pre", "span", "code"}
    assert seen.links == []
    assert CALLS.findall(seen.text) == []


@given(st.text())
def test_titles_are_one_line_in_every_format(text: str) -> None:
    assert "\n" not in formats.markdown_title(text) + formats.html_title(text)
    assert rendered(formats.markdown_title(text)).tags <= {"p"}
    assert rendered(formats.markdown_title(text)[:20]).tags <= {"p"}
    assert Seen(formats.html_title(text)).tags == set()
