"""A folder to listen to a model's mistakes: sounds, worst first, and a table of their posteriors."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from host_tools.errors import DatasetError
from kws_edge.files import check_writable, explained, write_atomically

__all__ = ["MOST", "TABLE", "check_unused", "clip_name", "posterior_columns", "write_table"]

MOST = 100
"""Default number of sounds of each kind of mistake. The table has every mistake."""
TABLE = "errors.csv"
_NAME_BYTES = 200


def check_unused(folder: str | Path) -> None:
    """Check before the work that the folder can be written and is empty.

    Raises
    ------
    DatasetError
        If the path exists and is no empty folder.
    WriteError
        If the folder cannot be written.
    """
    folder = Path(folder)
    with explained(folder):
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise DatasetError(f"{folder}: is there already; name a new folder, or remove it first")
    check_writable(folder / TABLE)


def clip_name(*parts: str, ending: str = ".wav") -> str:
    """A file's name made of these parts. It is valid on any file system."""
    name = re.sub(r"[^\w.+-]", "_", "_".join(parts))
    return name.encode()[: _NAME_BYTES - len(ending.encode())].decode(errors="ignore") + ending


def posterior_columns(labels: Sequence[str]) -> list[str]:
    """Names of the table's columns for the posterior of each label."""
    return [f"p({label})" for label in labels]


def write_table(folder: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write the table as CSV, with numbers to four digits.

    Raises
    ------
    WriteError
        If the table cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([f"{x:.4f}" if isinstance(x, float) else x for x in row] for row in rows)
    write_atomically(folder / TABLE, text.getvalue())
