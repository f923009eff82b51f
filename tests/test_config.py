import dataclasses
import json
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kws_edge import PRESETS, ConfigError, DetectorConfig, FrontendConfig, preset
from kws_edge.ranges import Range
from kws_edge.settings import Choice
from tests.configurations import detectors, front_ends, settings_of

# Every field has another value here. If a field is missing, the test below fails.
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
    "algorithm": "log-mel",
    "n_mfcc": 13,
    "normalise": True,
}


@pytest.mark.parametrize("name", PRESETS)
def test_round_trip(name):
    config = preset(name)
    again = FrontendConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert again.hash == config.hash


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(FrontendConfig)])
def test_every_field_counts(field):
    base = preset("microfrontend" if field == "algorithm" else "logmel40")
    changed = dataclasses.replace(base, **{field: OTHER[field]})
    assert changed != base
    assert changed.hash != base.hash
    assert FrontendConfig.from_dict(changed.to_dict()) == changed


def test_hashes_are_stable():
    # Caches and firmware name front ends by these hashes. They may change only with the front end.
    assert preset("logmel40").hash == "5ff64ec8790b6a69"
    assert preset("reference").hash == "84baee771bf270b3"
    assert preset("microfrontend").hash == "71daf844816b4373"
    assert preset("mfcc").hash == "e31a181bfe3505aa"


def test_whole_numbers_and_floats_are_equal():
    assert dataclasses.replace(preset("logmel40"), frame_ms=30).hash == preset("logmel40").hash


def test_shapes():
    assert preset("reference").n_frames == 124
    assert preset("reference").feature_shape == (128, 64)
    assert preset("logmel40").feature_shape == (98, 40)
    assert preset("microfrontend").feature_shape == (98, 40)
    assert preset("mfcc").feature_shape == (49, 10)
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spectrum": "power"}, "microfrontend has spectrum=magnitude for these frames, got power"),
        ({"sample_scale": 1 / 32768}, "microfrontend has sample_scale=1 "),
        ({"window": "hamming"}, "window=hann"),
        ({"mel_scale": "slaney"}, "mel_scale=htk"),
        ({"log_offset": 2}, "log_offset=1 "),
        ({"n_mfcc": 10}, "n_mfcc=None"),
        ({"normalise": True}, "normalise=False"),
        ({"n_fft": 1024}, "n_fft=512 for these frames, got 1024"),
        ({"f_max_hz": 8000}, "no band up to f_max_hz=8000, half the sample rate"),
        ({"algorithm": "mel"}, "algorithm must be one of log-mel, microfrontend"),
    ],
)
def test_settings_that_microfrontend_would_ignore_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(preset("microfrontend"), **change)


def test_no_more_coefficients_than_bands():
    with pytest.raises(ConfigError, match="n_mfcc=41 coefficients cannot come from n_mels=40 bands"):
        dataclasses.replace(preset("mfcc"), n_mfcc=41)
    with pytest.raises(ConfigError, match="normalise must be true or false, got 1"):
        dataclasses.replace(preset("mfcc"), normalise=1)


def test_a_band_is_a_hertz_wide():
    base = preset("logmel40")
    assert dataclasses.replace(base, f_min_hz=1000, f_max_hz=1001).f_max_hz == 1001
    with pytest.raises(ConfigError, match=r"the band 1000\.0 to 1000\.9 Hz must lie within 0 to 8000\.0 Hz"):
        dataclasses.replace(base, f_min_hz=1000, f_max_hz=1000.9)


def test_from_dict_names_the_setting():
    values = preset("logmel40").to_dict()
    with pytest.raises(ConfigError, match="'step_ms'"):
        FrontendConfig.from_dict({**values, "step_ms": 10})
    del values["hop_ms"]
    with pytest.raises(ConfigError, match="'hop_ms' is missing"):
        FrontendConfig.from_dict(values)
    with pytest.raises(ConfigError, match="unknown front end 'plp'"):
        preset("plp")


def test_detector_round_trip():
    config = DetectorConfig(threshold=0.6, thresholds={"yes": 0.9}, keywords=("yes", "no"), smoothing_ms=200)
    assert DetectorConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert (config.threshold_of("yes"), config.threshold_of("no")) == (0.9, 0.6)


def test_a_detector_without_wake_word_is_written_as_before():
    """Older model files carry this form, and older versions read it."""
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


@given(front_ends())
def test_any_front_end_survives_json(config):
    again = FrontendConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert again.hash == config.hash
    assert all(type(getattr(again, f.name)) is type(getattr(config, f.name)) for f in dataclasses.fields(config))


@given(front_ends())
def test_derived_sizes_follow_from_the_durations(config):
    """Sizes agree with counting: frames start a hop apart, and lie completely in the clip."""
    starts = range(0, config.clip_samples - config.frame_length + 1, config.hop_length)
    assert config.n_frames == len(starts) >= 1
    assert config.frames_in(starts[-1] + config.frame_length) == len(starts)
    assert config.frames_in(starts[-1] + config.frame_length - 1) == len(starts) - 1
    assert config.frames_in(0) == 0
    assert config.feature_shape == (config.resize_frames or len(starts), config.n_mfcc or config.n_mels)
    for samples, ms in (
        (config.frame_length, config.frame_ms),
        (config.hop_length, config.hop_ms),
        (config.clip_samples, config.clip_ms),
    ):
        assert samples == pytest.approx(ms * config.sample_rate / 1000, abs=1e-6)


@given(detectors())
def test_any_detector_survives_json(config):
    again = DetectorConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert again.to_dict() == config.to_dict()
    for word in ("yes", "no", "up"):
        assert config.threshold_of(word) == dict(config.thresholds).get(word, config.threshold)


RANGES = [(c, name) for c in (FrontendConfig, DetectorConfig) for name in settings_of(c, Range)]


@pytest.mark.parametrize(("config", "name"), RANGES, ids=[f"{c.__name__}.{name}" for c, name in RANGES])
@given(data=st.data())
def test_what_is_out_of_range_is_refused_by_name(config, name, data):
    base = preset("logmel40") if config is FrontendConfig else DetectorConfig()
    values = config.range_of(name)
    outside = [
        st.floats(max_value=values.low, exclude_max=True),
        st.floats(min_value=values.high, exclude_min=True),
        st.integers(max_value=math.ceil(values.low) - 1),
        st.integers(min_value=math.floor(values.high) + 1),
        st.sampled_from([float("nan"), True, False, "1", b"1", [1], (1,), {}, 1j]),
        *[st.floats(values.low, values.high)] * values.whole,
    ]
    wrong = data.draw(st.one_of(outside))
    with pytest.raises(ConfigError, match=rf"^{config.__name__}: {name} must be a (whole )?number from "):
        dataclasses.replace(base, **{name: wrong})


@pytest.mark.parametrize(("config", "name"), RANGES, ids=[f"{c.__name__}.{name}" for c, name in RANGES])
def test_both_ends_of_a_range_belong_to_it(config, name):
    """The range alone is tried, because an end may be refused together with the other settings."""
    values = config.range_of(name)
    for end in (values.low, values.high):
        assert values.check(name, end) == end


@pytest.mark.parametrize("name", settings_of(FrontendConfig, Choice))
@given(wrong=st.text("htkanpower_", max_size=9) | st.none() | st.integers() | st.lists(st.just("power")))
def test_what_is_no_choice_is_refused_by_name(name, wrong):
    base = preset("microfrontend" if name == "algorithm" else "logmel40")
    assume(wrong not in (names := FrontendConfig.about(name)["values"].names))
    with pytest.raises(ConfigError, match=rf"^FrontendConfig: {name} must be one of {', '.join(names)}, got "):
        dataclasses.replace(base, **{name: wrong})
    for right in names:
        assert getattr(dataclasses.replace(base, **{name: right}), name) == right


@given(st.dictionaries(st.text("a_\x1b\u202e\ud800é", max_size=12), st.integers(), min_size=1, max_size=3))
def test_unknown_settings_are_named(extra):
    for config in (preset("logmel40"), DetectorConfig()):
        assume(not extra.keys() & {f.name for f in dataclasses.fields(config)})
        with pytest.raises(ConfigError, match=f"^{type(config).__name__}: unknown setting "):
            type(config).from_dict({**config.to_dict(), **extra})
