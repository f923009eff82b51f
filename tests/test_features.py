"""Features for training: the cache, and the augmentation of features and audio."""

import dataclasses

import numpy as np
import pytest
import soundfile

from host_tools.config import AugmentConfig
from host_tools.data import features
from host_tools.data.features import clip_features, raw_config, raw_to_levels, read_clip
from host_tools.errors import DatasetError
from host_tools.sampling.augment import (
    AudioVariation,
    augment,
    bursts,
    equalisation,
    mixup,
    reverberate,
    room_response,
    vary_audio,
)
from kws_edge import AudioFile, Frontend, preset
from tests.tones import RATE, word

pytestmark = pytest.mark.host

CONFIG = preset("logmel40")


@pytest.fixture
def paths(folder):
    return sorted((folder / "clips").glob("[a-z]*/*.wav"))[:150]


def test_power_domain_round_trip():
    from host_tools.data.features import levels_to_raw, power_to_raw, raw_to_levels, raw_to_power

    rng = np.random.default_rng(0)
    for name, low, high in (("logmel40", 35, 230), ("reference", -9, 3)):
        config = preset(name)
        levels = rng.uniform(low, high, (4, 98, config.n_mels)).astype(np.float32)
        power = raw_to_power(levels_to_raw(levels, config), config)
        np.testing.assert_allclose(raw_to_levels(power_to_raw(power, config), config), levels, atol=2e-3)


def test_gain_in_the_power_domain_is_gain_on_audio():
    """A gain of ten decibels on stored levels equals ten decibels on the samples."""
    from host_tools.data.features import power_to_raw, raw_config, raw_to_power
    from kws_edge import Frontend

    config = preset("logmel40")
    frontend = Frontend(raw_config(config))
    samples = word(3, np.random.default_rng(0))
    louder = frontend.frames((samples * 10**0.5).round().astype(np.int16))
    ours = power_to_raw(raw_to_power(frontend.frames(samples), config) * 10, config)
    loud = louder > 120
    assert np.abs(ours - louder)[loud].max() < 0.5


def test_noise_is_mixed_at_the_ratio():
    from host_tools.sampling.augment import mix

    rng = np.random.default_rng(0)
    power, noise = rng.random((3, 98, 40)).astype(np.float32), rng.random((3, 98, 40)).astype(np.float32)
    mixed = mix(power, noise, np.array([0.0, 20.0, np.inf]))
    signal = np.sort(power.sum(axis=2))[:2, 73:].mean(axis=1)
    ratio = signal / (mixed - power)[:2].sum(axis=2).mean(axis=1)
    assert 10 * np.log10(ratio[0]) == pytest.approx(0, abs=0.1)
    assert 10 * np.log10(ratio[1]) == pytest.approx(20, abs=0.1)
    assert np.array_equal(mixed[2], power[2])


def test_augmentation_is_seeded_and_keeps_the_range():
    from host_tools.sampling.augment import augment

    config = preset("logmel40")
    raw = np.random.default_rng(0).uniform(59, 314, (16, 98, 40)).astype(np.float32)
    a, b, c = (augment(raw, raw[::-1], np.random.default_rng(seed), config, AugmentConfig()) for seed in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    assert a.shape == raw.shape
    assert a.dtype == np.float32
    assert a.min() >= config.level_min
    assert a.max() <= config.level_max


def test_shift_moves_and_fills_with_silence():
    from host_tools.sampling.augment import shift_and_stretch

    config = preset("logmel40")
    raw = np.random.default_rng(0).uniform(60, 300, (1, 98, 40)).astype(np.float32)
    one = np.ones(1)
    moved = shift_and_stretch(raw, np.array([10.0]), one, one, config)
    np.testing.assert_allclose(moved[0, 10:], raw[0, :-10], rtol=1e-6)
    assert (moved[0, :10] == 0).all()
    np.testing.assert_allclose(shift_and_stretch(raw, 0 * one, one, one, config), raw, rtol=1e-6)


def test_features_are_the_front_ends(paths):
    found = clip_features(paths, CONFIG)
    frontend = Frontend(raw_config(CONFIG))
    for row, path in list(zip(found.levels, paths, strict=True))[::40]:
        assert np.array_equal(row, frontend.frames(soundfile.read(path, dtype="int16")[0]).astype(np.float16))
    assert not found.skipped
    assert isinstance(found.levels, np.memmap)


def test_training_and_the_device_read_the_same(paths, tmp_path):
    """Float files, which were once read as silence, and other rates and channels, once refused, give the same."""
    samples = soundfile.read(paths[0], dtype="int16")[0]
    soundfile.write(tmp_path / "plain.wav", samples, RATE)
    forms = {"float": (samples / 32768, RATE, "FLOAT"), "double": (samples / 32768, RATE, "DOUBLE")}
    forms |= {"stereo": (np.stack([samples, samples], 1), RATE, "PCM_16"), "24": (samples / 32768, RATE, "PCM_24")}
    slow = np.interp(np.arange(3 * len(samples)) / 3, np.arange(len(samples)), samples / 32768)
    forms |= {"48k": (np.stack([slow, slow], 1), 3 * RATE, "FLOAT")}
    expected = read_clip(tmp_path / "plain.wav", CONFIG)
    assert np.array_equal(expected, samples)
    for name, (data, rate, subtype) in forms.items():
        soundfile.write(tmp_path / f"{name}.wav", data, rate, subtype=subtype)
        clip = read_clip(tmp_path / f"{name}.wav", CONFIG)
        with AudioFile(tmp_path / f"{name}.wav", sample_rate=RATE) as file:
            assert np.array_equal(clip, file.read_all())
        if rate == RATE:
            assert np.array_equal(clip, expected)
        else:
            assert np.corrcoef(clip[: len(samples)], samples)[0, 1] > 0.95
    soundfile.write(tmp_path / "cut.wav", samples, RATE)
    (tmp_path / "cut.wav").write_bytes((tmp_path / "cut.wav").read_bytes()[:9000])
    with pytest.raises(DatasetError, match=r"cut\.wav: cut short: 8956 of 32000 bytes"):
        read_clip(tmp_path / "cut.wav", CONFIG)
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan), RATE, subtype="FLOAT")
    with pytest.raises(DatasetError, match=r"nan\.wav: the audio holds NaN"):
        read_clip(tmp_path / "nan.wav", CONFIG)


def test_caches_of_another_reader_are_not_used_again(paths, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "_LAYOUT", features._LAYOUT - 1)
    clip_features(paths[:3], CONFIG, cache=tmp_path)
    monkeypatch.undo()
    clip_features(paths[:3], CONFIG, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_workers_and_this_process_agree(folder):
    paths = sorted((folder / "clips").glob("*/*.wav"))
    assert len(paths) > 300
    assert np.array_equal(
        clip_features(paths, CONFIG, workers=2).levels, clip_features(paths, CONFIG, workers=1).levels
    )


def test_cache_is_used_and_keyed(paths, tmp_path):
    clip_features(paths, CONFIG, cache=tmp_path)
    (entry,) = tmp_path.iterdir()
    assert entry.name.startswith(raw_config(CONFIG).hash)
    np.load(entry / "levels.npy", mmap_mode="r+")[7] = 123
    assert (clip_features(paths, CONFIG, cache=tmp_path).levels[7] == 123).all()
    assert not (clip_features(paths, preset("reference"), cache=tmp_path).levels[7] == 123).all()
    assert not (clip_features(paths[:20], CONFIG, cache=tmp_path).levels[7] == 123).all()
    vary = AudioVariation(settings=AugmentConfig(), sample_rate=RATE, seed=1, copy=0)
    assert not (clip_features(paths, CONFIG, cache=tmp_path, vary=vary).levels[7] == 123).all()
    assert len(list(tmp_path.iterdir())) == 4


def test_interrupted_extraction_goes_on(paths, tmp_path):
    whole = clip_features(paths, CONFIG, cache=tmp_path).levels.copy()
    (entry,) = tmp_path.iterdir()
    done = np.load(entry / "done.npy", mmap_mode="r+")
    assert done.tolist() == [1, 1, 1]
    done[1] = 0  # as if the second chunk of 64 had not been finished
    np.load(entry / "levels.npy", mmap_mode="r+")[:] = 0
    again = clip_features(paths, CONFIG, cache=tmp_path).levels
    assert np.array_equal(again[64:128], whole[64:128])
    assert (again[:64] == 0).all()
    assert (again[128:] == 0).all()


def test_audio_is_varied_by_its_seed():
    samples, noise = word(3, np.random.default_rng(0)), np.random.default_rng(1).normal(0, 500, 32000).astype(np.int16)
    settings = AugmentConfig(reverberation=0.5)
    a, b, c = (vary_audio(samples, np.random.default_rng(seed), RATE, settings, noise) for seed in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    assert a.dtype == np.int16
    assert a.shape == samples.shape
    still = dataclasses.replace(settings, augmentation=0).scaled()
    unchanged = vary_audio(samples, np.random.default_rng(1), RATE, still, noise)
    assert np.array_equal(unchanged, samples)
    vary = AudioVariation(settings=settings, sample_rate=RATE, seed=1, copy=0)
    assert np.array_equal(vary(samples, 5), vary(samples, 5))
    assert not np.array_equal(vary(samples, 5), vary(samples, 6))


def test_audio_noise_has_the_ratio():
    """Noise is added at the given ratio to the loudest quarter of the clip."""
    settings = AugmentConfig(shift_ms=0, stretch=0, gain_db=(0, 0), noise_share=1, snr_db=(10, 10))
    samples = np.zeros(RATE, np.int16)
    samples[4000:8000] = (5000 * np.sin(np.arange(4000))).astype(np.int16)
    noise = np.random.default_rng(1).normal(0, 500, RATE).astype(np.int16)
    added = vary_audio(samples, np.random.default_rng(0), RATE, settings, noise).astype(float) - samples
    ratio = 10 * np.log10(5000**2 / 2 / np.square(added).mean())
    assert ratio == pytest.approx(10, abs=0.3)


def test_room_response_decays():
    room = room_response(np.random.default_rng(0), RATE, 400, 5)
    assert len(room) == 0.4 * RATE
    assert room[0] == 1
    assert 10 * np.log10(1 / np.square(room[1:]).sum()) == pytest.approx(5, abs=1e-9)
    early, late = (np.square(room[a:b]).mean() for a, b in ((1, 640), (3201, 3840)))
    assert 10 * np.log10(early / late) == pytest.approx(30, abs=2)  # 0.2 s of 0.4 s: half of 60 dB


def test_room_on_features_decays_as_on_audio():
    """A burst reverberated in the power domain decays as its audio, convolved with a room's response, does."""
    rng = np.random.default_rng(0)
    burst = np.zeros(RATE)
    burst[2000:3600] = rng.normal(0, 3000, 1600)
    frontend = Frontend(raw_config(CONFIG))

    def power(samples):
        from host_tools.data.features import raw_to_power

        return raw_to_power(frontend.frames(samples.round().astype(np.int16)), CONFIG)

    rooms = [room_response(rng, RATE, 400, 0) for _ in range(20)]
    audio = np.mean([power(np.convolve(burst, room)[:RATE]) for room in rooms], axis=0).sum(axis=1)
    ours = reverberate(power(burst)[np.newaxis], np.array([400.0]), np.array([0.0]), CONFIG.hop_ms)[0].sum(axis=1)
    tail = slice(26, 50)
    assert np.abs(10 * np.log10(ours[tail] / audio[tail])).max() < 2.5


def test_mixup_blends_inputs_and_targets():
    rng = np.random.default_rng(0)
    levels = rng.uniform(0, 255, (32, 98, 40)).astype(np.float32)
    targets = np.eye(4, dtype=np.float32)[rng.integers(0, 4, 32)]
    mixed, shares = mixup(levels, targets, np.random.default_rng(1), 0.3)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    assert (shares[np.arange(32), targets.argmax(axis=1)] >= 0.5 - 1e-6).all()
    assert not np.array_equal(mixed, levels)
    again = mixup(levels, targets, np.random.default_rng(1), 0.3)
    assert np.array_equal(again[0], mixed)


def test_augmentation_of_strength_zero_changes_nothing():
    from host_tools.sampling.augment import augment

    raw = np.random.default_rng(0).uniform(60, 300, (8, 98, 40)).astype(np.float32)
    same = augment(raw, raw[::-1], np.random.default_rng(0), CONFIG, AugmentConfig(augmentation=0).scaled())
    np.testing.assert_allclose(same, raw_to_levels(raw, CONFIG), atol=2e-3)


def test_equalisation_is_smooth_and_bounded():
    db = 10 * np.log10(equalisation(400, 40, 6.0, np.random.default_rng(0)))
    assert db.shape == (400, 1, 40)
    assert 5 < np.abs(db).max() <= 6.001
    assert np.abs(np.diff(db, axis=2)).max() < 2 * 6.0 * 4 / 39 + 1e-4  # from one end to the other between two knots
    assert np.abs(db.mean()) < 0.5


def test_equalisation_changes_words_as_a_filter_does():
    """Every frame of an example gets the same gains. Noise, whose level is set, gets none."""
    settings = AugmentConfig(equalisation_db=6.0, gated=0)
    still = {"shift_ms": 0, "stretch": 0, "gain_db": (0, 0), "noise_share": 0, "time_masks": 0}
    settings = dataclasses.replace(settings, frequency_masks=0, **still)
    raw = np.random.default_rng(1).uniform(120, 220, (2, 98, 40)).astype(np.float32)
    changed = augment(raw, raw, np.random.default_rng(2), CONFIG, settings, gain_only=np.array([False, True]))
    difference = changed - raw_to_levels(raw, CONFIG)
    assert np.abs(difference[1]).max() < 0.01
    inside = (changed[0] > 35) & (changed[0] < 235)
    for band in range(40):
        assert np.ptp(difference[0, inside[:, band], band]) < 0.2
    assert np.ptp(difference[0].mean(axis=0)) > 5


def test_bursts_rise_and_fade():
    gain = bursts(500, 98, 10.0, np.random.default_rng(0))[:, :, 0]
    assert gain.shape == (500, 98)
    assert gain.min() > 0
    assert gain.max() < 1.2
    db = 10 * np.log10(gain)
    assert np.median(np.ptp(db, axis=1)) > 15
    assert np.diff(db, axis=1).max() < 5  # at 10 ms to 1/e a frame rises by 4.3 dB
    assert np.diff(db, axis=1).min() > -2.5
