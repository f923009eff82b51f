"""The archive that ``kws-host download`` unpacks: tar in gzip."""

from __future__ import annotations

import gzip
import shutil
import tarfile

import tqdm

from host_tools.data.download import _unpack
from tests.fuzz import folder, written
from tests.fuzz.tar import archive, mutate

__all__ = ["consume", "mutate", "seeds"]


def seeds():
    yield archive({"yes/a.wav": b"hello", "no/b.wav": b""}, form=tarfile.USTAR_FORMAT)
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        yield archive({"yes/a.wav": b"hello", f"no/{'b' * 120}.wav": b"hello"}, {"link": "yes"}, form)


def consume(data):
    path, target = written("archive.tar.gz", gzip.compress(data, 1)), folder() / "unpacked"
    before = set(folder().iterdir())
    try:
        _unpack(path, target, limit=2**20, progress=lambda **options: tqdm.tqdm(**options, disable=True))
    finally:
        shutil.rmtree(target, ignore_errors=True)
        assert set(folder().iterdir()) == before
