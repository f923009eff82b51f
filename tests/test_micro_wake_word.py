"""Runs as models of ESPHome's micro_wake_word: from training to pymicro-wakeword's probabilities and detections."""

import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from kws_edge import Frontend, preset
from kws_edge.model.interpreter import Interpreter
from kws_edge.model.quantization import posterior, quantize
from kws_edge.model.step_graph import StepInterpreter
from kws_edge.model.tflite import FlatModel
from tests import forked
from tests.conftest import assert_one_line_error, assert_usage_error, train_command
from tests.tones import RATE, WORDS, word

pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")

from host_tools.convert.micro_wake_word import MOST_VARIABLES, OPERATORS, to_micro_wake_word
from host_tools.convert.quantize import quantized_steps
from host_tools.convert.step_graph import to_step_int8
from host_tools.errors import TrainingError
from host_tools.networks.heeding import heeding_speech
from host_tools.networks.models import build
from host_tools.networks.qat import quantisation_aware
from host_tools.networks.streaming import HEAD, SCORE_OFFSET, answer_frames, scores_of
from host_tools.training.run import load_run

pytestmark = [pytest.mark.host, pytest.mark.xdist_group("training"), pytest.mark.timeout(600)]
FRONT_END = preset("microfrontend")
ESPHOME = os.environ.get("KWS_ESPHOME") or shutil.which("esphome")
SHORT = ("--epochs", "2", "--steps", "80", "--batch-size", "16", "--width", "0.25", "--sequence-s", "2", "--mined", "0",
         "--learning-rate", "0.006", "--reverberation", "0", "--after-speech", "0", "--speech-behind", "0",
         "--wordless", "0.1", "--noise-share", "0.2")  # fmt: skip


def command_of(folder, run, *options):
    """Arguments of a small training for microWakeWord."""
    command = train_command(folder, run, "--preset", "microwakeword", "--labels", "stop", *SHORT, *options)
    at = command.index("--features")  # its noise reduction follows augmentation, so it trains from audio
    return list(map(str, [*command[:at], *command[at + 2 :]]))


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("micro")
    done = forked.run(command_of(folder, place / "run"), place, timeout=300)
    assert done.returncode == 0, done.stderr
    return place / "run"


@pytest.fixture(scope="module")
def streams(tmp_path_factory):
    """A stream of words with labels, and one of other words without, in which the word is said as well."""
    place, rng = tmp_path_factory.mktemp("streams"), np.random.default_rng(8)
    stop = WORDS.index("stop")
    spoken = [word(stop if i % 2 else int(rng.integers(len(WORDS))), rng) for i in range(30)]
    soundfile.write(place / "words.wav", np.concatenate(spoken), RATE)
    rows = [f"{i},{i + 1},stop" for i in range(1, 30, 2)]
    (place / "words.csv").write_text("\n".join(["start_s,end_s,label", *rows]) + "\n")
    others = [word(int(i), rng) for i in rng.choice([i for i in range(len(WORDS)) if i != stop], 60)]
    others[5::12] = [word(stop, rng) for _ in range(5)]
    soundfile.write(place / "nothing.wav", np.concatenate(others), RATE)
    return [place / "words.wav", place / "nothing.wav"]


@pytest.fixture(scope="module")
def exported(trained, streams, tmp_path_factory):
    place = tmp_path_factory.mktemp("exported")
    options = ["--word", "stop", "-o", "stop.json", "--budget", "1000", "--language", "en", "de", "--author", "Jo"]
    done = forked.run(list(map(str, ["export-microwakeword", trained, *streams, *options])), place, timeout=300)
    assert done.returncode == 0, done.stderr
    assert re.search(rb"^wrote stop.json and stop.tflite, [\d,]+ bytes: cutoff 0\.\d\d, window \d+", done.stdout, re.M)
    return place / "stop.json"


def probabilities(model: bytes, levels: np.ndarray) -> np.ndarray:
    """What the model gives in a runtime on this machine, shape (answers,)."""
    flat = FlatModel(model, "exported")
    runtime, levels_in = Interpreter(flat, kernels="builtin"), flat.inputs[0]
    q = quantize(levels, levels_in.scale, levels_in.zero_point, np.dtype(np.int8))
    n = levels_in.shape[1]
    return np.array([runtime.invoke(q[np.newaxis, at : at + n])[0, 0] / 256 for at in range(0, len(q) - n + 1, n)])


def heard(streams: list) -> np.ndarray:
    """Levels of the streams end to end."""
    samples = np.concatenate([soundfile.read(path, dtype="int16")[0] for path in streams])
    return Frontend(FRONT_END).frames(samples)


def test_devices_take_its_form(exported):
    flat = FlatModel(exported.with_suffix(".tflite").read_bytes(), "stop")
    (levels,), (probability,) = flat.inputs, flat.outputs
    assert (levels.shape, levels.dtype, levels.zero_point) == ((1, 3, 40), "int8", -128)
    assert levels.scale == pytest.approx(26 / 255)
    assert (probability.shape, probability.dtype) == ((1, 1), "uint8")
    assert (probability.scale, probability.zero_point) == (1 / 256, 0)
    assert {*flat.operators} <= OPERATORS
    assert len(OPERATORS) == 20
    assert sum(op.name == "VAR_HANDLE" for op in flat.graphs[0].operators) == 6 <= MOST_VARIABLES
    assert flat.stateful
    assert {tensor.dtype for tensor in flat.tensors} == {"int8", "uint8", "int32", "resource"}


def test_probabilities_are_the_hosts(trained, exported, streams):
    """Those of the network, of its step graph, and of this file in three runtimes."""
    run, model = load_run(trained), exported.with_suffix(".tflite").read_bytes()
    levels = heard(streams)
    found = probabilities(model, levels)
    network, column = run.model(), run.labels.index("stop")
    graph = FlatModel(quantized_steps(run, network, hop_frames=answer_frames(network)), "steps")
    steps, output = StepInterpreter(graph, kernels="builtin"), graph.outputs[0]
    q = quantize(levels, graph.inputs[0].scale, graph.inputs[0].zero_point, np.dtype(np.int8))
    hops = q[: 3 * len(found)].reshape(-1, 1, 3, 1, 40)
    taken = [steps.invoke(hop)[0, 0, 0, column] for hop in hops]
    host = posterior((np.array(taken, np.float32) - output.zero_point) * output.scale, SCORE_OFFSET)
    assert host.max() > 0.5 > host.min() + 0.4, "the word is heard, and not always"
    # The logit's steps are a little larger, and the probability has 256.
    assert np.abs(found - host).max() < output.scale / 4 + 1 / 256
    scores = scores_of(network, levels[np.newaxis, : 3 * len(found), np.newaxis])[0, :, column]
    floating = posterior(scores, SCORE_OFFSET)
    assert np.corrcoef(found, floating)[0, 1] > 0.98
    micro = pytest.importorskip("firmware_export.arena", reason="kws-firmware is not installed here")
    pytest.importorskip("tflite_micro", exc_type=ImportError, reason="tflite-micro is not installed here")
    device = micro.MicroInterpreter(FlatModel(model, "stop"), "stop")
    again = [device.run([hop[:, :, 0]])[0][0, 0] / 256 for hop in hops]
    # TFLite Micro rounds negative halves the other way: seldom, and by one step of the logit.
    assert np.abs(found - again).max() < output.scale / 4 + 1 / 256
    assert np.count_nonzero(found != again) < 0.02 * len(found)


def test_pymicro_wakeword_detects_what_the_host_detects(exported, streams):
    peer = pytest.importorskip("pymicro_wakeword", reason="pymicro-wakeword is not installed here")
    manifest = json.loads(exported.read_text())["micro"]
    word, features = peer.MicroWakeWord.from_config(exported), peer.MicroWakeWordFeatures()
    samples = np.concatenate([soundfile.read(path, dtype="int16")[0] for path in streams])
    theirs = [word.process_streaming_prob(row) for row in features.process_streaming(samples.tobytes())]
    found = probabilities(exported.with_suffix(".tflite").read_bytes(), Frontend(FRONT_END).frames(samples))
    n = manifest["sliding_window_size"]
    means = np.convolve(found, np.full(n, 1 / n), "valid")
    theirs = np.array(theirs[2::3][n - 1 :][: len(means)])
    np.testing.assert_allclose(theirs, means, atol=1e-6)
    detected = theirs > manifest["probability_cutoff"]
    assert 0 < detected.sum() < len(detected) / 2


def test_cutoff_and_window_keep_to_the_budget(trained, exported, streams, run_cli, tmp_path):
    values = json.loads(exported.read_text())
    micro = values.pop("micro")
    assert values == {
        "type": "micro",
        "wake_word": "stop",
        "author": "Jo",
        "model": "stop.tflite",
        "trained_languages": ["en", "de"],
        "version": 2,
    }
    options = ("--word", "stop", "-o", "strict.json", "--budget", 200)
    done = run_cli("export-microwakeword", trained, *streams, *options, package="host_tools")
    assert done.returncode == 0, done.stderr
    assert b"to expect elsewhere: " in done.stdout
    strict = json.loads((tmp_path / "strict.json").read_text())["micro"]
    found = probabilities(exported.with_suffix(".tflite").read_bytes(), heard(streams[1:]))
    accepts = []
    for cutoff, n in ((one["probability_cutoff"], one["sliding_window_size"]) for one in (micro, strict)):
        above = np.convolve(found, np.full(n, 1 / n), "valid") > cutoff
        seconds = {int(at * 0.03) for at in np.flatnonzero(above)}
        accepts.append(sum(at - 1 not in seconds for at in seconds))
    assert accepts[0] >= 4, "the word is heard where no label tells of it"
    assert accepts[1] <= 200 / 60 - 1 + 1, "one more is to be expected elsewhere; one may lie between two seconds"
    assert micro["feature_step_size"] == 10
    assert micro["minimum_esphome_version"] == "2024.7.0"


def test_arena_is_what_the_model_needs(exported):
    pytest.importorskip("tflite_micro", exc_type=ImportError, reason="tflite-micro is not installed here")
    from firmware_export.arena import MicroInterpreter, measure_arena

    size = json.loads(exported.read_text())["micro"]["tensor_arena_size"]
    need = measure_arena(exported.with_suffix(".tflite")).kernels["esp-nn"]
    assert need <= size < need + 1024
    flat = FlatModel(exported.with_suffix(".tflite").read_bytes(), "stop")
    MicroInterpreter(flat, "stop", arena_size=size).invoke(np.zeros((1, 3, 40), np.int8))


def test_esphome_takes_two_words(exported, tmp_path):
    if not ESPHOME:
        pytest.skip("ESPHome is not installed: KWS_ESPHOME names no program, and there is none in PATH")
    for name in ("stop", "halt"):
        shutil.copy(exported.with_suffix(".tflite"), tmp_path / f"{name}.tflite")
        values = json.loads(exported.read_text()) | {"wake_word": name, "model": f"{name}.tflite"}
        (tmp_path / f"{name}.json").write_text(json.dumps(values))
    (tmp_path / "test.yaml").write_text(
        "esphome:\n  name: test\nesp32:\n  board: esp32-s3-devkitc-1\n  framework:\n    type: esp-idf\n"
        "psram:\n  mode: octal\nlogger:\ni2s_audio:\n  i2s_lrclk_pin: 5\n  i2s_bclk_pin: 6\n"
        "microphone:\n  - platform: i2s_audio\n    id: mic\n    adc_type: external\n    i2s_din_pin: 4\n"
        "micro_wake_word:\n  microphone: mic\n  models:\n    - model: stop.json\n    - model: halt.json\n"
        "  on_wake_word_detected:\n    - logger.log: heard\n"
    )
    done = subprocess.run(
        [ESPHOME, "config", "test.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    del values["micro"]["tensor_arena_size"]
    (tmp_path / "halt.json").write_text(json.dumps(values))
    done = subprocess.run(
        [ESPHOME, "config", "test.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode, "it reads both manifests"


@pytest.mark.parametrize("form", ["stream_word", "stream_residual", "fake quantisation", "no speech"])
def test_every_network_with_state_can_be_exported(form):
    """And its answers are those of its step graph."""
    rng = np.random.default_rng(4)
    levels = rng.uniform(0, 26, (240, 40)).astype(np.float32)
    network = build("stream_residual" if form == "stream_residual" else "stream_word", FRONT_END, 3, width=0.25)
    head = network.get_layer(HEAD)
    kernel, bias = head.get_weights()
    head.set_weights([30 * kernel, bias + 3])
    if form != "no speech":
        network = heeding_speech(network, 0, 4.0, FRONT_END)
    if form == "fake quantisation":
        network = quantisation_aware(network, levels[np.newaxis, :, np.newaxis])
    n = answer_frames(network)
    graph = to_step_int8(network, [levels], FRONT_END, hop_frames=n)
    flat = FlatModel(graph, form)
    steps, output = StepInterpreter(flat, kernels="builtin"), flat.outputs[0]
    q = quantize(levels, flat.inputs[0].scale, flat.inputs[0].zero_point, np.dtype(np.int8))
    raw = np.array([steps.invoke(q[at : at + n][np.newaxis, :, np.newaxis])[0, 0, 0] for at in range(0, 240, n)])
    host = posterior((raw.astype(np.float32) - output.zero_point) * output.scale, SCORE_OFFSET)
    assert host[:, 1:].std(axis=0).min() > 0.01
    for column in (1, 2):
        found = probabilities(to_micro_wake_word(graph, column, SCORE_OFFSET, form), levels)
        assert np.abs(found - host[:, column]).max() < output.scale / 4 + 1 / 256


def test_networks_that_devices_cannot_run_are_refused():
    def graph(**options):
        network = build("stream_micro", FRONT_END, 2, width=0.13, **options)
        levels = np.random.default_rng(4).uniform(0, 26, (60, 40)).astype(np.float32)
        return to_step_int8(network, [levels], FRONT_END, hop_frames=4)

    with pytest.raises(TrainingError, match=r"^run: its scores end at .*, and a word needs 8: it would never be heard"):
        to_micro_wake_word(graph(), 1, SCORE_OFFSET, "run")
    with pytest.raises(TrainingError, match=r"^run: keeps 22 states, .* has room for 20: take a network with fewer"):
        to_micro_wake_word(graph(blocks=20), 1, 1.0, "run")


def refused(run_cli, *arguments):
    return run_cli("export-microwakeword", *arguments, package="host_tools")


def test_wrong_input_is_refused(trained, run_folder, streams, folder, run_cli, tmp_path):
    whole = ("--word", "stop", "-o", "stop.json")
    failed = refused(run_cli, trained, "--word", "halt", "-o", "stop.json")
    assert_one_line_error(failed, "has no word 'halt'; it has stop", program="kws-host")
    failed = refused(run_cli, trained, "--word", "unknown", "-o", "stop.json")
    assert_one_line_error(failed, "has no word 'unknown'; it has stop", program="kws-host")
    failed = refused(run_cli, run_folder, *whole)
    assert_one_line_error(failed, "residual hears clips", "--preset microwakeword", program="kws-host")
    failed = refused(run_cli, "nowhere", *whole)
    assert_one_line_error(failed, "nowhere", program="kws-host")
    failed = refused(run_cli, trained, "--word", "stop", "-o", "stop.tflite")
    assert_one_line_error(failed, "stop.tflite: ESPHome takes manifests that end in .json", program="kws-host")
    for name in ("stop.tflite", "stop.json"):
        (tmp_path / name).write_text("mine")
        assert_one_line_error(refused(run_cli, trained, *whole), f"{name}: is there already", program="kws-host")
        (tmp_path / name).unlink()
    failed = refused(run_cli, trained, *streams, *whole, "--threshold", "0.5")
    assert_usage_error(failed, "--threshold goes without streams", program="kws-host")
    failed = refused(run_cli, trained, *whole, "--budget", "3")
    assert_usage_error(failed, "--budget takes streams", program="kws-host")
    failed = refused(run_cli, trained, streams[0], *whole)
    assert_one_line_error(failed, "no stream of 1 is one without words", program="kws-host")
    other = command_of(folder, "other", "--frontend", "logmel40", "--epochs", "1", "--steps", "1")
    assert run_cli(*other, package="host_tools").returncode == 0
    failed = refused(run_cli, "other", *whole)
    assert_one_line_error(failed, "other: hears by logmel40", "compute microfrontend", program="kws-host")
    assert not list(tmp_path.glob("stop.*")), "nothing is left behind"


def test_settings_may_be_given(trained, run_cli, tmp_path):
    done = refused(run_cli, trained, "--word", "stop", "-o", "a.json", "--threshold", "0.7", "--smoothing-ms", "150")
    assert done.returncode == 0, done.stderr
    micro = json.loads((tmp_path / "a.json").read_text())["micro"]
    assert (micro["probability_cutoff"], micro["sliding_window_size"]) == (0.7, 5)
    assert b"defaults" not in done.stdout
    done = refused(run_cli, trained, "--word", "stop", "-o", "b.json")
    assert b"cutoff and window are defaults: name streams" in done.stdout
    assert (tmp_path / "a.tflite").read_bytes() == (tmp_path / "b.tflite").read_bytes(), "the same run, the same bytes"
