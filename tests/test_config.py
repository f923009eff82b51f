import dataclasses
import json

import pytest

from kws_edge import PRESETS, ConfigError, DetectorConfig, FrontendConfig, preset

# A changed value for every field: a field that is missing here fails the test below.
OTHER = {
    "frame_ms": 20,
    "hop_ms": 5,
    "n_fft": 1024,
    "n_mels": 32,
    "f_min_hz": 60,
    "f_max_hz": 3800,
    "spectrum": "magnitude",
    "sample_scale": 0.5,
    "log_offset": 0.25,
    "sample_rate": 8000,
    "clip_ms": 800,
    "window": "hamming",
    "mel_scale": "slaney",
    "log_gain": 2,
    "level_offset": 3,
    "level_min": -7,
    "level_max": 99,
    "resize_frames": 50,
}


@pytest.mark.parametrize("name", PRESETS)
def test_round_trip(name):
    config = preset(name)
    again = FrontendConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert again.hash == config.hash


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(FrontendConfig)])
def test_every_field_counts(field):
    base = preset("logmel40")
    changed = dataclasses.replace(base, **{field: OTHER[field]})
    assert changed != base
    assert changed.hash != base.hash
    assert FrontendConfig.from_dict(changed.to_dict()) == changed


def test_hashes_are_stable():
    # Caches and firmware name front ends by these: they may change only with the front end.
    assert preset("logmel40").hash == "5ff64ec8790b6a69"
    assert preset("reference").hash == "84baee771bf270b3"


def test_whole_numbers_and_floats_are_equal():
    assert dataclasses.replace(preset("logmel40"), frame_ms=30).hash == preset("logmel40").hash


def test_shapes():
    assert preset("reference").n_frames == 124
    assert preset("reference").feature_shape == (128, 64)
    assert preset("logmel40").feature_shape == (98, 40)
    assert (preset("logmel40").frame_length, preset("logmel40").hop_length) == (480, 160)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_fft": 256}, "n_fft=256"),
        ({"f_max_hz": 9000}, "9000"),
        ({"hop_ms": 10.01}, "whole number of samples"),
        ({"spectrum": "energy"}, "energy"),
        ({"n_mels": 0}, "n_mels"),
        ({"n_mels": 40.5}, "whole number"),
        ({"frame_ms": "30"}, "must be a number"),
        ({"log_offset": float("nan")}, "must be a number"),
        ({"level_min": 300}, "level_min"),
        ({"clip_ms": 20}, "clip_ms"),
    ],
)
def test_bad_front_end(change, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(preset("logmel40"), **change)


def test_from_dict_names_the_setting():
    values = preset("logmel40").to_dict()
    with pytest.raises(ConfigError, match="'step_ms'"):
        FrontendConfig.from_dict({**values, "step_ms": 10})
    del values["hop_ms"]
    with pytest.raises(ConfigError, match="'hop_ms' is missing"):
        FrontendConfig.from_dict(values)
    with pytest.raises(ConfigError, match="unknown front end 'mfcc'"):
        preset("mfcc")


def test_detector_round_trip():
    config = DetectorConfig(threshold=0.6, thresholds={"yes": 0.9}, keywords=("yes", "no"), smoothing_ms=200)
    assert DetectorConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert (config.threshold_of("yes"), config.threshold_of("no")) == (0.9, 0.6)


def test_a_detector_without_wake_word_is_written_as_before():
    """What older model files carry and older versions read."""
    assert list(DetectorConfig().to_dict()) == [
        "step_ms", "smoothing_ms", "threshold", "thresholds", "hysteresis", "refractory_ms", "keywords"
    ]  # fmt: skip
    for config in (
        DetectorConfig(wake_word="yes"),
        DetectorConfig(armed_s=3),
        DetectorConfig(wake_word="no", armed_s=7),
    ):
        assert DetectorConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    "bad",
    [
        {"threshold": 0},
        {"threshold": 1.5},
        {"thresholds": {"yes": "high"}},
        {"hysteresis": 1},
        {"step_ms": 0},
        {"keywords": "yes"},
        {"keywords": ()},
        {"refractory_ms": -1},
        {"armed_s": 0},
        {"armed_s": float("inf")},
        {"wake_word": ""},
        {"wake_word": 3},
    ],
)
def test_bad_detector(bad):
    with pytest.raises(ConfigError, match=next(iter(bad)).rstrip("s")):
        DetectorConfig(**bad)


def test_a_wake_word_is_one_name():
    with pytest.raises(ConfigError, match="wake_word must be a name or None, got 3"):
        DetectorConfig(wake_word=3)
