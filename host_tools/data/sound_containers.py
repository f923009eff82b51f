"""Sounds inside files of other kinds: archives, and files that hold sounds one after the other."""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator

from host_tools.data.archive import Unpacked, plain_files, unpack_zip
from host_tools.errors import DatasetError

__all__ = ["AUDIO", "unpack_containers"]

AUDIO = (".wav", ".ogg", ".oga", ".opus", ".mp3", ".flac", ".wv", ".g722", ".aif", ".aiff")
"""What names of sounds end in."""
_CONTAINERS = (".cat", ".rcc")
_ZIPS = (".pk3", ".wz")
_MOST_CARVED = 100_000


def unpack_containers(unpacked: Unpacked) -> None:
    """Put the sounds inside containers beside them.

    Raises
    ------
    DatasetError
        If a container is broken or unsafe, or holds too much. The message names the container.
    """
    for path in plain_files(unpacked.folder):
        name = path.relative_to(unpacked.folder).as_posix()
        try:
            if path.suffix.lower() in _ZIPS:
                unpack_zip(path, unpacked, lambda member: member.lower().endswith(AUDIO))
            elif path.suffix.lower() in _CONTAINERS and path.stat().st_size:
                with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    for number, (suffix, blob) in enumerate(_carved(data)):
                        if number == _MOST_CARVED:
                            raise DatasetError(f"holds more than {_MOST_CARVED:,} sounds")
                        unpacked.write(f"{name.removesuffix(path.suffix)}_{number:03d}{suffix}", blob)
        except DatasetError as error:
            raise DatasetError(f"{name}: {error}") from None


def _carved(data: bytes | mmap.mmap) -> Iterator[tuple[str, bytes]]:
    """Ending and bytes of each sound in `data`. Of an Ogg file that is cut off, the complete pages are given."""
    start = re.compile(rb"RIFF....WAVE|OggS\0\x02", re.DOTALL)
    at = 0
    while (found := start.search(data, at)) is not None:
        begin = found.start()
        if data[begin : begin + 4] == b"RIFF":
            at = begin + 8 + struct.unpack_from("<I", data, begin + 4)[0]
            yield ".wav", data[begin:at]
            continue
        at = begin
        while data[at : at + 4] == b"OggS" and (end := _page_end(data, at)) is not None:
            last = data[at + 5] & 4  # this bit marks the page that ends the stream
            at = end
            if last:
                break
        if at > begin:
            yield ".ogg", data[begin:at]
        at = max(at, begin + 4)


def _page_end(data: bytes | mmap.mmap, at: int) -> int | None:
    """Where the Ogg page at `at` ends; None if it is cut off."""
    header = at + 27
    if header > len(data):
        return None
    segments = data[header : header + data[at + 26]]
    end = header + data[at + 26] + sum(segments)
    return end if end <= len(data) else None
