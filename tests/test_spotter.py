import tracemalloc

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from kws_edge import DetectorConfig, Frontend, Model, Spotter

RATE = 16000


@pytest.fixture(scope="module")
def stream(demo_stream):
    return soundfile.read(demo_stream, dtype="int16")[0]


@pytest.fixture(scope="module")
def small():
    """The smallest model at work."""
    return Spotter(Model("micro12", kernels="builtin"))


def detections(spotter, samples, size):
    found = []
    for at in range(0, len(samples), size):
        found += spotter.process(samples[at : at + size])
    return found + spotter.flush()


def test_detections_do_not_depend_on_the_blocks(model, stream):
    spotter = Spotter(model)
    expected = detections(spotter, stream, len(stream))
    assert len(expected) >= 5
    for size in (160, 1000, 16001):
        spotter.reset()
        assert detections(spotter, stream, size) == expected, size


@settings(max_examples=8)
@given(st.lists(st.integers(0, 9000), max_size=20), st.sampled_from(["int16", "float32"]))
def test_steps_do_not_depend_on_the_blocks(small, stream, sizes, dtype):
    """Times, posteriors and detections are equal bit for bit, for integer and float samples alike."""
    samples = stream[: 3 * RATE]
    small.reset()
    expected = list(small.process_steps(samples))
    assert len(expected) == (3 * RATE - 480 + 160) // 1600
    small.reset()
    if dtype == "float32":
        samples = samples.astype(np.float32) / 32768
    blocks = np.split(samples, np.minimum(np.cumsum(sizes, dtype=int), len(samples)))
    found = [step for block in blocks for step in small.process_steps(block)]
    assert [(s.time_s, s.detection) for s in found] == [(s.time_s, s.detection) for s in expected]
    assert np.array_equal([s.posteriors for s in found], [s.posteriors for s in expected])


def test_a_step_sees_what_a_clip_would(model, stream):
    """A window in a stream gives the posteriors of the same samples as a clip."""
    c = model.frontend_config
    spotter = Spotter(model)
    frontend = Frontend(c)
    compared = 0
    for step in spotter.process_steps(stream[: 4 * c.sample_rate]):
        end = round(step.time_s * c.sample_rate)
        start = end - ((c.n_frames - 1) * c.hop_length + c.frame_length)
        if start >= 0:
            clip = frontend.frames(stream[start:end])
            assert clip.shape == (c.n_frames, c.n_mels)
            assert np.abs(step.posteriors - model.posteriors(clip)).max() <= 1 / 256
            compared += 1
    assert compared >= 25


def test_step_interval(model, stream):
    times = [
        s.time_s for s in Spotter(model, detector_config=DetectorConfig(step_ms=250)).process_steps(stream[:64000])
    ]
    np.testing.assert_allclose(np.diff(times), 0.25)


def test_words_at_the_edges_are_heard(model, clips):
    """The word of a single clip is found wherever it lies, because silence is assumed before and after."""
    spotter = Spotter(model, detector_config=DetectorConfig(threshold=0.5, smoothing_ms=200))
    heard = 0
    for clip in clips[:40]:
        spotter.reset()
        found = detections(spotter, clip, 4000)
        heard += len(found) >= 1
        for f in found:
            assert 0 <= f.start_s < f.end_s <= len(clip) / 16000 + 1e-9
    assert heard >= 32


def test_memory_does_not_grow(model):
    spotter = Spotter(model, detector_config=DetectorConfig(step_ms=1000))
    noise = (np.random.default_rng(0).standard_normal(160_000) * 300).astype(np.int16)
    spotter.process(noise)
    tracemalloc.start()
    spotter.process(noise)
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(6):
        spotter.process(noise)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after - before < 20_000


def test_floats_equal_integers(model, stream):
    a = detections(Spotter(model), stream[:160_000], 1600)
    b = detections(Spotter(model), stream[:160_000].astype(np.float32) / 32768, 1600)
    assert a == b


def test_resized_front_end_streams():
    """A foreign model with the reference front end, resized from 124 to 128 frames, runs in the same chain."""
    tf = pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")
    import tempfile
    from pathlib import Path

    import keras

    from kws_edge import preset

    keras.utils.set_random_seed(0)
    inputs = keras.Input(batch_shape=(1, 128, 64, 1))
    x = keras.layers.Conv2D(4, 3, strides=4, activation="relu")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    network = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "foreign.tflite"
        path.write_bytes(converter.convert())
        foreign = Model(path, labels=("_silence_", "a", "b"), frontend_config=preset("reference"), allow_float=True)
    noise = (np.random.default_rng(0).standard_normal(40_000) * 3000).astype(np.int16)
    steps = list(Spotter(foreign).process_steps(noise))
    assert len(steps) == 25  # a step every 12 frames of 8 ms, in 311 frames
    end = round(steps[-1].time_s * 16000)
    clip = Frontend(preset("reference")).frames(noise[end - (123 * 128 + 256) : end])
    expected = foreign.posteriors(Frontend(preset("reference")).resize(clip))
    np.testing.assert_allclose(steps[-1].posteriors, expected, atol=1e-6)


def test_a_word_after_a_gap_begins_after_it(model, stream):
    """After ten lost seconds times go on, and no window reaches into the gap."""
    spotter = Spotter(model)
    first = spotter.process(stream[: 5 * RATE])[0]
    begin = round((first.end_s - 0.9) * RATE)
    spotter.reset()
    spotter.skip(10 * RATE)
    (found,) = spotter.process(stream[begin : begin + 2 * RATE])[:1]
    assert found.keyword == first.keyword
    assert 10 < found.end_s < 12
    assert found.start_s == max(10.0, found.end_s - 1.0)
