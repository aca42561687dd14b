"""Publishing, rolling back, races and kills, on a real folder with real processes."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from deploy.native.minio import BUCKET, S3Server
from ltr_pipeline.errors import LtrError, OvertakenError, RegistryError, UnknownVersionError, WeightsError
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.versions.latest import LATEST
from ltr_pipeline.versions.ledger import Move
from ltr_pipeline.versions.registry import Published, Registry, Verified
from ltr_pipeline.versions.weights import Golden, decode, encode
from support.documents import document
from support.forks import ACTS, BY, LONG_ON_S3, ON_S3, RACE, A, B, C, D, Place, copy, publish
from support.interrupted import Interrupted
from support.programs import run


@pytest.fixture
def registry(storage: Storage) -> Registry:
    return Registry(storage)


def latest(registry: Registry) -> str:
    return decode(registry.storage.get("latest/ltr_weights.json")).version


def moves(registry: Registry) -> list[tuple[str, str | None, str, bool]]:
    return [(move.move, move.before, move.to, move.pin) for move in registry.history()]


def assert_whole(registry: Registry) -> None:
    """`latest` is the document of the head, byte for byte; the ledger is one line; everything verifies."""
    history = registry.history()
    assert [move.seq for move in history] == [*range(1, len(history) + 1)]
    assert all(later.before == earlier.to for earlier, later in pairwise(history))
    head = history[-1]
    assert registry.storage.get("latest/ltr_weights.json") == registry.storage.get(f"{head.to}/ltr_weights.json")
    assert [row.version for row in registry.versions() if row.is_latest] == [head.to]
    assert all(result.ok for result in registry.verify())


def test_a_publish_creates_the_version_enters_it_and_moves_latest(registry):
    first = registry.publish(document(A), who="ann", why="nightly")
    second = registry.publish(document(B), who="bob", why="nightly")
    assert first == Published(version=A, moved=True, reason=f"latest moved from nothing to {A}")
    assert second == Published(version=B, moved=True, reason=f"latest moved from {A} to {B}")
    assert registry.storage.get(f"{A}/ltr_weights.json") == encode(document(A))
    assert moves(registry) == [("publish", None, A, False), ("publish", A, B, False)]
    assert [(move.who, move.why) for move in registry.history()] == [("ann", "nightly"), ("bob", "nightly")]
    assert_whole(registry)


def test_the_list_says_what_each_version_is(registry):
    publish(registry, A, B).rollback(A, **BY)
    rows = registry.versions()
    assert [(row.version, row.is_latest, row.pinned) for row in rows] == [(B, False, False), (A, True, True)]
    assert [row.ndcg_at_5 for row in rows] == [0.75, 0.75]
    assert rows[1].created_at == document(A).created_at
    assert rows[1].sha256 == sha256(encode(document(A))).hexdigest()
    assert json.loads(msgspec.json.encode(rows))[1]["problem"] is None


def test_publishing_the_same_result_again_changes_nothing(registry):
    publish(registry, A, B)
    before = tree(registry)
    slower = replace(document(A), latency={"p95_ms": 9.0}, created_at=document(B).created_at)
    for again in (document(A), slower, document(B)):
        published = registry.publish(again, **BY)
        assert (published.version, published.moved) == (again.version, False)
        assert "published already" in published.reason
    assert tree(registry) == before


def test_other_content_at_the_same_minute_gets_the_next_number(registry):
    for number, high in enumerate((0.75, 0.8, 0.85), start=1):
        version = A if number == 1 else f"{A}_{number}"
        assert registry.publish(document(A, high=high), **BY).version == version
        assert registry.load(version).golden[0].scores == [0.25, high]
    assert registry.publish(document(A, high=0.8), **BY) == registry.publish(registry.load(f"{A}_2"), **BY)
    assert [row.version for row in registry.versions()] == [f"{A}_3", f"{A}_2", A]
    assert latest(registry) == f"{A}_3"


def test_an_act_tried_again_gets_the_answer_of_its_first_try(registry):
    first = [registry.publish(document(v), move_id=f"run-{v}", **BY) for v in (A, B)]
    assert registry.publish(document(B), move_id=f"run-{B}", **BY) == first[1]
    assert first[1].moved
    back = registry.rollback(move_id="op-1", **BY)
    assert registry.rollback(move_id="op-1", **BY) == back
    assert len(registry.history()) == 3


def test_a_rollback_moves_and_pins_and_the_next_publish_leaves_latest_alone(registry):
    publish(registry, A, B)
    assert registry.rollback(A, who="ann", why="complaints").why == "complaints"
    held = registry.publish(document(C), **BY)
    assert (held.version, held.moved) == (C, False)
    assert f"pinned to {A}" in held.reason
    registry.unpin(**BY)
    assert latest(registry) == A
    assert not registry.publish(document(C), **BY).moved  # C was decided on already
    assert registry.publish(document(D), **BY).moved
    assert moves(registry)[2:] == [
        ("rollback", B, A, True),
        ("publish", A, A, True),
        ("unpin", A, A, False),
        ("publish", A, D, False),
    ]
    assert_whole(registry)


def test_what_is_so_already_is_not_entered_again(registry):
    publish(registry, A, B)
    registry.unpin(**BY)
    registry.rollback(A, **BY)
    for again in (lambda: registry.rollback(A, **BY), lambda: registry.pin(**BY)):
        assert again().seq == 3
    registry.unpin(**BY)
    registry.unpin(**BY)
    registry.pin(**BY)
    assert moves(registry)[2:] == [("rollback", B, A, True), ("unpin", A, A, False), ("pin", A, A, True)]


@pytest.mark.parametrize(
    ("acts", "former"),
    [
        (lambda r: publish(r, A, B), A),
        (lambda r: publish(r, A, B, C).rollback(**BY), A),  # C -> B -> A, not back to C
        (
            lambda r: publish(r, A, B, C).rollback(A, **BY) and r.unpin(**BY) and publish(r, D),
            A,
        ),  # B was not left, but C
        (lambda r: publish(r, A, B).rollback(**BY) and publish(r, C).rollback(C, **BY), A),  # forward: A is still good
        (lambda r: publish(r, A, B, C).rollback(**BY) and r.rollback(C, **BY), B),
        (lambda r: publish(r, B, C, A), B),  # A is a backfill and never was latest
    ],
)
def test_the_former_version_is_the_last_good_one(registry, acts, former):
    acts(registry)
    assert registry.rollback(**BY).to == former
    assert latest(registry) == former


def test_a_machine_leaves_latest_alone_where_somebody_has_moved_or_pinned_it(registry):
    """The registry decides, at the moment of the rollback, not when the machine looked."""
    publish(registry, A, B, C)
    assert registry.rollback(**BY, leaving=B).to == C
    registry.pin(**BY)
    assert registry.rollback(**BY, leaving=C).move == "pin"
    registry.unpin(**BY)
    back = registry.rollback(**BY, leaving=C)
    assert (back.move, back.to, back.pin) == ("rollback", B, True)
    assert registry.rollback(**BY, leaving=C) == back
    assert_whole(registry)


ACTS_SEEN = {
    "rollback": lambda registry, **more: registry.rollback(A, **more),
    "pin": lambda registry, **more: registry.pin(**more),
    "unpin": lambda registry, **more: registry.unpin(**more),
}


@pytest.mark.parametrize("act", ACTS_SEEN)
def test_who_looked_before_another_entry_does_nothing_and_is_told_of_it(registry, act):
    for version in (A, B):
        registry.publish(document(version), **BY)
    registry.publish(document(C), who="airflow", why="passed the gate")
    before = registry.history()
    with pytest.raises(OvertakenError, match=rf"changed since you looked: latest moved from {B} to {C} .*airflow"):
        ACTS_SEEN[act](registry, who="ann", why="as shown", seen=2)
    assert registry.history() == before


@pytest.mark.parametrize("act", ACTS_SEEN)
def test_an_act_that_is_sent_again_finds_its_own_entry_whatever_came_since(registry, act):
    for version in (A, B):
        registry.publish(document(version), **BY)
    if act == "unpin":
        registry.pin(**BY)
    told = {"who": "ann", "why": "as shown", "move_id": "page-1", "seen": registry.history()[-1].seq}
    first = ACTS_SEEN[act](registry, **told)
    registry.publish(document(C), **BY)
    before = registry.history()
    assert ACTS_SEEN[act](registry, **told) == first
    assert registry.history() == before


def test_a_listing_does_not_read_again_what_is_known(registry):
    publish(registry, A, B)
    registry.storage.put(f"{C}/ltr_weights.json", b"{}")
    known = registry.versions()
    assert known == registry.versions()
    registry.rollback(A, **BY)
    registry.storage.put(f"{B}/ltr_weights.json", b"{}")  # nobody does: so it can be seen that it was not read
    registry.storage.put(f"{C}/ltr_weights.json", encode(document(C)))
    rows = registry.versions(known)
    assert [(row.version, row.is_latest, bool(row.problem)) for row in rows] == [
        (C, False, False),
        (B, False, False),
        (A, True, False),
    ]


def test_without_a_former_version_a_rollback_says_so(registry):
    for act in (registry.rollback, registry.unpin, registry.pin):
        with pytest.raises(RegistryError, match="nothing was published"):
            act(**BY)
    publish(registry, A)
    with pytest.raises(RegistryError, match=f"before {A}"):
        registry.rollback(**BY)
    publish(registry, B).rollback(**BY)
    with pytest.raises(RegistryError, match=f"before {A}"):
        registry.rollback(**BY)


def test_a_backfill_never_moves_latest(registry):
    publish(registry, B)
    older = registry.publish(document(A), **BY)
    assert (older.version, older.moved) == (A, False)
    assert f"data ends 2025-07-14 00:00, that of {B} later, 2025-07-15 00:00" in older.reason
    same_window = registry.publish(document(B, high=0.8), **BY)
    assert (same_window.version, same_window.moved) == (f"{B}_2", True)
    assert_whole(registry)


@pytest.mark.parametrize("version", ["", "..", "../..", "/etc/passwd", "latest", "history", f"{A}\0", f"{A}/", "é", C])
def test_unknown_versions_and_path_tricks_are_refused(registry, version):
    before = tree(publish(registry, A, B))
    for verb in (
        registry.load,
        lambda v: registry.rollback(v, **BY),
        lambda v: registry.documents.attach(v, "report.html", b""),
    ):
        with pytest.raises(UnknownVersionError, match="no version"):
            verb(version)
    if version != C:
        with pytest.raises(LtrError):
            registry.publish(replace(document(A), version=version), **BY)
    assert tree(registry) == before


def test_reports_stand_beside_the_version_and_are_created_once_like_it(registry):
    publish(registry, A, B)
    for name, data in (("report.html", b"page"), ("report.html", b"new page"), ("ltr_weights.json", b"{}")):
        registry.documents.attach(A, name, data)
    assert registry.storage.keys(A) == [f"{A}/ltr_weights.json", f"{A}/report.html"]
    assert registry.storage.get(f"{A}/report.html") == b"page"
    with pytest.raises(LtrError, match="not a storage key"):
        registry.documents.attach(A, "../x", b"")
    assert_whole(registry)


def test_a_model_that_scores_otherwise_is_not_published(registry):
    publish(registry, A)
    before = tree(registry)
    wrong = Golden(query_id="q9", items=[{"A": 0.2, "S": None}], scores=[0.25 + 2e-9])
    with pytest.raises(WeightsError, match="q9 scores 2e-09 off"):
        registry.publish(replace(document(B), golden=[wrong]), **BY)
    assert tree(registry) == before
    registry.storage.put(f"{B}/ltr_weights.json", encode(replace(document(B), golden=[wrong])))
    for verb in (registry.load, lambda version: registry.rollback(version, **BY)):
        with pytest.raises(WeightsError, match="q9 scores 2e-09 off"):
            verb(B)
    assert [(result.version, result.ok) for result in registry.verify()] == [(B, False), (A, True)]
    assert latest(registry) == A
    right = Golden(query_id="q9", items=[{"A": 0.2, "S": None}], scores=[0.25 + 5e-10])
    assert registry.publish(replace(document(C), golden=[right]), **BY).moved


def edit(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data.replace(old, new, 1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-100], "truncated"),
        (lambda data: b"", "truncated"),
        (edit(b'"value":0.75', b'"value":0.99'), "altered"),
        (edit(b"feature_names=A S", b"feature_names=S A"), "altered"),
        (lambda data: encode(document(C)), f"holds version {C}"),
        (lambda data: encode(document(A, high=0.9)), "not the document that was published"),
    ],
)
def test_an_altered_version_is_found_and_never_rolled_back_to(registry, damage, message):
    storage = publish(registry, A, B).storage
    storage.put(f"{A}/ltr_weights.json", damage(storage.get(f"{A}/ltr_weights.json")))
    with pytest.raises(WeightsError, match=message):
        registry.rollback(A, **BY)
    assert latest(registry) == B
    good, bad = registry.verify()
    assert good == Verified(version=B, ok=True)
    assert (bad.version, bad.ok) == (A, False)
    assert message in bad.problem
    assert [row.version for row in registry.versions()] == [B, A]
    assert registry.publish(document(C), **BY).moved


def test_a_version_that_is_gone_is_found_and_the_next_publish_goes_on(registry):
    publish(registry, A, B).storage.delete(f"{B}/ltr_weights.json")
    assert [(r.version, r.ok) for r in registry.verify()] == [(B, False), (A, True)]
    assert [row.version for row in registry.versions()] == [A]
    assert registry.publish(document(C), **BY).moved
    assert latest(registry) == C


def test_a_version_that_somebody_put_there_does_not_stop_a_publish(registry):
    registry.storage.put(f"{A}/ltr_weights.json", b"{}")
    assert registry.publish(document(A), **BY) == Published(
        version=f"{A}_2", moved=True, reason=f"latest moved from nothing to {A}_2"
    )


def test_a_prune_keeps_what_is_new_promoted_or_needed(registry):
    days = [f"202507{day}_0215" for day in range(10, 20)]
    publish(registry, *days).rollback(days[2], **BY)
    registry.documents.attach(days[0], "report.html", b"page")
    seq = registry.history()[-1].seq
    gone = [days[n] for n in (7, 6, 5, 4, 3, 1, 0)]
    assert registry.prune(keep=2, moves=1, dry_run=True, **BY) == gone
    assert registry.history()[-1].seq == seq
    assert registry.prune(keep=2, moves=1, who="ann", why="disk full") == gone
    assert [row.version for row in registry.versions()] == [days[n] for n in (9, 8, 2)]
    move = registry.history()[-1]
    assert (move.move, move.who, move.why, move.to, move.pin) == ("prune", "ann", "disk full", days[2], True)
    assert (set(move.pruned), move.note) == (set(gone), "7 versions removed, the newest 2 kept")
    assert registry.storage.keys(days[0]) == [f"{days[0]}/pruned.json"]
    assert registry.prune(keep=2, moves=1, **BY) == []
    assert registry.history()[-1] == move
    assert_whole(registry)


def test_a_prune_leaves_what_a_rollback_would_go_to(registry):
    publish(registry, A, B, C, D).rollback(B, **BY)
    assert registry.prune(keep=1, moves=1, **BY) == [A]
    assert registry.rollback(**BY).to == C
    assert_whole(registry)


def test_a_rollback_passes_over_what_is_pruned(registry):
    publish(registry, A, B, C, D, "20250718_0215")
    for left in (C, B):
        registry.rollback(left, **BY)
    registry.unpin(**BY)
    publish(registry, "20250719_0215", "20250720_0215")
    assert registry.prune(keep=2, moves=1, **BY) == ["20250718_0215", D, C, B, A]
    assert registry.rollback(**BY).to == "20250719_0215"
    with pytest.raises(RegistryError, match="no good version was promoted before"):
        registry.rollback(**BY)


def test_a_prune_leaves_what_the_newest_moves_name(registry):
    publish(registry, A, B, C, D)
    assert registry.prune(keep=1, moves=2, dry_run=True, **BY) == [A]  # C -> D, B -> C
    assert registry.prune(keep=1, moves=30, **BY) == []
    for wrong in ({"keep": 0}, {"moves": 0}):
        with pytest.raises(RegistryError, match="at least 1"):
            registry.prune(**wrong, **BY)


def test_a_pruned_version_is_told_from_one_that_never_was(registry):
    publish(registry, A, B, C, D).prune(keep=2, moves=1, **BY)
    for verb in (registry.load, lambda version: registry.rollback(version, **BY)):
        with pytest.raises(UnknownVersionError, match=f"{A} was pruned on .* by ann; choose one of `ltr versions`"):
            verb(A)
    assert [result.version for result in registry.verify()] == [D, C]
    registry.documents.attach(A, "report.html", b"late")
    assert registry.storage.keys(A) == [f"{A}/pruned.json"]


def test_the_id_of_a_pruned_version_is_not_used_again(registry):
    publish(registry, A, B, C, D).prune(keep=2, moves=1, **BY)
    again = registry.publish(document(A), **BY)
    assert (again.version, again.moved) == (A, False)
    assert re.fullmatch(f"{A} was pruned on .* UTC by ann; nothing changed", again.reason)
    other = registry.publish(document(A, high=0.8), **BY)
    assert (other.version, other.moved) == (f"{A}_2", False)
    assert [row.version for row in registry.versions()] == [D, C, f"{A}_2"]
    assert_whole(registry)


def test_a_publish_that_was_killed_before_its_entry_is_not_pruned(registry):
    publish(registry, B, C, D).documents.create(document(A))
    assert registry.prune(keep=1, moves=1, **BY) == [B]
    assert registry.publish(document(A), **BY).version == A
    assert_whole(registry)


def test_of_a_prune_and_a_rollback_at_once_the_ledger_has_the_first(storage):
    publish(Registry(storage), A, B, C, D)
    first = Registry(Interrupted(storage, "create", "history/", lambda r: r.rollback(A, **BY)))
    assert first.prune(keep=1, moves=1, **BY) == [B]  # C is what a rollback would go to now
    assert latest(first) == A
    first.unpin(**BY)
    publish(first, "20250718_0215", "20250719_0215", "20250720_0215")
    late = Registry(Interrupted(storage, "create", "history/", lambda r: r.prune(keep=1, moves=1, **BY)))
    with pytest.raises(UnknownVersionError, match=f"{A} was pruned"):
        late.rollback(A, **BY)
    assert_whole(late)


def test_a_version_that_the_ledger_says_is_pruned_is_gone_though_its_file_is_not(storage):
    class KilledError(Exception):
        pass

    def die(registry: Registry) -> None:
        raise KilledError

    publish(Registry(storage), A, B, C, D)
    with pytest.raises(KilledError):
        Registry(Interrupted(storage, "create", f"{A}/pruned", die)).prune(keep=2, moves=1, **BY)
    registry = Registry(storage)
    assert registry.storage.exists(f"{A}/ltr_weights.json")
    assert [row.version for row in registry.versions()] == [D, C]
    assert [result.version for result in registry.verify()] == [D, C]
    with pytest.raises(UnknownVersionError, match=f"{A} was pruned"):
        registry.rollback(A, **BY)
    registry.prune(keep=2, moves=1, **BY)
    assert not registry.storage.exists(f"{A}/ltr_weights.json")
    assert_whole(registry)


KEY, OTHER_KEY = b"k" * 32, b"o" * 32


def test_with_a_key_only_what_it_signed_is_used(storage):
    publish(Registry(storage), A, B)
    signed = Registry(storage, keys=[KEY])
    assert signed.publish(document(C), **BY).moved
    assert b'"signature":"hmac-sha256:' in storage.get(f"{C}/ltr_weights.json")
    assert signed.load(C) == Registry(storage).load(C) == document(C)
    stranger = Registry(storage, keys=[OTHER_KEY])
    for registry, version, problem in (
        (signed, A, "is not signed"),
        (stranger, C, "signed by none of the keys in LTR_SIGNING_KEY"),
    ):
        for verb in (registry.load, lambda version, registry=registry: registry.rollback(version, **BY)):
            with pytest.raises((WeightsError, RegistryError), match=problem.partition(" of the")[0]):
                verb(version)
        verdict = {result.version: result for result in registry.verify()}[version]
        assert not verdict.ok
        assert problem in verdict.problem
    assert latest(signed) == C
    assert signed.publish(document(A), **BY).version == f"{A}_2"  # what nobody signed does not count as published
    assert signed.load(f"{A}_2").identity == document(A).identity


def test_a_key_is_changed_by_putting_the_new_one_first(storage):
    Registry(storage, keys=[KEY]).publish(document(A), **BY)
    both = Registry(storage, keys=[OTHER_KEY, KEY])
    both.publish(document(B), **BY)
    assert [both.load(version).version for version in (A, B)] == [A, B]
    assert Registry(storage, keys=[OTHER_KEY]).load(B) == document(B)
    with pytest.raises(WeightsError, match="signed by none"):
        Registry(storage, keys=[OTHER_KEY]).load(A)


def test_a_signature_of_other_content_is_refused(storage):
    signed = Registry(storage, keys=[KEY])
    signed.publish(document(A), **BY)
    signature = storage.get(f"{A}/ltr_weights.json").partition(b',"signature"')[2]
    storage.put(f"{B}/ltr_weights.json", encode(document(B))[:-1] + b',"signature"' + signature)
    with pytest.raises(WeightsError, match="signed by none"):
        signed.load(B)
    assert Registry(storage).load(B) == document(B)  # whole, only signed by nobody


@pytest.mark.parametrize("name", ["copy", "copy/ltr_weights.json", "served.json"])
def test_the_promoted_document_is_mirrored_to_a_file_for_services_here(storage, tmp_path, name):
    path = tmp_path / name
    file = path if path.suffix else path / "ltr_weights.json"
    registry = Registry(storage, mirror=path)
    for act, promoted in (
        (lambda: publish(registry, A), A),
        (lambda: publish(registry, B), B),
        (lambda: registry.rollback(A, **BY), A),
        (lambda: registry.publish(document(C), **BY), A),  # pinned
        (file.unlink, None),
        (registry.repair, A),
        (lambda: file.write_bytes(b"half"), None),
        (registry.repair, A),
        (lambda: Registry(storage).rollback(B, **BY), None),  # elsewhere
        (registry.repair, B),
    ):
        act()
        if promoted:
            assert file.read_bytes() == storage.get(f"{promoted}/ltr_weights.json")


def test_a_mirror_that_cannot_be_written_stops_nothing_and_is_made_good_later(storage, tmp_path):
    (tmp_path / "in the way").write_text("a file where a folder belongs")
    registry = Registry(storage, mirror=tmp_path / "in the way")
    with capture_logs() as logs:
        assert registry.publish(document(A), **BY).moved
    [warning] = [line for line in logs if line["log_level"] == "warning"]
    assert warning["event"] == "mirror_not_written"
    assert "a file where a folder belongs" in warning["error"]
    (tmp_path / "in the way").unlink()
    registry.repair()
    assert decode((tmp_path / "in the way/ltr_weights.json").read_bytes()).version == A


def test_a_document_that_does_not_verify_does_not_replace_the_mirror(storage, tmp_path):
    registry = publish(Registry(storage, mirror=tmp_path), A)
    for key in (f"{A}/ltr_weights.json", "latest/ltr_weights.json"):
        data = storage.get(key)
        if key.startswith("latest") and storage.uri().startswith("file:"):
            break  # on disk it is a link to the other
        storage.put(key, data.replace(b'"value":0.75', b'"value":0.99'))
    with suppress(WeightsError):  # on S3; on disk `latest` is the damaged file itself
        registry.repair()
    assert (tmp_path / "ltr_weights.json").read_bytes() == encode(document(A))


KEYS = [b"k" * 32]
DAMAGES = {
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "another byte": lambda data: data.replace(b'"value":0.75', b'"value":0.95'),
    "another document, whole": lambda data: encode(document(B, high=0.9), KEYS),
    "another version's document": lambda data: encode(document(A), KEYS),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_version_never_replaces_a_whole_latest(storage, damage):
    """On S3 `latest` is a copy, and may be the last good one; on disk it is a link to the version."""
    registry = publish(Registry(storage, keys=KEYS), A, B)
    good = storage.get(LATEST)
    storage.put(f"{B}/ltr_weights.json", DAMAGES[damage](good))
    before = tree(registry)
    for read in (registry.versions, registry.history, registry.promoted, registry.verify):
        read()
    assert tree(registry) == before  # who reads does not write
    assert not all(verified.ok for verified in registry.verify())
    for write in (registry.repair, lambda: registry.pin(**BY)):
        if not storage.uri().startswith("file:"):
            with pytest.raises(WeightsError):
                write()
            assert storage.get(LATEST) == good


def test_verify_names_everything_that_is_wrong_and_ends(storage, tmp_path):
    registry = publish(Registry(storage), A, B, C)
    assert [verified.version for verified in registry.verify() if not verified.ok] == []
    storage.put("a stray folder/file.txt", b"x")
    storage.put("20240101_0215/ltr_weights.json", b"garbage")
    storage.put("history/99999999.json", storage.get("history/00000003.json").replace(b'"seq":3', b'"seq":99999999'))
    problems = {verified.version: verified.problem for verified in registry.verify() if not verified.ok}
    assert problems.keys() == {"20240101_0215", "ledger", "a stray folder"}
    assert "99999998.json is missing" in problems["ledger"]
    assert "nothing of the registry's" in problems["a stray folder"]
    storage.delete("history/99999999.json")
    if storage.uri().startswith("file:"):
        link = storage.root / "latest"
        link.unlink()
        link.symlink_to("latest")
    else:
        storage.put(LATEST, b"{}")
    problems = {verified.version: verified.problem for verified in registry.verify() if not verified.ok}
    assert problems.keys() == {"20240101_0215", "latest", "a stray folder"}
    assert registry.repair()
    assert "latest" not in {verified.version for verified in registry.verify() if not verified.ok}


@pytest.mark.parametrize(
    ("verb", "prefix", "other", "moved", "promoted"),
    [
        ("create", "history/", lambda r: r.rollback(A, **BY), False, A),  # pinned in between: C is held
        ("create", "history/", lambda r: r.publish(document(D), **BY), False, D),  # C became a backfill
        ("create", "history/", lambda r: r.publish(document(C), **BY), False, C),  # the same run, twice at once
        ("create", "history/", lambda r: r.publish(document(C), move_id="run-c", **BY), True, C),  # its own second try
        ("create", C, lambda r: r.publish(document(C), **BY), False, C),
        ("create", C, lambda r: r.publish(document(C, high=0.8), **BY), True, f"{C}_2"),
        ("point", "latest/", lambda r: r.rollback(A, **BY), True, A),  # projected an old head: projects again
    ],
)
def test_whatever_comes_in_between_latest_follows_the_ledger(storage, verb, prefix, other, moved, promoted):
    publish(Registry(storage), A, B)
    registry = Registry(Interrupted(storage, verb, prefix, other))
    assert registry.publish(document(C), move_id="run-c", **BY).moved == moved
    assert registry.promoted() == latest(registry) == promoted
    assert_whole(registry)


def forked_at(uri: str, told: Path, environment: Mapping[str, str], acts: Iterable[str]) -> Place:
    run("forks", uri, told, *acts, environment=environment, timeout=300)
    return Place(uri, told, environment)


@pytest.fixture(scope="module")
def forked_local(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return forked_at(str(tmp_path_factory.mktemp("forked")), tmp_path_factory.mktemp("told"), {}, [RACE, *ACTS])


@pytest.fixture(scope="module")
def forked_s3(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Place:
    told = tmp_path_factory.mktemp("told")
    return forked_at(f"s3://{BUCKET}/{uuid4().hex}", told, s3_server.environment, [RACE, *ON_S3])


@pytest.fixture(scope="module")
def forked_s3_long(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Place:
    told = tmp_path_factory.mktemp("told")
    return forked_at(f"s3://{BUCKET}/{uuid4().hex}", told, s3_server.environment, LONG_ON_S3)


@pytest.fixture(params=["local", "s3"])
def forked(request: pytest.FixtureRequest) -> Place:
    """Return what killed and racing processes left behind."""
    place: Place = request.getfixturevalue(f"forked_{request.param}")
    return place


def test_processes_that_publish_and_roll_back_at_once_lose_nothing(forked):
    registry = Registry(forked.storage("race"))
    told_to = {path.stem: json.loads(path.read_bytes()) for path in forked.told.glob("*.json")}
    assert [len(told) for told in told_to.values()] == [9, 9, 9, 9]
    assert_whole(registry)
    history = registry.history()
    for who, told in told_to.items():
        entered = [move.version for move in history if move.who == who and move.move == "publish"]
        assert [one["version"] for one in told[::3]] == entered
        assert {one["move_id"] for one in told[1::3] + told[2::3]} <= {move.move_id for move in history}
    versions = [move.version for move in history if move.move == "publish"]
    assert sorted(versions) == sorted(row.version for row in registry.versions())
    assert len(versions) == len(set(versions)) == 2 + 4 * 3
    for before, move in pairwise(history):
        follows = {
            "publish": (before.pin, before.to if before.pin else move.version),
            "rollback": (True, move.version),
            "unpin": (False, before.to),
        }
        assert (move.pin, move.to) == follows[move.move]


def tree(registry: Registry) -> dict[str, bytes]:
    """Everything in the registry, times and identities of moves aside."""
    content = {key: registry.storage.get(key) for key in registry.storage.keys("")}
    for key in content:
        if key.startswith("history/") or key.endswith("/pruned.json"):
            entry = json.loads(content[key])
            told = dict.fromkeys(("when", "move_id", "previous", "sha256" if "move" not in entry else ""))
            content[key] = json.dumps(entry | told, sort_keys=True).encode()
    return content | {"latest": registry.storage.get("latest/ltr_weights.json")}


def agree(again: object, answer: object) -> bool:
    match answer:
        case Move():
            return again.to == answer.to
        case list():
            return again in (answer, [])  # pruned by the first try or by the second
        case _:
            return again == answer


@pytest.mark.parametrize(
    ("forked", "name"),
    [
        *(("local", act) for act in ACTS),
        *(("s3", act) for act in ON_S3),
        *(pytest.param("s3_long", act, marks=pytest.mark.long) for act in LONG_ON_S3),
    ],
    indirect=["forked"],
)
def test_killed_anywhere_the_next_command_repairs_and_a_second_try_ends_as_if_nothing_was(forked, name):
    start, calm = (Registry(forked.storage(name, folder)) for folder in ("start", "calm"))
    copy(start.storage, calm.storage)
    act = ACTS[name][1]
    answer = act(calm)
    killed = json.loads((forked.told / f"{name}.killed").read_bytes())
    assert killed > 8
    for before in range(1, killed + 1):
        registry = Registry(forked.storage(name, str(before)))
        if registry.storage.exists("latest/ltr_weights.json"):
            assert latest(registry) in {start.promoted(), calm.promoted()}  # whole before anybody repairs
        registry.repair()
        if registry.promoted():
            assert latest(registry) == registry.promoted()
            assert_whole(registry)
        again = act(registry)
        assert tree(registry) == tree(calm)
        assert agree(again, answer)
