"""Folders of files that belong together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from kws_edge.files import check_writable, explained, move_into_place, scratch_folder

__all__ = ["write_files"]


def write_files(folder: str | Path, texts: Mapping[str, str]) -> None:
    """Write texts, by their paths in a folder, in this order.

    All of them lie on the disk before the first is in its place, so that a disk that is full leaves the folder as it
    was. A new folder appears as a whole.

    Raises
    ------
    WriteError
        If they cannot be written.
    """
    place = Path(os.path.realpath(folder))
    with explained(folder):
        new = not place.exists()
        for path in texts:
            check_writable(place / path)
        with scratch_folder(place.parent if new else place) as scratch:
            fresh = Path(scratch, "fresh")
            for path, text in texts.items():
                (fresh / path).parent.mkdir(parents=True, exist_ok=True)
                (fresh / path).write_bytes(text.encode())
            if new:
                fresh.rename(place)
                return
            for path in texts:
                (place / path).parent.mkdir(parents=True, exist_ok=True)
                move_into_place(fresh / path, place / path)
