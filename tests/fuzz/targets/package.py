"""Debian packages from ``kws-host collect``'s cache, with sounds in containers and archives."""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile

import soundfile

from host_tools.data.source_files import unpacked
from kws_edge.diagnostics.benchmark import STREAM
from tests.fuzz import folder
from tests.fuzz.tar import archive, mutate

__all__ = ["consume", "mutate", "seeds"]


def sound(form, subtype):
    out, (samples, rate) = io.BytesIO(), soundfile.read(STREAM, frames=400, dtype="int16")
    soundfile.write(out, samples, rate, format=form, subtype=subtype)
    return out.getvalue()


def seeds():
    sounds = sound("WAV", "PCM_16"), sound("OGG", "VORBIS")
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as file:
        file.writestr("a.wav", sounds[0])
        file.writestr("link/b.ogg", b"OggS")
    yield archive({"./usr/share/a.cat": b"container" + b"...".join(sounds)})
    yield archive({"./usr/share/a.pk3": zipped.getvalue()})
    for name, content in (("./link/file", b"hello"), ("./a.pk3", zipped.getvalue())):
        yield archive({name: content}, {"./link": str(folder() / "outside")})
    yield archive({"./a": b"hello", "./b": b""}, form=tarfile.PAX_FORMAT)


def package(data):
    """A package as ``ar`` writes it, with uncompressed files."""
    parts = {"debian-binary": b"2.0\n", "control.tar": archive({"./control": b"Package: fuzz\n"}), "data.tar": data}
    head = "{:16}{:12}{:6}{:6}{:8}{:10}`\n"
    return b"!<arch>\n" + b"".join(
        head.format(name, 0, 0, 0, 100644, len(part)).encode() + part + b"\n" * (len(part) % 2)
        for name, part in parts.items()
    )


def consume(data):
    cache, outside = folder() / "cache", folder() / "outside"
    outside.mkdir(exist_ok=True)
    cache.mkdir(exist_ok=True)
    (cache / "fuzz_1_all.deb").write_bytes(package(data))
    try:
        root = unpacked("fuzz", cache)
        assert root.is_dir()
    finally:
        shutil.rmtree(cache)
        assert not list(outside.iterdir()), "a file lies outside of the package's folder"
