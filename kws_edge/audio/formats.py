"""Which format audio is in, by its first bytes: a name says little, and a pipe has none."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["NATIVE", "WAV", "is_audio", "recognise"]

WAV = "WAV"
NATIVE = (WAV, "AU", "SoX")
"""Formats whose samples follow a header that :mod:`kws_edge.audio.pcm` reads, in files and on pipes."""

_Magic = dict[int, bytes | tuple[bytes, ...]]
_AUDIO: dict[str, _Magic] = {
    WAV: {0: (b"RIFF", b"RIFX", b"RF64", b"BW64"), 8: b"WAVE"},
    "AU": {0: (b".snd", b"dns.")},
    "SoX": {0: (b".SoX", b"XoS.")},
    "FLAC": {0: b"fLaC"},
    "Ogg": {0: b"OggS"},
    "MP3": {0: (b"ID3\2", b"ID3\3", b"ID3\4")},
    "AIFF": {0: b"FORM", 8: (b"AIFF", b"AIFC")},
    "CAF": {0: b"caff\0\1"},
    "Wave64": {0: b"riff\x2e\x91\xcf\x11"},
    "VOC": {0: b"Creative Voice File\x1a"},
    "NIST Sphere": {0: b"NIST_1A"},
    "MPEG-4": {4: (b"ftyp", b"moov", b"mdat", b"wide")},
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
}
_OTHER: dict[str, _Magic] = {
    "a Git LFS pointer (git lfs pull fetches the file)": {0: b"version https://git-lfs"},
    "a ZIP archive": {0: b"PK\3\4"},
    "a gzip archive": {0: b"\x1f\x8b\x08"},
    "a PNG image": {0: b"\x89PNG"},
    "a JPEG image": {0: (b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xe1", b"\xff\xd8\xff\xdb")},
    "a PDF document": {0: b"%PDF"},
}
_HEAD = 36
_MP3_KBITS = {  # of MPEG-1, and of MPEG-2 and 2.5
    True: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def recognise(look: Callable[[int, int], bytes]) -> str | None:
    """Name of the format of a stream; None where it begins as none that is known.

    Parameters
    ----------
    look : callable
        ``look(at, n)``: `n` bytes of the stream from `at` on, fewer where it ends before. More than the first bytes are
        asked for only where these may begin an MPEG frame.
    """
    head = look(0, _HEAD)
    for name, magic in (*_AUDIO.items(), *_OTHER.items()):
        if all(head.startswith(part, at) for at, part in magic.items()):
            return name
    if len(head) > 8 and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        return "a text"
    name, length = _mpeg_frame(head)
    return name if name and _mpeg_frame(look(length, 8))[0] == name else None


def is_audio(name: str | None) -> bool:
    """Whether the format that :func:`recognise` names is audio."""
    return name in _AUDIO or name == "AAC"


def _mpeg_frame(head: bytes) -> tuple[str | None, int]:
    """Format and bytes of the frame of MP3 or AAC (ADTS) that begins here, if one does.

    Sources: ISO/IEC 11172-3, 2.4.2.3; ISO/IEC 13818-7, 6.2.
    """
    if len(head) < 8 or head[0] != 0xFF:
        return None, 0
    if head[1] & 0xF6 == 0xF0 and head[2] >> 2 & 15 < 13:
        return "AAC", max(7, (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5)
    version, kbits, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if head[1] & 0xE6 != 0xE2 or version == 1 or rate == 3 or kbits in (0, 15):
        return None, 0
    hz = (44100, 48000, 32000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    size = (144 if version == 3 else 72) * 1000 * _MP3_KBITS[version == 3][kbits - 1] // hz
    return "MP3", size + (head[2] >> 1 & 1)
