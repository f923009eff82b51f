"""Sources of samples: those of the package, and those of its users."""

import io
import os
import subprocess
import threading

import numpy as np
import pytest
import soundfile

from kws_edge import AudioError, AudioFile, LiveSource, PcmStream, Resampler, Source, Spotter
from kws_edge.audio.playback import Playback
from tests.conftest import need_program

RATE = 16000


class Blocks(Source):
    """A source as a user may write it."""

    name, sample_rate = "blocks", RATE

    def __init__(self, samples, size):
        self._blocks = [samples[at : at + size] for at in range(0, len(samples), size)]
        self.closed = 0

    def read(self):
        return self._blocks.pop(0) if self._blocks else None

    def close(self):
        self.closed += 1


@pytest.fixture(scope="module")
def samples(demo_stream):
    return soundfile.read(demo_stream, dtype="int16", frames=12 * RATE)[0]


def test_a_source_of_ones_own(model, samples):
    expected = list(Spotter(model).detections([samples]))
    assert len(expected) >= 2
    source = Blocks(samples, 700)
    with source:
        assert list(Spotter(model).detections(source)) == expected
    assert source.closed == 1
    assert source.read() is None


def test_a_spotter_hears_one_source_after_another(model, samples):
    spotter = Spotter(model)
    first = list(spotter.detections(Blocks(samples, 1000)))
    assert list(spotter.detections(Blocks(samples, 333))) == first
    spotter.reset()
    assert [*spotter.process(samples), *spotter.flush()] == first
    steps = [step.detection for step in spotter.steps([samples]) if step.detection]
    spotter.reset()
    assert (
        [s.detection for s in (*spotter.process_steps(samples), *spotter.flush_steps()) if s.detection]
        == steps
        == first
    )


def test_another_sample_rate_is_refused(model, demo_stream):
    refused = pytest.raises(AudioError, match=r"stream\.flac: gives 8000 Hz, but this model hears 16000 Hz")
    with AudioFile(demo_stream, sample_rate=8000) as source, refused:
        next(Spotter(model).detections(source))
    text = Blocks(np.zeros(320, np.int16), 320)
    text.sample_rate = "16000"
    with pytest.raises(AudioError, match="blocks: gives '16000' Hz"):
        next(Spotter(model).detections(text))


def test_an_array_is_no_source(model, samples):
    with pytest.raises(AudioError, match=r"give it to process\(\)"):
        next(Spotter(model).detections(samples))


def test_a_source_must_be_read():
    with pytest.raises(TypeError, match="abstract"):
        Source()
    with pytest.raises(TypeError, match="abstract"):
        LiveSource()


def test_a_file_is_closed_by_hand(demo_stream):
    source = AudioFile(demo_stream, sample_rate=RATE)
    assert len(source.read()) > 0
    source.close()
    source.close()
    assert source._stream.closed


@pytest.fixture
def recordings(tmp_path, samples):
    """Files that are read here, by libsndfile and by ffmpeg."""
    paths = [tmp_path / name for name in ("a.wav", "a.flac", "a.m4a")]
    for path in paths[:2]:
        soundfile.write(path, samples, RATE)
    need_program("ffmpeg")
    subprocess.run(["ffmpeg", "-v", "error", "-i", paths[0], paths[2]], check=True)
    return paths


def test_to_close_twice_closes_nothing_else(recordings):
    for path in recordings:
        source = AudioFile(path, sample_rate=RATE)
        assert len(source.read()) > 0
        source.close()
        others = [os.open(os.devnull, os.O_RDONLY) for _ in range(8)]
        source.close()
        for other in others:
            os.close(other)  # it is still open


def test_a_closed_source_says_so(recordings):
    sources = [AudioFile(path, sample_rate=RATE) for path in recordings]
    sources.append(PcmStream(io.BytesIO(bytes(3200)), sample_rate=RATE))
    for source in sources:
        source.read()
        source.close()
        with pytest.raises(AudioError, match=r"is closed$"):
            source.read()
        with pytest.raises(AudioError, match=r"is closed$"):
            next(source.frames())
    with AudioFile(recordings[0], sample_rate=RATE) as heard:
        assert len(heard.read_all()) == 12 * RATE
    assert heard.read() is None


def test_another_thread_may_close_a_file(recordings):
    for path in recordings:
        for _ in range(20):
            source = AudioFile(path, sample_rate=RATE)
            assert len(source.read()) > 0
            closing = threading.Thread(target=source.close)
            closing.start()
            try:
                rest = sum(map(len, source))  # it was quicker
                assert rest > 10 * RATE
            except AudioError as error:
                assert str(error) == f"{path}: is closed"
            closing.join()


@pytest.mark.parametrize("rate", [0, -16000, 10, 10**7, 16000.5, "16000", None])
def test_rates_that_no_audio_has_are_refused_and_nothing_stays_open(recordings, rate):
    before = len(os.listdir("/proc/self/fd"))
    for path in recordings:
        with pytest.raises(AudioError, match=r"a sample rate (of|is)"):
            AudioFile(path, sample_rate=rate)
    with pytest.raises(AudioError, match=r"a sample rate (of|is)"):
        PcmStream(io.BytesIO(bytes(3200)), sample_rate=rate)
    for rates in ((rate, RATE), (RATE, rate)):
        with pytest.raises(AudioError, match=r"a sample rate (of|is)"):
            Resampler(*rates)
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_resampler_takes_what_the_front_end_does():
    tone = (8000 * np.sin(np.arange(4800) / 10)).astype(np.int16)

    def converted(samples):
        return Resampler(48000, RATE).process(samples, last=True)

    expected = converted(tone)
    for dtype in (np.float32, np.float64):
        assert np.array_equal(converted((tone / 32768).astype(dtype)), expected)
    for wrong in (tone.astype(np.int32), np.stack([tone, tone]), np.zeros((5, 2), np.float32), np.full(9, np.nan)):
        with pytest.raises(AudioError):
            converted(wrong)


def test_a_live_source_without_a_with_block(demo_stream):
    source = Playback(demo_stream, sample_rate=RATE, real_time=False)
    first = source.read()  # reading starts the source
    assert isinstance(source, LiveSource) and len(first) > 0
    rest = sum(map(len, source))
    source.close()
    assert len(first) + rest == soundfile.info(demo_stream).frames
    assert (source.lost_samples, source.dropped_samples, source.overruns, source.outages) == (0, 0, 0, 0)
    never = Playback(demo_stream, sample_rate=RATE)
    never.close()  # closes a source that has not begun
    assert never.read() is None
    fast = Playback(demo_stream, sample_rate=RATE, real_time=False)
    fast.close()
    assert fast.read() is None
