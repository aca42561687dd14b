"""One line to one message, or the reason why it is none."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from ltr_pipeline.events import reasons
from ltr_pipeline.events.decoding.lines import MAX_DEPTH, NOT_NUMBERS, is_deep, is_utf8
from ltr_pipeline.events.forms import CUT, UTF16, form_of, in_envelope
from ltr_pipeline.events.source import MAX_LINE_BYTES

__all__ = ["LONGEST_WHOLE", "Fields", "Ignored", "Refused", "kind_of", "message_of"]

LONGEST_WHOLE: Final = 100  # digits of a number that is kept to the last one; Python refuses some thousands

Fields = dict[str, Any]

_decode = msgspec.json.Decoder().decode


class Refused(Exception):  # noqa: N818 - a finding, not an error
    """A record is not what it should be."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class Ignored(Exception):  # noqa: N818
    """A message does not concern us; its argument says why."""


def message_of(line: bytes) -> Fields:
    """Return the message of a line; of one that Docker has wrapped, the message inside."""
    message = _outer(line)
    wrapped = in_envelope(line, message)
    return message if wrapped is None else _unwrapped(wrapped)


def _outer(line: bytes) -> Fields:
    if len(line) > MAX_LINE_BYTES:
        raise Refused(reasons.LONG_LINE, reasons.too_long(line))
    if not is_utf8(line):
        what = form_of(line) or "some bytes are not UTF-8: the line is binary, or cut inside a character"
        raise Refused(reasons.NOT_UTF8, what)
    if is_deep(line):
        raise Refused(reasons.DEEP, f"objects and lists are nested more than {MAX_DEPTH} deep")
    message = _parsed(line)
    if not isinstance(message, dict):
        what = f"the line is {kind_of(message)}, not an object"
        raise Refused(reasons.NOT_OBJECT, f"{what}; {form_of(line)}".removesuffix("; "))
    return message


def _unwrapped(line: bytes) -> Fields:
    """Return the message in a line of a container's output, most of which may be other text."""
    if not line.lstrip().startswith(b"{"):
        raise Ignored(reasons.UNRELATED)
    if not line.endswith(b"\n"):
        raise Refused(reasons.NOT_JSON, CUT)
    return _outer(line.strip())


def _parsed(line: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Parse a line. ``NaN`` and numbers beyond a double are read, and refused where they matter."""
    try:
        return _decode(line)
    except msgspec.DecodeError as error:
        if not isinstance(error, msgspec.ValidationError) and not NOT_NUMBERS.search(line):
            raise _not_json(line, error) from None
    try:
        message = json.loads(line.decode(), parse_int=_whole)
        json.dumps(message, ensure_ascii=False).encode()  # half a surrogate pair cannot be encoded
    except ValueError as error:
        raise _not_json(line, error) from None
    return message


def _not_json(line: bytes, error: Exception) -> Refused:
    form = form_of(line)
    return Refused(reasons.NOT_UTF8 if form == UTF16 else reasons.NOT_JSON, form or str(error))


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= LONGEST_WHOLE else float(digits)


def kind_of(value: object) -> str:
    """Name the type of a JSON value."""
    names = {type(None): "null", bool: "true or false", str: "text", dict: "an object", list: "a list"}
    return names.get(type(value), "a number")
