"""Makes tar archives, and changes them such that the checksums of their headers are right again."""

from __future__ import annotations

import io
import random
import tarfile

import atheris

_BLOCK = 512
_CHECKSUM = slice(148, 156)


def archive(members: dict[str, bytes], links: dict[str, str] | None = None, form: int = tarfile.GNU_FORMAT) -> bytes:
    """An archive of links and then files, by name, with the shortest end that is allowed."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        end = tar.offset
    return out.getvalue()[:end] + bytes(2 * _BLOCK)


def mutate(data: bytes, size: int, seed: int) -> bytes:
    rng = random.Random(seed)
    if rng.random() < 0.5 and len(data) >= _BLOCK:  # changes one block by itself, because most of a header is zeros
        at = rng.randrange(len(data) // _BLOCK) * _BLOCK
        changed = atheris.Mutate(data[at : at + _BLOCK], _BLOCK).ljust(_BLOCK, b"\0")
        data = data[:at] + changed + data[at + _BLOCK :]
    else:
        data = atheris.Mutate(data, size)
    if rng.random() < 0.1:
        return data
    blocks = bytearray(data)
    for at in range(0, len(blocks) - _BLOCK + 1, _BLOCK):
        header = blocks[at : at + _BLOCK]
        if header[257:262] == b"ustar":
            header[_CHECKSUM] = b" " * 8
            header[_CHECKSUM] = b"%06o\0 " % sum(header)
            blocks[at : at + _BLOCK] = header
    return bytes(blocks[:size])
