"""Random configurations with values for every field."""

from __future__ import annotations

import dataclasses

from hypothesis import assume
from hypothesis import strategies as st

from kws_edge import DetectorConfig, FrontendConfig
from kws_edge.config import MICROFRONTEND
from kws_edge.ranges import Range

WORDS = ("yes", "no", "up")


def settings_of(config, kind) -> list[str]:
    """Names of a configuration's settings whose values are a Range or a Choice."""
    names = [f.name for f in dataclasses.fields(config) if isinstance(f.metadata.get("values"), kind)]
    assert names
    return names


def within(config, name):
    """Any value of a setting's range."""
    values = config.range_of(name)
    return st.integers(values.low, values.high) if values.whole else st.floats(values.low, values.high)


@st.composite
def front_ends(draw, *, small: bool = False):
    """A front end of any settings that are accepted together. `small` front ends take milliseconds."""
    rate = draw(st.sampled_from([8000, 16000]) if small else st.integers(1000, 192_000))
    frame = draw(st.integers(-(-rate // 1000), min(rate, 600 if small else 8192)))
    hop = draw(st.integers(-(-rate // 1000), min(rate, 2 * frame)))
    clip = draw(st.integers(max(frame, -(-rate // 100)), rate if small else 10 * rate))
    n_fft = draw(st.integers(max(16, frame), 1024 if small else 8192))
    f_max = draw(st.floats(50 if small else 1, rate / 2))
    f_min = draw(st.floats(0, max(0.0, f_max - 1)))
    level = st.floats(-60, 120) if small else within(FrontendConfig, "level_min")
    levels = sorted(draw(st.lists(level, min_size=2, max_size=2, unique=True)))
    values = {
        "frame_ms": frame * 1000 / rate,
        "hop_ms": hop * 1000 / rate,
        "n_fft": n_fft,
        "n_mels": draw(st.integers(1, 40) if small else within(FrontendConfig, "n_mels")),
        "f_min_hz": f_min,
        "f_max_hz": f_max,
        "spectrum": draw(st.sampled_from(["magnitude", "power"])),
        "sample_scale": draw(st.sampled_from([1.0, 1 / 32768]) if small else within(FrontendConfig, "sample_scale")),
        "log_offset": draw(st.sampled_from([1e-6, 1.0]) if small else within(FrontendConfig, "log_offset")),
        "sample_rate": rate,
        "clip_ms": clip * 1000 / rate,
        "window": draw(st.sampled_from(["hann", "hamming"])),
        "mel_scale": draw(st.sampled_from(["htk", "slaney"])),
        "log_gain": draw(st.floats(0.5, 10) if small else within(FrontendConfig, "log_gain")),
        "level_offset": draw(st.floats(-60, 60) if small else within(FrontendConfig, "level_offset")),
        "level_min": draw(st.sampled_from([None, levels[0]])),
        "level_max": draw(st.sampled_from([None, levels[1]])),
        "resize_frames": draw(st.none() | (st.integers(1, 200) if small else within(FrontendConfig, "resize_frames"))),
    }
    values["n_mfcc"] = draw(st.none() | st.integers(1, min(256, values["n_mels"])))
    values["normalise"] = draw(st.booleans())
    values["algorithm"] = draw(st.sampled_from(["log-mel", MICROFRONTEND]))
    if values["algorithm"] == MICROFRONTEND:
        values |= {"spectrum": "magnitude", "sample_scale": 1.0, "log_offset": 1.0, "window": "hann"}
        values |= {"mel_scale": "htk", "n_mfcc": None, "normalise": False}
        values["n_fft"] = n_fft = max(16, 1 << (frame - 1).bit_length())
        values["f_max_hz"] = f_max = min(f_max, 0.49 * rate)
    assert values.keys() == {f.name for f in dataclasses.fields(FrontendConfig)}
    frames = 1 + (clip - frame) // hop
    assume(values["clip_ms"] <= 10_000 and f_min + 1 <= f_max)
    assume(max(frames, values["resize_frames"] or 0) * values["n_mels"] <= 2**20 and frames * n_fft <= 2**22)
    return FrontendConfig(**values)


@st.composite
def detectors(draw):
    """Any settings of a detector."""
    values = {name: draw(within(DetectorConfig, name)) for name in settings_of(DetectorConfig, Range)}
    words = st.sampled_from(WORDS)
    values["thresholds"] = draw(st.dictionaries(words, within(DetectorConfig, "threshold")))
    values["keywords"] = draw(st.none() | st.lists(words, min_size=1, unique=True).map(tuple))
    values["wake_word"] = draw(st.none() | words)
    assert values.keys() == {f.name for f in dataclasses.fields(DetectorConfig)}
    return DetectorConfig(**values)
