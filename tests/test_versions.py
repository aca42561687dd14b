"""Publishing, rolling back, races and kills, on a real folder with real processes."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from documents import document
from forks import ACTS, BY, A, B, C, D, publish
from msgspec.structs import replace

from ltr_pipeline.errors import LtrError, RegistryError, UnknownVersionError, WeightsError
from ltr_pipeline.storage import LocalStorage
from ltr_pipeline.versions import Published, Registry, Verified
from ltr_pipeline.weights import Golden, decode, encode


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(LocalStorage(tmp_path / "ltr"))


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
        lambda v: registry.attach(v, "report.html", b""),
        registry.attachments,
    ):
        with pytest.raises(UnknownVersionError, match="no version"):
            verb(version)
    if version != C:
        with pytest.raises(LtrError):
            registry.publish(replace(document(A), version=version), **BY)
    assert tree(registry) == before


def test_reports_stand_beside_the_version_and_are_created_once_like_it(registry):
    publish(registry, A, B)
    assert registry.attachments(A) == []
    for name, data in (("report.html", b"page"), ("report.html", b"new page"), ("ltr_weights.json", b"{}")):
        registry.attach(A, name, data)
    assert registry.attachments(A) == ["report.html"]
    assert registry.storage.get(f"{A}/report.html") == b"page"
    with pytest.raises(LtrError, match="not a storage key"):
        registry.attach(A, "../x", b"")
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
    path = publish(registry, A, B).storage.root / A / "ltr_weights.json"
    path.write_bytes(damage(path.read_bytes()))
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
    shutil.rmtree(publish(registry, A, B).storage.root / B)
    assert [(r.version, r.ok) for r in registry.verify()] == [(B, False), (A, True)]
    assert [row.version for row in registry.versions()] == [A]
    assert registry.publish(document(C), **BY).moved
    assert latest(registry) == C


def test_a_version_that_somebody_put_there_does_not_stop_a_publish(registry):
    registry.storage.put(f"{A}/ltr_weights.json", b"{}")
    assert registry.publish(document(A), **BY) == Published(
        version=f"{A}_2", moved=True, reason=f"latest moved from nothing to {A}_2"
    )


class Interrupted(LocalStorage):
    """Lets somebody else act right before the verb on a key that starts with `prefix`, once."""

    def __init__(self, root: Path, verb: str, prefix: str, act: Callable[[Registry], object]) -> None:
        super().__init__(root)
        self.when, self.act = (verb, prefix), act

    def _interrupt(self, verb: str, key: str) -> None:
        if self.when[0] == verb and key.startswith(self.when[1]):
            self.when = ("", "")
            self.act(Registry(LocalStorage(self.root)))

    def create(self, key: str, data: bytes) -> None:
        self._interrupt("create", key)
        super().create(key, data)

    def point(self, key: str, target: str) -> None:
        self._interrupt("point", key)
        super().point(key, target)


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
def test_whatever_comes_in_between_latest_follows_the_ledger(tmp_path, verb, prefix, other, moved, promoted):
    publish(Registry(LocalStorage(tmp_path)), A, B)
    registry = Registry(Interrupted(tmp_path, verb, prefix, other))
    assert registry.publish(document(C), move_id="run-c", **BY).moved == moved
    assert registry.promoted() == latest(registry) == promoted
    assert_whole(registry)


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What killed and racing processes left behind."""
    folder = tmp_path_factory.mktemp("forked")
    subprocess.run([sys.executable, Path(__file__).with_name("forks.py"), folder], check=True)
    return folder


def test_processes_that_publish_and_roll_back_at_once_lose_nothing(forked):
    registry = Registry(LocalStorage(forked / "race/ltr"))
    told_to = {path.stem: json.loads(path.read_bytes()) for path in (forked / "race").glob("*.json")}
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
        if key.startswith("history/"):
            entry = json.loads(content[key])
            content[key] = json.dumps(entry | {"when": None, "move_id": None}).encode()
    return content | {"latest": registry.storage.get("latest/ltr_weights.json")}


@pytest.mark.parametrize("name", ACTS)
def test_killed_anywhere_the_next_command_repairs_and_a_second_try_ends_as_if_nothing_was(forked, name):
    start, calm = (Registry(LocalStorage(forked / name / folder)) for folder in ("start", "calm"))
    shutil.copytree(start.storage.root, calm.storage.root, symlinks=True)
    act = ACTS[name][1]
    answer = act(calm)
    roots = [path for path in (forked / name).iterdir() if path.name.isdigit()]
    assert len(roots) > 10
    for root in roots:
        registry = Registry(LocalStorage(root))
        if registry.storage.exists("latest/ltr_weights.json"):
            assert latest(registry) in {start.promoted(), calm.promoted()}  # whole before anybody repairs
        registry.versions()
        if registry.promoted():
            assert latest(registry) == registry.promoted()
            assert_whole(registry)
        again = act(registry)
        assert tree(registry) == tree(calm)
        assert again == answer if isinstance(answer, Published) else again.to == answer.to
