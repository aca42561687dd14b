import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltr_pipeline.errors import AlreadyExistsError, NotFoundError, SettingsError, StorageError
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.storage.uri import open_storage


def test_objects_come_back_replaced_or_gone(storage):
    storage.put("a/b.json", b"one")
    storage.put("a/b.json", b"two")
    assert storage.get("a/b.json") == b"two"
    assert storage.exists("a/b.json")
    storage.delete("a/b.json")
    storage.delete("a/b.json")
    assert not storage.exists("a/b.json")
    with pytest.raises(NotFoundError, match=r"a/b\.json"):
        storage.get("a/b.json")


def read_file(storage: Storage, key: str) -> bytes:
    with storage.local_file(key) as path:
        return path.read_bytes()


def test_files_go_in_and_out(storage, tmp_path):
    (tmp_path / "in").write_bytes(b"\0" * 1000)
    storage.put_file("t/x.parquet", tmp_path / "in")
    with storage.local_file("t/x.parquet") as path:
        assert path.name == "x.parquet"
        assert path.read_bytes() == b"\0" * 1000
    for missing in (lambda: read_file(storage, "t/y.parquet"), lambda: storage.put_file("t/y", tmp_path / "absent")):
        with pytest.raises(NotFoundError):
            missing()
    assert storage.keys("t") == ["t/x.parquet"]


def test_an_object_is_fetched_again_only_when_it_was_replaced(storage):
    storage.put("old/x", b"one")
    storage.put("new/x", b"two")
    storage.point("latest/x", "old/x")
    data, tag = storage.fetch("latest/x")
    assert data == b"one"
    assert storage.fetch("latest/x", tag) is None
    storage.point("latest/x", "new/x")
    data, moved = storage.fetch("latest/x", tag)
    assert (data, moved == tag) == (b"two", False)
    assert storage.fetch("latest/x", moved) is None
    with pytest.raises(NotFoundError, match="none/x"):
        storage.fetch("none/x", tag)


def test_keys_are_sorted_and_below_the_folder(storage):
    for key in ("b/2", "b/10/x", "b/1", "bc/1", "a"):
        storage.put(key, b"")
    assert storage.keys() == ["a", "b/1", "b/10/x", "b/2", "bc/1"]
    assert storage.keys("b") == ["b/1", "b/10/x", "b/2"]
    assert storage.keys("none") == []
    assert storage.keys("a") == []


def test_folders_are_sorted_and_directly_in_the_folder(storage):
    for key in ("b/2", "b/10/x", "b/10/y/z", "b/1/x", "bc/1", "a"):
        storage.put(key, b"")
    assert storage.folders() == ["b", "bc"]
    assert storage.folders("b") == ["1", "10"]
    assert storage.folders("b/10") == ["y"]
    assert storage.folders("bc") == storage.folders("none") == storage.folders("a") == []


def test_create_never_overwrites(storage):
    storage.create("k", b"first")
    with pytest.raises(AlreadyExistsError, match="never overwritten"):
        storage.create("k", b"second")
    assert storage.get("k") == b"first"


def test_exactly_one_of_racing_creators_wins(storage):
    writers = 8
    barrier = Barrier(writers)

    def create(content: bytes) -> bytes | None:
        barrier.wait()
        try:
            storage.create("race", content)
        except AlreadyExistsError:
            return None
        return content

    with ThreadPoolExecutor(writers) as pool:
        won = [content for content in pool.map(create, [bytes([n]) * 100_000 for n in range(writers)]) if content]
    assert won == [storage.get("race")]


def created_by_this_process(storage: Storage, keys: list[str], name: bytes) -> list[str]:
    won = []
    for key in keys:
        with suppress(AlreadyExistsError):
            storage.create(key, name)
            won.append(key)
    return won


def test_of_racing_processes_exactly_one_creates_each_key(storage):
    keys, names = [f"race/{n}" for n in range(25)], [b"a", b"b", b"c"]
    with ProcessPoolExecutor(len(names), multiprocessing.get_context("spawn")) as pool:
        won = [pool.submit(created_by_this_process, storage, keys, name) for name in names]
        by = dict(zip(names, (one.result(120) for one in won), strict=True))
    assert sorted(key for keys_won in by.values() for key in keys_won) == sorted(keys)
    assert all(storage.get(key) == name for name, keys_won in by.items() for key in keys_won)


KEYS = ("a/d", "b/d", "b/c/d", "d")
KEY = st.sampled_from(KEYS)
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "create"]), KEY, st.binary(max_size=3))
    | st.tuples(st.sampled_from(["delete", "exists", "get"]), KEY, st.just(b"")),
    max_size=12,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_any_steps_do_what_they_do_to_a_dictionary(storage, steps):
    for key in KEYS:
        storage.delete(key)
    model: dict[str, bytes] = {}
    for verb, key, data in steps:
        if verb == "put" or (verb == "create" and key not in model):
            getattr(storage, verb)(key, data)
            model[key] = data
        elif verb == "delete":
            storage.delete(key)
            model.pop(key, None)
        elif verb == "create":
            with pytest.raises(AlreadyExistsError):
                storage.create(key, data)
        elif verb == "exists" or key in model:
            assert storage.exists(key) == (key in model)
            assert not model.get(key) or storage.get(key) == model[key]
        else:
            with pytest.raises(NotFoundError):
                storage.get(key)
        assert storage.keys() == sorted(model)
        assert storage.keys("b") == sorted(key for key in model if key.startswith("b/"))


def test_readers_see_one_whole_object_or_the_other(storage):
    contents = [bytes([n]) * 300_000 for n in range(2)]
    for folder, content in zip(("x", "y"), contents, strict=True):
        storage.put(f"{folder}/d", content)
    storage.put("k", contents[0])
    storage.point("latest/d", "x/d")

    def write() -> None:
        for n in range(60):
            storage.put("k", contents[n % 2])
            storage.point("latest/d", "xy"[n % 2] + "/d")

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        seen = {storage.get(key) for key in ("k", "latest/d") for _ in range(20)}
        while not writing.done():
            seen |= {storage.get("k"), storage.get("latest/d")}
        writing.result()
    assert seen <= set(contents)


def test_a_pointer_reads_as_its_target_and_moves(storage):
    storage.put("v1/d.json", b"one")
    storage.put("v2/d.json", b"two")
    for version, content in (("v1", b"one"), ("v2", b"two"), ("v2", b"two"), ("v1", b"one")):
        storage.point("latest/d.json", f"{version}/d.json")
        assert storage.get("latest/d.json") == content
    assert [storage.get(f"{version}/d.json") for version in ("v1", "v2")] == [b"one", b"two"]


def test_a_pointer_needs_a_target_of_its_name_elsewhere(storage):
    storage.put("v1/d.json", b"one")
    storage.point("latest/d.json", "v1/d.json")
    with pytest.raises(NotFoundError, match="v2"):
        storage.point("latest/d.json", "v2/d.json")
    for key in ("latest/e.json", "v1/d.json", "d.json"):
        with pytest.raises(StorageError, match="another folder"):
            storage.point(key, "v1/d.json")
    assert storage.get("latest/d.json") == b"one"


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/x", "a//b", "a/./b", ".", "", "a/", "a\\b", "a\0b"])
def test_keys_cannot_leave_the_root(storage, key, tmp_path):
    storage.put("ok", b"")
    verbs = [
        lambda: storage.get(key),
        lambda: storage.put(key, b"x"),
        lambda: storage.create(key, b"x"),
        lambda: storage.delete(key),
        lambda: read_file(storage, key),
        lambda: storage.exists(key),
        lambda: storage.put_file(key, tmp_path),
        lambda: storage.point(key, "ok"),
        lambda: storage.point("latest/ok", key),
    ]
    for verb in verbs:
        with pytest.raises(StorageError, match="is not a storage key"):
            verb()
    assert storage.keys() == ["ok"]


def test_on_disk_the_pointer_is_a_relative_link_to_the_whole_folder(tmp_path):
    storage = LocalStorage(tmp_path / "old")
    storage.put("deep/v1/d.json", b"one")
    storage.put("deep/v1/report.html", b"page")
    storage.point("latest/d.json", "deep/v1/d.json")
    assert (tmp_path / "old/latest").readlink() == Path("deep/v1")
    assert storage.keys() == ["deep/v1/d.json", "deep/v1/report.html"]
    shutil.move(tmp_path / "old", tmp_path / "new")
    assert (tmp_path / "new/latest/report.html").read_bytes() == b"page"


def test_on_disk_a_folder_in_the_place_of_the_pointer_is_left_alone(tmp_path):
    storage = LocalStorage(tmp_path)
    storage.put("v1/d", b"one")
    storage.put("latest/d", b"copied by hand")
    with pytest.raises(StorageError, match="move it away"):
        storage.point("latest/d", "v1/d")
    assert storage.get("latest/d") == b"copied by hand"


def test_on_disk_unfinished_writes_are_not_objects_and_failures_name_the_place(tmp_path):
    storage = LocalStorage(tmp_path)
    storage.put("a", b"")
    (tmp_path / ".staged-xyz").write_bytes(b"half")
    assert storage.keys() == ["a"]
    for verb in (storage.put, storage.create):
        with pytest.raises(StorageError, match=r"a/b.*a file where a folder belongs") as caught:
            verb("a/b", b"")
        assert not isinstance(caught.value, AlreadyExistsError)
    assert {path.name for path in tmp_path.iterdir()} == {"a", ".staged-xyz"}


def test_uris_open_the_same_folder(tmp_path):
    folder = tmp_path / "with space"
    open_storage(str(folder)).put("k", b"v")
    assert open_storage(folder.as_uri()).get("k") == b"v"
    assert open_storage(open_storage(str(folder)).uri()).uri("k") == (folder / "k").as_uri()
    with pytest.raises(SettingsError, match="'ftp'"):
        open_storage("ftp://host/x")
