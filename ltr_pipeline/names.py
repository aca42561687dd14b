"""Names that nobody knows: said with the one that was probably meant, and with those there are."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import Final

import msgspec
from msgspec import inspect

__all__ = ["did_you_mean", "misspelt", "nearest", "unknown_keys"]

LIKENESS: Final = 0.7
"""Of two names, from 0 to 1, from which on one may be a misspelt other; a transposed pair of letters is well above."""

LONGEST: Final = 64
"""Characters of a name that is compared or repeated: comparing takes time, and a name may come from a stranger."""

_UNKNOWN: Final = re.compile(r"Object contains unknown field `(?P<name>.*?)`(?: - at `(?P<path>[^`]*)`)?", re.DOTALL)
_STEP: Final = re.compile(r"\.(\w+)|\[[^]]*\]")


def nearest(name: str, known: Iterable[str], prefix: str = "") -> str | None:
    """Return the known name that is most like `name`, whatever the case of its letters; None when none is like it.

    A `prefix` that many of them have is not compared, or all of them would be alike.

    >>> nearest("ltr_ndgc_min", ["ltr_ndcg_min", "ltr_min_samples"])
    'ltr_ndcg_min'
    >>> nearest("colour", ["price", "rating"])
    """
    if len(name) > LONGEST:
        return None
    spelt = {one.removeprefix(prefix).casefold(): one for one in known}
    found = get_close_matches(name.removeprefix(prefix).casefold(), spelt, n=1, cutoff=LIKENESS)
    return spelt[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return the question to add to a message about an unknown name; empty where no known name is like it.

    >>> did_you_mean("LTR_THREAD", ["LTR_THREADS", "LTR_SEED"], prefix="LTR_")
    '; did you mean LTR_THREADS?'
    """
    near = nearest(name, known, prefix)
    return f"; did you mean {near}?" if near else ""


def misspelt(names: Iterable[str], known: Collection[str]) -> str:
    """Return unknown names, each with the known one that was probably meant.

    >>> misspelt(["Prise", "Stars"], ["Price", "Rating"])
    'Prise (did you mean Price?), Stars'
    """
    return ", ".join(f"{name} (did you mean {near}?)" if (near := nearest(name, known)) else name for name in names)


def unknown_keys(error: msgspec.ValidationError, kind: type) -> str:
    """Return what is wrong with a document of this kind; of an unknown key also what was meant, and the known ones.

    >>> class Pin(msgspec.Struct, forbid_unknown_fields=True):
    ...     version: str
    ...     reason: str
    >>> try:
    ...     msgspec.json.decode('{"verison": "20250714_0215"}', type=Pin)
    ... except msgspec.ValidationError as error:
    ...     print(unknown_keys(error, Pin))
    unknown key 'verison'; did you mean version? The known keys are version, reason
    """
    found = _UNKNOWN.fullmatch(str(error))
    if not found:
        return str(error)
    name, path = found["name"], found["path"]
    known = _keys(kind, path or "")
    shown = name if len(name) <= LONGEST else f"{name[:LONGEST]}…"
    where = f" at `{path}`" if path else ""
    return f"unknown key {shown!r}{where}{did_you_mean(name, known) or '.'} The known keys are {', '.join(known)}"


def _keys(kind: type, path: str) -> list[str]:
    """Return the keys of the object at a path in a document of this kind."""
    found = inspect.type_info(kind)
    for step in _STEP.finditer(path):
        found = _below(found, step[1])
    return [field.encode_name for field in found.fields] if isinstance(found, inspect.StructType) else []


def _below(found: inspect.Type, key: str | None) -> inspect.Type:
    """Return the type of what an object has under a key, or of the elements of anything else."""
    match found:
        case inspect.Metadata():
            return _below(found.type, key)
        case inspect.UnionType():
            return next((_below(one, key) for one in found.types if not isinstance(one, inspect.NoneType)), found)
        case inspect.StructType():
            return next((field.type for field in found.fields if field.encode_name == key), found)
        case inspect.DictType():
            return found.value_type
        case inspect.ListType() | inspect.VarTupleType():
            return found.item_type
    return found
