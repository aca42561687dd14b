"""A mapping as a TOML file, with a reason above each choice."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Iterator
from collections.abc import Mapping as Reasons
from typing import Final

import msgspec

from ltr_pipeline.mapping import OPTIONS, Mapping
from ltr_pipeline.printable import UNSAFE, one_line

__all__ = ["quoted", "written"]

WIDTH: Final = 118
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_DEFAULTS: Final = {field.name: field.default for field in msgspec.structs.fields(Mapping)}


def written(mapping: Mapping, head: Iterable[str], reasons: Reasons[str, str]) -> str:
    """Return the text of a file that `load_mapping` reads as this mapping.

    Parameters
    ----------
    head
        Lines of the comment it begins with.
    reasons
        Why each key was chosen as it is, by its name, such as ``fields.query_id``.
    """
    lines = [line for text in head for line in _comment(text)]
    for name in ("kind", "impression_kinds", "feedback_kinds", "items", *OPTIONS, "features"):
        value = getattr(mapping, name)
        if value != _DEFAULTS[name]:
            lines += ["", *_comment(reasons.get(name, "")), f"{name} = {_value(value)}"]
    lines += _table("fields", mapping.fields, reasons)
    lines += _table("relevance", mapping.relevance, reasons)
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    r"""Write text as a basic string of TOML, without signs that a terminal obeys.

    >>> print(quoted('a "b"\n\x7f'))
    "a \"b\"\n\u007f"
    """
    return UNSAFE.sub(_escaped, json.dumps(text, ensure_ascii=False))


def _table(name: str, values: Reasons[str, object], reasons: Reasons[str, str]) -> Iterator[str]:
    yield from ("", *_comment(reasons.get(name, "")), f"[{name}]")
    for key, value in values.items():
        yield from _comment(reasons.get(f"{name}.{key}", ""))
        yield f"{key if _BARE.fullmatch(key) else quoted(key)} = {_value(value)}"


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return _list([quoted(text) for text in value])
    return quoted(value) if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def _list(cells: list[str]) -> str:
    line = f"[{', '.join(cells)}]"
    return line if len(line) < WIDTH - 20 else "[\n    " + ",\n    ".join(cells) + ",\n]"


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(one_line(text), WIDTH - 2, break_on_hyphens=False)]


def _escaped(sign: re.Match[str]) -> str:
    return f"\\U{ord(sign[0]):08x}" if ord(sign[0]) > 0xFFFF else f"\\u{ord(sign[0]):04x}"
