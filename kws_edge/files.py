"""Writing files so that an interruption leaves the old one or the new one, never half of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

__all__ = ["write_atomically"]


def write_atomically(path: str | Path, write: Callable[[str], object]) -> None:
    """Call ``write(temporary_path)``, then move what it wrote to `path`.

    The temporary file lies beside `path` and ends as it does, so that writers that look at the ending work.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".kws-") as folder:
        temporary = os.path.join(folder, path.name)
        write(temporary)
        os.replace(temporary, path)
