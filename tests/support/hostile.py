"""Lines that no product should write and some will, with how many records each is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from random import Random
from typing import Any, Final

from support.messages import answered, flat, item, listed, shown

VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1, 0.1, -0.0, 1e308, 5e-324, 2**31, 2**63, 2**64, 10**400, float("nan"), float("inf")),
    *(
        "",
        " ",
        "\x00",
        "\ud800",
        "\udfff\ud800",
        "x" * 5000,
        "😀",
        "a\u202eb",
        "\r",
        "NaN",
        "null",
        "case-1",
        "accepted",
    ),
    *("2025-13-45T99:99:99Z", "9999-12-31T23:59:59Z", "2025-07-15T10:30:00", "2025-02-29T00:00:00Z", "1752545700"),
    *("2025-07-15T10:30:00.123456789Z", "2025-07-15 10:30:00+0200", "0000-00-00T00:00:00Z", "2025-07-15T24:00:00Z"),
    *([], {}, [[]], [None], {"": None}, {"a": {"a": {"a": {}}}}, {"A": "x"}, {"A": 1.0, "position": 1}),
)
KEYS: Final = (
    "",
    "message",
    "context",
    "case_id",
    "features",
    "items",
    "A",
    "\x00",
    "é",
    "a.b",
    "$.case_id",
    "x" * 300,
)
TEXTS: Final[tuple[bytes, ...]] = (
    *(b"{}", b"[]", b"null", b"0", b'""', b"{", b"}", b"]", b"\xff\xfe{\x00}\x00", b"\xc3\x28", b"{}{}", b"{} {}"),
    *(b"\xef\xbb\xbf{}", b"PK\x03\x04", b"\x1f\x8b\x08", b"timestamp,message,context", b'{"message": }', b"NaN"),
    *(b"[" * 300, b'{"a":' * 300 + b"1" + b"}" * 300, b"[" * 100_000, b'{"\\ud800": 1}', b"\x00" * 50),
)


def hostile_lines(chance: Random, count: int) -> Iterator[tuple[bytes, int]]:
    """Yield lines without their line feed, and of each how many records it is."""
    former = [(json.dumps(shown()).encode(), 1)]
    for _ in range(count):
        line, records = chance.choice(former) if chance.random() < 0.05 else _line(chance)
        former[chance.randrange(len(former)) if len(former) > 100 else len(former) :] = [(line, records)]
        yield line, records


def _line(chance: Random) -> tuple[bytes, int]:
    kind = chance.random()
    if kind < 0.2:
        return _list(chance)
    if kind < 0.25:
        return chance.choice(TEXTS), 1
    if kind < 0.28:
        return _one_line(chance.randbytes(chance.randrange(1, 200))), 1
    if kind < 0.28001:
        return b'{"message": "' + b"x" * (1 << 20) + b'"}', 1
    message = _message(chance)
    for _ in range(chance.choice((0, 0, 1, 1, 1, 2, 5))):
        _spoil(message, chance)
    line = json.dumps(message).encode()
    return (_one_line(_cut(line, chance)) if chance.random() < 0.3 else line), 1


def _message(chance: Random) -> dict[str, Any]:
    case, lawyer = f"case-{chance.randrange(2000)}", f"lawyer-{chance.randrange(50)}"
    time = f"2025-07-{chance.randrange(1, 16):02}T{chance.randrange(24):02}:{chance.randrange(60):02}:00Z"
    make = chance.choice((shown, shown, answered, lambda case, lawyer, time: flat(case_id=case, timestamp=time)))
    return deepcopy(make(case, lawyer, time))


def _list(chance: Random) -> tuple[bytes, int]:
    items: list[Any] = [item(f"lawyer-{n}") for n in range(chance.randrange(1, 12))]
    message = deepcopy(listed(*items, case_id=f"case-{chance.randrange(2000)}"))
    for place in range(len(items)):
        if chance.random() < 0.2:
            _spoil(message["items"][place], chance)
        elif chance.random() < 0.05:
            message["items"][place] = deepcopy(chance.choice(VALUES))
    if chance.random() < 0.1:
        message[chance.choice(("timestamp", "case_id"))] = deepcopy(chance.choice(VALUES))
    return json.dumps(message).encode(), len(items) if _is_text(message) else 1


def _is_text(message: dict[str, Any]) -> bool:
    """Tell whether all of it is Unicode: half a character is no JSON, so its line is one record whatever it lists."""
    try:
        json.dumps(message, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _spoil(inside: dict[str, Any], chance: Random) -> None:
    """Change one thing, somewhere in the object."""
    while (
        deeper := [value for value in inside.values() if isinstance(value, dict) and value]
    ) and chance.random() < 0.7:
        inside = chance.choice(deeper)
    key = chance.choice([*inside, chance.choice(KEYS)])
    if chance.random() < 0.2:
        inside.pop(key, None)
    elif key != "items":  # a list is as many records as it has items, which is for `_list` to know
        inside[key] = deepcopy(chance.choice(VALUES))


def _cut(line: bytes, chance: Random) -> bytes:
    """Change some bytes: cut off, left out, put in, or a key twice."""
    place = chance.randrange(len(line) + 1)
    return chance.choice(
        (
            line[:place],
            line[:place] + line[place + chance.randrange(1, 10) :],
            line[:place] + chance.randbytes(chance.randrange(1, 5)) + line[place:],
            line[:place] + chance.choice((b'"', b"{", b"}", b",", b":", b"\\", b"\x00", b"\x85", b" ")) + line[place:],
            b'{"message": "match", ' + line[1:],
            line + b",",
            line + line,
            b"\xef\xbb\xbf" + line,
        )
    )


def _one_line(data: bytes) -> bytes:
    """Return the data as one line that is not blank, as blank ones are no records."""
    data = data.replace(b"\n", b" ")
    return data if data.strip() else b"x"
