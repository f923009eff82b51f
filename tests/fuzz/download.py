"""The archive that ``kws-host download`` unpacks: tar in gzip."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile

import tqdm

from host_tools.download import _unpack
from tests.fuzz import folder, written


def seeds():
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as tar:
            for name in ("yes/a.wav", "no/" + ("b" if form == tarfile.USTAR_FORMAT else "b" * 120) + ".wav"):
                member = tarfile.TarInfo(name)
                member.size = 5
                tar.addfile(member, io.BytesIO(b"hello"))
        yield out.getvalue().rstrip(b"\0") + bytes(1024)


def consume(data):
    archive, target = written("archive.tar.gz", gzip.compress(data, 1)), folder() / "unpacked"
    outside = set(folder().iterdir())
    try:
        _unpack(archive, target, limit=2**20, progress=lambda **options: tqdm.tqdm(**options, disable=True))
    finally:
        shutil.rmtree(target, ignore_errors=True)
        assert set(folder().iterdir()) <= outside
