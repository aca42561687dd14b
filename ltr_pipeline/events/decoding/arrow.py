"""Arrow's JSON reader, looking only for what there is.

A mapping names many fields that a product never sends (the default one reads three forms of a message), and looking for
a field that is not there costs Arrow about as much as reading one. So what a block held narrows the schema for the next
ones. There, the reader also infers whatever else it meets: were a field of the mapping among it, the block is parsed
once more, for all fields. The result is the same as if that was done always.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import pyarrow as pa
import pyarrow.json

from ltr_pipeline.events.decoding.shape import FieldPath

__all__ = ["Misfit", "Parser"]

ITEM: Final = "[]"  # stands in a path for the elements of a list
MAX_INFERRED: Final = 64
"""More fields that do not concern us are not worth inferring: their names may be ids."""

MAX_CONFLICTS: Final = 3
"""So often a field that does not concern us may change its type; afterwards nothing is inferred."""


ROW: Final = re.compile(r"in row (\d+)")


class Misfit(Exception):  # noqa: N818 - a finding, not an error
    """A line does not fit the schema: the line `row`, where Arrow says which."""

    def __init__(self, row: int | None) -> None:
        super().__init__(row)
        self.row = row


class Parser:
    """Parses lines by a schema.

    Parameters
    ----------
    wire
        All fields that the mapping looks for.
    """

    def __init__(self, wire: pa.Schema) -> None:
        self._wire = pa.struct(list(wire))
        self._wanted = frozenset(_paths(self._wire))
        self._seen: frozenset[FieldPath] = frozenset()
        self._conflicts = 0
        self._inferring = True

    def parse(self, data: bytes | memoryview) -> pa.StructArray:
        """Parse messages, one a line; a Misfit may be in a field that is no concern."""
        seen = self._seen
        if not seen or not self._inferring:
            return self.parse_all(data)
        messages = _read(data, _narrowed(self._wire, seen), infer=True)
        found = frozenset(_paths(messages.type))
        if len(found - seen) > MAX_INFERRED:
            self._inferring = False
        return self.parse_all(data) if (found & self._wanted) - seen else messages

    def parse_all(self, data: bytes | memoryview) -> pa.StructArray:
        """Parse messages for all fields of the mapping, whatever the others are."""
        messages = _read(data, self._wire, infer=False)
        self._seen |= frozenset(_filled(messages))
        return messages

    def note_conflict(self) -> None:
        """Take note that only a field that is no concern did not fit."""
        self._conflicts += 1
        if self._conflicts > MAX_CONFLICTS:
            self._inferring = False


def _read(data: bytes | memoryview, wire: pa.StructType, *, infer: bool) -> pa.StructArray:
    others = "infer" if infer else "ignore"
    try:
        table = pyarrow.json.read_json(
            pa.BufferReader(data),
            read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(data) + 1),
            parse_options=pyarrow.json.ParseOptions(
                explicit_schema=pa.schema(list(wire)), unexpected_field_behavior=others
            ),
        )
        # One block gives one chunk. This also validates: inferred lists of nulls can be broken.
        return pa.StructArray.from_arrays([column.chunk(0) for column in table.columns], fields=list(table.schema))
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:  # the latter while Arrow words its error
        row = ROW.search(str(error))
        raise Misfit(int(row[1]) if row else None) from None


def _paths(kind: pa.DataType, above: FieldPath = ()) -> Iterator[FieldPath]:
    """Return the paths of everything in a type that may have a value."""
    if above and not pa.types.is_null(kind):
        yield above
    if pa.types.is_list(kind):
        yield from _paths(kind.value_type, (*above, ITEM))
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _paths(field.type, (*above, field.name))


def _filled(values: pa.Array, above: FieldPath = ()) -> Iterator[FieldPath]:
    """Return the paths of everything that has a value."""
    if values.null_count == len(values):
        return
    yield above
    if pa.types.is_list(values.type):
        yield from _filled(values.flatten(), (*above, ITEM))
    elif pa.types.is_struct(values.type):
        for field in values.type:
            yield from _filled(values.field(field.name), (*above, field.name))


def _narrowed(kind: pa.DataType, seen: frozenset[FieldPath], above: FieldPath = ()) -> pa.DataType:
    """Return the type without the parts that have not been seen."""
    if pa.types.is_list(kind):
        return pa.list_(_narrowed(kind.value_type, seen, (*above, ITEM)))
    if pa.types.is_struct(kind):
        fields = [(field, (*above, field.name)) for field in kind]
        return pa.struct([(field.name, _narrowed(field.type, seen, path)) for field, path in fields if path in seen])
    return kind
