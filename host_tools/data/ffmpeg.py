"""Decodes sound files of any format with ffmpeg."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["RATE", "decoded"]

RATE = 16000
"""Samples a second of what comes out."""
_BATCH = 24  # files that one ffmpeg decodes: starting it takes longer than a short file
_WORKERS = 2
_DECODE_S = 60.0  # seconds in which ffmpeg must decode a file


def decoded(paths: Sequence[Path], *, limit_s: float, scratch: str) -> Generator[tuple[Path, NDArray[np.int16]]]:
    """The files that can be decoded, in their order, with at most `limit_s` seconds of mono samples of each.

    The folder `scratch` holds results while they are made.

    Parameters
    ----------
    paths : sequence of path
    limit_s : float
        Most seconds to decode of each file.
    scratch : str
        Folder for files while they are made.
    """
    batches = [paths[i : i + _BATCH] for i in range(0, len(paths), _BATCH)]
    with ThreadPoolExecutor(_WORKERS) as pool:
        for batch in pool.map(lambda one: _decoded(one, limit_s, scratch), batches):
            yield from batch


def _decoded(paths: Sequence[Path], limit_s: float, scratch: str) -> list[tuple[Path, NDArray[np.int16]]]:
    """The files that can be decoded. If ffmpeg fails on the batch, it decodes each file by itself."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        command = ["ffmpeg", "-nostdin", "-v", "error", "-threads", "1"]
        for path in paths:  # ffmpeg reads them as files alone: a playlist would make it read others
            command += ["-protocol_whitelist", "file", "-i", f"file:{path}"]
        for number in range(len(paths)):
            command += ["-map", f"{number}:a:0", "-ac", "1", "-ar", str(RATE), "-t", f"{limit_s:g}", "-f", "s16le"]
            command += [f"{folder}/{number}"]
        try:
            failed = subprocess.run(command, capture_output=True, timeout=_DECODE_S * len(paths)).returncode != 0
        except subprocess.TimeoutExpired:
            failed = True
        if failed and len(paths) > 1:
            return [one for path in paths for one in _decoded([path], limit_s, scratch)]
        files = [(path, Path(folder, str(number))) for number, path in enumerate(paths)]
        return [(path, np.fromfile(file, "<i2")) for path, file in files if file.exists() and not failed]
