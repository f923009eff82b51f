"""Read flatbuffers within bounds.

Every offset, table, vector and string is checked when it is visited. The visited bytes are counted, too. Otherwise a
small file, whose tables may share parts, could unfold into gigabytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from kws_edge.text import printable

__all__ = ["DamagedError", "Reader", "Table"]

_SHARING = 4  # a file may unfold to this many times its own size, because equal vectors are often stored once
_SLACK = 1 << 16
_MOST_FIELDS = 64
_SIZES = {"b": 1, "B": 1, "?": 1, "h": 2, "H": 2, "i": 4, "I": 4, "f": 4, "q": 8, "Q": 8}


class DamagedError(ValueError):
    """An offset or a length leads out of the file, or a part is misaligned."""


class Reader:
    """A flatbuffer.

    Parameters
    ----------
    data : bytes

    Raises
    ------
    DamagedError
        Here, and whenever something is read through this object.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.newer = False
        """Whether a table had fields that the code does not know."""
        self._left = _SHARING * len(data) + _SLACK

    def root(self, known: int = _MOST_FIELDS) -> Table:
        """The root table of the file."""
        return Table(self, self.number("I", 0), known)

    def spend(self, size: int) -> None:
        """Count `size` more bytes as visited."""
        self._left -= size
        if self._left < 0:
            raise DamagedError("it unfolds to several times its size")

    def number(self, kind: str, at: int) -> Any:
        """One number of a struct format's `kind`."""
        size = _SIZES[kind]
        if at < 0 or at % size or at + size > len(self.data):
            raise DamagedError(f"a number at {at}")
        return struct.unpack_from("<" + kind, self.data, at)[0]

    def vector(self, at: int, size: int) -> tuple[int, int]:
        """Start and length of the vector at `at`, of elements of `size` bytes."""
        length = self.number("I", at)
        start = at + 4
        if start + length * size > len(self.data):
            raise DamagedError(f"a vector ends at {start + length * size}")
        if length and start % size:
            raise DamagedError(f"a vector at {at} lies askew")
        self.spend(4 + length * size)
        return start, length


class Table:
    """A table at `position`. Absent fields read as their default, None or empty.

    Fields from number `known` on set :attr:`Reader.newer`.
    """

    __slots__ = ("_fields", "_reader", "_size", "position")

    def __init__(self, reader: Reader, position: int, known: int = _MOST_FIELDS) -> None:
        self._reader, self.position = reader, position
        vtable = position - reader.number("i", position)
        size, self._size = reader.number("H", vtable), reader.number("H", vtable + 2)
        if size < 4 or size % 2 or size > 4 + 2 * _MOST_FIELDS or vtable + size > len(reader.data):
            raise DamagedError(f"a table of fields at {vtable}")
        if self._size < 4 or position + self._size > len(reader.data):
            raise DamagedError(f"a table ends at {position + self._size}")
        reader.spend(size + self._size)
        self._fields = struct.unpack_from(f"<{(size - 4) // 2}H", reader.data, vtable + 4)
        for offset in self._fields:  # check all fields, even those that are never read
            if offset and not 4 <= offset < self._size:
                raise DamagedError(f"a field of the table at {position} lies outside of it")
        if len(self._fields) > known and any(self._fields[known:]):
            reader.newer = True

    def at(self, field: int, size: int = 4) -> int | None:
        """Offset in the file of a field of `size` bytes; None if the field is absent."""
        offset = self._fields[field] if field < len(self._fields) else 0
        if not offset:
            return None
        if offset + size > self._size:
            raise DamagedError(f"field {field} of the table at {self.position} lies outside of it")
        return self.position + offset

    def scalar(self, field: int, kind: str, default: Any = 0) -> Any:
        """A number of a struct format's `kind`."""
        at = self.at(field, _SIZES[kind])
        return default if at is None else self._reader.number(kind, at)

    def _target(self, field: int) -> int | None:
        at = self.at(field)
        return None if at is None else at + self._reader.number("I", at)

    def table(self, field: int, known: int = _MOST_FIELDS) -> Table | None:
        """The table that a field points to."""
        target = self._target(field)
        return None if target is None else Table(self._reader, target, known)

    def vector(self, field: int, size: int) -> tuple[int, int]:
        """Start and length of a vector of elements of `size` bytes; (0, 0) if it is absent."""
        target = self._target(field)
        return (0, 0) if target is None else self._reader.vector(target, size)

    def tables(self, field: int, known: int = _MOST_FIELDS) -> Iterator[Table]:
        """The tables of a vector."""
        start, length = self.vector(field, 4)
        for at in range(start, start + 4 * length, 4):
            yield Table(self._reader, at + self._reader.number("I", at), known)

    def scalars(self, field: int, kind: str, *, most: int) -> tuple[Any, ...]:
        """The numbers of a vector, which may have at most `most`."""
        start, length = self.vector(field, _SIZES[kind])
        if length > most:
            raise DamagedError(f"{length:,} numbers where {most:,} are many")
        return struct.unpack_from(f"<{length}{kind}", self._reader.data, start)

    def text(self, field: int) -> str | None:
        """A string, with unprintable characters as escapes."""
        target = self._target(field)
        if target is None:
            return None
        start, length = self._reader.vector(target, 1)
        if start + length >= len(self._reader.data) or self._reader.data[start + length]:
            raise DamagedError(f"a text at {start} does not end")
        try:
            text = self._reader.data[start : start + length].decode()
        except UnicodeDecodeError:
            raise DamagedError(f"a text at {start} is no UTF-8") from None
        return printable(text)
