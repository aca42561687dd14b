"""Forms of whole files that are not read: each is told by one of its lines, so that a refusal can name it.

A log is one JSON object a line. What else people have is recognised by how a line looks, only once it is refused, and
said with what to do about it.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["CUT", "ENVELOPE", "UTF16", "form_of", "in_envelope"]

ENVELOPE: Final = b'{"log":'
"""How a line begins that Docker's json-file driver has wrapped; it writes its keys in one order, without spaces."""

CUT: Final = (
    "this is a part of a line that Docker's json-file driver has cut after 16 KiB; log shorter messages, such as one "
    "for each item, or log to a file or a topic"
)

UTF16: Final = "this is UTF-16; convert the file to UTF-8, by `iconv -f UTF-16 -t UTF-8`"

_KEYS: Final = {"log", "stream", "time"}
_MORE: Final = {"attrs"}  # with labels of the container, where the driver is told to
_UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")
_ZIP: Final = b"PK\x03\x04"
_SEPARATORS: Final = (b",", b";", b"\t")
_FEWEST: Final = 3  # fields of a line that looks like a table's
_PART: Final = re.compile(rb'[\[\]{}]+,?|"[^"]*"\s*:.*', re.DOTALL)
_OBJECT: Final = re.compile(rb"\{.*\},", re.DOTALL)

_LINES: Final = "one JSON object a line is read"
_ARRAY: Final = f"this is a JSON array over the whole file; {_LINES}: convert it by `jq -c '.[]'`"


def form_of(line: bytes) -> str:
    r"""Name the form that a refused line is of, and say what to do; nothing where it looks like none of them.

    >>> form_of(b"timestamp,message,case_id")
    'this looks like comma-separated values (CSV); one JSON object a line is read: convert the file to that'
    >>> form_of(b'[{"message": "match"}]')
    "this is a JSON array over the whole file; one JSON object a line is read: convert it by `jq -c '.[]'`"
    >>> form_of(b"started")
    ''
    """
    text = line.strip()
    if _is_utf16(line):
        return UTF16
    if text.startswith(_ZIP):
        return "this is a zip archive; unpack it, or compress the log by gzip, bzip2, xz, zstd or lz4"
    if text.startswith(b"[{") or text == b"[" or _OBJECT.fullmatch(text):
        return _ARRAY
    if _PART.fullmatch(text):
        return (
            f"this is a part of JSON over several lines; {_LINES}: convert it by `jq -c .`, an array by `jq -c '.[]'`"
        )
    if text[:1] not in (b"{", b"[") and any(text.count(separator) >= _FEWEST - 1 for separator in _SEPARATORS):
        return f"this looks like comma-separated values (CSV); {_LINES}: convert the file to that"
    return ""


def _is_utf16(line: bytes) -> bool:
    """Tell whether every second byte is NUL, as in UTF-16 of plain text, or the line has its byte order mark.

    As lines are cut after a line feed, the other half of the last one may be all there is of a line.
    """
    fewest, most = sorted((line[::2].count(0), line[1::2].count(0)))
    return line.startswith(_UTF16_MARKS) or line == b"\0" or (most * 4 > len(line) and fewest * 10 < most)


def in_envelope(line: bytes, message: object) -> bytes | None:
    r"""Return the line that Docker's json-file driver has wrapped into `message`, or None when it is no envelope.

    Parameters
    ----------
    line
        The whole line, which must begin as the driver writes it.
    message
        What was parsed of it.

    >>> line = b'{"log":"{}\\n","stream":"stdout","time":"2025-07-15T10:30:00.1Z"}'
    >>> in_envelope(line, {"log": "{}\n", "stream": "stdout", "time": "2025-07-15T10:30:00.1Z"})
    b'{}\n'
    """
    if not (line.startswith(ENVELOPE) and isinstance(message, dict) and message.keys() - _MORE == _KEYS):
        return None
    wrapped = message["log"]
    return wrapped.encode() if isinstance(wrapped, str) else None
