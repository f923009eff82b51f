"""Format values as C source text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["array", "number", "plain", "string"]

_WIDTH = 116  # characters


def number(value: float) -> str:
    """A literal. Whole numbers are exact; others have enough digits to be unique in single precision."""
    if isinstance(value, (int, np.integer)):
        return str(int(value)) if value > -(2**31) else "(-2147483647 - 1)"
    text = f"{np.float32(value):.9g}"
    return f"{text}f" if set(text) & set(".e") else f"{text}.0f"


def string(text: str) -> str:
    """A string literal in UTF-8. Bytes beyond ASCII become octal escapes, which cannot merge with what follows."""
    escaped = (
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\?' else f"\\{byte:03o}" for byte in text.encode("utf-8")
    )
    return '"' + "".join(escaped) + '"'


def plain(text: str) -> str:
    """`text` for a comment: on one line, without anything, such as a trigraph, that could end or continue it."""
    return "".join(c if c.isprintable() and c not in "*\\?" else "_" for c in text)


def array(declaration: str, values: NDArray[Any] | Iterable[str]) -> str:
    """``declaration = {values};``. A two-dimensional array has a pair of braces for each row."""
    if isinstance(values, np.ndarray) and values.ndim == 2:
        rows = ",\n".join("    {" + _wrapped(map(number, row), "     ").strip() + "}" for row in values)
        return f"{declaration} = {{\n{rows},\n}};\n"
    literals = map(number, values) if isinstance(values, np.ndarray) else values
    return f"{declaration} = {{\n{_wrapped(literals, '    ')},\n}};\n"


def _wrapped(literals: Iterable[str], indent: str) -> str:
    lines, line = [], indent
    for literal in literals:
        if len(line) + len(literal) + 2 > _WIDTH and line != indent:
            lines.append(line.rstrip())
            line = indent
        line += literal + ", "
    lines.append(line.rstrip().removesuffix(","))
    return "\n".join(lines)
