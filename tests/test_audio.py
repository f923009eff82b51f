import io
import os
import struct
import subprocess
import tempfile
import threading
import time

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from kws_edge import AudioError, AudioFile, PcmStream, Resampler
from kws_edge.audio.playback import Playback
from kws_edge.audio.queue import BlockQueue
from tests.conftest import need_program

RATE = 16000


def tone(hz, rate=RATE, seconds=1.0, amplitude=0.5):
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def read(path, rate=RATE):
    with AudioFile(path, sample_rate=rate) as file:
        return file.read_all()


def power_at(samples, hz, rate=RATE):
    """Amplitude of a frequency in samples of full scale 1."""
    x = samples[rate // 10 : -rate // 10] / 32768
    n = np.arange(len(x))
    return 2 * abs(np.mean(x * np.hanning(len(x)) * 2 * np.exp(-2j * np.pi * hz * n / rate)))


def test_pcm16_passes_through_unchanged(tmp_path):
    samples = np.random.default_rng(0).integers(-32768, 32768, 40_000).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, RATE)
    assert np.array_equal(read(tmp_path / "a.wav"), samples)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_rates_keep_time_and_level(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", tone(440, rate), rate)
    samples = read(tmp_path / "a.wav")
    assert abs(len(samples) - RATE) <= 2
    assert power_at(samples, 440) == pytest.approx(0.5, rel=0.01)


def test_anti_aliasing(tmp_path):
    """A tone above half the new rate must vanish. Dropping samples would leave it at 3 kHz."""
    soundfile.write(tmp_path / "a.wav", tone(13_000, 48_000), 48_000)
    samples = read(tmp_path / "a.wav")
    assert power_at(samples, 3000) < 1e-4
    assert np.abs(samples[1000:-1000]).max() < 10


def test_channels_are_averaged(tmp_path):
    stereo = np.stack([tone(440), np.zeros(RATE, np.float32)], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, RATE, subtype="FLOAT")
    assert power_at(read(tmp_path / "a.wav"), 440) == pytest.approx(0.25, rel=0.01)


def test_streaming_resampling_does_not_depend_on_blocks():
    source = tone(700, 44100, 2.0)

    def convert(size):
        resampler = Resampler(44100, RATE)
        parts = [resampler.process(source[i : i + size]) for i in range(0, len(source), size)]
        return np.concatenate([*parts, resampler.process(np.empty(0, np.float32), last=True)])

    whole = convert(len(source))
    for size in (441, 882, 5000):
        other = convert(size)
        assert len(other) == len(whole)
        assert np.abs(other.astype(int) - whole).max() <= 1


FORMATS = {
    "44k1-stereo.wav": ["-ar", "44100", "-ac", "2"],
    "48k.wav": ["-ar", "48000"],
    "u8.wav": ["-c:a", "pcm_u8"],
    "s24.wav": ["-c:a", "pcm_s24le"],
    "float.wav": ["-c:a", "pcm_f32le"],
    "mulaw.wav": ["-c:a", "pcm_mulaw"],
    "a.flac": ["-c:a", "flac"],
    "a.ogg": ["-c:a", "libvorbis", "-ar", "44100"],
    "a.mp3": ["-c:a", "libmp3lame", "-ar", "44100"],
    "a.aiff": [],
}


def test_every_format_gives_the_same_class(tmp_path, validation_paths, model):
    need_program("ffmpeg")
    chosen = [path for path in validation_paths[:40] if model.classify(read(path)).score > 0.85][:6]
    assert len(chosen) == 6
    for path in chosen:
        expected = model.classify(read(path)).label
        for name, options in FORMATS.items():
            out = tmp_path / name
            command = ["ffmpeg", "-y", "-loglevel", "error", "-i", path, *options, out]
            subprocess.run(command, check=True)
            assert model.classify(read(out)).label == expected, (path, name)


def test_unreadable_files(tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("not audio at all, just text that goes on for a while" * 9)
    soundfile.write(tmp_path / "no_samples.wav", np.empty(0, np.int16), RATE)
    (tmp_path / "folder.wav").mkdir()
    for name, message in {
        "missing.wav": "no such file",
        "empty.wav": "is empty",
        "text.wav": "is a text, not audio",
        "no_samples.wav": "holds no samples",
        "folder.wav": "is a folder",
    }.items():
        with pytest.raises(AudioError, match=rf"{name}: .*{message}"):
            read(tmp_path / name)
    with pytest.raises(AudioError, match=r"^no\\x00name: no such file$"):
        AudioFile("no\0name", sample_rate=RATE)


def test_nan_in_a_float_file(tmp_path):
    samples = tone(440)
    samples[500] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"nan\.wav: the audio holds NaN"):
        read(tmp_path / "nan.wav")


class Trickle(io.RawIOBase):
    """A pipe that gives small pieces of odd sizes."""

    def __init__(self, data, size):
        self._data, self._size = data, size

    def read(self, n=-1):
        n = min(n if n >= 0 else self._size, self._size)
        piece, self._data = self._data[:n], self._data[n:]
        return piece


@pytest.mark.parametrize("size", [1, 3, 997, 100_000])
def test_raw_pcm(size):
    samples = np.random.default_rng(0).integers(-32768, 32768, 5000).astype("<i2")
    got = np.concatenate(list(PcmStream(Trickle(samples.tobytes(), size), sample_rate=RATE)))
    assert np.array_equal(got, samples)


def wav(samples, rate=RATE, channels=1, bits=16, code=1, announced=None):
    data = samples.tobytes()
    announced = len(data) if announced is None else announced
    frame = channels * bits // 8
    return (
        b"RIFF"
        + struct.pack("<I", 36 + len(data))
        + b"WAVEfmt "
        + struct.pack("<IHHIIHH", 16, code, channels, rate, rate * frame, frame, bits)
        + b"data"
        + struct.pack("<I", announced)
        + data
    )


def test_wav_on_a_pipe():
    """arecord writes a WAV header by default. It does not know the length in it."""
    samples = np.random.default_rng(0).integers(-3000, 3000, 5000).astype("<i2")
    for announced in (None, 0x80000000, 0xFFFFFFFF, 0):
        data = wav(samples, announced=announced)
        assert np.array_equal(np.concatenate(list(PcmStream(io.BytesIO(data), sample_rate=RATE))), samples)
    trailing = wav(samples) + b"LIST" + bytes(100)
    assert np.array_equal(np.concatenate(list(PcmStream(io.BytesIO(trailing), sample_rate=RATE))), samples)


def test_the_header_decides_rate_and_channels():
    stereo = np.repeat((tone(440, 48000) * 32767).astype("<i2"), 2)
    source = PcmStream(io.BytesIO(wav(stereo, 48000, 2)), sample_rate=RATE)
    assert (source.source_rate, source.channels) == (48000, 2)
    got = np.concatenate(list(source))
    assert abs(len(got) - RATE) <= 2
    assert power_at(got, 440) == pytest.approx(0.5, rel=0.01)


def test_a_pipe_without_audio_is_refused():
    with pytest.raises(AudioError, match="no audio arrived"):
        list(PcmStream(io.BytesIO(b""), sample_rate=RATE))
    with pytest.raises(AudioError, match="WAV header without audio"):
        PcmStream(io.BytesIO(wav(np.zeros(3, np.int16))[:36]), sample_rate=RATE)


def test_pipe_gives_samples_as_they_arrive():
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as stream:
        os.write(writer, bytes(3200))
        blocks = iter(PcmStream(stream, sample_rate=RATE))
        assert len(next(blocks)) > 0  # without waiting for more
        os.close(writer)
        list(blocks)


class Pieces(io.RawIOBase):
    """A pipe that gives pieces of these sizes, then the rest."""

    def __init__(self, data, sizes):
        self._data, self._sizes = data, list(sizes)

    def read(self, n=-1):
        size = self._sizes.pop(0) if self._sizes else len(self._data)
        n = min(n if n >= 0 else size, size)
        piece, self._data = self._data[:n], self._data[n:]
        return piece


SUBTYPES = {
    "WAV": ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"),
    "AU": ("PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"),
    "W64": ("PCM_U8", "PCM_16", "PCM_24", "FLOAT", "DOUBLE"),
}


@st.composite
def recordings(draw):
    """A file of any rate, number of channels and encoding, and its samples as libsndfile reads them."""
    form = draw(st.sampled_from(sorted(SUBTYPES)))
    subtype = draw(st.sampled_from(SUBTYPES[form]))
    endian = draw(st.sampled_from(["FILE", "BIG"])) if form != "W64" else "FILE"
    rate, channels = draw(st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000])), draw(st.integers(1, 3))
    n = draw(st.integers(10, 3000))
    samples = np.random.default_rng(n).uniform(-1, 0.999, (n, channels)) * draw(st.sampled_from([1.0, 0.3]))
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=form, subtype=subtype, endian=endian)
    frames = soundfile.read(io.BytesIO(out.getvalue()), dtype="float32", always_2d=True)[0]
    return out.getvalue(), rate, frames


def as_int16(frames):
    """Frames of full scale 1, mixed down, as 16-bit samples."""
    mono = frames[:, 0] if frames.shape[1] == 1 else frames.mean(axis=1, dtype=np.float32)
    return np.clip(np.rint(mono * 32768.0), -32768, 32767).astype(np.int16)


@given(recordings(), st.lists(st.integers(1, 400), max_size=20))
def test_any_recording_is_read_as_libsndfile_reads_it(recording, sizes):
    """At the recording's own rate every sample is the same, however the pipe cuts it."""
    data, rate, frames = recording
    source = PcmStream(Pieces(data, sizes), sample_rate=rate)
    assert (source.source_rate, source.channels, source.seconds) == (rate, frames.shape[1], len(frames) / rate)
    blocks = list(source)
    assert all(block.dtype == np.int16 and block.ndim == 1 and len(block) for block in blocks)
    assert np.array_equal(np.concatenate(blocks), as_int16(frames))
    raw = np.concatenate(list(PcmStream(Pieces(data, sizes), sample_rate=rate).frames()))
    assert raw.shape == frames.shape
    full = raw / np.float32(32768) if raw.dtype == np.int16 else raw
    assert np.array_equal(full, frames)


@given(recordings())
def test_a_file_is_read_as_a_pipe_is(recording):
    data, rate, frames = recording
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "a.wav")
        with open(path, "wb") as file:
            file.write(data)
        with AudioFile(path, sample_rate=rate) as source:
            assert (source.source_rate, source.channels, source.seconds) == (rate, frames.shape[1], len(frames) / rate)
            assert np.array_equal(source.read_all(), as_int16(frames))
            assert source.remark is None
        with AudioFile(path, sample_rate=RATE) as source:
            converted = source.read_all()
    assert np.array_equal(converted, np.concatenate(list(PcmStream(io.BytesIO(data), sample_rate=RATE))))
    assert abs(len(converted) - len(frames) * RATE / rate) <= 1


@given(recordings(), st.integers(1, 200))
def test_a_recording_that_ends_early_is_heard_as_far_as_it_goes(recording, missing):
    data, rate, frames = recording
    missing = min(missing, len(frames) - 1)  # at least a byte of each
    source = PcmStream(io.BytesIO(data[: len(data) - missing]), sample_rate=rate)
    heard = np.concatenate(list(source))
    assert np.array_equal(heard, as_int16(frames)[: len(heard)])
    assert len(frames) - missing <= len(heard) <= len(frames)
    assert len(heard) == len(frames) or source.remark.startswith("cut short: ")


@given(
    st.sampled_from([8000, 11025, 22050, 44100, 48000, 96000]),
    st.lists(st.integers(0, 3000), max_size=12),
    st.sampled_from(["int16", "float32"]),
)
def test_conversion_does_not_depend_on_blocks(rate, sizes, dtype):
    """Conversion also does not depend on whether samples are integers or the same numbers of full scale 1."""
    samples = np.random.default_rng(rate).normal(0, 3000, 12_000).clip(-32768, 32767).astype(np.int16)
    whole = Resampler(rate, RATE)
    expected = np.concatenate([whole.process(samples), whole.process(np.empty(0, np.int16), last=True)])
    assert abs(len(expected) - len(samples) * RATE / rate) <= 1
    cut = Resampler(rate, RATE)
    blocks = np.split(samples, np.minimum(np.cumsum(sizes, dtype=int), len(samples)))
    if dtype == "float32":
        blocks = [block.astype(np.float32) / 32768 for block in blocks]
    parts = [cut.process(block) for block in blocks] + [cut.process(np.empty(0, np.int16), last=True)]
    found = np.concatenate(parts)
    assert found.dtype == np.int16
    assert len(found) == len(expected)
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_queue_counts_what_does_not_fit():
    queue = BlockQueue(capacity=100)
    for _ in range(5):
        queue.put(bytes(80), 40)
    assert (queue.samples, queue.dropped) == (200, 120)
    assert queue.get(0.1) == (bytes(160), 80, 120)
    queue.put(bytes(2), 1, overrun=True)
    assert queue.overruns == 1
    queue.close()
    assert queue.get(0.1) == (bytes(2), 1, 0)
    assert queue.get(0.1) is None
    with pytest.raises(TimeoutError):
        BlockQueue(1).get(0.01)


def test_queue_between_threads():
    queue = BlockQueue(capacity=1 << 20)

    def produce():
        for i in range(2000):
            queue.put(np.full(7, i, np.int16).tobytes(), 7)
        queue.close()

    thread = threading.Thread(target=produce)
    thread.start()
    parts = []
    while (got := queue.get(1.0)) is not None:
        parts.append(np.frombuffer(got[0], np.int16))
    thread.join()
    assert np.array_equal(np.concatenate(parts), np.repeat(np.arange(2000), 7))


def test_playback_delivers_everything(demo_stream):
    with Playback(demo_stream, sample_rate=RATE, real_time=False) as source:
        samples = np.concatenate(list(source))
    assert np.array_equal(samples, read(demo_stream))
    assert source.queue.dropped == 0


def test_a_pipe_wakes_its_reader_when_there_is_enough():
    """Until then it waits, however small the writes are. At the end it gives what is left."""
    out, into = os.pipe()
    pcm = np.arange(8000, dtype="<i2")

    def write():
        with open(into, "wb", buffering=0) as pipe:
            for at in range(0, len(pcm), 160):
                pipe.write(pcm[at : at + 160].tobytes())
                time.sleep(0.002)

    writer = threading.Thread(target=write)
    writer.start()
    with open(out, "rb") as stream, PcmStream(stream, sample_rate=16000) as source:
        blocks = [source.read()]
        assert len(blocks[0]) <= 320
        for wanted in (0.1, 0.05, 0.0, 0.12):
            source.want(wanted)
            blocks.append(source.read())
            assert max(1, 16000 * wanted) <= len(blocks[-1]) <= max(320, 16000 * wanted)
        source.want(10)
        blocks.append(source.read())
        assert source.read() is None
        writer.join()
    assert np.array_equal(np.concatenate(blocks), pcm)
