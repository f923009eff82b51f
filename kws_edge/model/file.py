"""The self-describing model file: a TFLite flatbuffer followed by a small ZIP archive, as in TFLite Metadata.

TFLite tools read the flatbuffer at the start of the file and ignore the rest. ZIP tools read the archive at the end.
The archive holds ``kws_edge.json`` (the :class:`Metadata`) and ``labels.txt``. It may hold ``confirming.tflite``, the
model file of a second network, which confirms what the first one answers.
"""

from __future__ import annotations

import dataclasses
import io
import json
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

from kws_edge.config import ConfirmConfig, DetectorConfig, FrontendConfig, StepConfig
from kws_edge.detection.sensitivity import OWN, OperatingPoint, point_at, read_points
from kws_edge.errors import ConfigError, ModelError
from kws_edge.files import sha256_hex
from kws_edge.labels import check_labels
from kws_edge.ranges import number
from kws_edge.text import MAX_BYTES, decode, parse_json, shown

__all__ = ["METADATA_NAME", "MOST_BYTES", "Metadata", "pack", "unpack"]

METADATA_NAME = "kws_edge.json"
MOST_BYTES = 64 * 2**20
"""Size of a model file at most."""
_CONFIRMING = "confirming.tflite"
_FORMAT = 1
_KEYS = {"frontend_config": "front_end", "detector_config": "detector"}
"""Names in the file of the metadata fields that have another name there."""
_EPOCH = (1980, 1, 1, 0, 0, 0)  # ZIP's first date, so that the same content gives the same bytes

# The fields of a ZIP archive's records that are read (PKWARE's APPNOTE, 4.3.7, 12 and 16).
_LOCAL = struct.Struct("<4s22xHH")  # PK34; lengths of the name and of the extra field that follow
_ENTRY = struct.Struct("<4s6xH4xLL4xHHH8xL")  # PK12, method, CRC, packed size, three lengths, start of the local record
_END = struct.Struct("<4s6xHLL2x")  # PK56, entries, size and start of all


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """A model file's description of itself.

    Raises
    ------
    ConfigError
        If the labels cannot name outputs, or a field has another type.

    Examples
    --------
    >>> from kws_edge import Metadata, preset
    >>> metadata = Metadata(labels=("silence", "unknown", "lumos"), frontend_config=preset("logmel40"), name="wand")
    >>> metadata.detector_config.threshold
    0.75
    """

    labels: tuple[str, ...]
    """Name of each output, in order."""
    frontend_config: FrontendConfig
    """Settings of the front end that computes the input."""
    detector_config: DetectorConfig = field(default_factory=DetectorConfig)
    """Default settings of the detector."""
    step: StepConfig | None = None
    """How a network with state answers; None for one that hears whole clips."""
    confirm: ConfirmConfig | None = None
    """How a second network confirms the answers of a network with state; None if there is none."""
    confirming: bytes = field(default=b"", repr=False)
    """The second network's model file."""
    name: str = ""
    description: str = ""
    licence: str = ""
    """Licence and attribution of the weights."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """How the model was made: tool versions, data, seeds."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Measurements of the model, each with its data named."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", check_labels("labels", self.labels))
        for name, kind, called in (
            ("frontend_config", FrontendConfig, "a front end"),
            ("detector_config", DetectorConfig, "detector settings"),
            ("name", str, "text"),
            ("description", str, "text"),
            ("licence", str, "text"),
            ("provenance", dict, "an object"),
            ("metrics", dict, "an object"),
        ):
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise ConfigError(f"{name} must be {called}, got {shown(value)}")
        if not isinstance(self.step, StepConfig | None):
            raise ConfigError(f"step must be settings of a network with state, got {shown(self.step)}")
        if not isinstance(self.confirm, ConfirmConfig | None):
            raise ConfigError(f"confirm must be settings of a second network, got {shown(self.confirm)}")
        if (self.confirm is None) == bool(self.confirming) or (self.confirm and not self.step):
            raise ConfigError("confirm and confirming go together, with the step of a network with state")
        _ = self.miss_curve, self.operating_points

    @property
    def miss_curve(self) -> tuple[tuple[float, float], ...] | None:
        """Pairs of threshold, ascending, and share of commands missed; None if they were not measured.

        They are stored as ``metrics["miss_curve"]``.
        """
        curve = self.metrics.get("miss_curve")
        if curve is None:
            return None
        if not isinstance(curve, list) or len(curve) < 2 or not all(isinstance(p, list) and len(p) == 2 for p in curve):
            raise ConfigError(f"the miss_curve of metrics must be a list of two pairs or more, got {shown(curve)}")

        def share(value: object) -> float:
            return number(0, 1).check("a number of miss_curve", value)

        return tuple(sorted((share(threshold), share(missed)) for threshold, missed in curve))

    @property
    def operating_points(self) -> tuple[OperatingPoint, ...] | None:
        """What was measured at other thresholds, by rising sensitivity. They hold for the file's other settings.

        They are stored as ``metrics["operating_points"]``. None if there are none, or if the detector's settings have
        other thresholds than the point at a sensitivity of 0.5.
        """
        values = self.metrics.get("operating_points")
        if values is None:
            return None
        points = read_points(values)
        own = point_at(points, OWN)
        return points if own.applied(self.detector_config) == self.detector_config else None

    @property
    def miss_words(self) -> int | None:
        """Words behind the miss curve: ``metrics["calibration"]["distinct_words"]``; None if this is missing."""
        calibration = self.metrics.get("calibration")
        words = calibration.get("distinct_words") if isinstance(calibration, dict) else None
        return words if isinstance(words, int) and words > 0 else None


def pack(flatbuffer: bytes, metadata: Metadata) -> bytes:
    """Make a model file of `flatbuffer` and `metadata`. The same arguments give the same bytes.

    Parameters
    ----------
    flatbuffer : bytes
        A TFLite model.
    metadata : Metadata

    Returns
    -------
    bytes
        Content for a ``.tflite`` file.

    Examples
    --------
    Change the description of a model:

    >>> from dataclasses import replace
    >>> from kws_edge import pack, shipped_models, unpack
    >>> with open(shipped_models()["micro12"], "rb") as file:
    ...     flatbuffer, metadata = unpack(file.read(), "micro12")
    >>> changed = pack(flatbuffer, replace(metadata, description="for the kitchen"))
    >>> unpack(changed, "changed")[1].description
    'for the kitchen'
    """
    import zipfile  # 0.8 MB that reading does not need

    values = {_KEYS.get(f.name, f.name): getattr(metadata, f.name) for f in dataclasses.fields(metadata)}
    values["labels"] = list(metadata.labels)
    values["front_end"] = metadata.frontend_config.to_dict()
    values["detector"] = metadata.detector_config.to_dict()
    if metadata.step is None:  # older versions know no such field
        del values["step"]
    else:
        values["step"] = metadata.step.to_dict()
    del values["confirming"]
    if metadata.confirm is None:
        del values["confirm"]
    else:
        values["confirm"] = metadata.confirm.to_dict()
        values["confirming_sha256"] = sha256_hex(metadata.confirming)
    values = {"format": _FORMAT, "tflite_sha256": sha256_hex(flatbuffer), **values}
    out = io.BytesIO()
    out.write(flatbuffer)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:  # "a" would look for an archive in the flatbuffer
        contents: dict[str, str | bytes] = {
            METADATA_NAME: json.dumps(values, indent=1),
            "labels.txt": "".join(f"{label}\n" for label in metadata.labels),
        }
        if metadata.confirming:
            contents[_CONFIRMING] = metadata.confirming
        for name, content in contents.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return out.getvalue()


_Record = tuple[int, int, int, int]


def _find(data: bytes) -> tuple[int | None, dict[str, _Record]]:
    """Find the ZIP archive at the end of `data`, and the files in it that are read.

    Returns
    -------
    start : int or None
        Offset of the archive; None if there is no archive.
    records : dict
        Start, packed size, method and CRC of each file, by name.

    Raises
    ------
    ValueError
        If the archive has such a file twice.
    """
    end = data.rfind(b"PK\5\6")
    starts: list[int] = []
    found: dict[str, _Record] = {}
    try:
        _, n, size, offset = _END.unpack_from(data, end)
        at = end - size
        shift = at - offset  # offsets count from the start of the file, or of the archive
        for _ in range(n):
            magic, method, crc, packed, name, extra, comment, start = _ENTRY.unpack_from(data, at)
            starts.append(start + shift)
            if magic != b"PK\1\2" or at < 0 or starts[-1] < 0:
                return None, {}
            at += _ENTRY.size
            for read in (METADATA_NAME, _CONFIRMING):
                if data[at : at + name] == read.encode():
                    if read in found:
                        raise ValueError(f"{read} is in it twice")
                    found[read] = (starts[-1], packed, method, crc)
            at += name + extra + comment
    except struct.error:
        return None, {}
    return min(starts, default=None), found


def _content(data: bytes, record: _Record, most: int) -> bytes:
    """The content of a file in the archive, at most `most` bytes long."""
    start, packed, method, crc = record
    _, name, extra = _LOCAL.unpack_from(data, start)
    start += _LOCAL.size + name + extra
    content = data[start : start + packed]
    if method == zlib.DEFLATED:
        content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most:,} bytes")
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
        Name of the file in error messages.

    Returns
    -------
    flatbuffer : bytes
    metadata : Metadata or None
        None for a TFLite file that this project did not make.

    Raises
    ------
    ModelError
        If the metadata is damaged, has a newer format, or belongs to another flatbuffer.

    Examples
    --------
    >>> from kws_edge import shipped_models, unpack
    >>> with open(shipped_models()["micro12"], "rb") as file:
    ...     flatbuffer, metadata = unpack(file.read(), "micro12")
    >>> flatbuffer[4:8], metadata.labels[-2:]
    (b'TFL3', ('stop', 'go'))
    """
    try:
        start, records = _find(data)
        if METADATA_NAME not in records:
            if data.find(METADATA_NAME.encode(), start or 0) >= 0:
                raise ModelError(f"{name}: cut short or damaged, its metadata cannot be read; get a whole copy")
            return data[: start or None], None  # data that others append, such as TFLite Metadata, is left out
        values = parse_json(decode(_content(data, records[METADATA_NAME], MAX_BYTES)))
        confirming = _content(data, records[_CONFIRMING], MOST_BYTES) if _CONFIRMING in records else b""
    except (ValueError, struct.error, zlib.error) as error:
        raise ModelError(f"{name}: its metadata is damaged ({error}); get a whole copy") from None
    flatbuffer = data[:start]
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        found = values.get("format") if isinstance(values, dict) else values
        raise ModelError(f"{name}: metadata of format {shown(found)}; this version reads {_FORMAT}. Update kws-edge")
    if values.get("tflite_sha256") != sha256_hex(flatbuffer):
        raise ModelError(f"{name}: the model does not match the checksum in its metadata; it was damaged or changed")
    if confirming and values.get("confirming_sha256") != sha256_hex(confirming):
        raise ModelError(f"{name}: its second network does not match the checksum in its metadata; get a whole copy")
    try:
        metadata = Metadata(
            frontend_config=FrontendConfig.from_dict(values["front_end"]),
            detector_config=DetectorConfig.from_dict(values["detector"]),
            step=StepConfig.from_dict(values["step"]) if "step" in values else None,
            confirm=ConfirmConfig.from_dict(values["confirm"]) if "confirm" in values else None,
            confirming=confirming,
            **{key: values[key] for key in ("labels", "name", "description", "licence", "provenance", "metrics")},
        )
    except KeyError as error:
        raise ModelError(f"{name}: its metadata lacks {error}") from None
    except ConfigError as error:
        raise ModelError(f"{name}: its metadata does not hold together: {error}") from None
    return flatbuffer, metadata
