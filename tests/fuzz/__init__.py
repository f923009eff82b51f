"""Hostile input for every parser.

A target is a module of :mod:`tests.fuzz.targets` with

``seeds()``
    inputs to begin with, made from the repository's own files;
``consume(data)``
    parses `data`, and uses what comes of it as far as it costs nothing; any error but :class:`kws_edge.KwsError` is a
    defect, and so is more than `SECONDS` of a core or `MEMORY_MB` of memory;
``mutate(data, size, seed)``, where bytes are not the best thing to change
    an input like `data`, of at most `size` bytes.

``python -m tests.fuzz`` runs all of them, or those that it is told.
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
    """A folder of this process's own."""
    return Path(_scratch().name)


def written(name: str, data: bytes) -> Path:
    """A file of that name, in place of the one before."""
    path = folder() / name
    path.write_bytes(data)
    return path
