"""Whether a line has the types that a schema wants, quickly: to find the few that Arrow stumbles over."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ltr_pipeline.events.decoding.lines import Lines

__all__ = ["Fitting"]

UNSPEAKABLE: Final = re.compile(r'[\\"\x00-\x1f]')
"""Characters that msgspec takes in no name: such a field is not looked at here, so Arrow may stumble over its lines."""

SCALARS: Final[dict[pa.DataType, Any]] = {pa.string(): str, pa.float64(): float, pa.bool_(): bool}


class Fitting:
    """Tells lines that have the types of `wire` from those that have not."""

    def __init__(self, wire: pa.Schema) -> None:
        self._decode = msgspec.json.Decoder(_type(pa.struct(list(wire)))).decode

    def __call__(self, lines: Lines) -> NDArray[np.bool_]:
        """Return bool, shape (lines,); Arrow can still refuse a line that fits, say for a field given twice."""
        return np.fromiter((self._fits(line) for line in lines), np.bool_, len(lines))

    def _fits(self, line: bytes) -> bool:
        try:
            self._decode(line)
        except (msgspec.DecodeError, RecursionError):
            return False
        return True


def _type(kind: pa.DataType) -> Any:  # noqa: ANN401 - a type
    if kind in SCALARS:
        return SCALARS[kind]
    if pa.types.is_list(kind):
        return list[_type(kind.value_type) | None]  # type: ignore[misc]
    known = [field for field in kind if not UNSPEAKABLE.search(field.name)]
    names = {f"field{index}": field.name for index, field in enumerate(known)}  # a name need not be an identifier
    fields = [(own, _type(field.type) | None, None) for own, field in zip(names, known, strict=True)]
    return msgspec.defstruct("Fields", fields, rename=names, gc=False)
