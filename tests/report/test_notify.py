import logging
import subprocess
import sys

import pytest
import structlog
from msgspec.structs import replace

from ltr_pipeline.errors import RankerError
from ltr_pipeline.gate.checks.check import Check
from ltr_pipeline.gate.decision import Decision
from ltr_pipeline.gate.policy import Policy
from ltr_pipeline.report import notify
from ltr_pipeline.report.champion import Alarm
from ltr_pipeline.report.message import Message
from ltr_pipeline.report.notify import failure, rejection, send, success
from support.webhook import Server, running

HELLO = Message(title="LTR 20251120_0215 published", parts=("latest is now 20251120_0215.",), kind="success")
SECRETS = ("hunter2secret", "5f2csecretpath", "bearersecret", "querysecret")


@pytest.fixture
def closed_port() -> int:
    with Server() as server:
        return server.port


def check(name: str, status: str, observed: float | None, threshold: float | None, low=None, high=None) -> Check:
    return Check(
        name=name, status=status, observed=observed, low=low, high=high, threshold=threshold, unit="", reason=""
    )


def decision(verdict: str, *checks: Check, reasons: list[str] | None = None) -> Decision:
    return Decision(verdict=verdict, checks=list(checks), reasons=reasons or [], mode="enforce", policy=Policy())


class TestMessages:
    def test_success_says_what_is_latest_and_shows_the_gate_table(self):
        passed = decision("publish", check("ndcg_at_5", "pass", 0.7123, 0.65, 0.684, 0.74))
        message = success("20251120_0215", passed, report="file:///r/report.html", board="http://h/board/")
        assert (message.kind, message.title) == ("success", "LTR 20251120_0215 published")
        assert message.body.splitlines() == [
            "latest is now 20251120_0215.",
            "",
            "Check   Observed  95 % CI         Threshold  Verdict",
            "nDCG@5  0.712     0.684 to 0.740  ≥ 0.650    pass",
            "",
            "Report: file:///r/report.html",
            "",
            "Board: http://h/board/",
        ]

    def test_a_night_that_was_not_due_is_no_warning_but_where_a_check_fails(self):
        judged = decision("keep", check("ndcg_at_5", "pass", 0.7, 0.65), reasons=["not due: it is young"])
        resting = replace(judged, due=False)
        message = notify.resting("20251120_0215", resting, latest="20251119_0215")
        assert (message.kind, message.title) == ("info", "LTR run 20251120_0215: no training was due")
        assert message.body.startswith("20251119_0215 stays in use, and was judged: not due: it is young.\n\nCheck ")
        slow = replace(resting, reasons=["not due: it is young", "ranking takes 17 ms"])
        warned = notify.resting("20251120_0215", slow, latest="20251119_0215")
        assert (warned.kind, warned.title) == (
            "warning",
            "LTR run 20251120_0215: no training was due, but a check fails",
        )
        assert "\n- ranking takes 17 ms\n" in warned.body

    def test_success_under_a_pin_does_not_claim_that_latest_moved(self):
        message = success("20251120_0215", decision("publish"), promoted=False, note="Pinned to 20251101_0215.")
        assert message.title.endswith("latest unchanged")
        assert "latest is now" not in message.body
        assert "Pinned to 20251101_0215." in message.body

    def test_rejection_says_why_and_what_stays_in_use(self):
        rejected = decision(
            "keep", check("fairness_gap", "fail", 0.091, 0.05), reasons=["Fairness gap 0.091 is above 0.050."]
        )
        message = rejection("20251120_0215", rejected, latest="20251119_0215")
        assert message.kind == "warning"
        assert message.body.startswith("20251119_0215 stays in use.\n\n- Fairness gap 0.091 is above 0.050.\n\nCheck ")
        assert "Fairness gap  0.091     –        ≤ 0.050    fail" in message.body

    def test_rejection_on_a_first_run_has_nothing_in_use(self):
        assert rejection("20251120_0215", decision("keep"), latest=None).body.startswith("No version is in use yet.")

    def test_an_unfair_version_in_use_is_in_the_title_and_in_the_text_of_every_message(self):
        unfair = Alarm("20251119_0215, which is in use, ranks unequally.", "Roll back.", raised=True)
        told = [
            success("20251120_0215", decision("publish"), promoted=False, alarm=unfair),
            rejection("20251120_0215", decision("keep"), latest="20251119_0215", alarm=unfair),
            failure("20251120_0215", "publish_weights", "the disk is full", latest="20251119_0215", alarm=unfair),
        ]
        assert [message.kind for message in told] == ["warning", "warning", "failure"]
        for message in told:
            assert message.title.endswith("; the version in use is unfair")
            assert "\n\n20251119_0215, which is in use, ranks unequally. Roll back." in message.body

    def test_an_unfair_version_that_was_replaced_is_news_and_no_alarm(self):
        replaced = Alarm("20251119_0215 ranked unequally.", "It was replaced.", raised=False)
        message = success("20251120_0215", decision("publish"), alarm=replaced)
        assert (message.kind, message.title) == ("success", "LTR 20251120_0215 published")
        assert "20251119_0215 ranked unequally. It was replaced." in message.body

    def test_failure_names_the_task_and_the_error(self):
        message = failure("20251120_0215", "train_ranker", RankerError("no rows"), latest="20251119_0215")
        assert (message.kind, message.title) == ("failure", "LTR run 20251120_0215 failed in train_ranker")
        assert message.body == "RankerError: no rows\n\n20251119_0215 is in use."

    def test_a_long_error_is_cut_to_what_chat_channels_take(self):
        unfair = Alarm("w" * 200, "r" * 300, raised=True)
        assert len(failure("r", "t", "x" * 100_000).body) < 2000
        assert len(failure("r", "t", "x" * 100_000, latest="20251119_0215", alarm=unfair, logs="l").body) < 2000


class TestSend:
    def test_body_title_and_type_arrive(self):
        with running(Server()) as server:
            [delivery] = send([f"json://127.0.0.1:{server.port}/hook"], HELLO)
        assert (delivery.delivered, delivery.reason) == (True, "")
        [got] = server.got
        assert (got["title"], got["message"], got["type"]) == (HELLO.title, HELLO.body, "success")

    def test_one_bad_channel_does_not_keep_the_others_from_their_message(self, closed_port):
        with running(Server()) as good, running(Server(status=500)) as refusing:
            ports = (closed_port, refusing.port, good.port)
            urls = ["no url at all", *(f"json://127.0.0.1:{port}/" for port in ports)]
            deliveries = send(urls, HELLO)
        assert [delivery.delivered for delivery in deliveries] == [False, False, False, True]
        assert [delivery.channel for delivery in deliveries[1:]] == [
            f"channel {number} (json://127.0.0.1:{port})" for number, port in enumerate(ports, 2)
        ]
        assert len(good.got) == 1

    def test_a_channel_that_hangs_is_left_behind_at_the_deadline(self):
        with running(Server(hangs=True)) as server:
            [delivery] = send([f"json://127.0.0.1:{server.port}/?rto=50"], HELLO, timeout_seconds=0.5)
            assert server.got == []  # it is still hanging
        assert delivery.reason == "no answer within 0.5 s"  # after its own 50 s the reason would be another

    def test_a_channel_that_hangs_does_not_hold_up_the_end_of_the_process(self):
        with running(Server(hangs=True)) as server:
            code = (
                "from ltr_pipeline.report.message import Message\nfrom ltr_pipeline.report.notify import send\n"
                f"send(['json://127.0.0.1:{server.port}/?rto=50'], Message(title='t', parts=('b',), kind='info'),"
                " timeout_seconds=0.1)"
            )
            subprocess.run([sys.executable, "-c", code], check=True, timeout=40, capture_output=True)
            assert server.got == []

    def test_no_urls_is_no_message(self):
        assert send([], HELLO) == []

    def test_no_secret_of_an_address_is_logged_or_returned(self, closed_port, caplog):
        caplog.set_level(logging.DEBUG)
        place = f"me:hunter2secret@127.0.0.1:{closed_port}/hook/5f2csecretpath"
        query = "?+Authorization=Bearer%20bearersecret&-key=querysecret"
        urls = [f"json://{place}{query}", f"nosuchscheme://{place}{query}", "slack://5f2csecretpath/", "querysecret"]
        with structlog.testing.capture_logs() as events:
            deliveries = send(urls, HELLO)
        warned = [event for event in events if event["log_level"] == "warning"]
        assert [event["channel"].split(" (")[0] for event in warned] == [f"channel {n}" for n in (1, 2, 3, 4)]
        said = " ".join([str(events), str(deliveries), caplog.text])
        assert [secret for secret in SECRETS if secret in said] == []

    def test_a_long_message_is_split_rather_than_refused(self):
        long = Message(title="t", parts=("word " * 20_000,), kind="info")
        with running(Server()) as server:
            [delivery] = send([f"json://127.0.0.1:{server.port}/"], long)
        assert delivery.delivered
        assert sum(len(got["message"].split()) for got in server.got) == 20_000
