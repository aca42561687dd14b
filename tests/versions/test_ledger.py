import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltr_pipeline.errors import AlreadyExistsError, RegistryError, StorageError, UnknownVersionError
from ltr_pipeline.signing import Key, signing_keys
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.versions.ids import Version
from ltr_pipeline.versions.ledger import Act, Ledger, Move

SIGNING = "a-signing-key-of-some-length"

versions = st.builds(
    Version,
    st.datetimes(timezones=st.just(UTC)).map(lambda time: time.replace(second=0, microsecond=0)),
    st.integers(1, 999_999),
)


@given(versions, versions)
def test_version_ids_round_trip_and_keep_their_order(one, other):
    assert Version.parse(str(one)) == one
    assert (str(one) == str(other)) == (one == other)
    assert (one < other) == ((one.time, one.number) < (other.time, other.number))


@given(st.text() | st.from_regex(r"[0-9]{8}_[0-9]{4}(_[0-9]+)?", fullmatch=True))
def test_whatever_parses_renders_as_it_was(text):
    try:
        version = Version.parse(text)
    except UnknownVersionError:
        return
    assert str(version) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "..", "../..", "../../etc/passwd", "/etc/passwd", "latest", "history", "20250714_0215/../20250714_0215"),
        *("20250714_0215\0", "20250714_0215\n", " 20250714_0215", "20250714-0215", "20250714_0215_", "20250714_0215_x"),
        *("20250714_0215_0", "20250714_0215_1", "20250714_0215_02", "20250714_0215_1000000", "20250714_0215_2_2"),
        *("20250230_0215", "20250714_2460", "00000101_0000", "２０２５０７１４_0215", "2025071４_0215", "é"),
    ],
)
def test_nothing_else_is_a_version_id(text):
    with pytest.raises(UnknownVersionError, match="no version id"):
        Version.parse(text)


def test_a_run_names_its_version_in_utc_to_the_minute():
    cest = timezone(timedelta(hours=2))
    assert str(Version.of(datetime(2025, 7, 14, 4, 15, 59, 9, tzinfo=cest))) == "20250714_0215"
    with pytest.raises(RegistryError, match="no time zone"):
        Version.of(datetime(2025, 7, 14, 4, 15))  # noqa: DTZ001 - the naive time is the case


def entry(head: Move | None, move_id: str = "") -> Move:
    return Act.of("ann", "test", move_id or None).entry(head, "publish", "20250714_0215", to="20250714_0215", pin=False)


def filled(storage: Storage, entries: int, keys: Sequence[Key] = ()) -> Ledger:
    ledger = Ledger(storage, keys)
    for _ in range(entries):
        ledger.append(entry)
    return ledger


def test_entries_are_numbered_and_read_back(storage):
    assert Ledger(storage).head() is None
    ledger = filled(storage, 12)
    storage.put("history/README.txt", b"put here by somebody")
    assert ledger.head().seq == 12
    assert [move.seq for move in ledger.backwards(ledger.head())] == [*range(12, 0, -1)]
    assert [move.seq for move in ledger.backwards(ledger.head(), after=9)] == [12, 11, 10]
    assert ledger.find(ledger.head(), lambda move: move.seq < 5).seq == 4
    assert ledger.find(ledger.head(), lambda move: move.seq < 5, after=4) is None


def test_the_loser_of_a_race_decides_again_on_the_new_head(storage):
    ledger = filled(storage, 1)
    heads = []

    def decide(head):
        heads.append(head.seq)
        if len(heads) < 3:
            ledger.append(entry)  # somebody else is first, twice
        return entry(head, "mine")

    assert ledger.append(decide).seq == 4
    assert heads == [1, 2, 3]
    assert [move.move_id == "mine" for move in ledger.backwards(ledger.head())] == [True, False, False, False]


class LostAnswer:
    """Creates, but the answer never arrives: a time-out, or the client's own second try that finds the first one's."""

    def __init__(self, storage, error, creates):
        self.storage, self.error, self.creates = storage, error, creates

    def __getattr__(self, verb):
        return getattr(self.storage, verb)

    def create(self, key, data):
        if self.creates:
            self.storage.create(key, data)
        raise self.error


@pytest.mark.parametrize("error", [StorageError("timed out"), AlreadyExistsError("412 precondition failed")])
def test_an_answer_lost_after_the_write_is_recognised_by_the_move_id(storage, error):
    ledger = Ledger(LostAnswer(storage, error, creates=True))
    assert ledger.append(lambda head: entry(head, "mine")).move_id == "mine"
    assert [move.move_id for move in ledger.backwards(ledger.head())] == ["mine"]


@pytest.mark.parametrize("error", [StorageError("timed out"), AlreadyExistsError("412 precondition failed")])
def test_a_failure_without_a_write_is_an_error_and_no_endless_loop(storage, error):
    with pytest.raises(type(error), match=str(error)):
        Ledger(LostAnswer(storage, error, creates=False)).append(entry)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: None, "gap: .*00000002.json is missing"),
        (lambda data: data[:-9], "00000002.json was altered or truncated"),
        (lambda data: data.replace(b'"pin":false', b'"pin":0'), "altered"),
        (lambda data: b"\xff\xfe", "altered"),
        (lambda data: data.replace(b'"seq":2', b'"seq":1'), "holds entry 1"),
    ],
)
def test_a_damaged_ledger_is_not_read_over(storage, damage, message):
    ledger = filled(storage, 3)
    damaged = damage(storage.get("history/00000002.json"))
    storage.delete("history/00000002.json")
    if damaged is not None:
        storage.put("history/00000002.json", damaged)
    with pytest.raises(RegistryError, match=message):
        list(ledger.backwards(ledger.head()))


def edited(storage: Storage, seq: int, /, **fields: object) -> None:
    key = f"history/{seq:08}.json"
    storage.put(key, msgspec.json.encode(msgspec.json.decode(storage.get(key)) | fields))


ALTERED = {
    "the head was edited": (lambda storage: edited(storage, 3, to="20250101_0215"), "00000003.json was altered"),
    "the head was removed": (
        lambda storage: storage.delete("history/00000003.json"),
        "newest entry is gone: .* names entry 3, but 2 is the last there",
    ),
    "all entries were removed": (
        lambda storage: [storage.delete(f"history/{seq:08}.json") for seq in (1, 2, 3)],
        "names entry 3, but none is the last",
    ),
    "an entry before was edited": (
        lambda storage: edited(storage, 2, who="nobody"),
        "00000002.json is not the entry that .*00000003.json follows",
    ),
    "the first was edited": (
        lambda storage: edited(storage, 1, pin=True),
        "00000001.json is not the entry that .*00000002.json follows",
    ),
    "the record of the newest was edited": (
        lambda storage: storage.put("history/newest.json", b'{"seq":3,"sha256":"0"}'),
        "00000003.json was altered",
    ),
    "the record of the newest is no record": (
        lambda storage: storage.put("history/newest.json", b"{}"),
        "newest.json was altered",
    ),
    "an entry far ahead was planted": (
        lambda storage: storage.put("history/99999999.json", storage.get("history/00000003.json")),
        "holds entry 3",
    ),
    "an entry far ahead with its number was planted": (
        lambda storage: (
            storage.put("history/99999999.json", storage.get("history/00000003.json")),
            edited(storage, 99999999, seq=99999999),
        ),
        "gap: .*99999998.json is missing; .*remove what stands behind the gap",
    ),
    "the next entry was planted": (
        lambda storage: (
            storage.put("history/00000004.json", storage.get("history/00000003.json")),
            edited(storage, 4, seq=4),
        ),
        "00000003.json is not the entry that .*00000004.json follows",
    ),
}


@pytest.mark.parametrize("case", ALTERED)
@pytest.mark.parametrize("same", [True, False], ids=["a ledger that has read it", "another"])
def test_what_was_altered_is_noticed_by_readers_and_writers(storage, case, same):
    ledger = filled(storage, 3)
    alter, message = ALTERED[case]
    alter(storage)
    ledger = ledger if same else Ledger(storage)
    with pytest.raises(RegistryError, match=message):
        list(ledger.backwards(ledger.head()))
    if case != "the first was edited":  # a writer looks at the end
        with pytest.raises(RegistryError, match=message):
            ledger.append(entry)


def test_a_process_killed_between_entry_and_record_leaves_a_ledger_that_goes_on(storage):
    ledger = filled(storage, 2)
    behind = storage.get("history/newest.json")
    for _ in range(3):
        ledger.append(entry)
    storage.put("history/newest.json", behind)
    assert Ledger(storage).head().seq == 5
    edited(storage, 4, who="nobody")
    with pytest.raises(RegistryError, match=r"00000004\.json is not the entry that"):
        Ledger(storage).head()


def test_a_ledger_of_a_former_release_is_read_and_goes_on(storage):
    filled(storage, 3)
    storage.delete("history/newest.json")
    for seq in (1, 2, 3):
        fields = msgspec.json.decode(storage.get(f"history/{seq:08}.json"))
        storage.put(f"history/{seq:08}.json", msgspec.json.encode({k: v for k, v in fields.items() if k != "previous"}))
    ledger = Ledger(storage, signing_keys(SIGNING))
    assert ledger.head().seq == 3
    assert ledger.append(entry).seq == 4
    assert [move.signature is None for move in ledger.backwards(ledger.head())] == [False, True, True, True]
    edited(storage, 3, pin=True)
    with pytest.raises(RegistryError, match=r"00000003\.json is not the entry"):
        ledger.head()


@pytest.mark.parametrize("forged", [{"signature": None}, {"who": "nobody"}])
def test_an_entry_that_no_key_has_signed_is_refused(storage, forged):
    """Whoever writes without the key can follow the chain, but not sign."""
    filled(storage, 2, keys=signing_keys(SIGNING))
    writer = Ledger(storage)
    writer.append(lambda head: msgspec.structs.replace(entry(head), signature="hmac-sha256:" + "0" * 64))
    edited(storage, 3, **forged)
    data = storage.get("history/00000003.json")
    record = {"seq": 3, "sha256": hashlib.sha256(data).hexdigest()}
    storage.put("history/newest.json", msgspec.json.encode(record))
    with pytest.raises(RegistryError, match="signed"):
        Ledger(storage, signing_keys(SIGNING)).head()
    assert Ledger(storage).head().seq == 3  # who has no keys sees no signatures
