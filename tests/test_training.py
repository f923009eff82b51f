"""Training: networks, interrupted and repeated runs, and their commands."""

import csv
import dataclasses
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from kws_edge import pack, preset, shipped_models, unpack
from kws_edge.model.file import StepConfig
from tests.conftest import assert_one_line_error, assert_one_line_error_at_end, assert_usage_error, train_command
from tests.tones import WORDS, data_of

keras = pytest.importorskip("keras", exc_type=ImportError, reason="Keras is not installed here")
pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")

from host_tools.config import AugmentConfig, DataConfig, MixConfig, NetworkConfig, StageConfig  # noqa: E402
from host_tools.data.features import levels_to_raw, raw_to_power  # noqa: E402
from host_tools.data.label_sets import LABEL_SETS  # noqa: E402
from host_tools.errors import TrainingError  # noqa: E402
from host_tools.networks.layers import LevelConv2D  # noqa: E402
from host_tools.networks.models import build, count_macs  # noqa: E402
from host_tools.sampling.bank import Bank, one_side, quietest, windows  # noqa: E402
from host_tools.sampling.batches import Batches  # noqa: E402
from host_tools.sampling.examples import load_examples  # noqa: E402
from host_tools.sampling.words import Words  # noqa: E402
from host_tools.training.curves import read_log  # noqa: E402
from host_tools.training.loop import train  # noqa: E402
from host_tools.training.run import load_run  # noqa: E402
from host_tools.training.start import blend, check_start  # noqa: E402

pytestmark = [pytest.mark.host, pytest.mark.xdist_group("training"), pytest.mark.timeout(600)]


def test_level_convolution_sees_centred_levels():
    layer = LevelConv2D(8, (3, 1), low=0.0, high=255.0)
    levels = np.random.default_rng(0).uniform(0, 255, (2, 20, 1, 40)).astype(np.float32)
    ours = keras.ops.convert_to_numpy(layer(levels))
    expected = keras.ops.convert_to_numpy(keras.ops.conv(levels / 127.5 - 1, layer.kernel))
    np.testing.assert_allclose(ours, expected, atol=1e-4)
    again = LevelConv2D.from_config(layer.get_config())
    assert (again.low, again.high) == (0.0, 255.0)


@pytest.mark.parametrize(
    ("name", "frontend", "classes", "parameters", "macs"),
    [
        ("residual", "logmel40", 12, 548_108, 11_760_768),
        ("micro", "logmel40", 12, 40_332, 1_720_992),
        ("cnn_reference", "reference", 36, 1_221_988, 303_244_288),
    ],
)
def test_model_sizes(name, frontend, classes, parameters, macs):
    model = build(name, preset(frontend), classes)
    assert model.count_params() == parameters
    assert count_macs(model) == macs
    names = [layer.name for layer in model.layers if layer.weights]
    again = [layer.name for layer in build(name, preset(frontend), classes).layers if layer.weights]
    assert names == again  # weights are found by name


@pytest.mark.parametrize("name", ["residual", "micro", "cnn_reference"])
def test_the_narrowest_network_is_one(name):
    narrowest = NetworkConfig.range_of("width").low
    assert build(name, preset("logmel40"), 3, width=narrowest).count_params() > 0


def test_unknown_model():
    with pytest.raises(TrainingError, match="unknown model 'transformer'"):
        build("transformer", preset("logmel40"), 12)


def test_run_folder(run_folder):
    log = list(csv.DictReader((run_folder / "log.csv").read_text().splitlines()))
    assert [row["epoch"] for row in log] == ["1", "2", "3", "4"]
    record = json.loads((run_folder / "config.json").read_text())
    assert record["best"]["val_loss"] == pytest.approx(min(float(row["val_loss"]) for row in log), abs=1e-4)
    assert (run_folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert any("tfevents" in path.name for path in (run_folder / "tensorboard").iterdir())
    assert (run_folder / "problems.txt").read_text() == ""


def test_another_configuration_is_refused(folder, run_folder, run_cli):
    command = train_command(folder, run_folder, "--width", "0.5")
    told = ("first holds a run with --width 0.34, not 0.5. ", "-o (--start ")
    assert_one_line_error(run_cli(*command, package="host_tools"), *told, program="kws-host")


def weights_of(folder):
    return keras.models.load_model(folder / "last.keras").get_weights()


def test_same_seed_same_weights(folder, run_cli, tmp_path):
    """Two runs end in the same weights, and so does a third that is killed in its second epoch and started again."""
    options = ("--epochs", "2", "--steps", "12", "--seed", "7")
    for name in ("a", "b"):
        done = run_cli(*train_command(folder, name, *options), package="host_tools")
        assert done.returncode == 0, done.stderr
    command = [sys.executable, "-m", "host_tools", *map(str, train_command(folder, "c", *options))]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (tmp_path / "c" / "last.keras").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = run_cli(*train_command(folder, "c", *options), package="host_tools")
    assert b", from epoch 2 on" in done.stdout
    first, second, third = (weights_of(tmp_path / name) for name in "abc")
    assert all(np.array_equal(x, y) for x, y in zip(first, second, strict=True))
    assert all(np.array_equal(x, y) for x, y in zip(first, third, strict=True))
    other = run_cli(*train_command(folder, "d", *options, "--seed", "8"), package="host_tools")
    assert other.returncode == 0
    assert not np.array_equal(first[0], weights_of(tmp_path / "d")[0])


def test_ctrl_c_keeps_what_is_done(folder, tmp_path):
    command = [sys.executable, "-m", "host_tools", *map(str, train_command(folder, "run", "--epochs", "9"))]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not (tmp_path / "run" / "last.keras").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in error
    assert error.rstrip().endswith(b"kws-host: interrupted")
    assert load_run(tmp_path / "run").model().count_params()


def test_start_teacher_and_mixup(folder, run_folder, run_cli, tmp_path):
    """A run may start from another run's weights, learn from its posteriors, and take a file's weights unchanged."""
    short = ("--epochs", "1", "--steps", "4")
    done = run_cli(
        *train_command(
            folder, "distilled", *short, "--model", "micro", "--teacher", f"{run_folder},{run_folder}",
            "--mixup", "0.2", "--reverberation", "0.3", "--audio-copies", "1",
        ),
        package="host_tools",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    best = load_run(run_folder).record["best"]
    done = run_cli(
        *train_command(folder, "same", "--epochs", "0", "--start", run_folder / "best.keras"), package="host_tools"
    )
    assert done.returncode == 0, done.stderr
    assert load_run(tmp_path / "same").record["best"] == {**best, "epoch": 0}
    done = run_cli(
        *train_command(folder, "other", *short, "--labels", "yes,bed", "--start", run_folder), package="host_tools"
    )
    assert b"; new: bed\n" in done.stdout, done.stderr
    done = run_cli(
        *train_command(folder, "more", *short, "--start", run_folder, "--keep", "last"), package="host_tools"
    )
    assert done.returncode == 0, done.stderr
    assert load_run(tmp_path / "more").record["best"]["epoch"] == 1
    blended = ("--epochs", "0", "--start", run_folder, "--blend", tmp_path / "more", "--blend-share", "0.25")
    assert run_cli(*train_command(folder, "blended", *blended), package="host_tools").returncode == 0
    models = [load_run(r).model() for r in (run_folder, tmp_path / "more", tmp_path / "blended")]
    for layers in zip(*(model.layers for model in models), strict=True):
        if not isinstance(layers[0], keras.layers.BatchNormalization):  # see test_blending_is_of_what_networks_compute
            for a, b, c in zip(*(layer.get_weights() for layer in layers), strict=True):
                np.testing.assert_allclose(c, 0.75 * a + 0.25 * b, rtol=1e-5, atol=1e-7)
    shifted = ("--epochs", "0", "--start", run_folder, "--log-prior", "unknown=-0.5,yes=0.25")
    assert run_cli(*train_command(folder, "shifted", *shifted), package="host_tools").returncode == 0
    bias = [load_run(r).model().layers[-1].get_weights()[1] for r in (tmp_path / "shifted", run_folder)]
    np.testing.assert_allclose(bias[0] - bias[1], [0, -0.5, 0.25] + 9 * [0], atol=1e-6)
    failed = run_cli(*train_command(folder, "w", *shifted[:5], "never=1"), package="host_tools")
    assert_usage_error(failed, "'never'", "unknown, yes", program="kws-host")
    failed = run_cli(*train_command(folder, "z", *blended[:5], tmp_path / "distilled"), package="host_tools")
    assert_one_line_error_at_end(failed, "distilled: another network")
    failed = run_cli(*train_command(folder, "x", "--teacher", tmp_path / "other"), package="host_tools")
    assert_one_line_error(failed, "a teacher needs the front end and the labels", program="kws-host")
    failed = run_cli(*train_command(folder, "y", "--epochs", "0"), package="host_tools")
    assert_usage_error(failed, "no epochs to train", program="kws-host")


def test_blending_is_of_what_networks_compute():
    """Blending with a network that computes the same changes nothing, though its batch norms have other statistics.

    Blending by half gives half of the network.
    """
    rng = np.random.default_rng(0)
    own, twin = (build("micro", preset("logmel40"), 12) for _ in range(2))
    for layer in own.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            n = layer.moving_mean.shape[0]
            layer.set_weights(
                [rng.uniform(0.5, 2, n), rng.normal(0, 1, n), rng.normal(0, 1, n), rng.uniform(0.5, 2, n)]
            )
    twin.set_weights(own.get_weights())
    for layer in twin.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            scale, offset, mean, variance = layer.get_weights()
            shift, wider = rng.normal(0, 1, mean.shape), rng.uniform(0.5, 2, mean.shape)
            new = variance * wider
            factor = scale / np.sqrt(variance + layer.epsilon)
            layer.set_weights([factor * np.sqrt(new + layer.epsilon), offset + factor * shift, mean + shift, new])
    inputs = rng.uniform(0, 255, (4, *preset("logmel40").feature_shape, 1)).astype(np.float32)
    before = own.predict(inputs, verbose=0)
    np.testing.assert_allclose(twin.predict(inputs, verbose=0), before, atol=1e-5)
    blend(own, SimpleNamespace(folder="twin", model=lambda: twin), 0.5)
    np.testing.assert_allclose(own.predict(inputs, verbose=0), before, atol=1e-5)


def test_start_from_int8(folder, run_folder, run_cli, tmp_path):
    """A quantised file's weights, with batch norm unfolded, compute the same as the file. Training continues."""
    assert run_cli("quantize", run_folder, "-o", "tones.tflite", package="host_tools").returncode == 0
    start = ("--start", "tones.tflite")
    done = run_cli(*train_command(folder, "back", "--epochs", "0", *start), package="host_tools")
    assert b"weights from tones.tflite\n" in done.stdout, done.stderr
    inputs, _ = load_run(run_folder).examples("validation")
    before, back = load_run(run_folder).model(), load_run(tmp_path / "back").model()
    expected, after = (model.predict(inputs, verbose=0) for model in (before, back))
    assert len(set(expected.argmax(axis=1))) > 5
    assert (after.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.97
    assert np.abs(after - expected).mean() < 0.01
    # This holds in training, too, when batch norm takes mean and variance from the batch.
    calibration, _ = load_run(tmp_path / "back").examples("calibration")
    features = keras.Model(back.input, back.get_layer("block6_sum").output)
    live, still = (np.asarray(features(calibration, training=training)).ravel() for training in (True, False))
    assert np.corrcoef(live, still)[0, 1] > 0.99
    options = ("--epochs", "1", "--steps", "2", *start)
    done = run_cli(*train_command(folder, "two", *options, "--labels", "yes,bed"), package="host_tools")
    assert b"; new: bed\n" in done.stdout, done.stderr
    (tmp_path / "cut.tflite").write_bytes((tmp_path / "tones.tflite").read_bytes()[:5000])
    for name, change, words in (
        ("a", ("--model", "micro"), "no convolution like block1"),
        ("b", ("--start", "cut.tflite"), "cut.tflite"),
    ):
        failed = run_cli(*train_command(folder, name, *options, *change), package="host_tools")
        assert_one_line_error_at_end(failed, words)
    other = ("--frontend", "reference", "--model", "cnn_reference", "--width", "0.1")
    failed = run_cli("train", folder / "clips", "-o", "c", *other, *options, package="host_tools")
    assert_one_line_error_at_end(failed, "another front end")


def test_mining_finds_where_keywords_are_heard(folder):
    """Windows in which a network hears keywords are found, and drawn as often as `mined` says."""
    config, labels = preset("logmel40"), LABEL_SETS["commands12"]
    examples = load_examples(data_of(folder), config, labels)
    batches = Batches(examples, MixConfig(mined=0.5, speech_share=1.0), batch_size=64, seed=5)

    def loudness(raw):
        return raw_to_power(raw, config).sum(axis=(1, 2))

    bound = np.quantile(loudness(examples.speech.draw(4000, np.random.default_rng(1))), 0.9)

    def posteriors(inputs):
        """Hears "yes" in whatever is loud."""
        heard = loudness(levels_to_raw(inputs[..., 0], config)) > bound
        return np.eye(12)[np.where(heard, labels.index("yes"), labels.index("silence"))]

    def loud_share():
        raw, truth, _ = batches.draw(4000, np.random.default_rng(2))
        return (loudness(raw[truth == labels.index("unknown")]) > bound).mean()

    assert 0.05 < loud_share() < 0.15
    found = batches.mine(posteriors, 3)
    assert 0.08 < found["unknown"] / 10000 < 0.12
    assert 0.5 < loud_share() < 0.6
    drawn = batches.batch(3, 0)
    assert batches.mine(posteriors, 4) != found
    assert batches.mine(posteriors, 3) == found
    for a, b in zip(batches.batch(3, 0), drawn, strict=True):
        assert np.array_equal(a, b)


def test_variety_makes_other_noise_than_recorded(folder):
    """A steady band of noise becomes other bands with another course. Variety 0 gives only the recording."""
    config = preset("logmel40")
    levels = np.zeros((20000, 40), np.float32)
    levels[:, 18:22] = 150
    bank = Bank(config.n_frames, 0.0)
    bank.add([levels])

    def drawn(variety):
        raw = windows(bank, 400, np.random.default_rng(3), config, variety=variety)
        power = raw_to_power(raw, config)
        power = power[power.sum(axis=(1, 2)) > 1e4]
        return power.sum(axis=1).argmax(axis=1), np.ptp(10 * np.log10(power.sum(axis=2) + 1), axis=1)

    bands, course = drawn(0.0)
    assert set(bands) <= {18, 19, 20, 21}
    assert np.quantile(course, 0.95) < 0.1  # but for the recording's ends
    bands, course = drawn(1.0)
    assert bands.min() < 16
    assert bands.max() > 26
    assert 0.2 < (course > 6).mean() < 0.8


def test_quietest_part_goes_on_without_a_jump():
    raw = np.zeros((2, 98, 40), np.float32)
    raw[0] = 30 + 0.2 * np.arange(98)[:, np.newaxis]  # from quiet to loud
    raw[1] = 100 - np.arange(98)[:, np.newaxis]
    found = quietest(raw, preset("logmel40"))[:, :, 0]
    assert found.shape == (2, 98)
    assert found[0].max() <= 30 + 0.2 * 29 + 1e-4
    assert found[1].max() <= 100 - 68
    assert np.allclose(found[0, :30], raw[0, :30, 0])
    assert np.abs(np.diff(found[0])).max() < 0.21
    assert np.abs(np.diff(found[1])).max() < 1.01


def test_digital_silence_on_one_side():
    raw = np.full((200, 98, 40), 7, np.float32)
    one_side(raw, np.arange(100), np.random.default_rng(0), preset("logmel40"))
    assert np.all(raw[100:] == 7)
    kept = raw[:100, :, 0] == 7
    assert np.all(raw[:100][~kept] == 0)
    edges = np.abs(np.diff(kept.astype(int), axis=1)).sum(axis=1)
    assert edges.max() == 1
    assert 0.3 < kept[:, 0].mean() < 0.7
    assert np.ptp(kept.sum(axis=1)) > 60


def test_babble_is_speech_behind_words(folder):
    """The speech is a steady band. It is heard behind all words, and never above them."""
    config, labels = preset("logmel40"), LABEL_SETS["commands12"]
    examples = load_examples(data_of(folder), config, labels)
    examples.speech = Bank(config.n_frames, 0.0)
    band = np.zeros((400, 40), np.float32)
    band[:, 35:] = 200
    examples.speech.add([band])
    still = AugmentConfig(
        stretch=0, gain_db=(0, 0), noise_share=1, snr_db=(0, 0), time_masks=0, frequency_masks=0, shift_ms=0
    )
    batches = Batches(examples, MixConfig(augment=still, speech_share=0.0, babble=1.0), batch_size=300, seed=5)
    inputs, targets = batches.batch(0, 0)
    power = raw_to_power(levels_to_raw(inputs[..., 0], config), config)[targets[:, 2:].max(axis=1) > 0.5]
    behind, words = power[:, :, 35:].sum(axis=2).mean(axis=1), power.sum(axis=2).max(axis=1)
    assert len(power) > 100
    assert np.all(behind > 1e-4 * words)
    assert np.median(10 * np.log10(words / behind)) > 6


@pytest.mark.parametrize("shares", [{}, {"variety": 0.5, "hiss": 0.5, "babble": 0.5}])
def test_batches_are_reproducible(folder, shares):
    sources = data_of(folder)
    examples = load_examples(sources, preset("logmel40"), LABEL_SETS["commands12"])
    batches = Batches(examples, MixConfig(augment=AugmentConfig(gated=0), **shares), batch_size=64, seed=5)
    for (xa, ya), (xb, yb) in zip(batches.epoch(3, 3), [batches.batch(3, i) for i in range(3)], strict=True):
        assert np.array_equal(xa, xb)
        assert np.array_equal(ya, yb)
    assert not np.array_equal(batches.batch(0, 0)[0], batches.batch(1, 0)[0])
    np.testing.assert_allclose(ya.sum(axis=1), 1, rtol=1e-6)
    assert set(ya.argmax(axis=1)) >= {0, 1, 2}


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priorities of their own here")
def test_batches_step_back(folder):
    """A thread of lower priority makes batches. The thread that trains keeps its priority."""
    examples = load_examples(DataConfig(clips=folder / "clips"), preset("logmel40"), LABEL_SETS["commands12"])
    batches = Batches(examples, MixConfig(), batch_size=8, seed=5)
    before, found = os.getpriority(os.PRIO_PROCESS, threading.get_native_id()), []

    def batch(epoch, index):
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    batches.batch = batch
    list(batches.epoch(0, 3))
    assert found == [min(19, before + 10)] * 3
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


def test_hard_negatives_and_synthetic_speech(folder, tmp_path):
    """Synthetic words are drawn like recorded ones. Pairs of words and halves of keywords lie at the edges."""
    for word in WORDS:
        shutil.copytree(folder / "clips" / word, tmp_path / "synthetic" / "words" / word)
    shutil.copytree(folder / "speech", tmp_path / "synthetic" / "speech")
    config, labels = preset("logmel40"), LABEL_SETS["commands12"]
    examples = load_examples(
        data_of(folder, synthetic=tmp_path / "synthetic"),
        config,
        labels,
    )
    assert examples.kinds == ["recorded", "synthetic", "precomputed"]
    # By the square roots of 20 recorded, 20 synthetic and 5 precomputed examples, one in five draws is precomputed.
    batches = Batches(examples, MixConfig(hard_negatives=0.5), batch_size=64, seed=5)
    groups, bounds = batches.words._by_kind("yes")
    assert [len(group) for group in groups] == [20, 20, 5]
    np.testing.assert_allclose(bounds, [0.4, 0.8, 1], atol=1e-12)
    hard = raw_to_power(batches.words.draw_hard(200, np.random.default_rng(0)), config).sum(axis=2)
    frames = config.n_frames
    edges = (hard[:, : frames // 4].sum(axis=1) + hard[:, -frames // 4 :].sum(axis=1)) / hard.sum(axis=1)
    words = raw_to_power(batches.words.draw(["yes"] * 200, np.random.default_rng(0)), config).sum(axis=2)
    middle = (words[:, : frames // 4].sum(axis=1) + words[:, -frames // 4 :].sum(axis=1)) / words.sum(axis=1)
    assert np.median(edges) > 0.6 > 0.5 > np.median(middle)
    inputs, targets = batches.batch(0, 0)
    assert inputs.shape == (64, 98, 40, 1)
    assert np.isfinite(inputs).all()
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)


def test_groups_of_a_bank_are_drawn_evenly():
    bank = Bank(frames=10, silence=0.0)
    assert bank.add([]) == 0 and not bank
    assert bank.add([np.full((10, 4), 1.0)]) == 10
    assert bank.add([np.full((1000, 4), 2.0)]) == 1000
    drawn = bank.draw(2000, np.random.default_rng(0))
    assert drawn.shape == (2000, 10, 4) and drawn.dtype == np.float32
    loudest = drawn.max(axis=(1, 2))
    assert set(loudest) == {1, 2}
    assert 900 < (loudest == 1).sum() < 1100


def test_a_short_recording_is_drawn_whole_at_any_place():
    bank = Bank(frames=10, silence=-7.0)
    bank.add([np.arange(1.0, 5.0)[:, np.newaxis]])
    drawn = bank.draw(500, np.random.default_rng(0))[:, :, 0]
    first = (drawn == 1).argmax(axis=1)
    assert set(first) == set(range(7))
    for row, at in zip(drawn, first, strict=True):
        expected = np.full(10, -7.0)
        expected[at : at + 4] = [1, 2, 3, 4]
        assert np.array_equal(row, expected)


def test_windows_in_which_a_word_is_said_are_left_out():
    bank = Bank(frames=10, silence=-7.0)
    bank.add(
        [np.arange(100.0)[:, np.newaxis], np.arange(100.0, 104.0)[:, np.newaxis]], [[(30, 40.5), (90, 99)], [(0, 4)]]
    )
    drawn = bank.draw(9000, np.random.default_rng(0))[:, :, 0]
    first = set(drawn[drawn[:, 0] >= 0, 0])
    assert first == {*range(25), *range(36, 85), 95.0, 96.0}  # the middle of the last two is the end
    assert bank.add([np.zeros((12, 1))], [[(0, 12)]]) == 0
    assert len(bank.groups) == 1


def test_all_of_more_speech_and_noise_trains(folder, tmp_path):
    """Only the training half of --speech trains. Without `unknown`, speech without keywords is silence."""
    config, labels = preset("logmel40"), ("silence", *WORDS)
    sources = data_of(folder, features=None)
    less = load_examples(sources, config, labels)
    sources = dataclasses.replace(sources, more_speech=(folder / "speech",), more_noise=(folder / "speech",))
    more = load_examples(sources, config, labels)
    whole = sum(soundfile.info(path).duration / 60 for path in (folder / "speech").rglob("*.wav"))
    assert 0 < less.summary["speech_minutes"] < whole
    assert more.summary["speech_minutes"] - less.summary["speech_minutes"] == pytest.approx(whole, abs=0.15)
    assert more.summary["noise_minutes"] - less.summary["noise_minutes"] == pytest.approx(whole, abs=0.15)
    assert [len(less.speech.groups), len(more.speech.groups)] == [1, 2]
    batches = Batches(more, MixConfig(silence_share=0.1, unknown_share=0.3), batch_size=64, seed=5)
    _, truth, silent = batches.draw(2000, np.random.default_rng(0))
    assert 0.36 < (truth == 0).mean() < 0.44
    assert 0.07 < silent.mean() < 0.13 and (truth[silent] == 0).all()


def test_missing_data_is_explained(folder, run_cli, tmp_path):
    (tmp_path / "empty").mkdir()
    for command, words in (
        (["train", "nowhere", "-o", "run"], "nowhere: no such folder"),
        (["train", tmp_path / "empty", "-o", "run"], "no clips"),
        (["quantize", tmp_path, "-o", "x.tflite"], "config.json"),
        (["evaluate", "commands12", "--clips", "nowhere"], "nowhere: no such folder"),
        (["train", folder / "clips", "-o", "run", "--start", "gone.h5"], "gone.h5"),
        (["download", "new", "--url", "file:///etc/a.tar.gz", "--sha256", 64 * "0"], "file:///etc/a.tar.gz"),
    ):
        assert_one_line_error(run_cli(*command, package="host_tools"), words, program="kws-host")
    for command, words in (
        (["train", folder / "clips", "-o", "run", "--labels", "words7"], "words7"),
        (["train", folder / "clips", "-o", "run", "--frontend", "mfcc"], "mfcc"),
        (["train", folder / "clips", "-o", "run", "--split", "kfold"], "kfold"),
        (
            ["train", folder / "clips", "-o", "run", "--snr-db", "40", "0"],
            "snr_db takes the lower bound first",
        ),
        (["evaluate", "commands12"], "--clips"),
        (["download", "new", "--url", "http://127.0.0.1:1/a.tar.gz"], "--sha256"),
    ):
        assert_usage_error(run_cli(*command, package="host_tools"), words, program="kws-host")


def damaged(change):
    """A run's record as JSON, after a change to it."""
    record = {
        "config": StageConfig(data=DataConfig(clips="clips")).to_dict(),
        "labels": ["silence", "unknown", "yes"],
        "front_end": preset("logmel40").to_dict(),
        "data": {},
        "versions": {"keras": "3"},
        "sources": {"clips": [{"path": "/clips", "sha256": "0", "files": 1, "bytes": 1}]},
        "best": {"epoch": 1, "val_loss": 0.1, "val_accuracy": 0.9},
    }
    change(record)
    return json.dumps(record)


DAMAGED = {
    "empty": "",
    "cut": damaged(lambda r: None)[:300],
    "a list": "[]",
    "nested": "[" * 100_000,
    "no configuration": damaged(lambda r: r.pop("config")),
    "unknown option": damaged(lambda r: r["config"].update(colour="red")),
    "steps a text": damaged(lambda r: r["config"]["optim"].update(steps="300")),
    "no steps": damaged(lambda r: r["config"]["optim"].update(steps=0)),
    "epochs negative": damaged(lambda r: r["config"]["optim"].update(epochs=-5)),
    "rate no number": damaged(lambda r: r["config"]["optim"].update(learning_rate=float("nan"))),
    "minutes without end": damaged(lambda r: r["config"]["optim"].update(minutes=float("inf"))),
    "no sections": damaged(lambda r: r.update(config=[])),
    "data of numbers": damaged(lambda r: r["config"]["data"].update(more_speech=[1])),
    "section a text": damaged(lambda r: r["config"].update(mix="all")),
    "one ratio": damaged(lambda r: r["config"]["mix"]["augment"].update(snr_db=3)),
    "no labels": damaged(lambda r: r.pop("labels")),
    "labels of numbers": damaged(lambda r: r.update(labels=[1, 2])),
    "no front end": damaged(lambda r: r.pop("front_end")),
    "front end a text": damaged(lambda r: r.update(front_end="logmel40")),
    "front end impossible": damaged(lambda r: r["front_end"].update(n_mels=-1)),
    "no data": damaged(lambda r: r.pop("data")),
    "best a text": damaged(lambda r: r.update(best="1")),
    "best not a number": damaged(lambda r: r["best"].update(val_loss=float("nan"))),
    "no sources": damaged(lambda r: r.pop("sources")),
    "sources a list": damaged(lambda r: r.update(sources=[])),
    "sources of numbers": damaged(lambda r: r["sources"].update(clips=3)),
    "source without a checksum": damaged(lambda r: r["sources"]["clips"][0].pop("sha256")),
    "no source of clips": damaged(lambda r: r["sources"].update(clips=[])),
    "bytes a text": damaged(lambda r: r["sources"]["clips"][0].update(bytes="1")),
    "weights a list": damaged(lambda r: r.update(weights=[])),
    "weights without a checksum": damaged(lambda r: r.update(weights={"start": [{"path": "x"}]})),
    "versions a text": damaged(lambda r: r.update(versions="3")),
    "best cut": damaged(lambda r: r["best"].pop("val_loss")),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_record_of_a_run(kind, tmp_path):
    (tmp_path / "config.json").write_text(damaged(lambda r: None))
    assert load_run(tmp_path).labels == ("silence", "unknown", "yes")
    (tmp_path / "config.json").write_text(DAMAGED[kind])
    with pytest.raises(TrainingError) as error:
        load_run(tmp_path)
    assert str(error.value).startswith(f"{tmp_path}/config.json: broken (") and "\n" not in str(error.value)


def test_fake_quantisation_is_of_float_runs(tmp_path):
    (tmp_path / "config.json").write_text(damaged(lambda r: r["config"]["weights"].update(qat="float")))
    with pytest.raises(TrainingError, match="is a run with fake quantisation itself; name the float run"):
        check_start(StageConfig.from_options({"clips": "clips", "qat": str(tmp_path)}))


@pytest.mark.parametrize(
    ("changes", "frontend", "expected"),
    [
        ({"step": StepConfig(frames=2, score_offset=8)}, "logmel40", "is of a network with state; start from the run"),
        ({}, "reference", "has another front end than the one to train with"),
        (None, "logmel40", "says nothing of its labels and front end; start from a file that kws-host made"),
    ],
)
def test_a_file_that_is_no_start_is_refused_before_data_are_read(changes, frontend, expected, tmp_path):
    flat, metadata = unpack(Path(shipped_models()["micro12"]).read_bytes(), "micro12")
    file = tmp_path / "file.tflite"
    file.write_bytes(flat if changes is None else pack(flat, dataclasses.replace(metadata, **changes)))
    with pytest.raises(TrainingError, match=re.escape(f"{file}: {expected}")):
        check_start(StageConfig.from_options({"clips": "clips", "start": str(file), "frontend": frontend}))


@pytest.mark.parametrize("other", [{"width": 0.34}, {"model": "stream_micro"}, {"model": "residual"}])
def test_a_run_with_state_starts_only_its_own_form(other, tmp_path):
    network = {"model": "stream_residual", "width": 1.0}
    (tmp_path / "config.json").write_text(damaged(lambda r: r["config"]["network"].update(network)))
    check_start(StageConfig.from_options({"clips": "clips", "start": str(tmp_path), **network}))
    with pytest.raises(TrainingError, match=r"is of stream_residual of width 1, not .*; give --model stream_residual "):
        check_start(StageConfig.from_options({"clips": "clips", "start": str(tmp_path), **network, **other}))


def test_half_written_run(tmp_path):
    """If a file of a run is cut short, one line names the file."""
    (tmp_path / "config.json").write_text(damaged(lambda r: None))
    run = load_run(tmp_path)
    with pytest.raises(TrainingError, match=r"best\.keras: missing"):
        run.model()
    archive = io.BytesIO()
    np.savez(archive, validation=np.zeros((3, 98, 40, 1), np.float32), validation_truth=np.zeros(3, int))
    whole, objects, other = archive.getvalue(), io.BytesIO(), io.BytesIO()
    np.savez(objects, validation=np.array([{}], object), validation_truth=np.zeros(3, int))
    np.savez(other, validation=np.zeros((3, 9, 9, 1), np.float32), validation_truth=np.zeros(3, int))
    huge = io.BytesIO()
    with zipfile.ZipFile(huge, "w") as archive:
        for name in ("validation", "validation_truth"):
            header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (100000000000, 98, 40, 1)}\n"
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    for content in (b"", b"PK", whole[:-30], whole[:2000], objects.getvalue(), other.getvalue(), huge.getvalue(), None):
        if content is None:
            (tmp_path / "examples.npz").unlink()
        else:
            (tmp_path / "examples.npz").write_bytes(content)
        with pytest.raises(TrainingError, match=r"examples\.npz: ") as error:
            run.examples("validation")
        assert "\n" not in str(error.value)
    (tmp_path / "examples.npz").write_bytes(whole)
    assert len(run.examples("validation")[1]) == 3
    with pytest.raises(TrainingError, match=r"examples\.npz: broken \(no "):
        run.examples("calibration")
    for content in (b"", b"not an archive", b"PK\x03\x04" + bytes(50), b"\x89HDF\r\n\x1a\n"):
        (tmp_path / "best.keras").write_bytes(content)
        with pytest.raises(TrainingError, match=r"best\.keras: broken") as error:
            run.model()
        assert "\n" not in str(error.value)
    for text, line in (("epoch,loss\n1,0.5\n2\n", 3), ("epoch,loss\nx,1\n", 2), ("loss\n1\n", 2), ("epoch\n1,2\n", 2)):
        (tmp_path / "log.csv").write_text(text)
        with pytest.raises(TrainingError, match=rf"log\.csv, line {line}: is no row"):
            read_log(tmp_path)
    (tmp_path / "log.csv").write_bytes(b"epoch\n\xff\n")
    with pytest.raises(TrainingError, match=r"log\.csv: broken"):
        read_log(tmp_path)
    (tmp_path / "log.csv").write_text("epoch,loss\n0,nan\n1,0.5\n")
    assert [row["epoch"] for row in read_log(tmp_path)] == [0, 1]


def test_without_tensorflow_the_remedy_is_named(run_folder, run_cli, tmp_path):
    (tmp_path / "keras.py").write_text("raise ImportError('No module named keras')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    failed = run_cli("quantize", run_folder, "-o", "x.tflite", package="host_tools", env=environment)
    assert_one_line_error(failed, "pip install '.[host]'", program="kws-host")


def test_unusable_folders_are_explained(folder, run_cli, tmp_path):
    (tmp_path / "broken").mkdir()
    for i in range(6):
        (tmp_path / "broken" / f"{i}.wav").write_text("not audio")
    command = ["train", folder / "clips", "-o", "run", "--noise", "broken", "--epochs", "1", "--steps", "1"]
    assert_one_line_error_at_end(run_cli(*command, package="host_tools"), "broken: no usable recording (")
    for name in WORDS[:10]:
        shutil.copytree(folder / "clips" / name, tmp_path / "few" / name)
    shutil.copytree(folder / "clips" / "_background_noise_", tmp_path / "few" / "_background_noise_")
    failed = run_cli("train", "few", "-o", "run", package="host_tools")
    assert_one_line_error_at_end(failed, "no word besides the keywords", "no --speech")
    for path in (tmp_path / "few" / "go").glob("*.wav"):
        path.write_text("not audio")
    failed = run_cli("train", "few", "-o", "run", "--speech", folder / "speech", package="host_tools")
    assert_one_line_error_at_end(failed, "no training example of 'go'", "is a text, not audio")


def test_a_run_goes_on_only_on_the_data_it_began_with(run_cli, folder, tmp_path):
    """Clips are deleted and folders swapped. The record would name data that did not train the run."""
    shutil.copytree(folder / "clips", tmp_path / "clips")
    shutil.copytree(folder / "speech", tmp_path / "speech")
    shutil.copytree(folder / "clips" / "_background_noise_", tmp_path / "noise")

    def trained(*options, speech="speech", noise="noise"):
        return run_cli(
            "train", "clips", "--speech", speech, "--noise", noise, "-o", "run", "--model", "micro", "--epochs", "1",
            "--steps", "1", "--cache", "cache", *options, package="host_tools",
        )  # fmt: skip

    assert trained().returncode == 0
    assert trained().returncode == 0
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert record["threads"] >= 1
    assert record["sources"]["clips"][0]["path"] == str(tmp_path / "clips"), "so that it is found from elsewhere"
    assert record["sources"]["clips"][0]["files"] == 13 * 26 + 1
    shutil.copytree(tmp_path / "run", tmp_path / "elsewhere")
    without = {name: value for name, value in record.items() if name != "best"}
    (tmp_path / "elsewhere" / "config.json").write_text(json.dumps(without))
    done = trained("-o", "elsewhere")
    assert_one_line_error_at_end(done, "config.json: broken (it names no best epoch); remove elsewhere to start anew")
    done = trained(speech="noise", noise="speech")
    assert done.returncode == 1
    assert f"run holds a run on other data: noise: was {tmp_path}/noise (1 files".encode() in done.stderr
    for path in sorted((tmp_path / "clips" / "yes").iterdir())[:3]:
        path.unlink()
    done = trained()
    assert done.returncode == 1
    assert f"clips: was {tmp_path}/clips (339 files".encode() in done.stderr
    assert f"is {tmp_path}/clips (336 files".encode() in done.stderr
    assert record == json.loads((tmp_path / "run" / "config.json").read_text())

    done = run_cli("train", "--config", "run", "--seed", "2", "-o", "again", "--cache", "cache", package="host_tools")
    assert done.returncode == 0, done.stderr
    repeated = json.loads((tmp_path / "again" / "config.json").read_text())
    assert repeated["config"] == {**record["config"], "seed": 2}
    assert repeated["sources"]["clips"][0]["files"] == 336
    done = run_cli("compare", "run", "again", package="host_tools")
    lines = [line.split() for line in done.stdout.decode().splitlines()]
    assert lines[0] == ["run", "again"]
    assert lines[1] == ["seed", "1", "2"]
    assert lines[2][:2] == ["data", "clips"]
    done = run_cli("train", "-o", "third", package="host_tools")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"or a run to repeat with --config RUN" in done.stderr


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of Keras, with NumPy 2
def test_a_run_goes_on_only_with_the_weights_that_it_took(folder, tmp_path):
    """The record would claim what did not train it."""
    config = StageConfig.from_options(
        {**data_of(folder, cache=folder / "cache").values(), "model": "micro", "epochs": 1, "steps": 1}
    ).changed(start="micro12")
    run, said = tmp_path / "run", []
    weights = train(config, tmp_path / "teacher", say=said.append).weights_file()
    config = config.changed(teacher=str(tmp_path / "teacher"))
    train(config, run, say=said.append)
    record = json.loads((run / "config.json").read_text())
    assert sorted(record["weights"]) == ["start", "teacher"]
    assert record["weights"]["teacher"][0]["path"] == str(weights)
    before, model = weights.read_bytes(), keras.models.load_model(weights, compile=False)
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel, bias + 1])
    model.save(weights)
    with pytest.raises(TrainingError, match=r"run that took other weights: teacher: was .*best.keras \(\w{8}\), is "):
        train(config, run, say=said.append)
    weights.write_bytes(before)
    train(config, run, say=said.append)
    weights.unlink()
    with pytest.raises(TrainingError, match=r"best\.keras: missing; no epoch of this run has finished yet"):
        train(config, run, say=said.append)


@pytest.mark.parametrize(("output", "cache"), [("clips/run", "cache"), ("clips", "cache"), ("run", "clips/cache")])
def test_nothing_is_written_among_the_data(output, cache, folder, tmp_path):
    """They would be other data from then on, and the run could not go on."""
    (tmp_path / "clips").mkdir()
    config = StageConfig(data=DataConfig(clips=tmp_path / "clips", cache=tmp_path / cache))
    with pytest.raises(TrainingError, match=r"lies in .*clips, which is data to train on; name another place with -"):
        train(config, tmp_path / output)
    assert not [*(tmp_path / "clips").iterdir()]


def test_clips_of_a_site_train_all_and_count_for_more_than_their_number(folder, tmp_path):
    """They are a tenth of a word's recordings, and about a quarter of what is drawn of it. None of them validates."""
    config, labels = preset("logmel40"), ("silence", "unknown", *WORDS)
    sources = data_of(folder, features=None)
    without = load_examples(sources, config, labels)
    word, unknown = WORDS[0], tmp_path / "site" / "_unknown_"
    site = tmp_path / "site" / word
    site.mkdir(parents=True)
    unknown.mkdir()
    few = without.summary["training"][word] // 10
    quiet = np.random.default_rng(0).integers(-30, 30, (few + 1, 24_000)).astype(np.int16)
    for i in range(few):
        soundfile.write(site / f"20261127T10000{i:04d}Z-kitchen-{word}-0.80-hit.wav", quiet[i], 16000)
    soundfile.write(unknown / f"20261127T100000000Z-kitchen-{word}-0.80-wrong.wav", quiet[few], 16000)
    examples = load_examples(dataclasses.replace(sources, site=tmp_path / "site"), config, labels)
    assert examples.summary["training"][word] == without.summary["training"][word] + few
    assert examples.summary["training"]["unknown"] == without.summary["training"].get("unknown", 0) + 1
    assert examples.summary["validation"] == without.summary["validation"]
    drawn = Words(examples).draw([word] * 3000, np.random.default_rng(0))
    of_site = np.isin(drawn.mean(axis=(1, 2)), examples.stores[1].astype(np.float32).mean(axis=(1, 2)))
    assert 0.18 < of_site.mean() < 0.3
