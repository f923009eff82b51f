"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kws_edge.text import listed

__all__ = ["table"]


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a table. A cell's text stays on one line and within its cell."""
    lines = (" | ".join(listed(cell).replace("|", "\\|") for cell in row) for row in (heads, *rows))
    head, *body = (f"| {line} |" for line in lines)
    return [head, "|" + "---|" * len(heads), *body]
