"""Hostile input for every parser.

A target is a module of :mod:`tests.fuzz.targets` with

``seeds()``
    inputs to begin with, made from the repository's own files;
``consume(data)``
    parses `data`, and uses the result as far as that is cheap. Any error other than :class:`kws_edge.KwsError` is a
    defect. So is the use of more than `SECONDS` of a core or `MEMORY_MB` of memory;
``mutate(data, size, seed)``, if changing bytes is not the best way
    an input like `data`, of at most `size` bytes.

``python -m tests.fuzz`` runs all targets, or those that you name.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

TARGETS = tuple(sorted(path.stem for path in (Path(__file__).parent / "targets").glob("[a-z]*.py")))
SECONDS = 2.0
MEMORY_MB = 300


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory()


def folder() -> Path:
    """A folder for this process alone."""
    return Path(_scratch().name)


def written(name: str, data: bytes) -> Path:
    """Write `data` to a file of that name, and replace the file before it."""
    path = folder() / name
    path.write_bytes(data)
    return path
