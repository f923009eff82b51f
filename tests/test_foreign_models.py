"""Files that this project did not make, and models with one output or a state of their own."""

import dataclasses
import gzip
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws_edge import DetectorConfig, FrontendConfig, Metadata, Model, ModelError, Spotter, pack, preset, shipped_models
from kws_edge.model.file import unpack
from kws_edge.model.interpreter import Interpreter
from kws_edge.model.tflite import FlatModel, Operator, Tensor
from kws_edge.model.tflite.flat_model import operator_macs
from tests.conftest import assert_one_line_error

MODELS = Path(__file__).parent / "models"
FRONTEND = FrontendConfig(
    frame_ms=30, hop_ms=10, clip_ms=50, n_fft=512, n_mels=40, f_min_hz=0, f_max_hz=4000, spectrum="power",
    sample_scale=1, log_offset=1, level_min=0, level_max=26,
)  # fmt: skip
"""A front end of three frames at a time, as the stateful model takes them."""
DETECTOR = DetectorConfig(step_ms=30, smoothing_ms=0, threshold=0.9)


@pytest.fixture
def stateful(tmp_path):
    """The stateful model with labels and front end, as a file."""
    path = tmp_path / "stateful.tflite"
    metadata = Metadata(labels=("hum",), frontend_config=FRONTEND, detector_config=DETECTOR, name="hum")
    path.write_bytes(pack((MODELS / "stateful.tflite").read_bytes(), metadata))
    return path


@pytest.fixture
def one(tmp_path):
    """The model of one wake word, as a file of its own."""
    path = tmp_path / "one.tflite"
    path.write_bytes((MODELS / "one.tflite").read_bytes())
    (tmp_path / "labels.txt").write_text("marvin\n")
    return path


@pytest.fixture
def sounds(tmp_path):
    """A hiss that rises in the upper bands, and silence, one second each."""
    rng = np.random.default_rng(0)
    loud = rng.normal(0, 8000, 16000).clip(-32768, 32767).astype(np.int16)
    for name, samples in (("loud.wav", loud), ("silent.wav", np.zeros(16000, np.int16))):
        soundfile.write(tmp_path / name, samples, 16000)
    return tmp_path / "loud.wav", tmp_path / "silent.wav"


OTHERS = {
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
    "page": (b"\xef\xbb\xbf\n<!DOCTYPE html><html>", "web page"),
    "gzip": (gzip.compress(b"TFL3"), "gzip"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(50), "HDF5"),
    "pickle": (b"\x80\x02}q\x00.", "pickle"),
    "onnx": (b"\x08\x07\x12\x07pytorch\x1a\x052.1.0:\x80\x01", "ONNX"),
    "wav": (b"RIFF\x24\x00\x00\x00WAVEfmt ", "RIFF"),
    "other": (b"something else", "TFL3"),
    "empty": (b"", "is empty"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_files_are_named(tmp_path, kind):
    data, words = OTHERS[kind]
    (tmp_path / "m.tflite").write_bytes(data)
    with pytest.raises(ModelError, match=rf"m\.tflite: .*{words}"):
        Model(tmp_path / "m.tflite")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("metadata.json", "config.json", "model.weights.h5"), r"Keras model \(\.keras\)"),
        (("archive/data.pkl", "archive/version"), "PyTorch"),
        (("a.tflite",), "ZIP archive"),
    ],
)
def test_other_archives_are_named(tmp_path, names, words):
    with zipfile.ZipFile(tmp_path / "m.tflite", "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    with pytest.raises(ModelError, match=words):
        Model(tmp_path / "m.tflite")


def test_a_git_lfs_pointer_is_named_on_the_command_line(run_cli, tmp_path):
    (tmp_path / "m.tflite").write_bytes(OTHERS["pointer"][0])
    assert_one_line_error(run_cli("info", "m.tflite"), "m.tflite", "git lfs pull")


def test_info_describes_any_file(run_cli, tmp_path):
    for path in MODELS.glob("*.tflite"):
        values = json.loads(run_cli("info", path, "--json").stdout)
        flat = FlatModel(path.read_bytes(), path.name)
        assert values["inputs"][0]["shape"] == list(flat.inputs[0].shape)
        assert values["outputs"][0]["dtype"] == flat.outputs[0].dtype
        assert values["operators"] == list(flat.operators)
        assert [len(graph["tensors"]) for graph in values["subgraphs"]] == [len(g.tensors) for g in flat.graphs]
        assert values["stateful"] == (path.stem == "stateful")
        needed = "5 inputs" if path.stem == "step" else "--frontend"
        assert any(needed in text for text in values["missing"])
        text = run_cli("info", path, "--tensors").stdout.decode()
        for words in ("made elsewhere", "input", "operators", "runs", needed, "tensor "):
            assert words in text, path
    flatbuffer = unpack(Path(shipped_models()["micro12"]).read_bytes(), "")[0]
    (tmp_path / "foreign.tflite").write_bytes(flatbuffer)
    text = run_cli("info", "foreign.tflite").stdout.decode()
    assert "98 frames of 40 mels: --frontend; logmel40, microfrontend have that shape" in text
    assert "the labels of its 12 outputs: --labels" in text
    assert "every operator and tensor is verified" in text
    values = json.loads(run_cli("info", "foreign.tflite", "--labels", "a,b", "--json").stdout)
    assert "labels" not in "".join(values["missing"])


def test_info_says_what_cannot_run_and_why(run_cli):
    values = json.loads(run_cli("info", MODELS / "operators_float.tflite", "--json").stdout)
    assert "input of INT8, not float32" in values["missing"][0]
    runs = json.loads(run_cli("info", MODELS / "loops.tflite", "--json").stdout)["runs"]
    assert runs.startswith("cannot be run: three inferences take longer than 1 s; ")
    assert "WHILE" in runs


def test_shapes_that_are_known_only_as_it_runs(run_cli):
    """Tensors after a computed size have placeholder shapes.

    Every Keras model with a dense layer on frames and a batch of any size has them.
    """
    path = MODELS / "sized.tflite"
    model = Model(path, labels=["a", "b", "c"], frontend_config=preset("logmel40"), allow_float=True)
    assert model.posteriors(np.ones((98, 40), np.float32)).sum() == pytest.approx(1)
    runs = json.loads(run_cli("info", path, "--json").stdout)["runs"]
    assert runs.startswith("yes, as a trial in a process of its own showed: ")
    assert "FULLY_CONNECTED" not in runs


def test_a_front_end_that_cannot_be_computed_names_the_model():
    narrow = dataclasses.replace(preset("logmel40"), f_min_hz=3999)
    model = Model(MODELS / "one.tflite", labels=["marvin"], frontend_config=narrow)
    with pytest.raises(ModelError, match=r"one\.tflite: its front end cannot be computed: no FFT bin"):
        model.classify(np.zeros(16000, np.int16))


def test_info_counts_every_operator_or_says_which_not(run_cli, tmp_path):
    values = json.loads(run_cli("info", MODELS / "loops.tflite", "--json").stdout)
    assert values["macs_left_out"] == ["WHILE"]
    assert "multiply-accumulates, those of WHILE left out" in run_cli("info", MODELS / "loops.tflite").stdout.decode()
    flat = FlatModel((MODELS / "operators_int8.tflite").read_bytes(), "m")
    # 20 x 10 x 8 outputs of 9 taps; 10 x 5 x 16 of 9; 160 x 20 and 20 x 4 weights.
    assert flat.macs == 20 * 10 * 8 * 9 + 10 * 5 * 16 * 9 + 160 * 20 + 20 * 4
    assert flat.uncounted == ()


def test_macs_of_recurrent_and_transposed_layers():
    def tensor(*shape):
        return Tensor("", shape, "float32", None, 0)

    def macs(name, tensors, n_inputs):
        numbers = tuple(range(n_inputs))
        return operator_macs(Operator(name, 1, numbers, (n_inputs,), 0, None, ""), tensors)

    svdf = [tensor(1, 40), tensor(16, 40), tensor(16, 8), tensor(8), tensor(1, 128), tensor(1, 8)]
    assert macs("SVDF", svdf, 5) == 16 * 40 + 16 * 8
    transposed = [tensor(4), tensor(4, 3, 3, 2), tensor(1, 5, 5, 2), tensor(1, 10, 10, 4)]
    assert macs("TRANSPOSE_CONV", transposed, 3) == 5 * 5 * 2 * 3 * 3 * 4
    assert macs("BATCH_MATMUL", [tensor(2, 3, 5), tensor(2, 5, 7), tensor(2, 3, 7)], 2) == 2 * 3 * 5 * 7
    lstm = [tensor(1, 9, 6), *[tensor(4, 6)] * 4, *[tensor(4, 4)] * 4, tensor(1, 9, 4)]
    assert macs("UNIDIRECTIONAL_SEQUENCE_LSTM", lstm, 9) == 9 * (4 * 24 + 4 * 16)


def test_one_output_in_python(one, sounds):
    model = Model(one, labels=["marvin"], frontend_config=preset("logmel40"))
    assert model.labels == ("marvin",)
    loud, silent = (model.classify(soundfile.read(path, dtype="int16")[0]).posteriors for path in sounds)
    assert loud.shape == (1,)
    assert loud[0] > 0.5 > 0.45 > silent[0] - 0.1
    spotter = Spotter(model, detector_config=DetectorConfig(threshold=float(loud[0]) - 0.01, smoothing_ms=0))
    samples = np.concatenate([soundfile.read(path, dtype="int16")[0] for path in (sounds[1], sounds[0], sounds[1])])
    assert [found.keyword for found in spotter.process(samples)] == ["marvin"]


def test_one_output_on_the_command_line(run_cli, one, sounds):
    options = ("--model", one, "--labels", "labels.txt", "--frontend", "logmel40")
    done = run_cli("classify", *sounds, *options, "--json")
    scores = [json.loads(line)["top"] for line in done.stdout.splitlines()]
    assert [len(top) for top in scores] == [1, 1]
    assert scores[0][0][0] == "marvin"
    threshold = ("--threshold", f"{scores[0][0][1] - 0.01:.4f}", "--smoothing-ms", "0")
    for command in (("detect", sounds[0]), ("listen", "-")):
        given = sounds[0].read_bytes() if command[0] == "listen" else b""
        done = run_cli(*command, *options, *threshold, "--json", input=given)
        assert json.loads(done.stdout.splitlines()[0])["keyword"] == "marvin", done.stderr
    text = run_cli("info", one, *options[2:]).stdout.decode()
    assert "labels " in text
    assert "marvin" in text
    options = ("--model", one, "--labels", "a,b", "--frontend", "logmel40")
    assert_one_line_error(run_cli("classify", sounds[0], *options), "1 output, but 2 labels")


def test_uint8_output_of_one_wake_word(stateful):
    """microWakeWord's models have such an output."""
    model = Model(stateful)
    assert (model.output.dtype, model.output.scale, model.output.zero_point) == ("uint8", 1 / 256, 0)
    assert model.posteriors(np.full((3, 40), 26, np.float32)) > model.posteriors(np.zeros((3, 40), np.float32))


def steps(spotter, samples):
    spotter.reset()
    return [float(step.posteriors[0]) for step in spotter.process_steps(samples)]


@pytest.mark.parametrize("kernels", ["fast", "builtin"])
def test_state_does_not_leak_from_one_file_to_the_next(stateful, sounds, kernels):
    loud, silent = (soundfile.read(path, dtype="int16")[0] for path in sounds)
    model = Model(stateful, kernels=kernels)
    spotter = Spotter(model)
    first = steps(spotter, silent)
    heard = steps(spotter, loud)
    assert max(heard) > 0.9 > 0.5 > max(first)
    assert steps(spotter, silent) == first
    assert steps(spotter, loud) == heard
    alone = model.classify(silent).posteriors
    model.classify(loud)
    assert np.array_equal(model.classify(silent).posteriors, alone)


def test_streams_of_a_stateful_model_do_not_mix(stateful, sounds):
    """Two streams that take turns get the same results as alone."""
    loud, silent = (soundfile.read(path, dtype="int16")[0] for path in sounds)
    model = Model(stateful)
    a, b = Spotter(model), Spotter(model)
    alone = steps(a, loud), steps(b, silent)
    a.reset()
    b.reset()
    turns = ([], [])
    for start in range(0, 16000, 1600):
        for spotter, samples, found in ((a, loud, turns[0]), (b, silent, turns[1])):
            found += [float(step.posteriors[0]) for step in spotter.process_steps(samples[start : start + 1600])]
    assert turns == alone
    stateless = Model("micro12")
    assert Spotter(stateless)._stream.interpreter is stateless.interpreter  # no memory for a second one


def test_a_stateful_model_on_several_files(run_cli, stateful, sounds):
    """The answers for a file do not depend on the files before it."""
    for command in ("classify", "detect"):
        together = run_cli(command, sounds[0], sounds[1], sounds[0], "--model", stateful, "--json").stdout.splitlines()
        alone = [run_cli(command, path, "--model", stateful, "--json").stdout.splitlines() for path in sounds]
        assert together == [*alone[0], *alone[1], *alone[0]]
    assert "keeps what it has heard" in run_cli("info", stateful).stdout.decode()


def test_reset_of_variable_tensors():
    """SVDF keeps its state in a variable tensor, without a handle."""
    flat = FlatModel((MODELS / "stateful.tflite").read_bytes(), "m")
    assert flat.stateful
    interpreter = Interpreter(flat)
    values = np.full((1, 3, 40), 100, np.int8)
    first = interpreter.invoke(values)
    for _ in range(3):
        last = interpreter.invoke(values)
    assert last > first
    interpreter.reset()
    assert np.array_equal(interpreter.invoke(values), first)


def test_metadata_of_one_output(one, tmp_path):
    metadata = Metadata(labels=("marvin",), frontend_config=preset("logmel40"), name="marvin")
    path = tmp_path / "own.tflite"
    path.write_bytes(pack(one.read_bytes(), metadata))
    assert Model(path).labels == ("marvin",)
    with pytest.raises(ModelError, match="which is no label"):
        detector = DetectorConfig(thresholds={"other": 0.5})
        path.write_bytes(pack(one.read_bytes(), dataclasses.replace(metadata, detector_config=detector)))
        Model(path)
