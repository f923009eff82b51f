"""The workstation tools: on a small made-up dataset, whose words are tones, from folder to quantised model file."""

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from host_tools.dataset import (
    index_clips,
    index_labelled,
    index_recordings,
    label_of,
    load_features,
    official_split,
)
from host_tools.errors import DatasetError
from kws_edge import Model, preset
from tests.conftest import assert_one_line_error

RATE = 16000
HALVES = ("training", "reporting")
WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "bed", "cat", "tree")


def word(index, rng):
    """A made-up word: a chirp whose start and direction are the word's own, somewhere in a second of faint noise."""
    length = int(rng.integers(6000, 9000))
    start = 250 * 1.22**index
    hz = start * np.linspace(1, 1.5 if index % 2 else 0.6, length) * rng.uniform(0.97, 1.03)
    chirp = np.sin(2 * np.pi * np.cumsum(hz) / RATE) * np.hanning(length) * rng.uniform(2000, 12000)
    samples = rng.normal(0, 30, RATE)
    at = int(rng.integers(0, RATE - length))
    samples[at : at + length] += chirp
    return samples.astype(np.int16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Speech Commands in small: 13 words by 26 speakers, background noise, precomputed features, negatives."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    speakers = [hashlib.md5(bytes([i])).hexdigest()[:8] for i in range(200)]
    held_out = [s for s in speakers if official_split(s) == "validation"][:6]
    training = [s for s in speakers if official_split(s) == "training"][:20]
    for index, name in enumerate(WORDS):
        (root / "clips" / name).mkdir(parents=True)
        for speaker in held_out + training:
            soundfile.write(root / "clips" / name / f"{speaker}_nohash_0.wav", word(index, rng), RATE)
    (root / "clips" / "_background_noise_").mkdir()
    noise = rng.normal(0, 600, 4 * RATE).astype(np.int16)
    soundfile.write(root / "clips" / "_background_noise_" / "noise.wav", noise, RATE)
    (root / "speech").mkdir()
    for speaker in range(8):
        babble = np.concatenate([word(int(i), rng) for i in rng.integers(13, 16, 3)])
        soundfile.write(root / "speech" / f"{speaker}-1-0001.wav", babble, RATE)
    from kws_edge import Frontend

    frontend = Frontend(preset("logmel40"))
    (root / "features").mkdir()
    rows, levels = [("word", "file", "speaker", "split")], []
    for index, name in enumerate(WORDS):
        for i in range(6):
            rows.append((name, f"f{i}_nohash_0.jpg", f"f{i}", "training" if i < 5 else "validation"))
            levels.append(np.rint(frontend(word(index, rng))).astype(np.uint8))
    np.save(root / "features" / "features.npy", np.array(levels))
    with open(root / "features" / "manifest.tsv", "w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows(rows)
    (root / "test").mkdir()
    for index, name in enumerate(WORDS):
        label = name if index < 10 else "_unknown_"
        (root / "test" / label).mkdir(exist_ok=True)
        for i in range(8):
            soundfile.write(root / "test" / label / f"{name}{i}.wav", word(index, rng), RATE)
    return root


def test_official_split():
    """Against the lists that come with the dataset's own part of validation clips, where it is here."""
    parts = [official_split(f"{i:08x}") for i in range(4000)]
    assert 0.08 < parts.count("validation") / 4000 < 0.12
    assert 0.08 < parts.count("testing") / 4000 < 0.12


def test_official_split_is_the_datasets_own(data):
    listed = (data / "speech_commands" / "validation_list.txt").read_text().split()
    clips = index_clips(data / "speech_commands")
    ours = {f"{c.word}/{c.path.name}" for c in clips if c.split == "validation"}
    assert ours == set(listed)
    assert len(clips) == 11_648 + 1_773
    with open(data / "logmel" / "manifest.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert all(official_split(row["speaker"]) == row["split"] for row in rows)


def test_index(folder, tmp_path):
    clips = index_clips(folder / "clips")
    assert len(clips) == len(WORDS) * 26
    assert {c.split for c in clips} == {"training", "validation"}
    assert clips == sorted(clips, key=lambda c: c.path)
    with pytest.raises(DatasetError, match="no such folder"):
        index_clips(tmp_path / "missing")
    with pytest.raises(DatasetError, match="no clips"):
        index_clips(tmp_path)
    assert {label for _, label in index_labelled(folder / "test")} == {*WORDS[:10], "unknown"}


def test_recordings_are_halved_by_speaker(data):
    recordings = index_recordings(data / "negatives" / "speech", "speech")
    speakers = {
        half: {r.path.stem.split("-")[0] for r in recordings if r.half == half} for half in ("training", "reporting")
    }
    assert not speakers["training"] & speakers["reporting"]
    assert 0.35 < len(speakers["training"]) / 261 < 0.65
    noise = index_recordings(data / "negatives" / "noise", "noise")
    origin = {half: {r.path.stem[:-2] for r in noise if r.half == half} for half in ("training", "reporting")}
    assert not origin["training"] & origin["reporting"]


def test_labels():
    assert label_of("_silence_", ("silence", "unknown", "yes")) == 0
    assert label_of("bed", ("silence", "unknown", "yes")) == 1
    with pytest.raises(DatasetError, match="'bed'"):
        label_of("bed", ("yes", "no"))


def test_features_are_checked(folder, tmp_path):
    stored = load_features(folder / "features", (98, 40))
    assert len(stored.levels) == len(WORDS) * 6
    with pytest.raises(DatasetError, match=r"expected uint8 of shape \(n, 128, 64\)"):
        load_features(folder / "features", (128, 64))
    with pytest.raises(DatasetError, match=r"features\.npy"):
        load_features(tmp_path, (98, 40))
    np.save(tmp_path / "features.npy", stored.levels[:3])
    (tmp_path / "manifest.tsv").write_text("word\tspeaker\tsplit\nyes\ta\ttraining\n")
    with pytest.raises(DatasetError, match=r"1 rows, features\.npy 3"):
        load_features(tmp_path, (98, 40))


def test_power_domain_round_trip():
    from host_tools.features import levels_to_raw, power_to_raw, raw_to_levels, raw_to_power

    rng = np.random.default_rng(0)
    for name, low, high in (("logmel40", 20, 230), ("reference", -9, 3)):
        config = preset(name)
        levels = rng.uniform(low, high, (4, 98, config.n_mels)).astype(np.float32)
        power = raw_to_power(levels_to_raw(levels, config), config)
        np.testing.assert_allclose(raw_to_levels(power_to_raw(power, config), config), levels, atol=2e-3)


def test_gain_in_the_power_domain_is_gain_on_audio():
    """Ten decibels on stored levels are ten decibels on the samples they came from."""
    from host_tools.features import power_to_raw, raw_config, raw_to_power
    from kws_edge import Frontend

    config = preset("logmel40")
    frontend = Frontend(raw_config(config))
    samples = word(3, np.random.default_rng(0))
    louder = frontend.frames((samples * 10**0.5).round().astype(np.int16))
    ours = power_to_raw(raw_to_power(frontend.frames(samples), config) * 10, config)
    loud = louder > 120
    assert np.abs(ours - louder)[loud].max() < 0.5


def test_noise_is_mixed_at_the_ratio():
    from host_tools.augment import mix

    rng = np.random.default_rng(0)
    power, noise = rng.random((3, 98, 40)).astype(np.float32), rng.random((3, 98, 40)).astype(np.float32)
    mixed = mix(power, noise, np.array([0.0, 20.0, np.inf]))
    signal = np.sort(power.sum(axis=2))[:2, 73:].mean(axis=1)
    ratio = signal / (mixed - power)[:2].sum(axis=2).mean(axis=1)
    assert 10 * np.log10(ratio[0]) == pytest.approx(0, abs=0.1)
    assert 10 * np.log10(ratio[1]) == pytest.approx(20, abs=0.1)
    assert np.array_equal(mixed[2], power[2])


def test_augmentation_is_seeded_and_keeps_the_range():
    from host_tools.augment import AugmentConfig, augment

    config = preset("logmel40")
    raw = np.random.default_rng(0).uniform(59, 314, (16, 98, 40)).astype(np.float32)
    a, b, c = (augment(raw, raw[::-1], np.random.default_rng(seed), config, AugmentConfig()) for seed in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    assert a.shape == raw.shape
    assert a.dtype == np.float32
    assert a.min() >= 0
    assert a.max() <= 255


def test_shift_moves_and_fills_with_silence():
    from host_tools.augment import shift_and_stretch

    config = preset("logmel40")
    raw = np.random.default_rng(0).uniform(60, 300, (1, 98, 40)).astype(np.float32)
    one = np.ones(1)
    moved = shift_and_stretch(raw, np.array([10.0]), one, one, config)
    np.testing.assert_allclose(moved[0, 10:], raw[0, :-10], rtol=1e-6)
    assert (moved[0, :10] == 0).all()
    np.testing.assert_allclose(shift_and_stretch(raw, 0 * one, one, one, config), raw, rtol=1e-6)


def test_level_convolution_sees_centred_levels():
    keras = pytest.importorskip("keras", exc_type=ImportError, reason="Keras is not installed here")
    from host_tools.models import LevelConv2D

    layer = LevelConv2D(8, (3, 1), low=0.0, high=255.0)
    levels = np.random.default_rng(0).uniform(0, 255, (2, 20, 1, 40)).astype(np.float32)
    ours = np.array(layer(levels))
    expected = np.array(keras.ops.conv(levels / 127.5 - 1, layer.kernel))
    np.testing.assert_allclose(ours, expected, atol=1e-4)
    again = LevelConv2D.from_config(layer.get_config())
    assert (again.low, again.high) == (0.0, 255.0)


def test_model_sizes():
    pytest.importorskip("keras", exc_type=ImportError, reason="Keras is not installed here")
    from host_tools.errors import TrainingError
    from host_tools.models import build

    assert build("residual", preset("logmel40"), 12).count_params() == 548_108
    with pytest.raises(TrainingError, match="unknown model 'transformer'"):
        build("transformer", preset("logmel40"), 12)


OPTIONS = ["--epochs", "4", "--steps", "40", "--batch-size", "48", "--width", "0.34"]


def train_command(folder, run):
    return [
        "train", folder / "clips", "-o", run, "--features", folder / "features", "--speech", folder / "speech", *OPTIONS
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run_folder(folder, tmp_path_factory):
    """A finished run, through the command line; its training is killed in the second epoch and started again."""
    pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")
    run = tmp_path_factory.mktemp("runs") / "first"
    command = [sys.executable, "-m", "host_tools", *map(str, train_command(folder, run))]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (run / "last.keras").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert ", from epoch" in done.stdout
    return run


def test_run_folder(run_folder):
    log = list(csv.DictReader((run_folder / "log.csv").read_text().splitlines()))
    assert [row["epoch"] for row in log] == ["1", "2", "3", "4"]
    record = json.loads((run_folder / "config.json").read_text())
    assert record["best"]["val_loss"] == pytest.approx(min(float(row["val_loss"]) for row in log), abs=1e-4)


def test_another_configuration_is_refused(folder, run_folder, run_cli):
    command = train_command(folder, run_folder)
    command[command.index("--width") + 1] = "0.5"
    assert_one_line_error(run_cli(*command, package="host_tools"), "another width", program="kws-host")


def test_quantise_and_evaluate(folder, run_folder, run_cli, tmp_path):
    done = run_cli("quantize", run_folder, "-o", "tones.tflite", package="host_tools")
    assert done.returncode == 0, done.stderr
    again = run_cli("quantize", run_folder, "-o", "again.tflite", "--name", "tones", package="host_tools")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "tones.tflite").read_bytes() == (tmp_path / "again.tflite").read_bytes()

    model = Model(tmp_path / "tones.tflite")
    assert (model.input.scale, model.input.zero_point) == (1.0, -128)
    assert model.metadata.provenance["training"]["epochs"] == 4
    assert model.metadata.metrics["validation"]["agreement"] > 0.9

    results = []
    for subject in ("tones.tflite", run_folder):
        done = run_cli("evaluate", subject, "--clips", folder / "test", "--json", "-o", "r.json", package="host_tools")
        assert done.returncode == 0, done.stderr
        results.append(json.loads(done.stdout))
        assert json.loads((tmp_path / "r.json").read_text()) == results[-1]
    int8, floating = results
    assert int8["clips"] == floating["clips"] == len(WORDS) * 8
    # Chance is 1/12: a broken label order, split or calibration shows here.
    assert floating["accuracy"] > 0.6
    assert abs(int8["accuracy"] - floating["accuracy"]) < 0.05
    low, high = int8["interval_95"]
    assert low < int8["accuracy"] < high
    text = run_cli("evaluate", "tones.tflite", "--clips", folder / "test", package="host_tools").stdout.decode()
    assert f"accuracy {int8['accuracy']:.2%} of 104 clips" in text


def test_batches_are_reproducible(folder):
    pytest.importorskip("keras", exc_type=ImportError, reason="Keras is not installed here")
    from host_tools.augment import AugmentConfig
    from host_tools.dataset import LABEL_SETS
    from host_tools.examples import Batches, Sources, load_examples

    sources = Sources(folder / "clips", folder / "features", folder / "speech")
    examples = load_examples(sources, preset("logmel40"), LABEL_SETS["commands12"])
    batches = Batches(examples, batch_size=64, augment_config=AugmentConfig(), seed=5)
    for (xa, ya), (xb, yb) in zip(batches.epoch(3, 3), [batches.batch(3, i) for i in range(3)], strict=True):
        assert np.array_equal(xa, xb)
        assert np.array_equal(ya, yb)
    assert not np.array_equal(batches.batch(0, 0)[0], batches.batch(1, 0)[0])
    np.testing.assert_allclose(ya.sum(axis=1), 1, rtol=1e-6)
    assert set(ya.argmax(axis=1)) >= {0, 1, 2}


def test_missing_data_is_explained(folder, run_cli, tmp_path):
    for command, words in (
        (["train", "nowhere", "-o", "run"], "nowhere: no such folder"),
        (["train", tmp_path, "-o", "run"], "no clips"),
        (["quantize", tmp_path, "-o", "x.tflite"], "config.json"),
        (["evaluate", "commands12", "--clips", "nowhere"], "nowhere: no such folder"),
        (["train", folder / "clips", "-o", "run", "--front-end", "mfcc"], "mfcc"),
        (["train", folder / "clips", "-o", "run", "--labels", "words7"], "words7"),
    ):
        assert_one_line_error(run_cli(*command, package="host_tools"), words, program="kws-host")


def test_index_command(folder, run_cli):
    values = json.loads(run_cli("index", folder / "clips", "--json", package="host_tools").stdout)
    assert values["clips"] == len(WORDS) * 26
    assert values["words"]["yes"] == {"training": 20, "validation": 6}
    assert b"yes" in run_cli("index", folder / "clips", package="host_tools").stdout


def test_without_tensorflow_the_remedy_is_named(run_folder, run_cli, tmp_path):
    (tmp_path / "keras.py").write_text("raise ImportError('No module named keras')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    failed = run_cli("quantize", run_folder, "-o", "x.tflite", package="host_tools", env=environment)
    assert_one_line_error(failed, "kws-edge[host]", program="kws-host")


def test_reference_front_end_trains_and_quantises(folder, run_cli, tmp_path):
    """The other preset, whose levels are not clipped and whose frames are resized, goes through the same tools."""
    pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")
    command = ["train", folder / "clips", "-o", "run", "--front-end", "reference", "--epochs", "1", "--steps", "6"]
    done = run_cli(*command, "--batch-size", "16", "--width", "0.17", package="host_tools")
    assert done.returncode == 0, done.stderr
    assert run_cli("quantize", "run", "-o", "r.tflite", package="host_tools").returncode == 0
    model = Model(tmp_path / "r.tflite")
    assert model.front_end == preset("reference")
    assert model.input.shape == (1, 128, 64, 1)
    results = [
        json.loads(run_cli("evaluate", s, "--clips", folder / "test", "--json", package="host_tools").stdout)
        for s in ("r.tflite", "run")
    ]
    assert results[0]["clips"] == results[1]["clips"] == 104
    detected = run_cli("detect", folder / "test" / "yes" / "yes0.wav", "--model", "r.tflite")
    assert detected.returncode == 0, detected.stderr


def test_unusable_folders_are_explained(folder, run_cli, tmp_path):
    import shutil

    pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")
    (tmp_path / "short").mkdir()
    for i in range(6):
        soundfile.write(tmp_path / "short" / f"{i}.wav", np.zeros(800, np.int16), RATE)
    command = ["train", folder / "clips", "-o", "run", "--noise", "short", "--epochs", "1", "--steps", "1"]
    assert_one_line_error_at_end(run_cli(*command, package="host_tools"), "short: no recording of 1 s or more")
    for name in WORDS[:10]:
        shutil.copytree(folder / "clips" / name, tmp_path / "few" / name)
    shutil.copytree(folder / "clips" / "_background_noise_", tmp_path / "few" / "_background_noise_")
    failed = run_cli("train", "few", "-o", "run", package="host_tools")
    assert_one_line_error_at_end(failed, "no word besides the keywords")
    (tmp_path / "few" / "bed").mkdir()
    (tmp_path / "few" / "bed" / "aaaa_nohash_0.wav").write_text("not audio")
    failed = run_cli("train", "few", "-o", "run", package="host_tools")
    assert_one_line_error_at_end(failed, "aaaa_nohash_0.wav: cannot be read as audio")


def assert_one_line_error_at_end(process, *parts):
    """As assert_one_line_error, after progress bars."""
    assert process.returncode == 1
    error = process.stderr.decode()
    assert "Traceback" not in error
    last = error.replace("\r", "\n").splitlines()[-1]
    assert last.startswith("kws-host: "), error
    assert all(part in last for part in parts), error
