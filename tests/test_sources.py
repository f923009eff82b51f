"""Sources of samples: those of the package, and those that its users write."""

import pytest
import soundfile

from kws_edge import AudioError, AudioFile, LiveSource, Source, Spotter
from kws_edge.audio.playback import Playback

RATE = 16000


class Blocks(Source):
    """What a user may write."""

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


def test_a_live_source_without_a_with_block(demo_stream):
    source = Playback(demo_stream, sample_rate=RATE, real_time=False)
    first = source.read()  # which starts it
    assert isinstance(source, LiveSource) and len(first) > 0
    rest = sum(map(len, source))
    source.close()
    assert len(first) + rest == soundfile.info(demo_stream).frames
    assert (source.lost_samples, source.dropped_samples, source.overruns, source.outages) == (0, 0, 0, 0)
    never = Playback(demo_stream, sample_rate=RATE)
    never.close()  # before it began
