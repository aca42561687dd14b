"""Refreshes: hourly versions stand in for their nightly parent, and never for longer than they are meant to."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest

from ltr_pipeline.errors import RegistryError, UnknownVersionError, WeightsError
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.versions.ids import Version
from ltr_pipeline.versions.ledger import Ledger
from ltr_pipeline.versions.registry import Published, Registry
from support.documents import document
from support.forks import BY, A, B, C, D, publish
from support.interrupted import Interrupted

B_NINE, B_TEN, C_NINE, C_EARLY = "20250715_0935", "20250715_1035", "20250716_0935", "20250716_0035"
HIGHS = {B_NINE: 0.8, B_TEN: 0.85, C_NINE: 0.9, C_EARLY: 0.95}
NIGHT_OF_C = Version.parse(C).time


@pytest.fixture
def registry(storage: Storage) -> Registry:
    return publish(Registry(storage), A, B)


def refresh(registry: Registry, version: str, parent: str) -> Published:
    return registry.publish(document(version, high=HIGHS.get(version, 0.7), parent=parent), **BY)


def promoted(registry: Registry) -> str:
    """The version that services read, which is the one that the ledger names."""
    found: str = msgspec.json.decode(registry.storage.get("latest/ltr_weights.json"))["version"]
    assert found == registry.promoted()
    assert all(verified.ok for verified in registry.verify())
    return found


def test_a_refresh_takes_the_place_of_its_parent_and_of_its_other_refreshes(registry):
    assert refresh(registry, B_NINE, B) == Published(
        version=B_NINE, moved=True, reason=f"latest moved from {B} to {B_NINE}"
    )
    assert refresh(registry, B_TEN, B).moved
    assert promoted(registry) == B_TEN
    *_, parent, nine, ten = registry.history()
    assert (parent.parent, nine.parent, ten.parent) == (None, B, B)
    assert str(ten) == f"latest moved from {B_NINE} to {B_TEN}, hourly, of {B} (publish by ann: test)"
    assert registry.ledger.nightly(ten) == registry.ledger.nightly(parent) == B
    listed = {row.version: row.parent for row in registry.versions()}
    assert listed == {B_TEN: B, B_NINE: B, B: None, A: None}


def test_a_refresh_of_a_version_that_is_not_in_use_is_stored_and_moves_nothing(registry):
    late = refresh(registry, C_EARLY, A)
    assert late == Published(version=C_EARLY, moved=False, reason=f"it was refit from {A}, and {B} is in use by now")
    refresh(registry, B_NINE, B)
    refresh(registry, C_NINE, B_NINE)  # a refresh of a refresh
    assert promoted(registry) == B_NINE
    assert str(registry.history()[-1]).startswith(
        f"{C_NINE} (hourly, of {B_NINE}) was published, latest stays {B_NINE}"
    )


def test_a_refresh_that_comes_after_a_newer_one_moves_nothing(registry):
    refresh(registry, B_TEN, B)
    slow = refresh(registry, B_NINE, B)
    assert (slow.moved, promoted(registry)) == (False, B_TEN)
    assert f"ends 2025-07-15 09:35, that of {B_TEN} later" in slow.reason


def test_a_pin_holds_refreshes_back_like_nights(registry):
    registry.pin(**BY)
    held = refresh(registry, B_NINE, B)
    assert (held.moved, promoted(registry)) == (False, B)
    assert f"latest is pinned to {B}" in held.reason


def test_a_refresh_needs_a_parent_that_is_published(storage):
    registry = Registry(storage)
    with pytest.raises(RegistryError, match=f"refit from {A}, but nothing is published .* publish {A} first"):
        refresh(registry, B_NINE, A)
    assert storage.keys("") == []


def test_the_next_night_takes_the_place_of_a_refresh_whose_data_ends_later(registry):
    """The night of C learns from days that end at midnight; the refresh has seen what came until 00:35."""
    assert refresh(registry, C_EARLY, B).moved
    assert registry.publish(document(C), **BY).moved
    assert promoted(registry) == C
    late = refresh(registry, "20250716_0135", B)  # it had begun before the night published
    assert (late.moved, promoted(registry)) == (False, C)


def test_a_backfill_does_not_take_the_place_of_a_refresh(registry):
    refresh(registry, B_NINE, B)
    older = registry.publish(document("20250714_0315", high=0.6), **BY)
    assert not older.moved
    assert f"that of {B} later" in older.reason


def test_of_a_refresh_and_a_night_at_once_the_night_stays(storage):
    """Whichever the ledger has first: what a refresh moves is decided on the newest entry when it is entered."""
    publish(Registry(storage), A, B)
    late = Registry(Interrupted(storage, "create", "history/", lambda r: publish(r, C)))
    assert not refresh(late, B_NINE, B).moved
    assert promoted(late) == C
    late = Registry(Interrupted(storage, "create", "history/", lambda r: refresh(r, C_NINE, C)))
    assert late.publish(document(D), **BY).moved
    assert promoted(late) == D


def test_a_refresh_and_an_expiry_at_once_leave_a_model_of_that_parent(storage):
    refresh(publish(Registry(storage), A, B), B_NINE, B)
    night = Registry(Interrupted(storage, "create", "history/", lambda r: refresh(r, B_TEN, B)))
    back = night.expire(NIGHT_OF_C, **BY)
    assert back is not None
    assert (back.before, back.to, promoted(night)) == (B_TEN, B, B)


def test_an_expired_refresh_gives_way_to_its_parent(registry):
    refresh(registry, B_NINE, B)
    refresh(registry, B_TEN, B)
    back = registry.expire(NIGHT_OF_C, who="run C", why="the night was kept")
    assert back is not None
    assert (back.move, back.before, back.to, back.pin, back.parent) == ("expire", B_TEN, B, False, None)
    assert str(back) == f"latest moved from {B_TEN} to {B} (expire by run C: the night was kept)"
    assert promoted(registry) == B
    assert refresh(registry, C_NINE, B).moved  # the next hour goes on from the same parent
    assert promoted(registry) == C_NINE


def test_what_is_no_old_refresh_does_not_expire(registry):
    empty = Registry(registry.storage)
    for ready in (
        lambda: None,
        lambda: refresh(registry, C_NINE, B),  # newer than the night
        lambda: registry.rollback(C_NINE, **BY),
        lambda: refresh(registry, B_NINE, B) and registry.rollback(B_NINE, **BY),  # chosen by a person, and pinned
    ):
        ready()
        entries = len(registry.history())
        assert empty.expire(NIGHT_OF_C, **BY) is None
        assert len(registry.history()) == entries


def test_nothing_expires_where_nothing_is_published(storage):
    assert Registry(storage).expire(NIGHT_OF_C, **BY) is None
    assert storage.keys("") == []


def test_a_night_that_is_tried_again_expires_once(registry):
    refresh(registry, B_NINE, B)
    first = registry.expire(NIGHT_OF_C, move_id="C", **BY)
    refresh(registry, B_TEN, B)  # an hour that was late
    assert registry.expire(NIGHT_OF_C, move_id="C", **BY) == first
    assert promoted(registry) == B_TEN


def test_a_refresh_stays_where_its_parent_is_damaged(registry):
    refresh(registry, B_NINE, B)
    registry.storage.put(f"{B}/ltr_weights.json", b"{}")
    with pytest.raises(WeightsError, match="altered or truncated"):
        registry.expire(NIGHT_OF_C, **BY)
    assert registry.promoted() == B_NINE


@pytest.mark.parametrize(
    ("acts", "former"),
    [
        (lambda r: refresh(r, B_NINE, B), B),
        (lambda r: refresh(r, B_NINE, B) and refresh(r, B_TEN, B), B),
        (lambda r: refresh(r, B_NINE, B) and publish(r, C), B),  # not the refresh that was before it
        (lambda r: refresh(r, B_NINE, B) and r.expire(NIGHT_OF_C, **BY), A),
        (lambda r: refresh(r, B_NINE, B) and r.rollback(**BY), A),  # refresh -> B -> A
        (lambda r: publish(r, C) and refresh(r, B_NINE, B) and r.rollback(B_NINE, **BY), B),  # C was rolled back from
        (lambda r: refresh(r, B_NINE, B) and publish(r, C) and r.rollback(B_NINE, **BY) and r.rollback(**BY), A),
        (lambda r: refresh(r, B_NINE, B) and r.pin(**BY) and r.unpin(**BY), B),
    ],
)
def test_a_rollback_goes_to_nightly_versions(registry, acts, former):
    acts(registry)
    assert registry.rollback(**BY).to == former
    assert promoted(registry) == former


def test_a_refresh_is_rolled_back_to_by_its_name(registry):
    refresh(registry, B_NINE, B)
    publish(registry, C)
    back = registry.rollback(B_NINE, **BY)
    assert (back.to, back.parent, back.pin) == (B_NINE, B, True)
    assert f"latest moved from {C} to {B_NINE}, hourly, of {B} (rollback by" in str(back)
    assert registry.ledger.nightly(back) == B


def test_the_newest_version_is_a_nightly_one(registry):
    refresh(registry, B_NINE, B)
    assert registry.newest() == B
    publish(registry, C)
    refresh(registry, C_NINE, C)
    assert registry.newest() == C


DAY = dt.timedelta(days=1)


def aged(storage: Storage, *days: float) -> Registry:
    """Three nights, the newest with a refresh published each so many days ago, the first of them longest ago."""
    registry = publish(Registry(storage), A, B, C)
    now = dt.datetime.now(dt.UTC)
    for number, ago in enumerate(days):
        registry.ledger.clock = lambda ago=ago: now - ago * DAY
        version = f"20250716_{number + 3:02}35"
        assert registry.publish(document(version, high=0.8 + number / 100, parent=C), **BY).moved
    registry.ledger.clock = None
    return registry


def test_a_prune_removes_refreshes_after_a_week_and_counts_them_among_no_newest_versions(storage):
    registry = aged(storage, 9, 8, 6.9, 0.1)
    gone = ["20250716_0435", "20250716_0335"]
    assert registry.prune(keep=3, moves=30, dry_run=True, **BY) == gone
    assert registry.prune(None, **BY) == gone
    assert [row.version for row in registry.versions()] == ["20250716_0635", "20250716_0535", C, B, A]
    assert registry.history()[-1].note == "2 hourly versions older than 7 days removed"
    assert registry.prune(None, **BY) == registry.prune(None, dry_run=True, **BY) == []
    assert promoted(registry) == "20250716_0635"
    with pytest.raises(UnknownVersionError, match="was pruned"):
        registry.rollback(gone[0], **BY)


def test_a_prune_leaves_the_refresh_in_use_and_its_parent_however_old(storage):
    registry = aged(storage, 9, 8)
    assert registry.prune(keep=1, moves=1, **BY) == ["20250716_0335", A]  # B is what a rollback from C would go to
    registry.pin(**BY)
    assert registry.prune(keep=1, moves=1, **BY) == []
    publish(registry, D, "20250718_0215", "20250719_0215")
    registry.prune(keep=1, moves=1, **BY)
    assert {row.version for row in registry.versions()} >= {C, "20250716_0435"}
    assert promoted(registry) == "20250716_0435"
    assert registry.rollback(**BY).to == C


def test_a_night_looks_for_old_refreshes_no_further_back_than_it_must(storage):
    """The ledger of a year of hours is long; by hand all of it is read."""
    registry = aged(storage, 61, 59, 1)
    assert registry.prune(None, **BY) == ["20250716_0435"]
    assert registry.prune(keep=3, **BY) == ["20250716_0335"]


def test_a_prune_of_both_says_how_many_of_each(storage):
    assert aged(storage, 9, 8).prune(keep=1, moves=1, who="ann", why="test") == ["20250716_0335", A]
    note = "1 version removed, the newest 1 kept; 1 hourly version older than 7 days removed"
    assert Registry(storage).history()[-1].note == note


def test_a_day_of_refreshes_is_no_move_of_what_nights_need(storage):
    """Of the newest 30 moves 24 would be refreshes, and the nights before would be forgotten in a day."""
    registry = publish(Registry(storage), A, B, C)
    for hour in range(3, 23):
        refresh(registry, f"20250716_{hour:02}35", C)
    assert registry.prune(keep=1, moves=3, **BY) == []
    registry.expire(Version.parse(D).time, **BY)
    assert registry.prune(keep=1, moves=1, **BY) == [A]  # B is what a rollback would go to


def test_a_ledger_of_a_former_release_knows_no_refresh(storage):
    publish(Registry(storage), A, B)
    assert all(b"parent" not in storage.get(f"history/{seq:08}.json") for seq in (1, 2))
    head = Ledger(storage).head()
    assert head is not None
    assert Ledger(storage).nightly(head) == B
