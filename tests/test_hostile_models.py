"""Model files that would end, delay or bloat the process, or make it deaf."""

import json
import os
import re
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from kws_edge import Model, ModelError, pack, preset, shipped_models, unpack
from kws_edge.errors import RuntimeUnavailableError
from kws_edge.model.interpreter import Interpreter
from kws_edge.model.runtime import RUNTIMES, installed
from kws_edge.model.tflite import FlatModel, verify
from tests.conftest import assert_one_line_error, peak_mb
from tests.fuzz.mutants import campaign, subjects_of

MODELS = Path(__file__).parent / "models"
SMALL = ("operators_int8", "operators_float", "operators_hybrid", "one", "stateful")


@pytest.fixture(scope="module")
def schema():
    pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")
    from tensorflow.lite.python import schema_py_generated

    return schema_py_generated


@pytest.fixture
def changed(schema):
    """A function that rebuilds a model with a change through TensorFlow's schema."""
    import flatbuffers

    def build(change, name="commands12") -> bytes:
        path = shipped_models().get(name) or MODELS / f"{name}.tflite"
        flatbuffer = unpack(Path(path).read_bytes(), name)[0]
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))
        change(model)
        builder = flatbuffers.Builder(len(flatbuffer) + 1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    return build


def refusal(data: bytes) -> str:
    """The message that refuses a flatbuffer, in this process."""
    with pytest.raises(ModelError) as caught:
        Interpreter(FlatModel(data, "m.tflite"))
    text = str(caught.value)
    assert text.startswith("m.tflite: ")
    assert "\n" not in text
    return text


def main(model):
    return model.subgraphs[0]


def op(model, name):
    number = {"CONV_2D": 3, "FULLY_CONNECTED": 9, "MEAN": 40, "RESHAPE": 22, "SOFTMAX": 25}[name]
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    return next(o for o in main(model).operators if codes[o.opcodeIndex] == number)


def tensor(model, name, i):
    return main(model).tensors[op(model, name).inputs[i]]


def of_operator(name, field, value):
    return lambda m: setattr(op(m, name), field, value(list(op(m, name).inputs)))


def option(name, field, value):
    return lambda m: setattr(op(m, name).builtinOptions, field, value)


def of_input(name, i, field, value):
    return lambda m: setattr(tensor(m, name, i), field, value)


def shorter(name, i, size):
    def change(model):
        buffer = model.buffers[tensor(model, name, i).buffer]
        buffer.data = buffer.data[:size]

    return change


def custom(model):
    code = model.operatorCodes[0]
    code.builtinCode = code.deprecatedBuiltinCode = 32
    code.customCode = "TFLite_Detection_PostProcess"


def other_padding(model):
    options = op(model, "CONV_2D").builtinOptions
    options.padding = 1 - options.padding


def moved_into_bytes(model):
    """The output of a RESHAPE has another type than its input, so the kernel writes past the end of its buffer."""
    main(model).tensors[op(model, "RESHAPE").outputs[0]].type = 7


def huge_input(model):
    main(model).tensors[main(model).inputs[0]].shape = [1, 2**31 - 1, 2**31 - 1, 1]


def another_axis(model):
    model.buffers[tensor(model, "MEAN", 1).buffer].data = np.array([7, 9], "<i4").view(np.uint8)


CHANGES = {
    "tensor index -1": (lambda m: setattr(main(m), "inputs", [-1]), "a tensor of number -1"),
    "tensor index -5": (lambda m: setattr(op(m, "CONV_2D"), "inputs", [-5, 0, 1]), "a tensor of number -5"),
    "tensor index 10^6": (lambda m: setattr(op(m, "CONV_2D"), "inputs", [10**6, 0, 1]), "number 1000000"),
    "custom op without options": (custom, "signal|TFLite_Detection_PostProcess|lacks"),
    "dilation 2^31-1": (option("CONV_2D", "dilationHFactor", 2**31 - 1), "dilation of 2147483647"),
    "dilation 0": (option("CONV_2D", "dilationWFactor", 0), "dilation of 0"),
    "stride 0": (option("CONV_2D", "strideW", 0), "stride of 0"),
    "stride -1": (option("CONV_2D", "strideH", -1), "stride of -1"),
    "another padding": (option("CONV_2D", "padding", 9), "padding of kind 9"),
    "the other padding": (other_padding, "but its output is"),
    "no options": (lambda m: setattr(op(m, "CONV_2D"), "builtinOptions", None), "lacks its options"),
    "options of another": (lambda m: setattr(op(m, "CONV_2D"), "builtinOptionsType", 9), "options of another"),
    "read before written": (lambda m: main(m).operators.reverse(), "which nothing has computed before"),
    "weights without buffer": (of_input("CONV_2D", 1, "buffer", 0), "which nothing has computed before"),
    "weights too short": (shorter("CONV_2D", 1, 16), "takes .* bytes, but has 16"),
    "bias too short": (shorter("CONV_2D", 2, 4), "takes .* bytes, but has 4"),
    "a shape too large": (of_input("CONV_2D", 1, "shape", [4, 10, 4, 2**31 - 1]), "bytes, but has|MB"),
    "a dimension of 0": (of_input("CONV_2D", 0, "shape", [1, 98, 0, 1]), "is of shape"),
    "a negative dimension": (of_input("CONV_2D", 0, "shape", [1, -98, 40, 1]), "of shape"),
    "huge input": (huge_input, "MB"),
    "FC input -1": (of_operator("FULLY_CONNECTED", "inputs", lambda i: [-1, *i[1:]]), "lacks its input 0"),
    "FC weights -1": (of_operator("FULLY_CONNECTED", "inputs", lambda i: [i[0], -1, -1]), "lacks its input 1"),
    "FC without weights": (of_operator("FULLY_CONNECTED", "inputs", lambda i: i[:1]), "has 1 inputs"),
    "activation 77": (option("CONV_2D", "fusedActivationFunction", 77), "number 77"),
    "a softmax that tells nothing apart": (option("SOFTMAX", "beta", 0.0), "beta of 0"),
    "another type behind RESHAPE": (moved_into_bytes, r"\(RESHAPE\) goes from int8 to int16"),
    "sparse": (lambda m: setattr(tensor(m, "CONV_2D", 1), "sparsity", _sparsity(m)), "sparse"),
    "no operators": (lambda m: setattr(main(m), "operators", []), "computed by no operator"),
    "no output": (lambda m: setattr(main(m), "outputs", []), "no input or no output"),
    "output twice": (lambda m: setattr(main(m), "outputs", list(main(m).outputs) * 2), "another output"),
    "axis out of range": (another_axis, "axis"),
}  # fmt: skip


def _sparsity(model):
    from tensorflow.lite.python import schema_py_generated

    return schema_py_generated.SparsityParametersT()


@pytest.mark.parametrize("name", CHANGES)
def test_one_changed_field_is_refused(changed, name):
    """With this one number changed, the runtimes end the process, hang, or compute something else."""
    change, words = CHANGES[name]
    text = refusal(changed(change))
    assert re.search(words, text), text


def test_options_that_lead_out_of_the_file(changed):
    """The shape in the options of RESHAPE is checked even if an input gives the shape, too."""

    def change(model):
        reshape = next(o for o in main(model).operators if o.builtinOptionsType in (0, 17) and len(o.inputs) == 2)
        reshape.builtinOptionsType = 17
        reshape.builtinOptions = schema_of(model).ReshapeOptionsT()
        reshape.builtinOptions.newShape = [987_654_321]

    data = bytearray(changed(change))
    at = data.index(struct.pack("<Ii", 1, 987_654_321))
    place = next(i for i in range(at - 4, 0, -4) if i + struct.unpack_from("<I", data, i)[0] == at)
    struct.pack_into("<I", data, place, 0x5D0004)
    assert "a number at" in refusal(bytes(data))


def schema_of(model):
    return sys.modules[type(model).__module__]


@pytest.mark.parametrize("end", ["inputs", "outputs"])
@pytest.mark.parametrize("scale", [float("nan"), float("inf"), float("-inf"), 0.0, -1.0, 1e-45, 1e-39])
def test_scales_that_are_none(changed, tmp_path, end, scale):
    def change(model):
        main(model).tensors[getattr(main(model), end)[0]].quantization.scale = [scale]

    data = changed(change)
    assert "scale of" in refusal(data)
    metadata = unpack(Path(shipped_models()["commands12"]).read_bytes(), "")[1]
    (tmp_path / "scale.tflite").write_bytes(pack(data, metadata))
    with pytest.raises(ModelError, match="scale"):
        Model(tmp_path / "scale.tflite")


@pytest.mark.parametrize(
    ("end", "scale"), [("inputs", 1e-30), ("inputs", 1e30), ("outputs", 1e-30), ("outputs", 1e30), ("outputs", 0.2)]
)
def test_scales_that_make_it_deaf(changed, tmp_path, end, scale):
    """Scales such as those of logits are possible, but no sound or every sound would reach a threshold."""

    def change(model):
        main(model).tensors[getattr(main(model), end)[0]].quantization.scale = [scale]

    metadata = unpack(Path(shipped_models()["commands12"]).read_bytes(), "")[1]
    (tmp_path / "deaf.tflite").write_bytes(pack(changed(change), metadata))
    with pytest.raises(ModelError, match=r"deaf\.tflite: "):
        Model(tmp_path / "deaf.tflite")


@pytest.mark.parametrize("zero", [-129, 128, 2**40, -(2**63)])
def test_zero_points_outside_the_type(changed, zero):
    def change(model):
        main(model).tensors[main(model).inputs[0]].quantization.zeroPoint = [zero]

    assert f"zero point of {zero}" in refusal(changed(change))


def test_scales_and_channels_do_not_fit(changed):
    def change(model):
        quantization = tensor(model, "CONV_2D", 1).quantization
        quantization.scale, quantization.zeroPoint = quantization.scale[:3], quantization.zeroPoint[:3]

    assert "3 scales" in refusal(changed(change))


def test_variables_are_assigned_before_they_are_read(changed):
    def without_start(model):
        del main(model).operators[0]

    def other_shape(model):
        other = model.subgraphs[1]
        other.tensors[1].shape = [1, 40, 6]

    assert "nothing was assigned" in refusal(changed(without_start, "stateful"))
    assert "takes a variable of" in refusal(changed(other_shape, "stateful"))


def test_flat_files_on_the_command_line(changed, run_cli, tmp_path, demo_stream):
    """On hostile flatbuffers with the right checksum, each command soon ends with one line."""
    metadata = unpack(Path(shipped_models()["commands12"]).read_bytes(), "")[1]
    for name in ("custom op without options", "dilation 2^31-1", "huge input"):
        (tmp_path / "m.tflite").write_bytes(pack(changed(CHANGES[name][0]), metadata))
        for command in (["info"], ["classify", demo_stream, "--model"], ["bench", "--seconds", 0, "--model"]):
            assert_one_line_error(run_cli(*command, "m.tflite", timeout=30), "m.tflite")


def test_info_of_a_foreign_file_that_cannot_run(changed, run_cli, tmp_path):
    """The file is described nevertheless, in JSON that every reader takes."""

    def change(model):
        main(model).tensors[main(model).inputs[0]].quantization.scale = [float("nan")]

    (tmp_path / "m.tflite").write_bytes(changed(change, "one"))
    text = run_cli("info", "m.tflite", "--json").stdout.decode()
    values = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert "quantisation scale of nan" in values["runs"]


def aliased(names: int, text: int) -> bytes:
    """A flatbuffer that lists one tensor `names` times. The name of the tensor has `text` bytes."""
    vtables = struct.pack("<HHHHHHH", 14, 8, 0, 0, 4, 0, 0) + struct.pack("<HHHHHH", 12, 8, 0, 0, 0, 4)
    vtables += struct.pack("<HHH", 6, 8, 4)  # model; tensor; subgraph
    start = 8
    model = start + len(vtables)
    parts = bytearray(struct.pack("<I4s", model, b"TFL3") + vtables)
    tables = bytearray()
    graphs = model + 24
    tables += struct.pack("<iI", model - start, graphs - model - 4)  # Model: vtable, subgraphs
    tensor_at, graph_at = model + 8, model + 16
    vector = graphs + 8
    name = vector + 4 + 4 * names
    tables += struct.pack("<iI", tensor_at - (start + 14), name - tensor_at - 4)
    tables += struct.pack("<iI", graph_at - (start + 26), vector - graph_at - 4)
    tables += struct.pack("<II", 1, graph_at - graphs - 4 & 0xFFFFFFFF)
    tables += struct.pack("<I", names)
    tables += np.subtract(tensor_at, vector + 4 + 4 * np.arange(names), dtype=np.int64).astype("<u4").tobytes()
    return bytes(parts + tables + struct.pack("<I", text) + b"n" * text + b"\0\0\0\0")


def test_aliased_names_take_no_gigabytes(tmp_path):
    """A file of 640 kB that lists the same tensor with a long name many times takes little memory."""
    for names, text in ((1000, 600_000), (80_000, 320_000), (150_000, 20)):
        (tmp_path / "aliased.tflite").write_bytes(aliased(names, text))
        script = (
            "import sys, time\nfrom kws_edge import Model, ModelError\nstarted = time.process_time()\n"
            "try:\n    Model(sys.argv[1])\nexcept ModelError as error:\n    print(error)\n"
            "print(time.process_time() - started)\n"
        )
        command = [sys.executable, "-c", script, tmp_path / "aliased.tflite"]
        done = subprocess.run(command, capture_output=True, check=True)
        line, seconds = done.stdout.decode().splitlines()
        assert "truncated or damaged" in line
        assert float(seconds) < 1
        assert peak_mb(script, tmp_path / "aliased.tflite") < 100


def test_mutants_never_end_the_process():
    """Some hundreds of random changes run in the workers of both runtimes. The tool in tests/fuzz makes 100,000."""
    paths = [MODELS / f"{name}.tflite" for name in SMALL] + [Path(shipped_models()["micro12"])]
    outcomes, bad = campaign(subjects_of(paths), 400, seed=7)
    assert not bad
    assert outcomes["ran"] > 40
    assert outcomes["refused"] > 100


def test_models_as_they_should_be_are_verified():
    """None of these models needs a trial, and all of them run."""
    for path in [*map(Path, shipped_models().values()), *(MODELS / f"{name}.tflite" for name in SMALL)]:
        flat = FlatModel(unpack(path.read_bytes(), path.name)[0], path.name)
        assert verify(flat) == [], path
        if path.stem != "operators_hybrid":  # newer than tflite-runtime
            Interpreter(flat)


def test_an_unlisted_operator_is_tried_in_another_process(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(subprocess, "run", lambda *a, run=subprocess.run, **k: started.append(a) or run(*a, **k))
    about = {"labels": ["marvin"], "frontend_config": preset("logmel40"), "allow_float": True}
    model = Model(MODELS / "unlisted.tflite", **about)
    assert len(started) == 1
    assert 0 <= model.posteriors(np.zeros((98, 40), np.float32))[0] <= 1
    with pytest.raises(ModelError, match=r"loops\.tflite: cannot be run: three inferences take longer than 1 s; WHILE"):
        Model(MODELS / "loops.tflite", **about)
    Model("micro12")
    assert len(started) == 2


def test_no_unknown_operator_excuses_another_type(changed):
    """With bytes in place of floats, a trial may succeed. The next run may hang, by the bytes behind the tensor."""

    def change(model):
        tensors, operators = main(model).tensors, main(model).operators
        tensors[operators[9].outputs[0]].type = 9  # a RESHAPE that follows from computed sizes

    assert "operator 9 (RESHAPE) goes from float32 to int8" in refusal(changed(change, "sized"))


def test_a_runtime_that_is_not_there_is_no_fault_of_the_model():
    flat = FlatModel((MODELS / "unlisted.tflite").read_bytes(), "m")
    absent = next(name for name in RUNTIMES if name not in installed())
    with pytest.raises(RuntimeUnavailableError, match=f"^the runtime {absent} is not installed"):
        Interpreter(flat, runtime=absent)


def test_a_crash_in_the_trial_is_one_line(changed):
    def change(model):
        custom(model)
        model.operatorCodes[0].version = 1

    assert "ends the runtime by signal" in refusal(changed(change, "commands12"))


def test_verification_is_cheap():
    """Reading and verifying a shipped model takes a few milliseconds."""
    data = unpack(Path(shipped_models()["commands12"]).read_bytes(), "commands12")[0]
    spent = []
    for _ in range(10):
        started = time.perf_counter()
        verify(FlatModel(data, "commands12"))
        spent.append(time.perf_counter() - started)
    assert min(spent) < 0.01


def test_neither_pipe_nor_device(tmp_path):
    """A reader would wait for a pipe."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ModelError, match="is a pipe or a device"):
            Model(path)


def test_names_that_are_no_text(run_cli, tmp_path):
    """Control characters of names do not reach the terminal. Names that are no UTF-8 are refused."""
    data = (MODELS / "one.tflite").read_bytes()
    name = FlatModel(data, "one").inputs[0].name.encode()
    (tmp_path / "escape.tflite").write_bytes(data.replace(name, b"\x1b]0;t\x07" + name[6:]))
    done = run_cli("info", "escape.tflite", "--tensors")
    assert done.returncode == 0
    assert b"\x1b" not in done.stdout
    assert b"\\x1b" in done.stdout
    (tmp_path / "bytes.tflite").write_bytes(data.replace(name, b"\xff" * len(name)))
    assert_one_line_error(run_cli("info", "bytes.tflite"), "no UTF-8")
    assert json.loads(run_cli("info", "escape.tflite", "--json").stdout)["inputs"][0]["name"].startswith("\\x1b")
