"""The self-describing model file: a TFLite flatbuffer with a small ZIP archive appended, as TFLite Metadata does.

Every TFLite tool reads the flatbuffer at the start of the file and ignores the rest; every ZIP tool reads the archive
at its end. The archive holds ``kws_edge.json`` (the :class:`Metadata`) and ``labels.txt``.
"""

from __future__ import annotations

import dataclasses
import io
import json
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

from kws_edge.config import DetectorConfig, FrontendConfig
from kws_edge.errors import ConfigError, ModelError
from kws_edge.files import sha256_hex

__all__ = ["METADATA_NAME", "Metadata", "pack", "unpack"]

METADATA_NAME = "kws_edge.json"
_FORMAT = 1
_EPOCH = (1980, 1, 1, 0, 0, 0)  # ZIP's first date: the same content gives the same bytes

# What is read of the records of a ZIP archive (PKWARE's APPNOTE, 4.3.7, 12 and 16).
_LOCAL = struct.Struct("<4s22xHH")  # PK34, lengths of what follows: name, extra field
_ENTRY = struct.Struct("<4s6xH4xLL4xHHH8xL")  # PK12, method, CRC, packed size, three lengths, start of the local record
_END = struct.Struct("<4s6xHLL2x")  # PK56, entries, size and start of all


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a model file says of itself."""

    labels: tuple[str, ...]
    """Name of each output, in order."""
    front_end: FrontendConfig
    """What the input is computed by."""
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    """Defaults for detection."""
    name: str = ""
    description: str = ""
    licence: str = ""
    """Licence and attribution of the weights."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """How the model came about: tool versions, data, seeds."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """What was measured on it, with the data named."""


def pack(flatbuffer: bytes, metadata: Metadata) -> bytes:
    """A model file of `flatbuffer` and `metadata`; the same arguments give the same bytes."""
    import zipfile  # 0.8 MB that reading does without

    values = {f.name: getattr(metadata, f.name) for f in dataclasses.fields(metadata)}
    values["labels"] = list(metadata.labels)
    values["front_end"] = metadata.front_end.to_dict()
    values["detector"] = metadata.detector.to_dict()
    values = {"format": _FORMAT, "tflite_sha256": sha256_hex(flatbuffer), **values}
    out = io.BytesIO()
    out.write(flatbuffer)
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, text in (
            (METADATA_NAME, json.dumps(values, indent=1)),
            ("labels.txt", "".join(f"{label}\n" for label in metadata.labels)),
        ):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, text)
    return out.getvalue()


def _entries(data: bytes) -> dict[bytes, tuple[int, int, int, int]]:
    """The files in the ZIP archive at the end of `data`: where each starts, its packed size, method and CRC; empty if
    there is no archive."""
    end = data.rfind(b"PK\5\6")
    entries = {}
    try:
        _, n, size, offset = _END.unpack_from(data, end)
        at = end - size
        for _ in range(n):
            magic, method, crc, packed, name, extra, comment, start = _ENTRY.unpack_from(data, at)
            if magic != b"PK\1\2":
                return {}
            at += _ENTRY.size
            # Its start counts from that of the file, or of the archive.
            entries[data[at : at + name]] = start + end - size - offset, packed, method, crc
            at += name + extra + comment
    except struct.error:
        return {}
    return entries


def _content(data: bytes, start: int, packed: int, method: int, crc: int) -> bytes:
    """What a file of the archive holds."""
    _, name, extra = _LOCAL.unpack_from(data, start)
    start += _LOCAL.size + name + extra
    content = data[start : start + packed]
    if method == zlib.DEFLATED:
        content = zlib.decompress(content, wbits=-zlib.MAX_WBITS)
    if zlib.crc32(content) != crc:
        raise ValueError("its checksum does not match")
    return content


def unpack(data: bytes, name: str) -> tuple[bytes, Metadata | None]:
    """Split a model file.

    Parameters
    ----------
    data : bytes
        The whole file.
    name : str
        What errors call it.

    Returns
    -------
    flatbuffer : bytes
    metadata : Metadata or None
        None for a TFLite file that this project did not make.

    Raises
    ------
    ModelError
        If the metadata is damaged, of a newer format, or not of this flatbuffer.
    """
    entries = _entries(data)
    entry = entries.get(METADATA_NAME.encode())
    if entry is None:
        if not entries and METADATA_NAME.encode() in data:
            raise ModelError(f"{name}: cut short or damaged, its metadata cannot be read; get a whole copy")
        return data, None
    try:
        values = json.loads(_content(data, *entry))
    except (ValueError, struct.error, zlib.error) as error:
        raise ModelError(f"{name}: its metadata is damaged ({error}); get a whole copy") from None
    start = min(start for start, *_ in entries.values())
    flatbuffer = data[:start]
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        found = values.get("format") if isinstance(values, dict) else values
        raise ModelError(f"{name}: metadata of format {found!r}; this version reads {_FORMAT}. Update kws-edge")
    if values.get("tflite_sha256") != sha256_hex(flatbuffer):
        raise ModelError(f"{name}: the model does not match the checksum in its metadata; it was damaged or changed")
    try:
        labels = values["labels"]
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise ConfigError(f"labels must be a list of strings, got {labels!r}")
        metadata = Metadata(
            labels=tuple(labels),
            front_end=FrontendConfig.from_dict(values["front_end"]),
            detector=DetectorConfig.from_dict(values["detector"]),
            **{key: values[key] for key in ("name", "description", "licence", "provenance", "metrics")},
        )
    except KeyError as error:
        raise ModelError(f"{name}: its metadata lacks {error}") from None
    except ConfigError as error:
        raise ModelError(f"{name}: its metadata does not hold together: {error}") from None
    return flatbuffer, metadata
