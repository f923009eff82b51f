"""The microfrontend against TensorFlow Lite Micro's C code in pymicro-features, and MFCC against tf.signal."""

import ctypes
import dataclasses
import math
import platform

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from kws_edge import ConfigError, Frontend, FrontendConfig, StreamingFrontend, preset
from kws_edge.features import fixed_tables
from kws_edge.features.fixed_fft import FixedFft
from kws_edge.features.microfrontend import Adaptation

CONFIG = preset("microfrontend")
RATE = CONFIG.sample_rate
OWN_LOG1P = fixed_tables.log1p


@pytest.fixture(scope="module", autouse=True)
def own_library():
    """Mel filters with the logarithm of this system's C library, which pymicro-features uses.

    It only matters from glibc 2.41 on; see :func:`kws_edge.features.fixed_tables.log1p`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fixed_tables, "log1p", c_log1p())
        yield


def c_log1p():
    library = ctypes.CDLL("libm.so.6")
    library.log1pf.restype, library.log1pf.argtypes = ctypes.c_float, [ctypes.c_float]
    return lambda x: np.float32(library.log1pf(float(x)))


def theirs(samples):
    """Features by pymicro-features, clipped as those of the preset."""
    package = pytest.importorskip("pymicro_features")
    frontend, audio, rows = package.MicroFrontend(), samples.tobytes(), []
    for at in range(0, len(audio) - 319, 320):
        if features := frontend.process_samples(audio[at : at + 320]).features:
            rows.append(features)
    return np.minimum(np.array(rows, np.float32).reshape(-1, 40), 26)


def int16(values):
    return np.clip(np.rint(values), -32768, 32767).astype(np.int16)


def signals(seconds=6):
    rng, t = np.random.default_rng(29), np.arange(seconds * RATE)
    n = len(t)
    return {
        "silence": np.zeros(n),
        "hiss": rng.normal(0, 3, n),
        "noise": rng.normal(0, 2000, n),
        "clipped": rng.normal(0, 40_000, n),
        "extremes": rng.choice([-32768, 32767], n),
        "lowest": np.full(n, -32768),
        "highest": np.full(n, 32767),
        "steps": np.where(t // 40 % 2, -32768, 32767),
        "alternating": np.where(t % 2, -32768, 32767),
        "tone": 30_000 * np.sin(0.3 * t),
        "sweep": 30_000 * np.sin(1e-5 * t**2),
        "impulses": np.where(t % 1600 == 0, 32767, 0),
        "bursts": np.where(t // 4800 % 2, rng.choice([-32768, 32767], n), 0),
        "wide": rng.normal(0, 1, n) * np.exp(rng.normal(0, 3, n)),
        "ones": rng.integers(-1, 2, n),
        "fading": rng.normal(0, 10_000, n) * 2.0 ** (-t / RATE * 4),
    }


@pytest.mark.parametrize("name", signals(1))
def test_equals_pymicro_features(name):
    samples = int16(signals()[name])
    found = Frontend(CONFIG).frames(samples)
    assert found.dtype == np.float32
    assert np.array_equal(found, theirs(samples))


def test_equals_pymicro_features_on_recorded_speech_and_noise(data):
    """Four minutes here. The benchmark microfrontend.py hears an hour."""
    frontend, seconds = Frontend(CONFIG), 0
    for kind in ("speech", "noise"):
        paths = sorted(path for path in (data / "negatives" / kind).rglob("*") if path.suffix in (".flac", ".wav"))
        parts = [soundfile.read(path, dtype="int16", frames=30 * RATE)[0] for path in paths[:: len(paths) // 8][:8]]
        samples = np.concatenate([part if part.ndim == 1 else part[:, 0] for part in parts])[: 120 * RATE]
        assert np.array_equal(frontend.frames(samples), theirs(samples)), kind
        seconds += len(samples) / RATE
    assert seconds > 100


def test_equals_pymicro_features_on_clips(clips):
    """Each clip begins after silence."""
    frontend = Frontend(CONFIG)
    for clip in clips[:24]:
        assert np.array_equal(frontend.frames(clip), theirs(clip))


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.floats(0, 12), st.floats(0, 1))
def test_equals_pymicro_features_on_anything(seed, loudness, share):
    """Noise of any loudness, whose samples are partly the two extremes."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, math.exp(loudness), RATE // 2)
    samples = int16(np.where(rng.random(len(noise)) < share**4, rng.choice([-32768, 32767], len(noise)), noise))
    assert np.array_equal(Frontend(CONFIG).frames(samples), theirs(samples))


def test_values_beyond_26_are_clipped_as_models_clip_them():
    config = dataclasses.replace(CONFIG, level_min=None, level_max=None)
    levels = Frontend(config).frames(int16(signals()["steps"]))
    assert levels.max() > 26
    assert np.array_equal(levels * 25.6, np.rint(levels * 25.6))
    assert Frontend(CONFIG).frames(int16(signals()["steps"])).max() == 26


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or tuple(map(int, platform.libc_ver()[1].split("."))) >= (2, 41),
    reason="this C library rounds log1pf in another way",
)
def test_log1p_is_that_of_older_c_libraries():
    theirs, rng = c_log1p(), np.random.default_rng(0)
    values = np.concatenate([rng.uniform(0, 20, 2000), 10 ** rng.uniform(-6, 3, 2000), np.arange(257) * 31.25 / 700])
    assert all(OWN_LOG1P(x) == theirs(x) for x in values.astype(np.float32))


def test_tables_round_as_their_formulas_do():
    """Only a coefficient next to one half may round otherwise, by the error of single precision."""
    n = CONFIG.frame_length
    exact = np.array([(0.5 - 0.5 * math.cos(2 * math.pi * (i + 0.5) / n)) * 4096 for i in range(n)])
    assert np.abs(fixed_tables.window(CONFIG) - exact).max() < 0.5 + 1e-3
    gains = np.array([2**21 * ((1 << bits - 1) / 128 + 80) ** -0.95 for bits in range(2, 33)])
    assert np.abs(fixed_tables.gains(7)[2:, 0] - gains).max() < 0.5 + 1e-2
    assert fixed_tables.gains(7)[0, 0] == round(2**21 * 80**-0.95)
    x = np.arange(129) / 128
    assert np.abs(fixed_tables.logarithms()[:129] / 65536 - (np.log2(1 + x) - x)).max() < 1 / 65536


def test_transform_is_a_transform():
    rng = np.random.default_rng(0)
    for n in (16, 32, 64, 256, 512, 1024, 2048):
        samples = rng.integers(-20_000, 20_000, (n, 3)).astype(np.int32)
        found = FixedFft(n)(samples)
        exact = np.fft.rfft(samples, axis=0)[1:-1] / n
        assert np.abs(found[0, 1:] - exact.real).max() < 4
        assert np.abs(found[1, 1:] - exact.imag).max() < 4
        assert not found[:, 0].any()


def test_a_stream_follows_silence_and_a_reset_makes_it_silent():
    rng = np.random.default_rng(1)
    loud, quiet = int16(rng.normal(0, 8000, RATE)), int16(rng.normal(0, 100, RATE))
    stream, fresh = StreamingFrontend(CONFIG), Frontend(CONFIG).frames(quiet)
    stream.process(loud)
    assert not np.array_equal(stream.process(quiet)[-len(fresh) :], fresh)
    stream.reset()
    assert np.array_equal(stream.process(quiet), fresh)
    # Enough silence has the same effect: the noise estimate falls to zero.
    pause, short = np.zeros(20 * RATE, np.int16), np.zeros(CONFIG.frame_length, np.int16)
    fresh = Frontend(CONFIG).frames(np.concatenate([short, quiet]))
    after = Frontend(CONFIG).frames(np.concatenate([loud, pause, quiet]))
    assert np.array_equal(after[-len(fresh) :], fresh)


def test_many_streams_at_a_time():
    """Training hears a batch in one call."""
    adaptation, rng = Adaptation(CONFIG), np.random.default_rng(2)
    bands = rng.integers(0, 100_000, (5, 30, 40)).astype(np.float32)
    together = adaptation(bands)
    assert np.array_equal(together, np.stack([adaptation(one) for one in bands]))
    state = adaptation.state(5)
    parts = np.concatenate([adaptation(bands[:, :11], state), adaptation(bands[:, 11:], state)], axis=1)
    assert np.array_equal(parts, together)


def test_a_normalised_clip_cannot_stream():
    with pytest.raises(ConfigError, match="a stream cannot be normalised"):
        StreamingFrontend(preset("mfcc"))
    StreamingFrontend(dataclasses.replace(preset("mfcc"), normalise=False))


def test_mfcc_is_that_of_mlperf_tiny(clips):
    """The operations of its training code, in TensorFlow."""
    tf = pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")
    frontend = Frontend(preset("mfcc"))
    matrix = tf.signal.linear_to_mel_weight_matrix(40, 513, RATE, 20.0, 4000.0)
    for clip in [clip for clip in clips if len(clip) == RATE][:40]:
        samples = tf.cast(clip, tf.float32) / float(clip.max())
        spectra = tf.abs(tf.signal.stft(samples, 640, 320, window_fn=tf.signal.hann_window))
        levels = tf.math.log(spectra @ matrix + 1e-6)
        expected = tf.signal.mfccs_from_log_mel_spectrograms(levels)[:, :10].numpy()
        found = frontend(clip)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < 0.02  # a thirtieth of the model's step


def test_loudness_changes_nothing_that_is_normalised():
    noise = np.random.default_rng(3).normal(0, 1000, RATE)
    levels = FrontendConfig.from_dict({**preset("mfcc").to_dict(), "n_mfcc": None})
    for config in (preset("mfcc"), levels, dataclasses.replace(levels, spectrum="power")):
        quiet, loud = (Frontend(config)(int16(noise * gain)) for gain in (1, 8))
        assert np.abs(quiet - loud).max() < 0.05
