"""Recognise the format of audio by its first bytes. A file name says little, and a pipe has no name."""

from __future__ import annotations

import codecs
from collections.abc import Callable

__all__ = ["NATIVE", "WAV", "is_audio", "recognise", "recognise_within"]

WAV = "WAV"
NATIVE = (WAV, "Wave64", "AU", "SoX")
"""Formats that :mod:`kws_edge.audio.pcm` reads, in files and on pipes: samples after a header."""

_Magic = dict[int, bytes | tuple[bytes, ...]]
_AUDIO: dict[str, _Magic] = {
    WAV: {0: (b"RIFF", b"RIFX", b"RF64", b"BW64"), 8: b"WAVE"},
    "AU": {0: (b".snd", b"dns.")},
    "SoX": {0: (b".SoX", b"XoS.")},
    "FLAC": {0: b"fLaC"},
    "Ogg": {0: b"OggS"},
    "MP3": {0: (b"ID3\2", b"ID3\3", b"ID3\4")},
    "AIFF": {0: b"FORM", 8: (b"AIFF", b"AIFC")},
    "8SVX": {0: b"FORM", 8: (b"8SVX", b"16SV")},
    "CAF": {0: b"caff\0\1"},
    "Wave64": {0: b"riff\x2e\x91\xcf\x11"},
    "VOC": {0: b"Creative Voice File\x1a"},
    "NIST Sphere": {0: b"NIST_1A"},
    "IRCAM": {0: tuple(magic for n in range(1, 5) for magic in (bytes((0x64, 0xA3, n, 0)), bytes((0, n, 0xA3, 0x64))))},
    "PAF": {0: (b" paf\0\0\0", b"fap \0\0\0")},
    "PVF": {0: b"PVF1\n"},
    "AVR": {0: b"2BIT"},
    "MPEG-4": {4: (b"ftyp", b"styp", b"moov", b"mdat", b"wide", b"free", b"skip")},
    "Matroska or WebM": {0: b"\x1aE\xdf\xa3"},
    "Windows Media": {0: b"0&\xb2u\x8ef\xcf\x11"},
    "AMR": {0: b"#!AMR"},
    "AVI": {0: b"RIFF", 8: b"AVI "},
    "WavPack": {0: b"wvpk"},
    "Monkey's Audio": {0: (b"MAC \x96", b"MAC \x8c", b"MAC \x7c")},
    "Musepack": {0: (b"MPCK", b"MP+\x07", b"MP+\x17", b"MP+\x27")},
    "True Audio": {0: (b"TTA1", b"TTA2")},
    "RealMedia": {0: (b".RMF", b".ra\xfd")},
    "DSF": {0: b"DSD "},
    "Flash Video": {0: b"FLV\1"},
    "DTS": {0: (b"\x7f\xfe\x80\x01", b"\xfe\x7f\x01\x80", b"DTSHDHDR")},
    "TrueHD": {4: (b"\xf8ro\xba", b"\xf8ro\xbb")},
    "TAK": {0: b"tBaK"},
    "Shorten": {0: b"ajkg"},
    "NUT": {0: b"nut/multimedia container\0"},
    "MPEG program stream": {0: b"\0\0\1\xba"},
    "MPEG transport stream": {0: b"G", 188: b"G", 376: b"G", 564: b"G"},
    "M2TS": {4: b"G", 196: b"G", 388: b"G", 580: b"G"},
}
_OTHER: dict[str, _Magic] = {
    "a Git LFS pointer (git lfs pull fetches the file)": {0: b"version https://git-lfs"},
    "a ZIP archive": {0: b"PK\3\4"},
    "a gzip archive": {0: b"\x1f\x8b\x08"},
    "a PNG image": {0: b"\x89PNG"},
    "a JPEG image": {0: (b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xe1", b"\xff\xd8\xff\xdb")},
    "a GIF image": {0: b"GIF8"},
    "a PDF document": {0: b"%PDF"},
    "a bzip2 archive": {0: b"BZh", 4: b"1AY&SY"},
    "an xz archive": {0: b"\xfd7zXZ\0"},
    "a Zstandard archive": {0: b"\x28\xb5\x2f\xfd"},
    "a 7-Zip archive": {0: b"7z\xbc\xaf\x27\x1c"},
    "a RAR archive": {0: b"Rar!\x1a\7"},
    "a program": {0: b"\x7fELF"},
    "a TFLite model": {4: b"TFL3"},
    "an HDF5 file": {0: b"\x89HDF\r\n"},
    "a NumPy array": {0: b"\x93NUMPY"},
    "MIDI notes": {0: b"MThd\0\0\0\6"},
    "RIFF of another kind": {0: (b"RIFF", b"RIFX")},
    "IFF of another kind": {0: b"FORM", 4: b"\0"},
}
_HEAD = 36
_LONGEST_FRAME = 2048
"""Longest frame in bytes. Web radios send none that is longer."""
_CHAIN = 8
_SETTINGS = b"\xff\xff\x0d\xcc"
"""Mask of the header bits that all frames of a stream share: version, rate, channels, copyright."""
_KBITS = {  # bit rates of a frame, by its format and whether it is MPEG-1 (not 2 or 2.5)
    ("MP3", True): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    ("MP3", False): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    ("MP2", True): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    ("MP2", False): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_AC3_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)


def recognise(look: Callable[[int, int], bytes]) -> str | None:
    """Return the name of a stream's format, or None if the format is not known.

    Parameters
    ----------
    look : callable
        ``look(at, n)`` returns `n` bytes of the stream from `at` on, and fewer if the stream ends before. Bytes beyond
        the first ones are requested only if the first ones may begin a frame or a packet.
    """
    head = look(0, _HEAD)
    for name, magic in (*_AUDIO.items(), *_OTHER.items()):
        if all((head[at:] or look(at, 1)).startswith(part) for at, part in magic.items()):
            return name
    if _is_text(head):
        return "a text"
    kind, length = _frame(head)
    return kind if kind and _frame(look(length, 8))[0] == kind else None


def recognise_within(look: Callable[[int, int], bytes]) -> str | None:
    """Return the format of a stream that begins inside a frame of MP3, MP2 or AAC, or None if it is none of these.

    A web radio's stream begins so when you tune in. `look` is that of :func:`recognise`.

    PCM is not mistaken for such a stream. Eight headers with equal settings must follow one another, each where the
    header before it says. The bytes between them must differ from frame to frame, which those of a tone do not.
    """
    window = look(0, _LONGEST_FRAME + 8)
    at = window.find(b"\xff")
    while 0 <= at < _LONGEST_FRAME:
        if name := _chain(look, at):
            return name
        at = window.find(b"\xff", at + 1)
    return None


def _chain(look: Callable[[int, int], bytes], at: int) -> str | None:
    """Return the format of the frames that begin at `at`, if enough of them follow one another."""
    settings, bodies = set(), set()
    for _ in range(_CHAIN):
        head = look(at, 8)
        name, length = _frame(head)
        settings.add(bytes(a & b for a, b in zip(head, _SETTINGS, strict=False)))
        if not name or len(settings) > 1:
            return None
        bodies.add(look(at, length))
        at += length
    return name if len(bodies) > 1 else None


def is_audio(name: str | None) -> bool:
    """Whether the format that :func:`recognise` names is audio."""
    return name in _AUDIO or name in ("AAC", "AC-3", "MP2")


def _is_text(head: bytes) -> bool:
    try:
        text, _ = codecs.utf_8_decode(head, "strict", False)  # the last letter may be cut
    except UnicodeDecodeError:
        return False
    return len(head) > 8 and all(c.isprintable() or c in "\t\r\n" for c in text.lstrip("\ufeff"))


def _frame(head: bytes) -> tuple[str | None, int]:
    """Return the format and the length in bytes of the MP2, MP3, AAC or AC-3 frame that begins here, if one does.

    Sources: ISO/IEC 11172-3, 2.4.2.3; ISO/IEC 13818-7, 6.2; ISO/IEC 14496-3, 1.7.2; ETSI TS 102 366, 4.4.1 and E.1.2.
    """
    if len(head) < 8:
        return None, 0
    if head[0] == 0xFF:
        return _mpeg_frame(head)
    if head[0] == 0x56 and head[1] >> 5 == 7:  # LOAS
        return "AAC", 3 + ((head[1] & 31) << 8 | head[2])
    if head[:2] == b"\x0b\x77":
        if 10 < head[5] >> 3 <= 16:  # Enhanced
            return "AC-3", 2 + 2 * ((head[2] & 7) << 8 | head[3])
        rate, size = head[4] >> 6, head[4] & 63
        if head[5] >> 3 <= 10 and rate < 3 and size < 2 * len(_AC3_KBITS):
            kbits = _AC3_KBITS[size // 2]
            return "AC-3", 2 * (2 * kbits, 320 * kbits // 147 + size % 2, 3 * kbits)[rate]
    return None, 0


def _mpeg_frame(head: bytes) -> tuple[str | None, int]:
    if head[1] & 0xF6 == 0xF0 and head[2] >> 2 & 15 < 13:  # ADTS
        return "AAC", max(7, (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5)
    name, version = {0xE2: "MP3", 0xE4: "MP2"}.get(head[1] & 0xE6), head[1] >> 3 & 3
    kbits, rate = head[2] >> 4, head[2] >> 2 & 3
    if not name or version == 1 or rate == 3 or kbits in (0, 15):
        return None, 0
    hz = (44100, 48000, 32000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    samples = 576 if name == "MP3" and version != 3 else 1152
    return name, samples * 125 * _KBITS[name, version == 3][kbits - 1] // hz + (head[2] >> 1 & 1)
