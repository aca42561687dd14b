"""Nights on real servers that are killed and cut off; ``benchmarks/faults.py`` does the same more often."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from deploy.native.kafka import KafkaServer
from deploy.native.minio import S3Server
from support import webhook
from support.disturbances import KILLED, ON_SERVERS, Fault, Tally, arriving, disturb, redelivered, small_disk
from support.disturbed import Site

SOME: list[Fault] = [fault for fault in ON_SERVERS if "stopped in mid-transfer until the task failed" in fault.name]
"""A server of each kind that is away until the task has failed."""


@pytest.fixture(scope="module")
def site(kafka: KafkaServer, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with webhook.running(webhook.Server()) as hook:
        found = Site(kafka, s3_server, tmp_path_factory.mktemp("site"), f"json://127.0.0.1:{hook.port}")
        yield found
        found.close()
    assert len(hook.got) >= 2  # each night tells its end


def kept(tallies: Sequence[Tally], faults: Sequence[Fault]) -> None:
    """Every fault happened as often as it was asked for, and no promise broke."""
    assert sum(tally.injected for tally in tallies) == len(faults)
    assert [(tally.fault, tally.broken) for tally in tallies if tally.broken] == []


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.long)])
def test_killed_tasks_are_retried_to_the_same_night(site: Site, kills: int) -> None:
    (tally,) = tallies = disturb(site, [KILLED] * kills, random.Random(1))
    kept(tallies, [KILLED] * kills)
    assert tally.retried == kills


@pytest.mark.parametrize("faults", [SOME, pytest.param(ON_SERVERS, marks=pytest.mark.long)], ids=["some", "all"])
def test_servers_and_connections_that_fail_leave_the_same_night(site: Site, faults: Sequence[Fault]) -> None:
    tallies = disturb(site, faults, random.Random(2))
    kept(tallies, faults)
    failed = {tally.fault for tally in tallies if tally.retried}
    assert {fault.name for fault in faults if "until the task failed" in fault.name} <= failed


@pytest.mark.long
def test_a_full_disk_leaves_the_same_night_once_there_is_room(site: Site, tmp_path: Path) -> None:
    with small_disk(tmp_path) as full:
        (tally,) = tallies = disturb(site, [full], random.Random(3), tmp_path)
    kept(tallies, [full])
    assert "check the path, its permissions and free space" in tally.errors[0]


@pytest.mark.long
def test_events_that_come_twice_and_in_any_order_change_no_dataset(site: Site) -> None:
    assert redelivered(site, random.Random(4)).broken == []


@pytest.mark.long
def test_events_that_arrive_before_a_retry_are_the_next_nights(site: Site) -> None:
    assert arriving(site, random.Random(5)).broken == []
