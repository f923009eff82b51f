"""Writes sound files, whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

import numpy as np
import soundfile
from numpy.typing import NDArray

from kws_edge.files import write_atomically

__all__ = ["sound_errors", "write_sound"]


@contextlib.contextmanager
def sound_errors() -> Iterator[None]:
    """Raise an OSError if libsndfile cannot write: its own message is only "System error"."""
    try:
        yield
    except soundfile.SoundFileError as error:
        raise OSError(errno.EIO, f"{error} Is there room?") from None


def write_sound(path: str | os.PathLike[str], samples: NDArray[np.int16], rate: int) -> None:
    """Write mono 16-bit sound in the format that the ending of `path` names.

    Raises
    ------
    WriteError
        If the file cannot be written.
    """

    def write(temporary: str) -> None:
        with sound_errors():
            soundfile.write(os.fsencode(temporary), samples, rate, "PCM_16")

    write_atomically(path, write)
