"""Training hears the microfrontend: noise reduction follows augmentation, and a clip begins after silence."""

import dataclasses

import numpy as np
import pytest
import soundfile

from kws_edge import Frontend, Model, Spotter, preset
from tests.conftest import assert_one_line_error, assert_usage_error, train_command
from tests.tones import word

pytestmark = pytest.mark.host

pytest.importorskip("tqdm", reason="the host's packages are not installed here")

from host_tools.data.features import (  # noqa: E402
    clip_features,
    power_to_raw,
    raw_levels,
    raw_to_levels,
    raw_to_power,
    recording_features,
)

CONFIG = preset("microfrontend")


@pytest.fixture(scope="module")
def words():
    rng = np.random.default_rng(4)
    return [word(index, rng) for index in range(6)]


def test_levels_of_raw_levels_are_the_front_ends(words):
    for samples in words:
        expected = Frontend(CONFIG).frames(samples)
        raw = raw_levels(samples, CONFIG)
        assert np.abs(raw_to_levels(raw, CONFIG) - expected).mean() < 0.01
        stored = raw.astype(np.float16).astype(np.float32)
        assert np.abs(raw_to_levels(stored, CONFIG) - expected).mean() < 0.15


def test_raw_levels_know_no_past(words):
    """Recordings are cut anywhere, and noise reduction begins at the cut."""
    joined = raw_levels(np.concatenate(words), CONFIG)
    again = raw_levels(words[1], CONFIG)
    at = len(words[0]) // CONFIG.hop_length
    assert np.array_equal(joined[at : at + len(again)], again)
    window = raw_to_levels(joined[at : at + len(again)], CONFIG)
    assert np.array_equal(window, raw_to_levels(again, CONFIG))


def test_loudness_and_noise_come_before_noise_reduction(words):
    """Levels after augmentation are near those of sound that was changed in the same way."""
    rng = np.random.default_rng(6)
    for samples in words:
        noise = rng.normal(0, 300, len(samples)).astype(np.int16)
        power = raw_to_power(raw_levels(samples // 4, CONFIG), CONFIG) + raw_to_power(raw_levels(noise, CONFIG), CONFIG)
        levels = raw_to_levels(power_to_raw(power, CONFIG), CONFIG)
        heard = Frontend(CONFIG).frames(samples // 4 + noise)
        assert np.abs(levels - heard).mean() < 1.2
        assert np.corrcoef(levels.ravel(), heard.ravel())[0, 1] > 0.95
        late = raw_to_levels(raw_levels(samples // 4, CONFIG), CONFIG)
        assert np.abs(late - heard).mean() > 3 * np.abs(levels - heard).mean()


def test_features_of_files(words, tmp_path):
    paths = [tmp_path / f"{i}.wav" for i in range(len(words))]
    for path, samples in zip(paths, words, strict=True):
        soundfile.write(path, samples, 16000)
    stored, (recorded, skipped) = clip_features(paths, CONFIG), recording_features(paths, CONFIG)
    assert not stored.skipped and not skipped
    for i, samples in enumerate(words):
        assert np.array_equal(stored.levels[i], raw_levels(samples, CONFIG).astype(np.float16))
        assert np.array_equal(recorded[i], stored.levels[i])
    narrow = dataclasses.replace(CONFIG, f_max_hz=4000)
    assert not np.array_equal(clip_features(paths, narrow).levels, stored.levels)


def test_a_run_is_trained_quantised_and_heard(folder, run_cli, tmp_path, words):
    command = [*train_command(folder, "run", "--frontend", "microfrontend", "--model", "micro")]
    at = command.index("--features")
    failed = run_cli(*command, package="host_tools")
    assert_one_line_error(failed, "precomputed levels cannot train a network for microfrontend", program="kws-host")
    del command[at : at + 2]
    done = run_cli(*command, "--epochs", "2", "--steps", "8", package="host_tools")
    assert done.returncode == 0, done.stderr
    done = run_cli("quantize", "run", "-o", "mine.tflite", package="host_tools")
    assert done.returncode == 0, done.stderr
    model = Model(tmp_path / "mine.tflite", kernels="builtin")
    assert model.frontend_config == CONFIG
    assert model.input.scale == pytest.approx(26 / 255)
    assert model.input.zero_point == -128
    spotter, stream = Spotter(model), np.concatenate(words)
    length = (CONFIG.n_frames - 1) * CONFIG.hop_length + CONFIG.frame_length
    compared = 0
    for step in spotter.process_steps(stream):
        end = round(step.time_s * 16000)
        if end >= length:
            features = Frontend(CONFIG).frames(stream[end - length : end])
            assert np.array_equal(step.posteriors, model.posteriors(features))
            compared += 1
    assert compared > 40


def test_normalised_clips_are_no_front_end_of_training(folder, run_cli):
    done = run_cli(*train_command(folder, "run", "--frontend", "mfcc"), package="host_tools")
    assert_usage_error(done, "'mfcc'", "'logmel40', 'microfrontend'", program="kws-host")
