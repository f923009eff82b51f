"""Audio of every format, from files and pipes, is read like the plain recording, or refused by name."""

import ctypes
import errno
import io
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import soundfile

from kws_edge import AudioError, AudioFile, PcmStream
from kws_edge.audio import ffmpeg, pcm
from kws_edge.audio.formats import is_audio, recognise, recognise_within
from kws_edge.audio_limits import MAX_CHANNELS
from tests.conftest import assert_one_line_error, assert_usage_error, need_program, peak_mb

RATE = 16000
X = (np.random.default_rng(0).normal(0, 3000, 4000)).astype(np.int16)
PCM = X.astype("<i2").tobytes()
FLOATS = (X / 32768).astype("<f4")


def fmt(code=1, channels=1, rate=RATE, bits=16, align=None, extra=b"", order="<"):
    align = channels * bits // 8 if align is None else align
    return struct.pack(f"{order}HHIIHH", code, channels, rate, rate * align % 2**32, align % 2**16, bits) + extra


def chunk(kind, data, size=None, pad=True, order="<"):
    size = len(data) if size is None else size
    return kind + struct.pack(f"{order}I", size) + data + (b"\0" if pad and len(data) % 2 else b"")


def riff(*chunks, size=None, magic=b"RIFF", order="<"):
    body = b"WAVE" + b"".join(chunks)
    return magic + struct.pack(f"{order}I", len(body) if size is None else size) + body


def extensible(bits, guid):
    return struct.pack("<HHIH", 22, bits, 4, guid) + bytes.fromhex("000000001000800000aa00389b71")


def wave64_chunk(kind, data, size=None):
    size = 24 + len(data) if size is None else size
    return kind + bytes.fromhex("f3acd3118cd100c04f8edb8a") + struct.pack("<Q", size) + data + bytes(-len(data) % 8)


def wave64(form, samples, size=None):
    chunks = wave64_chunk(b"fmt ", form) + wave64_chunk(b"fact", bytes(8)) + wave64_chunk(b"data", samples, size)
    head = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000") + struct.pack("<Q", 40 + len(chunks))
    return head + wave64_chunk(b"wave", b"")[:16] + chunks


FORM, DATA = chunk(b"fmt ", fmt()), chunk(b"data", PCM)
LONG = struct.pack("<QQQI", 0, len(PCM), len(X), 0)

PLAIN = {  # these give exactly the samples of the plain recording
    "plain": riff(FORM, DATA),
    "sizes of 0": riff(FORM, chunk(b"data", PCM, 0), size=0),
    "a data size of 0": riff(FORM, chunk(b"data", PCM, 0)),
    "sizes of an empty file": riff(FORM, chunk(b"data", PCM, 0), size=36),
    "the largest sizes": riff(FORM, chunk(b"data", PCM, 0xFFFFFFFF), size=0xFFFFFFFF),
    "arecord on a pipe": riff(FORM, chunk(b"data", PCM, 0x80000000), size=0x80000024),
    "sox on a pipe": riff(FORM, chunk(b"data", PCM, 0x7FFFF000), size=0x7FFFF024),
    "the largest signed size": riff(FORM, chunk(b"data", PCM, 0x7FFFFFFF - 36), size=0x7FFFFFFF),
    "a list before the format": riff(chunk(b"LIST", b"INFOISFT\x0e\0\0\0Lavf58.29.100\0"), FORM, DATA),
    "an odd list without its pad": riff(chunk(b"LIST", b"INFOICMT\5\0\0\0hello", pad=False), FORM, DATA),
    "an odd list": riff(chunk(b"LIST", b"INFOICMT\5\0\0\0hello"), FORM, DATA),
    "two megabytes of junk": riff(chunk(b"JUNK", bytes(2_000_000)), FORM, DATA),
    "tags after it": riff(FORM, DATA, chunk(b"LIST", b"INFO" + b"x" * 4000)),
    "garbage after it": riff(FORM, DATA) + np.random.default_rng(1).bytes(32_000),
    "extensible": riff(chunk(b"fmt ", fmt(0xFFFE, extra=extensible(16, 1))), DATA),
    "a wrong block size": riff(chunk(b"fmt ", fmt(align=4)), DATA),
    "float": riff(chunk(b"fmt ", fmt(3, bits=32)), chunk(b"data", FLOATS.tobytes())),
    "float, extensible": riff(
        chunk(b"fmt ", fmt(0xFFFE, bits=32, extra=extensible(32, 3))), chunk(b"data", FLOATS.tobytes())
    ),
    "double": riff(chunk(b"fmt ", fmt(3, bits=64)), chunk(b"data", FLOATS.astype("<f8").tobytes())),
    "32 bits": riff(chunk(b"fmt ", fmt(bits=32)), chunk(b"data", (X.astype("<i4") << 16).tobytes())),
    "24 bits": riff(
        chunk(b"fmt ", fmt(bits=24)), chunk(b"data", np.insert(X.view("u1").reshape(-1, 2), 0, 0, axis=1).tobytes())
    ),
    "24 bits in 32": riff(chunk(b"fmt ", fmt(bits=24, align=4)), chunk(b"data", (X.astype("<i4") << 16).tobytes())),
    "stereo": riff(chunk(b"fmt ", fmt(channels=2)), chunk(b"data", np.repeat(X, 2).tobytes())),
    "RIFX": riff(
        chunk(b"fmt ", fmt(order=">"), order=">"), chunk(b"data", X.astype(">i2").tobytes(), order=">"),
        magic=b"RIFX", order=">",
    ),
    "RF64": riff(chunk(b"ds64", LONG), FORM, chunk(b"data", PCM, 0xFFFFFFFF), size=0xFFFFFFFF, magic=b"RF64"),
    "RF64 on a pipe": riff(chunk(b"ds64", bytes(28)), FORM, chunk(b"data", PCM, 0xFFFFFFFF), size=0, magic=b"RF64"),
    "audio in two chunks": riff(FORM, chunk(b"data", PCM[:3000]), chunk(b"LIST", b"INFO"), chunk(b"data", PCM[3000:])),
    "Wave64": wave64(fmt(), PCM),
    "Wave64 of extensible floats": wave64(fmt(0xFFFE, bits=32, extra=extensible(32, 3)), FLOATS.tobytes()),
    "Wave64 on a pipe": wave64(fmt(), PCM, size=2**63 - 1),
    "Wave64, tags after it": wave64(fmt(), PCM) + wave64_chunk(b"levl", bytes(500)),
    "AU": struct.pack(">4s5I", b".snd", 28, len(PCM), 3, RATE, 1) + bytes(4) + X.astype(">i2").tobytes(),
    "AU on a pipe": struct.pack(">4s5I", b".snd", 24, 0xFFFFFFFF, 6, RATE, 1) + FLOATS.astype(">f4").tobytes(),
    "sox -p": struct.pack("<4sIQdII", b".SoX", 36, 0, RATE, 1, 8) + bytes(8) + (X.astype("<i4") << 16).tobytes(),
}  # fmt: skip


def read_file(path, rate=RATE):
    with AudioFile(path, sample_rate=rate) as file:
        return file.read_all()


def read_pipe(data, rate=RATE, **options):
    with PcmStream(io.BytesIO(data), sample_rate=rate, **options) as source:
        return np.concatenate(list(source))


@pytest.mark.parametrize("name", PLAIN)
def test_headers_of_recorders_are_read_from_files_and_pipes(tmp_path, name):
    (tmp_path / "a.wav").write_bytes(PLAIN[name])
    assert np.array_equal(read_file(tmp_path / "a.wav"), X)
    assert np.array_equal(read_pipe(PLAIN[name]), X)


@pytest.mark.parametrize("subtype", ["PCM_U8", "ULAW", "ALAW", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("format", ["WAV", "WAVEX", "AU", "RF64"])
def test_encodings_are_read_as_libsndfile_reads_them(tmp_path, format, subtype):
    if not soundfile.check_format(format, subtype):
        pytest.skip(f"libsndfile writes no {format} of {subtype}")
    soundfile.write(tmp_path / "a", np.stack([X, -(X // 2)], axis=1) / 32768, RATE, format=format, subtype=subtype)
    expected = soundfile.read(tmp_path / "a", dtype="float32")[0].mean(axis=1, dtype=np.float32)
    expected = np.clip(np.rint(expected * 32768), -32768, 32767).astype(np.int16)
    assert np.array_equal(read_file(tmp_path / "a"), expected)
    assert np.array_equal(read_pipe((tmp_path / "a").read_bytes()), expected)


REFUSED = {
    "1 Hz": (riff(chunk(b"fmt ", fmt(rate=1)), DATA), "1 Hz"),
    "999 Hz": (riff(chunk(b"fmt ", fmt(rate=999)), DATA), "999 Hz"),
    "0 Hz": (riff(chunk(b"fmt ", fmt(rate=0)), DATA), "0 Hz"),
    "2 GHz": (riff(chunk(b"fmt ", fmt(rate=2**31 - 1)), DATA), "2147483647 Hz"),
    "4 GHz": (riff(chunk(b"fmt ", fmt(rate=2**32 - 1, channels=65535)), DATA)[:1044], "4294967295 Hz"),
    "no channel": (riff(chunk(b"fmt ", fmt(channels=0)), DATA), "0 channels"),
    "65535 channels": (riff(chunk(b"fmt ", fmt(channels=65535, align=2)), DATA), "65535 channels"),
    "0 bits": (riff(chunk(b"fmt ", fmt(bits=0)), DATA), "0 bits"),
    "floats of 16 bits": (riff(chunk(b"fmt ", fmt(3)), DATA), "floats of 16 bits"),
    "no format": (riff(DATA), "no 'fmt ' chunk"),
    "no data": (riff(FORM), "header without audio"),
    "a format cut short": (riff(chunk(b"fmt ", fmt()[:10]), DATA), "cut short"),
    "a chunk that is none": (riff(b"\0" * 400, FORM, DATA), "broken"),
    "an endless chunk": (riff(chunk(b"JUNK", b"", 0xFFFFFFF0), FORM, DATA), "broken"),
    "chunks without end": (riff(*[chunk(b"JUNK", b"")] * 2_000_000), "broken"),
    "nothing after the header": (riff(FORM, chunk(b"data", b"")), "no(| audio arrived|.*holds no samples)"),
    "tags in place of audio": (riff(FORM, chunk(b"data", b""), chunk(b"LIST", b"INFOICMT\0\0\0\0")), "no"),
    "NaN": (riff(chunk(b"fmt ", fmt(3, bits=32)), chunk(b"data", FLOATS.tobytes() + b"\0\0\xc0\x7f")), "NaN"),
    "infinity": (riff(chunk(b"fmt ", fmt(3, bits=32)), chunk(b"data", FLOATS.tobytes() + b"\0\0\x80\x7f")), "infinite"),
    "floats that are integers": (
        riff(chunk(b"fmt ", fmt(3, bits=32)), chunk(b"data", X.astype("<f4").tobytes())), "full scale is 1",
    ),
    "integers that are floats": (riff(chunk(b"fmt ", fmt(bits=32)), chunk(b"data", FLOATS.tobytes())), "are floats"),
    "another rate follows": (riff(FORM, DATA) + riff(chunk(b"fmt ", fmt(rate=8000)), DATA), "another WAV file"),
    "a broken AU": (struct.pack(">4s5I", b".snd", 4, 0, 3, RATE, 1) + PCM, "AU header is broken"),
    "a broken SoX": (struct.pack("<4sIQdII", b".SoX", 36, 0, float("nan"), 1, 2**31) + PCM, "SoX header is broken"),
    "a broken Wave64": (wave64(fmt(), PCM).replace(struct.pack("<Q", 40), bytes(8), 1), "header is broken"),
    "German": ("Größe und Länge, nur ein Text".encode(), "is a text, not audio"),
    "a playlist with a mark": ("\ufeff#EXTM3U\n/etc/hostname\n".encode(), "is a text, not audio"),
    "ffmpeg's list of files": (b"ffconcat version 1.0\nfile 'other.wav'\n", "is a text, not audio"),
    "bzip2": (b"BZh91AY&SY" + bytes(100), "is a bzip2 archive, not audio"),
    "NumPy": (b"\x93NUMPY\1\0v\0{'descr': '<i2'}" + PCM, "is a NumPy array, not audio"),
    "a model": (b"\x1c\0\0\0TFL3" + PCM, "is a TFLite model, not audio"),
    "WebP": (b"RIFF\x24\0\0\0WEBPVP8 " + PCM, "is RIFF of another kind, not audio"),
    "another AU follows, of another rate": (
        b"".join(struct.pack(">4s5I", b".snd", 24, len(PCM), 3, rate, 1) + PCM for rate in (RATE, 8000)),
        "another AU file follows",
    ),
    "a sample that is none at 16 kHz": (riff(chunk(b"fmt ", fmt(rate=96000)), chunk(b"data", PCM[:2])), "no"),
    "HTML": (b"<html><body>404 not found</body></html>\n" * 30, "is a text, not audio"),
    "JSON": (b'{"error": "no such stream", "code": 404, "detail": "x"}', "is a text, not audio"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "git lfs pull"),
    "ZIP": (b"PK\3\4" + bytes(100), "is a ZIP archive, not audio"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_broken_and_foreign_headers_are_refused_by_name(tmp_path, name):
    data, why = REFUSED[name]
    (tmp_path / "a.wav").write_bytes(data)
    start = time.monotonic()
    with pytest.raises(AudioError, match=f"a.wav: .*{why}"):
        read_file(tmp_path / "a.wav")
    with pytest.raises(AudioError, match=f"pipe: .*{why}"):
        read_pipe(data, name="pipe")
    assert time.monotonic() - start < 2


def test_headers_that_promise_gigabytes_cost_none(tmp_path):
    names = []
    for number, size in enumerate((0x7FFE0000, 0xFFFFFFFF, 2**31 - 2**20)):
        (tmp_path / f"{number}.wav").write_bytes(
            riff(chunk(b"fmt ", fmt(channels=MAX_CHANNELS)), chunk(b"data", PCM, size))
        )
        names.append(tmp_path / f"{number}.wav")
    code = "import sys\nfrom kws_edge import AudioFile\nfor name in sys.argv[1:]:\n"
    code += "    with AudioFile(name, sample_rate=16000) as file: file.read_all()"
    assert peak_mb(code, *names) < peak_mb("from kws_edge import AudioFile") + 25


def test_two_hours_take_no_more_memory_than_a_second(tmp_path):
    for name, seconds in (("second", 1), ("hours", 7200)):
        with open(tmp_path / name, "wb") as file:
            file.write(riff(FORM, chunk(b"data", b"", 2 * RATE * seconds), size=36 + 2 * RATE * seconds))
            file.truncate(44 + 2 * RATE * seconds)
    code = "import sys\nfrom kws_edge import AudioFile\n"
    code += "with AudioFile(sys.argv[1], sample_rate=16000) as file: print(sum(map(len, file)))"
    assert peak_mb(code, tmp_path / "hours") < peak_mb(code, tmp_path / "second") + 5


def test_what_is_missing_or_left_over_is_said(tmp_path, run_cli):
    whole = riff(FORM, DATA)
    cases = {
        "cut": (whole[:5044], 2500, "cut short: 5000 of 8000 bytes of audio are there"),
        "odd": (whole[:5045], 2500, "cut short: 5001 of 8000 bytes of audio are there"),
        "short": (riff(FORM, chunk(b"data", PCM, 5000)), 2500, "3000 bytes after its audio are not heard"),
        "whole": (whole, 4000, None),
    }
    for name, (data, n, remark) in cases.items():
        (tmp_path / f"{name}.wav").write_bytes(data)
        file = AudioFile(tmp_path / f"{name}.wav", sample_rate=RATE)
        for source in (file, PcmStream(io.BytesIO(data), sample_rate=RATE)):
            with source:
                assert np.array_equal(np.concatenate(list(source)), X[:n])
            assert (source.remark or "").startswith(remark or "")
            assert bool(source.remark) == bool(remark)
    for command in ("detect", "classify"):
        done = run_cli(command, "cut.wav", "whole.wav")
        assert done.returncode == 0
        assert done.stderr.count(b"kws-edge: cut.wav: cut short: 5000 of 8000 bytes") == 1


def test_recordings_one_after_another_are_heard_whole(tmp_path):
    twice = np.concatenate([X, X])
    for data in (
        riff(FORM, DATA) + riff(FORM, DATA),
        riff(FORM, DATA, chunk(b"LIST", b"INFOabc")) + riff(chunk(b"JUNK", bytes(9)), FORM, DATA),
        riff(FORM, DATA) + riff(FORM, chunk(b"data", PCM, 0xFFFFFFFF), size=0xFFFFFFFF),
        2 * (struct.pack("<4s5I", b"dns.", 24, len(PCM), 3, RATE, 1) + PCM),
        riff(FORM, DATA) + wave64(fmt(), PCM),
    ):
        (tmp_path / "a.wav").write_bytes(data)
        assert np.array_equal(read_file(tmp_path / "a.wav"), twice)
        assert np.array_equal(read_pipe(data), twice)


@pytest.mark.parametrize("name", ["a.ogg", "a.opus", "a.flac"])
def test_encoded_recordings_one_after_another_are_heard_whole(tmp_path, monkeypatch, name):
    """A radio station's recording has such parts, one for each title."""
    path = tmp_path / name
    encoded(path)
    n = len(read_file(path))
    path.write_bytes(2 * path.read_bytes())
    assert abs(len(read_file(path)) - 2 * n) < RATE // 10
    assert abs(len(read_pipe(path.read_bytes())) - 2 * n) < RATE // 10
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AudioError, match=r"only the first of its recordings; install ffmpeg, or convert it"):
        read_file(path)


def looking(data):
    return lambda at, n: data[at : at + n]


def test_raw_pcm_is_not_taken_for_a_format():
    """The two bytes that begin an MPEG frame are as likely a sample as any other."""
    rng = np.random.default_rng(0)
    firsts = [b"\xff\xfb\x90\x00", b"\xff\xf1\x50\x80", b"\xff\xf3\x40\xc0", b"\xff\xfd\x80\x04"]
    for first in (*firsts, b"\x0b\x77\0\0\x14\x40", b"\x56\xe1\0\0", b"G@", b"\0\0\1\xb3"):
        for _ in range(50):
            data = first + rng.bytes(4000)
            assert recognise(looking(data)) is None
            assert len(read_pipe(data)) == len(data) // 2
    assert recognise(looking(bytes(100))) is None
    assert recognise(looking(b"")) is None
    for level in (1, 100, 10_000, 32_767):
        for seed in range(300):
            samples = np.random.default_rng(seed).uniform(-level, level, 2000).astype("<i2")
            assert recognise(looking(samples.tobytes())) is None


def test_raw_pcm_is_not_taken_for_a_stream_that_was_tuned_into(demo_stream):
    """Three kinds of raw PCM come close to frames.

    They are speech at any level and encoding, a constant channel that begins like a frame, and tones whose periods are
    frames.
    """
    rng = np.random.default_rng(0)
    speech = soundfile.read(demo_stream, dtype="int16", frames=10 * RATE)[0].astype(int)
    for at in range(0, len(speech) - 20_000, 4_000):
        piece = speech[at : at + 20_000]
        for gain in (0.05, 1, 8):
            samples = np.clip(piece * gain, -32768, 32767).astype("<i2")
            beside = np.full_like(samples, rng.choice([-1025, -1281, -3073, -3329, -7, -15]))
            for data in (
                samples, samples.byteswap(), np.stack([samples, beside], 1), (samples >> 8).astype("i1"),
                samples.astype("<i4") << 16, (samples / 32768).astype("<f4"),
            ):  # fmt: skip
                assert recognise_within(looking(data.tobytes()[at % 3 :])) is None
    for length in range(96, 2048):
        tone = np.tile(np.frombuffer((b"\xff\xfb\x90\x40" + rng.bytes(length))[:length], "u1"), 10)
        assert recognise_within(looking(tone.tobytes()[5:])) is None
    assert recognise_within(looking(b"")) is None
    assert recognise_within(looking(b"\xff" * 30_000)) is None


@pytest.mark.parametrize("name", ["a.mp3", "vbr.mp3", "a.mp2", "a.aac"])
def test_a_stream_is_heard_from_the_middle_of_a_frame(tmp_path, name, run_cli, demo_stream):
    """A radio's stream begins anywhere, where you tune in."""
    need_program("ffmpeg")
    options = ["-q:a", "4"] if name == "vbr.mp3" else ["-ar", "44100", "-b:a", "128k"]
    subprocess.run(["ffmpeg", "-v", "error", "-i", demo_stream, "-t", "12", *options, tmp_path / name], check=True)
    data = (tmp_path / name).read_bytes()[5000:]
    kind = {"a.mp2": "MP2", "a.aac": "AAC"}.get(name, "MP3")
    for cut in range(500):
        assert kind in (recognise_within(looking(data[cut:])), recognise(looking(data[cut:])))
    done = run_cli("listen", "-", "--json", input=data[100:])
    assert {"stop", "right", "up"} <= {json.loads(line)["keyword"] for line in done.stdout.splitlines()}, done.stderr


def encoded(path, *options):
    """Write the tones in the format of the name's ending."""
    need_program("ffmpeg")
    source = ["-f", "s16le", "-ar", str(RATE), "-ac", "1", "-i", "pipe:"]
    done = subprocess.run(["ffmpeg", "-v", "quiet", *source, *options, path], input=TONES.tobytes(), check=False)
    if done.returncode:
        pytest.skip(f"this ffmpeg encodes no {path.name}")


ENCODED = {
    "a.flac": ("FLAC", []),
    "a.ogg": ("Ogg", []),
    "a.mp3": ("MP3", []),
    "b.mp3": ("MP3", ["-id3v2_version", "0", "-write_xing", "0"]),
    "a.aiff": ("AIFF", []),
    "a.m4a": ("MPEG-4", []),
    "alac.m4a": ("MPEG-4", ["-c:a", "alac"]),
    "a.3gp": ("MPEG-4", ["-c:a", "aac"]),
    "a.aac": ("AAC", []),
    "a.webm": ("Matroska or WebM", ["-c:a", "libopus"]),
    "a.wma": ("Windows Media", []),
    "a.wv": ("WavPack", []),
    "a.mp2": ("MP2", []),
    "a.ac3": ("AC-3", ["-b:a", "192k"]),
    "a.eac3": ("AC-3", []),
    "a.dts": ("DTS", ["-ar", "48000", "-strict", "-2"]),
    "a.latm": ("AAC", ["-c:a", "aac"]),
    "a.ts": ("MPEG transport stream", []),
    "a.m2ts": ("M2TS", []),
    "a.mpg": ("MPEG program stream", ["-ar", "44100", "-b:a", "192k"]),
    "a.voc": ("VOC", ["-c:a", "pcm_s16le"]),
    "a.sf": ("IRCAM", ["-f", "ircam"]),
    "yamaha.wav": ("WAV of Yamaha ADPCM", ["-c:a", "adpcm_yamaha"]),
    "ima.wav": ("WAV of IMA ADPCM", ["-c:a", "adpcm_ima_wav"]),
}
BY_LIBSNDFILE = {"a.flac", "a.ogg", "a.mp3", "b.mp3", "a.aiff", "ima.wav", "a.mp2", "a.sf"}


def similar(samples):
    """Whether the samples are those of the plain recording, after a codec that may shift them."""
    size = 1 << 14
    product = np.fft.irfft(np.fft.rfft(samples.astype(float), size) * np.conj(np.fft.rfft(TONES.astype(float), size)))
    return np.abs(product).max() / np.linalg.norm(samples.astype(float)) / np.linalg.norm(TONES.astype(float)) > 0.95


TONES = sum(3000 * np.sin(2 * np.pi * hz * np.arange(RATE // 2) / RATE) for hz in (300, 470, 900)).astype(np.int16)


@pytest.mark.parametrize("name", ENCODED)
def test_formats_of_phones_and_browsers_are_read_or_refused_by_name(tmp_path, monkeypatch, name):
    kind, options = ENCODED[name]
    path = tmp_path / name
    encoded(path, *options)
    data = path.read_bytes()
    assert recognise(looking(data)) == kind.split(" of ")[0]
    assert is_audio(recognise(looking(data)))
    assert similar(read_file(path))
    assert similar(read_pipe(data))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AudioError, match=rf"in: {kind} on a pipe needs ffmpeg: .*ffmpeg -i pipe: -f s16le -ar 16000"):
        read_pipe(data, name="in")
    if name in BY_LIBSNDFILE:
        assert similar(read_file(path))
    else:
        with pytest.raises(AudioError, match=rf"{name}: {kind}: .*convert it: ffmpeg -i \S*{name} out\.wav"):
            read_file(path)


def test_names_that_look_like_options_or_addresses_are_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encoded(tmp_path / "a.m4a")
    for name in ("-i", "--", "http:x.m4a", "concat:a|b", "a b'\"$(x).m4a", "b\udce9.m4a", "pipe:"):
        os.replace("a.m4a", name)
        assert similar(read_file(name))
        os.replace(name, "a.m4a")


def test_videos_without_sound_are_said_to_be_without(tmp_path):
    need_program("ffmpeg")
    video = ["-f", "lavfi", "-i", "testsrc=d=1:s=64x48:r=25", tmp_path / "a.mp4"]
    if subprocess.run(["ffmpeg", "-v", "quiet", *video], check=False).returncode:
        pytest.skip("this ffmpeg encodes no video")
    with pytest.raises(AudioError, match=r"a\.mp4: MPEG-4: ffmpeg cannot decode it \(it holds no audio\)$"):
        read_file(tmp_path / "a.mp4")


def test_a_terminal_is_no_audio(run_cli):
    controller, terminal = os.openpty()
    for command in ("listen", "calibrate"):
        assert_usage_error(run_cli(command, "-", stdin=terminal), "standard input is a terminal; send audio into it")
    os.close(terminal)
    os.close(controller)


def test_names_of_files_command_no_terminal(tmp_path, run_cli):
    """Control characters are escaped, and every name is one line."""
    name = "a\x1b[2J\n\u202eb.wav"
    (tmp_path / name).write_bytes(riff(FORM, DATA)[:4044])
    for command in ("detect", "classify"):
        done = run_cli(command, name, name)
        assert done.returncode == 0
        assert "\x1b" not in (said := (done.stdout + done.stderr).decode())
        assert "a\\x1b[2J \\u202eb.wav: cut short" in said
        assert "\na\\x1b[2J \\u202eb.wav:" in "\n" + done.stdout.decode()
    assert_one_line_error(
        run_cli("detect", "-", stdin=subprocess.DEVNULL), "-: no such file; standard input is /dev/stdin"
    )


def test_broken_files_for_ffmpeg_are_one_line(tmp_path):
    need_program("ffmpeg")
    for name, data in {
        "a.m4a": b"\0\0\0\x20ftypM4A " + np.random.default_rng(0).bytes(5000),
        "b.webm": b"\x1aE\xdf\xa3" + np.random.default_rng(0).bytes(50_000),
        "c.m4a": struct.pack(">I4s", 8, b"moov"),
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(AudioError, match=f"^[^\n]*{name}: .*ffmpeg cannot decode it [^\n]*$"):
            read_file(tmp_path / name)
        with pytest.raises(AudioError, match=r"^in: [^\n]*$"):
            read_pipe(data, name="in")


@pytest.fixture
def stubborn(tmp_path, monkeypatch):
    """A program in place of ffmpeg that gives a header and then waits for ever. Returns the file of its process id."""
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    header = "".join(f"\\{byte:03o}" for byte in riff(FORM, chunk(b"data", b"", 0xFFFFFFFF)))
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nprintf '{header}'\nexec sleep 1000\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path / "pid"


def test_ffmpeg_that_hangs_is_ended(tmp_path, monkeypatch, stubborn):
    monkeypatch.setattr(ffmpeg, "_DEADLINE_S", 0.5)
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    with pytest.raises(AudioError, match=r"a\.m4a: (MPEG-4: )?ffmpeg gave nothing for 0\.5 s"):
        read_file(tmp_path / "a.m4a")
    with pytest.raises(ProcessLookupError):
        os.kill(int(stubborn.read_text()), 0)


def test_ffmpeg_ends_with_the_source(tmp_path, stubborn):
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as stream:
        os.write(writer, b"OggS" + bytes(100))
        with PcmStream(stream, sample_rate=RATE):
            pid = int(stubborn.read_text())
            os.kill(pid, 0)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        os.close(writer)


def test_an_encoded_stream_is_heard_as_it_comes_and_ends_cleanly(tmp_path, demo_stream):
    """The stream goes on when Ctrl-C comes. The thread that waits for the stream does not delay the end."""
    need_program("ffmpeg")
    data = tmp_path / "a.mp3"
    subprocess.run(["ffmpeg", "-v", "error", "-i", demo_stream, "-t", "5", data], check=True)
    command = [sys.executable, "-m", "kws_edge", "listen", "-", "--json"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(data.read_bytes())
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["keyword"]
        process.send_signal(signal.SIGINT)
        error = process.stderr.read().decode()
        assert process.wait(10) == 0, error
    assert "Fatal" not in error
    assert "heard" in error


def test_a_fifo_is_a_file(tmp_path, run_cli):
    os.mkfifo(tmp_path / "fifo")
    for data in (PLAIN["plain"], PLAIN["sox -p"]):
        writer = threading.Thread(target=(tmp_path / "fifo").write_bytes, args=(data,))
        writer.start()
        assert np.array_equal(read_file(tmp_path / "fifo"), X)
        writer.join()
    writer = threading.Thread(target=(tmp_path / "fifo").write_bytes, args=(PCM,))
    writer.start()
    with pytest.raises(AudioError, match=r"fifo: .*kws-edge listen - takes raw PCM"):
        read_file(tmp_path / "fifo")
    writer.join()
    done = run_cli("classify", "/dev/stdin", input=PLAIN["plain"])
    assert done.stdout.startswith(b"/dev/stdin: "), done.stderr
    for name in ("/dev/null", "/dev/zero"):
        assert_one_line_error(run_cli("classify", name), f"{name}: is a device")


def obedient():
    """Let modes of files hold for root, without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""
    libc = ctypes.CDLL(None)
    for capability in (1, 2):
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def test_a_batch_goes_on_after_a_bad_file(tmp_path, run_cli):
    """Bad names, folders, broken links and unreadable files give a line each. The other files give results."""
    (tmp_path / "good.wav").write_bytes(PLAIN["plain"])
    (tmp_path / "b\udce9.wav").write_bytes(PLAIN["plain"])
    (tmp_path / "secret.wav").write_bytes(PLAIN["plain"])
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.wav").symlink_to("nowhere")
    (tmp_path / "rate.wav").write_bytes(REFUSED["1 Hz"][0])
    bad = {
        "folder": "is a folder", "link.wav": "is a broken link", "gone\udce9.wav": "no such file", "rate.wav": "1 Hz",
        "secret.wav": "cannot be read (Permission denied)",
    }  # fmt: skip
    (tmp_path / "secret.wav").chmod(0)
    names = ["good.wav", *bad, "b\udce9.wav"]
    done = run_cli("classify", "--json", *names, preexec_fn=obedient)
    assert done.returncode == 1
    assert [json.loads(line)["file"] for line in done.stdout.splitlines()] == ["good.wav", "b\udce9.wav"]
    lines = done.stderr.decode().splitlines()
    assert len(lines) == len(bad)
    for line, (name, why) in zip(lines, bad.items(), strict=True):
        assert line.startswith("kws-edge: " + name.encode(errors="backslashreplace").decode())
        assert why in line
    for encoding in ("utf-8", "ascii", "latin-1"):
        env = {**os.environ, "PYTHONIOENCODING": encoding}
        done = run_cli("detect", *names, preexec_fn=obedient, env=env)
        assert done.returncode == 1
        assert b"b\xe9.wav:\n" in done.stdout or b"b\\udce9.wav:\n" in done.stdout
        assert len(done.stderr.splitlines()) == len(bad)


class Failing(io.RawIOBase):
    """A disk that fails in the middle of a recording."""

    def __init__(self, data):
        self._data = data

    def read(self, n=-1):
        if not self._data:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        piece, self._data = self._data[:n], self._data[n:]
        return piece


def test_a_disk_that_fails_is_one_line():
    for data in (b"", PLAIN["plain"][:30], PLAIN["plain"][:2000]):
        with pytest.raises(AudioError, match=r"^disk: cannot be read \(Input/output error\)$"):
            list(PcmStream(Failing(data), sample_rate=RATE, name="disk"))


def test_laws_are_those_of_libsndfile():
    """They agree for each of the 256 codes of ITU-T G.711, including negative zero."""
    for kind, code, subtype in (("ulaw", 7, "ULAW"), ("alaw", 6, "ALAW")):
        data = riff(chunk(b"fmt ", fmt(code, bits=8)), chunk(b"data", bytes(range(256))))
        samples = soundfile.read(io.BytesIO(data), dtype="int16")[0]
        assert soundfile.info(io.BytesIO(data)).subtype == subtype
        assert np.array_equal(pcm._LAWS[kind], samples)
