"""Text and JSON from outside: read them within limits, and show them without terminal control characters."""

from __future__ import annotations

import codecs
import json
import math
import os
from typing import Any

__all__ = ["MAX_BYTES", "counted", "decode", "listed", "parse_json", "printable", "read_text", "shown"]

MAX_BYTES = 2**20
"""Largest text to read, in bytes. JSON of this size takes up to 60 MB of memory."""
_DEPTH = 32
_DIGITS = 1000
_SHOWN = 60
_LETTERS = "\u00a0\u200c\u200d\u202f\u3000"  # spaces and joiners of scripts, which Python regards as unprintable


def printable(text: str, *, most: int | None = None) -> str:
    """`text` on one line, without terminal control characters.

    Line ends and tabs become spaces. Other control characters, direction marks and halves of surrogate pairs become
    escapes such as ``\\x1b``. A text of more than `most` characters loses its middle.
    """
    if not text.isprintable():
        text = "".join(
            c if c.isprintable() or c in _LETTERS else " " if c in "\t\r\n" else ascii(c)[1:-1] for c in text
        )
    if most is not None and len(text) > most:
        text = f"{text[: most * 2 // 3]}...{text[len(text) - most // 3 :]}"
    return text


def counted(n: float, noun: str) -> str:
    """A number with its noun: ``1 file``, ``1,200 files``."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def shown(value: object) -> str:
    """`value` for a message: its Python repr on one line, abbreviated."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print a whole number of more than 4300 digits
        text = "a number of thousands of digits"
    except RecursionError:
        text = "a value nested too deeply"
    return printable(text, most=_SHOWN)


def listed(value: object) -> str:
    """A JSON value for people, on one line, with names before their values and commas between them."""

    def inner(part: object) -> str:
        return f"({listed(part)})" if isinstance(part, (dict, list)) else listed(part)

    if isinstance(value, dict):
        return ", ".join(f"{printable(name)} {inner(part)}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(inner, value))
    return printable(str(value))


def decode(data: bytes) -> str:
    """Decode text in UTF-8, or in UTF-16 with a byte order mark. A byte order mark is removed.

    Raises
    ------
    ValueError
        If the text is neither.
    """
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if utf16 else "utf-8-sig")


def read_text(path: str | os.PathLike[str]) -> str:
    """Read the text of a small file, in UTF-8 or UTF-16.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If the file is not text, or is larger than :data:`MAX_BYTES`.
    """
    with open(path, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
    return decode(data)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"{shown(twice)} occurs twice")
    return values


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"a number of {len(digits):,} digits")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {printable(digits, most=_SHOWN)} is too large")
    return value


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _check_depth(value: Any, left: int = _DEPTH) -> None:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if inner and not left:
        raise ValueError(f"it is nested more than {_DEPTH} deep")
    for one in inner:
        _check_depth(one, left - 1)


def parse_json(text: str) -> Any:
    """Parse JSON strictly by RFC 8259: without NaN, infinity, or repeated names.

    Raises
    ------
    ValueError
        If `text` is not such JSON, or is nested more than 32 levels deep.
    """
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_int=_whole, parse_float=_float, parse_constant=_constant
        )
    except RecursionError:
        raise ValueError(f"it is nested more than {_DEPTH} deep") from None
    _check_depth(value)
    return value
