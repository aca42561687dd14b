"""A lease on the local disk and on a real S3: one holder at a time, whatever becomes of it."""

from __future__ import annotations

import datetime as dt
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ltr_pipeline.errors import BusyError, StorageError
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.storage.lease import Lease, Terms, _Record, _Watch, held
from ltr_pipeline.storage.local import LocalStorage
from support.leaseholder import NAME, holding

SHORT = Terms(lasts=1.0, longest=60.0)
AT_ONCE = Terms(lasts=1.0, longest=60.0, patience=0.0)
PATIENT = Terms(lasts=1.0, longest=60.0, patience=20.0)
NOW = dt.datetime(2025, 7, 16, 2, 15, tzinfo=dt.UTC)


def record(**about: Any) -> _Record:
    fields = {"holder": "a", "place": "p", "hold": "1", "since": NOW, "renewed": NOW, "lasts": 60.0}
    return _Record(**fields | about)


def seconds(count: float) -> dt.timedelta:
    return dt.timedelta(seconds=count)


# ---- who may take it ------------------------------------------------------------------------------------------------


def test_what_was_not_renewed_while_one_looked_is_free() -> None:
    watch = _Watch(Terms())
    assert not watch.is_over(1, record(), NOW, 1000.0)
    assert not watch.is_over(1, record(), NOW, 1059.0)
    assert not watch.is_over(2, record(renewed=NOW + seconds(59)), NOW, 1061.0)  # renewed
    assert not watch.is_over(2, record(renewed=NOW + seconds(59)), NOW, 1119.0)
    assert watch.is_over(2, record(renewed=NOW + seconds(59)), NOW, 1122.0)


def test_what_was_renewed_long_ago_is_free_at_once() -> None:
    assert not _Watch(Terms()).is_over(1, record(), NOW + seconds(119), 0.0)  # the clocks may be a minute apart
    assert _Watch(Terms()).is_over(1, record(), NOW + seconds(121), 0.0)
    assert not _Watch(Terms()).is_over(1, record(), NOW - seconds(3600), 0.0)


def test_what_is_renewed_for_ever_is_free_in_the_end() -> None:
    watch = _Watch(Terms())
    for number in range(1, 66):
        late = record(renewed=NOW - seconds(3600), since=NOW)  # its clock is of no use
        assert not watch.is_over(number, late, NOW - seconds(3600), 10.0 * number)
    assert watch.is_over(68, record(renewed=NOW), NOW - seconds(3600), 680.0)
    assert not _Watch(Terms()).is_over(1, record(renewed=NOW + seconds(719)), NOW + seconds(719), 0.0)
    assert _Watch(Terms()).is_over(1, record(renewed=NOW + seconds(721)), NOW + seconds(721), 0.0)


def test_what_was_given_back_is_free() -> None:
    assert _Watch(Terms()).is_over(1, record(free=True), NOW, 0.0)


# ---- on disk and on S3 ----------------------------------------------------------------------------------------------


def test_it_is_taken_and_given_back(storage: Storage) -> None:
    for _ in range(3):
        with held(storage, NAME, "a", AT_ONCE) as lease:
            assert 0 < lease.left() <= 1.0
        assert lease.left() < 0
        with held(storage, NAME, "b", AT_ONCE):
            assert len(storage.keys("leases")) == 1
    assert storage.keys("leases") == ["leases/landing/000000012.json"]


def test_a_second_holder_waits_and_is_told_of_the_first(storage: Storage) -> None:
    with (
        held(storage, NAME, "the run 1", SHORT),
        pytest.raises(BusyError, match=rf"^the run 1 \(process {os.getpid()} on .*UTC\) has the lease on .*landing"),
        held(storage, NAME, "the run 2", AT_ONCE),
    ):
        pass
    with held(storage, NAME, "the run 2", AT_ONCE), held(storage, "another", "the run 1", AT_ONCE):
        pass


def test_a_lease_is_renewed_while_it_is_held(storage: Storage) -> None:
    begun = time.monotonic()
    with held(storage, NAME, "a", SHORT) as lease, pytest.raises(BusyError):
        Lease(storage, NAME, "b", Terms(lasts=1.0, longest=60.0, patience=2.5)).take()
    assert lease.left() < 0
    assert time.monotonic() - begun > 2.5


def test_a_killed_holder_has_it_no_longer_than_it_lasts(storage: Storage) -> None:
    with holding(storage, "a", SHORT) as child:
        child.kill()
        child.wait()
        killed = time.monotonic()
        with pytest.raises(BusyError):
            Lease(storage, NAME, "b", AT_ONCE).take()
        Lease(storage, NAME, "b", PATIENT).take()
        assert time.monotonic() - killed > 0.5


def test_a_stopped_holder_has_lost_it_when_it_goes_on(storage: Storage) -> None:
    with holding(storage, "a", SHORT) as child:
        child.send_signal(signal.SIGSTOP)
        with held(storage, NAME, "b", PATIENT) as lease:
            child.send_signal(signal.SIGCONT)
            out, _ = child.communicate("", timeout=30)
            assert out == "False\n"
            assert lease.renew()  # what the other gave back was not this one
        assert child.returncode == 0


def test_who_renews_for_ever_has_it_no_longer_than_is_allowed(storage: Storage) -> None:
    with holding(storage, "a", Terms(lasts=1.0, longest=3600.0)) as child:
        begun = time.monotonic()
        with held(storage, NAME, "b", Terms(lasts=1.0, longest=2.0, patience=30.0)):
            assert time.monotonic() - begun > 1.5
            out, _ = child.communicate("", timeout=30)
            assert out == "False\n"


def test_a_holder_itself_lets_it_go_when_it_had_it_too_long(storage: Storage) -> None:
    with held(storage, NAME, "a", Terms(lasts=1.0, longest=0.5)) as mine:
        with held(storage, NAME, "b", PATIENT):
            assert mine.left() < 0
            assert not mine.renew()
        mine.ensure()
        assert mine.left() > 0.5


def test_the_same_holder_need_not_wait_for_itself(storage: Storage) -> None:
    with holding(storage, "the run 1", Terms(lasts=30.0)) as child:
        with held(storage, NAME, "the run 1", AT_ONCE) as lease:
            out, _ = child.communicate("", timeout=30)
            assert lease.left() > 0
        assert out == "False\n"
        assert child.returncode == 0


def test_of_many_one_has_it_at_a_time(storage: Storage) -> None:
    inside, most = 0, 0
    counting = threading.Lock()

    def work(number: int) -> None:
        nonlocal inside, most
        with held(storage, NAME, f"the run {number}", Terms(lasts=4.0, patience=60.0)):
            with counting:
                inside += 1
                most = max(most, inside)
            time.sleep(0.005)
            with counting:
                inside -= 1

    with ThreadPoolExecutor(8) as workers:
        list(workers.map(work, range(16)))
    assert most == 1


def test_a_late_write_of_a_number_that_was_removed_takes_nothing(storage: Storage) -> None:
    for _ in range(2):
        with held(storage, NAME, "a", AT_ONCE):
            pass
    with held(storage, NAME, "a", SHORT):
        late = Lease(storage, NAME, "b", AT_ONCE)
        assert not late._take_as(2)  # it was read as the next one long ago
        assert late.left() < 0
        with pytest.raises(BusyError):
            late.take()


def test_a_record_that_cannot_be_read_is_waited_for_and_passes(storage: Storage) -> None:
    storage.put("leases/landing/000000007.json", b"{")
    storage.put("leases/landing/notes.txt", b"")
    with pytest.raises(BusyError, match="somebody"):
        Lease(storage, NAME, "b", AT_ONCE).take()
    Lease(storage, NAME, "b", PATIENT).take()
    assert storage.keys("leases/landing") == ["leases/landing/000000008.json", "leases/landing/notes.txt"]


class Away(LocalStorage):
    """A storage that is away when it is told to be."""

    away = False

    def keys(self, prefix: str = "") -> list[str]:
        if self.away:
            raise StorageError("away")
        return super().keys(prefix)


def test_a_storage_that_is_away_for_a_moment_costs_nothing(tmp_path: Any) -> None:
    storage = Away(tmp_path)
    with held(storage, NAME, "a", SHORT) as lease:
        storage.away = True
        waited = time.monotonic() + 20
        while lease.left() > 0.6 and time.monotonic() < waited:  # renewals fail
            time.sleep(0.01)
        storage.away = False
        while lease.left() < 0.6 and time.monotonic() < waited:
            time.sleep(0.01)
        assert lease.left() > 0.6
        storage.away = True
    assert Lease(LocalStorage(tmp_path), NAME, "b", PATIENT).left() < 0
