"""``kws-firmware export`` and ``report``: files that are written, errors, and folders that are consistent."""

import dataclasses
import json
import os
import re
import struct
import subprocess
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from firmware_export.arena import MicroInterpreter
from firmware_export.export import exported, measured, prepare
from firmware_export.manifest import MANIFEST
from firmware_export.parity import NEAR_TIE, Parity
from firmware_export.target import TARGETS
from firmware_export.vectors import default_recording
from kws_edge import DetectorConfig, Metadata, Model, pack, preset, shipped_models, unpack
from kws_edge.detection.detector import Detector
from kws_edge.errors import ModelError
from kws_edge.model.tflite.flatbuffer import Reader
from kws_edge.spotter import Spotter
from tests.conftest import OF_CLIPS, ROOT, assert_one_line_error, need_program
from tests.firmware.host import FRONTEND, compile_c

pytestmark = [pytest.mark.host, pytest.mark.firmware]

pytest.importorskip("tflite_micro", exc_type=ImportError, reason="tflite-micro is not installed here")


@pytest.fixture
def run(run_cli):
    return lambda *arguments, **options: run_cli(*arguments, package="firmware_export", **options)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_export(run, tmp_path):
    done = run("export", "micro12", "-o", "a", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert run("export", "micro12", "-o", "b").returncode == 0
    first = contents(tmp_path / "a")
    assert contents(tmp_path / "b") == first
    assert run("export", "micro12", "-o", "a").returncode == 0  # replaces an earlier export
    assert contents(tmp_path / "a") == first
    assert summary["arena"]["size"] >= 1.1 * summary["arena"]["measured"] > 20_000
    assert summary["arena"]["size"] % 1024 == 0
    hash_ = Model("micro12").frontend_config.hash
    generated = [
        "config.h",
        "model_ops.h",
        "tables.c",
        "detector_config.c",
        "vectors.c",
        "model_data.h",
        "model_data.cc",
    ]
    for name in generated:
        heading = (tmp_path / "a" / "src" / f"kws_{name}").read_text().splitlines()[0]
        assert hash_ in heading
        assert summary["model_sha256"] in heading
    ops = (tmp_path / "a" / "src" / "kws_model_ops.h").read_text()
    assert sorted(re.findall(r"resolver\.Add(\w+)\(\)", ops)) == [
        "Add", "Conv2D", "DepthwiseConv2D", "FullyConnected", "Mean", "Reshape", "Softmax",
    ]  # fmt: skip
    for path, data in first.items():
        assert not re.search(rb"@[A-Z_]+@", data), f"{path} holds a token that was not replaced"
    assert json.loads((tmp_path / "a" / MANIFEST).read_text())["labels"] == list(Model("micro12").labels)


def test_what_the_user_made_is_not_lost(run, tmp_path):
    assert run("export", "micro12", "-o", "out").returncode == 0
    mine = tmp_path / "out" / "my_board.c"
    mine.write_text("mine")
    assert run("export", "micro12", "-o", "out", "--threshold", "0.6").returncode == 0
    changed = tmp_path / "out" / "src" / "kws_app.c"
    changed.write_text(changed.read_text() + "/* mine */\n")
    failed = run("export", "micro12", "-o", "out")
    assert_one_line_error(failed, "src/kws_app.c", "--force", program="kws-firmware")
    assert "mine" in changed.read_text()
    assert run("export", "micro12", "-o", "out", "--force").returncode == 0
    assert "mine" not in changed.read_text()
    assert mine.read_text() == "mine"
    stranger = tmp_path / "other" / "README.md"
    stranger.parent.mkdir()
    stranger.write_text("my notes")
    assert_one_line_error(run("export", "micro12", "-o", "other"), "README.md", program="kws-firmware")
    assert contents(tmp_path / "other") == {stranger.relative_to(tmp_path / "other"): b"my notes"}
    for manifest in ("[]", '{"files": {"../../mine": ""}}'):
        (tmp_path / "other" / MANIFEST).write_text(manifest)
        assert_one_line_error(run("export", "micro12", "-o", "other"), "manifest", program="kws-firmware")
    assert_one_line_error(run("export", "micro12", "-o", "other/README.md"), "README.md", program="kws-firmware")


def test_names_cannot_end_a_comment(run, tmp_path):
    need_program("gcc")
    odd = tmp_path / "a*\\\n#error b.tflite"
    odd.write_bytes(Path(shipped_models()["micro12"]).read_bytes())
    assert run("export", odd.name, "-o", "out").returncode == 0
    src = tmp_path / "out" / "src"
    compile_c("gcc", f"-I{src}", "-c", src / "kws_detector_config.c", "-o", tmp_path / "x.o")


def test_golden_vectors_of_a_recording(run, tmp_path, clips):
    """The board replays the user's own recording. A recording that is too short is refused."""
    soundfile.write(tmp_path / "mine.wav", np.concatenate(clips[:4]), 16000)
    soundfile.write(tmp_path / "short.wav", clips[0], 16000)
    assert run("export", "micro12", "-o", "out", "--golden", "mine.wav").returncode == 0
    assert "mine.wav" in (tmp_path / "out" / "src" / "kws_vectors.c").read_text()[:400]
    assert_one_line_error(
        run("export", "micro12", "-o", "out", "--golden", "short.wav"), "short.wav", "too short", program="kws-firmware"
    )
    assert_one_line_error(
        run("export", "micro12", "-o", "out", "--golden", "gone.wav"), "gone.wav", program="kws-firmware"
    )


def patched(change):
    """micro12 with some bytes of its flatbuffer changed, as a model file."""
    flatbuffer, metadata = unpack(Path(shipped_models()["micro12"]).read_bytes(), "micro12")
    data = bytearray(flatbuffer)
    change(data, Reader(flatbuffer).root())
    return pack(bytes(data), metadata)


def _operator(data, root):
    """MEAN becomes an operator that TFLite Micro has no kernel for."""
    mean = next(code for code in root.tables(1) if code.scalar(0, "b") == 40)
    data[mean.at(0, 1)] = 48  # TOPK_V2
    if mean.at(3):
        struct.pack_into("<i", data, mean.at(3), 48)


def _input_type(kind):
    def change(data, root):
        main = next(root.tables(2))
        data[list(main.tables(0))[main.scalars(1, "i", most=9)[0]].at(1, 1)] = kind

    return change


@pytest.mark.parametrize(("kind", "reason"), [(0, "float32 where INT8"), (3, "uint8")])
def test_other_types_are_refused(run, tmp_path, kind, reason):
    (tmp_path / "patched.tflite").write_bytes(patched(_input_type(kind)))
    assert_one_line_error(
        run("export", "patched.tflite", "-o", "out"), "patched.tflite", reason, program="kws-firmware"
    )
    assert not (tmp_path / "out").exists()


def test_a_front_end_that_c_lacks_is_refused(run, tmp_path):
    flatbuffer, metadata = unpack(Path(shipped_models()["micro12"]).read_bytes(), "micro12")
    other = dataclasses.replace(metadata.frontend_config, normalise=True)
    (tmp_path / "other.tflite").write_bytes(pack(flatbuffer, dataclasses.replace(metadata, frontend_config=other)))
    assert_one_line_error(
        run("export", "other.tflite", "-o", "out"),
        "other.tflite: the firmware's front end cannot do this one",
        "train with --frontend logmel40",
        program="kws-firmware",
    )


def test_tflite_micro_itself_refuses_the_operator(run, tmp_path):
    (tmp_path / "patched.tflite").write_bytes(patched(_operator))
    assert_one_line_error(run("arena", "patched.tflite"), "TOPK_V2", program="kws-firmware")


def test_arena_of_a_model_that_contradicts_itself(run, tmp_path):
    """TFLite Micro trusts its files, so a file is verified first."""

    def change(data, root):
        main = next(root.tables(2))
        last = len(list(main.tables(0))) - 1  # a tensor that no operator has written yet
        struct.pack_into("<i", data, next(main.tables(3)).vector(1, 4)[0], last)

    (tmp_path / "patched.tflite").write_bytes(patched(change))
    assert_one_line_error(run("arena", "patched.tflite"), "patched.tflite", program="kws-firmware")


def test_arena_of_the_users(run, tmp_path):
    needs = json.loads(run("arena", "micro12", "--json").stdout)["kernels"]
    for kernels, least in (("reference", needs["reference"]), (None, needs["esp-nn"])):
        chosen = ("--kernels", kernels) if kernels else ()
        failed = run("export", "micro12", "-o", "out", "--arena", least - 1, *chosen)
        error = failed.stderr.decode()
        assert failed.returncode == 1
        assert f"{least - 1:,} bytes is too small; TFLite Micro takes {least:,}" in error
        assert ("--kernels names those of your board" in error) == (kernels is None)
        assert run("export", "micro12", "-o", "out", "--arena", least, *chosen).returncode == 0
        assert f"KWS_ARENA_SIZE {least}" in (tmp_path / "out" / "src" / "kws_config.h").read_text()


def test_front_end_that_the_firmware_cannot_do(run, tmp_path):
    settings = preset("logmel40").to_dict() | {"n_fft": 500}
    (tmp_path / "frontend.json").write_text(json.dumps(settings))
    failed = run("export", "micro12", "-o", "out", "--frontend", "frontend.json")
    assert_one_line_error(failed, "n_fft=500", "512", program="kws-firmware")


@pytest.fixture
def tiny_network():
    """A function that makes an untrained network of two convolutions, quantised on noise by TensorFlow's converter."""
    keras = pytest.importorskip("keras", exc_type=ImportError, reason="Keras is not installed here")
    tensorflow = pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")

    def make(config, labels, *, hidden="relu", output="softmax", last=()):
        keras.utils.set_random_seed(1)
        layers = keras.layers
        shape = (*config.feature_shape, 1)
        network = keras.Sequential(
            [
                keras.Input(shape),
                layers.Conv2D(16, 5, strides=4, activation=hidden),
                layers.Conv2D(16, 3, strides=2, activation=hidden),
                *last,
                layers.GlobalAveragePooling2D(),
                # Weights large enough for posteriors that differ from word to word.
                layers.Dense(len(labels), kernel_initializer=keras.initializers.RandomNormal(0, 1), activation=output),
            ]
        )
        rng = np.random.default_rng(0)
        low, high = (config.level_min, config.level_max) if config.level_min is not None else (-14, 4)
        converter = tensorflow.lite.TFLiteConverter.from_keras_model(network)
        converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            [rng.uniform(low, high, (1, *shape)).astype(np.float32)] for _ in range(30)
        )
        converter.target_spec.supported_ops = [tensorflow.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tensorflow.int8
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Statistics for quantized inputs", UserWarning)
            return pack(converter.convert(), Metadata(labels=labels, frontend_config=config))

    return make


def self_test(out, folder, *, fixed):
    """Compile and run the self-test of front end and detector of an export."""
    program = folder / "main.c"
    program.write_text(
        '#include <stdio.h>\n#include "kws_self_test.h"\n'
        "static void print(void *context, const char *line) {\n    (void)context;\n    puts(line);\n}\n"
        "int main(void) {\n    static kws_frontend_state frontend;\n    static kws_detector_state detector;\n"
        "    static int8_t input[KWS_INPUT_SIZE];\n    const kws_port port = {.print = print};\n"
        "    kws_self_test_findings findings = {&port, 0, 0};\n"
        "    (void)kws_self_test_frontend(&findings, &frontend, input);\n"
        "    (void)kws_self_test_detector(&findings, &detector);\n    return (int)findings.failures;\n}\n"
    )
    src, parts = out / "src", (*FRONTEND, "detector", "detector_config", "vectors", "self_test")
    sources = [src / f"kws_{part}.c" for part in parts]
    compile_c("gcc", f"-DKWS_FIXED_POINT={fixed}", f"-I{src}", *sources, program, "-o", folder / "self_test", "-lm")
    return subprocess.run([folder / "self_test"], capture_output=True, text=True, check=False)


WORDS = tuple(f"word{i}" for i in range(12))


def test_operator_that_tflite_micro_lacks(run, tmp_path, tiny_network):
    import keras

    class Tiled(keras.layers.Layer):
        def call(self, x):
            return keras.ops.tile(x, (1, 1, 2, 1))

    (tmp_path / "tiled.tflite").write_bytes(tiny_network(preset("logmel40"), WORDS, last=[Tiled()]))
    failed = run("export", "tiled.tflite", "-o", "out")
    assert_one_line_error(failed, "tiled.tflite", "no kernel", program="kws-firmware")


def test_output_that_is_no_softmax(run, tmp_path, tiny_network):
    (tmp_path / "logits.tflite").write_bytes(tiny_network(preset("logmel40"), WORDS, output=None))
    failed = run("export", "logits.tflite", "-o", "out")
    assert_one_line_error(failed, "logits.tflite", "posteriors from 0 to 1", "softmax", program="kws-firmware")


def array(text, name):
    """A generated array of C, as a NumPy array."""
    (body,) = re.findall(rf"{name}\[.*?= \{{(.*?)\}};", text, re.DOTALL)
    rows = re.findall(r"\{([^{}]*)\}", body) or [body]
    return np.array([[int(value) for value in row.split(",") if value.strip()] for row in rows])


def test_golden_vectors_are_tflite_micros(run, tmp_path, tiny_network):
    """Convolutions that round negative values differ by some steps from LiteRT's, but the answers are equal."""
    path = tmp_path / "tanh.tflite"
    path.write_bytes(tiny_network(preset("logmel40"), WORDS, hidden="tanh"))
    done = run("export", path, "-o", "out")
    assert done.returncode == 0, done.stderr
    parity = json.loads((tmp_path / "out" / MANIFEST).read_text())["parity"]
    assert 0 < parity["identical"] < parity["inferences"] and 0 < parity["most_steps"] <= NEAR_TIE
    said = f"differ by at most {parity['most_steps']} step"
    assert said in done.stdout.decode() and said in (tmp_path / "out" / "README.md").read_text()
    assert said in run("report", path).stdout.decode()
    vectors = (tmp_path / "out" / "src" / "kws_vectors.c").read_text()
    host, model = Model(path, kernels="builtin"), Model(path, kernels="builtin")
    model.interpreter = micro = MicroInterpreter(model.flat, "tanh")
    features = array(vectors, "kws_vector_features").astype(np.int8)
    golden = [micro.invoke(row.reshape(model.input.shape)).ravel() for row in features]
    assert np.array_equal(array(vectors, "kws_vector_posteriors"), golden)
    samples, _ = soundfile.read(default_recording(), dtype="int16")
    theirs, ours = ([step.posteriors for step in Spotter(m).process_steps(samples)] for m in (model, host))
    stream = array(vectors, "kws_vector_stream")
    assert np.array_equal(stream, np.rint(256 * np.array(theirs)) - 128)
    assert (stream == np.rint(256 * np.array(ours)) - 128).all(axis=1).sum() == parity["identical"]
    failed = run("export", path, "-o", "exact", "--exact")
    assert_one_line_error(failed, f"up to {parity['most_steps']} step", "--exact", "ReLU", program="kws-firmware")
    assert not (tmp_path / "exact").exists()
    done = run("export", "micro12", "-o", "exact", "--exact")
    assert b"the same bits at all" in done.stdout


def test_answers_that_the_board_would_not_give(run, tmp_path, tiny_network):
    """TFLite Micro's RELU6 uses the scale of its output for its input."""
    import keras

    clipped = [keras.layers.Rescaling(50), keras.layers.ZeroPadding2D(1), keras.layers.ReLU(6)]
    (tmp_path / "relu6.tflite").write_bytes(tiny_network(preset("logmel40"), WORDS, last=clipped))
    failed = run("export", "relu6.tflite", "-o", "out")
    assert_one_line_error(failed, "TFLite Micro gives other answers", "instead of", program="kws-firmware")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("host", "board", "differs"),
    [
        ([[0.6, 0.4]] * 4, [[0.55, 0.45]] * 4, False),
        ([[0.52, 0.48]] * 4, [[0.49, 0.51]] * 4, False),  # a near tie
        ([[0.6, 0.4]] * 4, [[0.4, 0.6]] * 4, True),
        ([[0.05, 0.95]] * 4, [[0.2, 0.8]] * 4, True),  # the same winner, but below the threshold of 0.85
        ([[0.14, 0.86]] * 4, [[0.16, 0.84]] * 4, False),  # hardly above it
    ],
)
def test_near_ties(host, board, differs):
    """Made-up posteriors show which differences count as another answer."""
    rows = [np.rint(np.array(each) * 256 - 128).astype(np.int8) for each in (host, board)]
    labels = ("unknown", "lamp")
    detector = Detector(labels, DetectorConfig(threshold=0.85, smoothing_ms=200, refractory_ms=0), step_s=0.1, clip_s=1)

    class Model:
        """A model that looks its posteriors up."""

        input = SimpleNamespace(shape=(1,))
        interpreter = SimpleNamespace(invoke=lambda features: rows[0][features[0]], reset=lambda: None)
        labels = ("unknown", "lamp")

        @staticmethod
        def dequantize(q):
            return ((q.astype(int) + 128) / 256).astype(np.float32)

    vectors = SimpleNamespace(
        stream_features=np.arange(4)[:, None], stream=rows[1], times=[0.1, 0.2, 0.3, 0.4], detections=[]
    )
    detector.reset()
    for i, row in enumerate(rows[1]):
        if found := detector.process(Model.dequantize(row), vectors.times[i]):
            vectors.detections.append((i, found))
    parity = Parity.of(vectors, Model, detector)
    assert bool(parity.differences) == differs
    if differs:
        with pytest.raises(ModelError, match="other answers"):
            parity.check("made up", exact=False)
    else:
        parity.check("made up", exact=False)


def test_one_output(run, tmp_path, tiny_network):
    """A model of a wake word alone has a logistic output."""
    need_program("gcc")
    path = tmp_path / "wake.tflite"
    path.write_bytes(tiny_network(preset("logmel40"), ("marvin",), output="sigmoid"))
    done = run("export", path, "-o", "out", "--threshold", "0.1")
    assert done.returncode == 0, done.stderr
    assert self_test(tmp_path / "out", tmp_path, fixed=0).returncode == 0


def test_reference_preset(run, tmp_path, tiny_network):
    """The other front end is exported completely. Its self-test passes on this machine in both forms."""
    need_program("gcc")
    (tmp_path / "tiny.tflite").write_bytes(tiny_network(preset("reference"), WORDS))
    done = run("export", "tiny.tflite", "-o", "out", "--threshold", "0.05")
    assert done.returncode == 0, done.stderr
    for fixed in (0, 1):
        done = self_test(tmp_path / "out", tmp_path, fixed=fixed)
        assert done.returncode == 0, done.stdout


def test_report(run):
    done = run("report", "micro12", "--json")
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert values["macs"] == 1_720_992
    assert values["frontend_hash"] == Model("micro12").frontend_config.hash
    assert values["ram"]["front_end"] + values["ram"]["detector"] <= 12 * 1024
    text = run("report", "micro12").stdout.decode()
    for part in (
        "1,720,992",
        f"{values['arena']['size']:,} bytes",
        f"{values['flash']['model']:,}",
        "DEPTHWISE_CONV_2D",
    ):
        assert part in text
    if values["code"]:
        assert all(1000 < size < 20_000 for size in values["code"].values())
    else:
        assert "arm-none-eabi-gcc is not installed" in text
    if values["ethos_u"]:
        assert 0.01 < values["ethos_u"]["inference_ms"] < 10
    else:
        assert "pip install ethos-u-vela" in text


def test_report_without_what_its_tools_add(run, tmp_path, monkeypatch):
    """If the cross compiler lacks its C library, or an NPU's compiler fails, the rest is printed with the reason."""
    for name, said in [
        ("arm-none-eabi-gcc", "x.c:3:10: fatal error: string.h: No such file\ncompilation terminated."),
        ("vela", "Error: this model is too odd"),
    ]:
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    done = run("report", "micro12")
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert "code        not measured: arm-none-eabi-gcc failed with status 1: x.c:3:10: fatal error: string.h" in text
    assert re.search("Ethos-U     not estimated: .*vela failed with status 1: Error: this model is too odd", text)
    values = json.loads(run("report", "micro12", "--json").stdout)
    assert values["code"] is values["ethos_u"] is None
    assert "string.h" in values["unmeasured"]["code"]


def test_pages_say_what_the_tools_say():
    """The pages give the sizes of the shipped models and their firmware, and the accuracies of the cards."""
    text = (ROOT / "docs" / "models" / "index.md").read_text()
    rows = {row.split("`")[1]: row for row in re.findall(r"^\| `.* M \| .* bytes \|$", text, re.MULTILINE)}
    for name in OF_CLIPS:
        model = Model(name)
        arena = MicroInterpreter(model.flat, name).arena().total
        cells = rows[name].split(" | ")
        assert cells[2:] == [f"{model.size:,} bytes", f"{model.flat.macs / 1e6:.1f} M", f"{arena:,} bytes |"]
        card = Path(model.path).with_suffix(".md").read_text()
        measured = re.findall(r"\| ([\d.]+)% \| ([\d.]+)% to ([\d.]+)% \|", card)
        assert sorted(re.findall(r"([\d.]+) % \(([\d.]+) to ([\d.]+)\)", cells[1])) == sorted(measured)
        (parameters,) = re.findall(r"[\d,]+ parameters", model.metadata.description)
        assert parameters.split()[0] in text
    summary = prepare(Model("micro12", kernels="builtin")).summary
    ram = summary["ram"]
    guide = " ".join((ROOT / "docs" / "firmware" / "microcontrollers.md").read_text().split())
    assert f"{ram['front_end'] + ram['detector']:,} bytes of RAM" in guide
    costs = (ROOT / "docs" / "models" / "benchmarks.md").read_text()
    for row in (
        f"RAM: front end with its window of features | {ram['front_end']:,} |",
        f"exported as {summary['arena']['size']:,} | {summary['arena']['by_kernels']['esp-nn']:,} |",
        f"flash: tables | {summary['flash']['tables']:,} |",
    ):
        assert row in costs


def test_the_exported_firmware_holds_licence_and_notice(run, tmp_path):
    """They are those of the code, of the model, and of the recordings that made a shipped model."""
    assert run("export", "micro12", "-o", "out").returncode == 0
    out = tmp_path / "out"
    assert (out / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    notice = (out / "NOTICE").read_text()
    assert Model("micro12").metadata.licence in notice
    assert notice.endswith((ROOT / "NOTICE").read_text())


@pytest.mark.parametrize(
    ("licence", "shown"),
    [
        ("Apache-2.0", "Apache-2.0"),
        ("Apache-2.0-like, ask", "Apache-2.0 AND LicenseRef-model"),
        ("My own voice. All rights reserved.", "Apache-2.0 AND LicenseRef-model"),
        ("", "Apache-2.0 AND LicenseRef-model"),
    ],
)
def test_the_exported_licence_is_the_models_own(tmp_path, licence, shown):
    """A model of private recordings gets no other licence, and names no recordings that did not make it."""
    model = Model("micro12")
    mine = pack(model.flat.data, dataclasses.replace(model.metadata, licence=licence))
    (tmp_path / "mine.tflite").write_bytes(mine)
    patterns = {
        "idf": ("idf_component.yml", r"^license: (.*)$"),
        "arduino": ("library.properties", r"^license=(.*)$"),
        "platformio": ("library.json", r'"license": "(.*)",$'),
    }
    firmware = measured(Model(tmp_path / "mine.tflite", kernels="builtin"))
    for target, (file, pattern) in patterns.items():
        files = exported(firmware, TARGETS[target]).files
        assert (licence or "names no licence") in files["NOTICE"]
        assert "LibriSpeech" not in files["NOTICE"]
        assert re.findall(pattern, files[file], re.MULTILINE) == [shown]


def test_cmake_target(run, tmp_path):
    """The folder serves as a sub-folder of a CMake project. Without TFLite Micro it gives front end and detector."""
    need_program("cmake")
    need_program("gcc")
    assert run("export", "micro12", "-o", "out").returncode == 0
    (tmp_path / "main.c").write_text(
        '#include "kws_detector.h"\n#include "kws_frontend.h"\n'
        "static kws_frontend_state frontend;\nstatic kws_detector_state detector;\n"
        "int main(void) {\n    kws_frontend_reset(&frontend);\n    kws_detector_reset(&detector);\n    return 0;\n}\n"
    )
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(mine C CXX)\nadd_subdirectory(out)\n"
        "add_executable(mine main.c)\ntarget_link_libraries(mine PRIVATE kws_frontend)\n"
    )
    for command in (["cmake", "-S", ".", "-B", "build"], ["cmake", "--build", "build", "--target", "mine"]):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert subprocess.run([tmp_path / "build" / "mine"], check=False).returncode == 0
