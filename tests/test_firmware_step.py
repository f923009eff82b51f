"""The firmware of a network with state: its graph, its states in C, its detector, and what the exporter says."""

import dataclasses
import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from firmware_export.arena import MicroInterpreter
from firmware_export.export import prepare
from firmware_export.kernels import KERNELS, asked
from firmware_export.manifest import MANIFEST, write
from firmware_export.planner import head_bytes
from firmware_export.settings import DetectorSettings
from firmware_export.sources import CSRC, code
from firmware_export.speed import on_board
from firmware_export.states import at_hop, with_hop
from kws_edge import DetectorConfig, Model, Spotter, pack
from kws_edge.detection.detector import Detector
from kws_edge.model.quantization import POSTERIOR_STEPS, dequantize, posterior
from kws_edge.model.step_graph import StepInterpreter
from kws_edge.model.tflite.node import Node
from tests.conftest import assert_one_line_error, need_program
from tests.firmware.host import HERE, CApp, CDetector, compile_c, compile_cc, hear_with_losses, write_tflm
from tests.test_step_stream import GRAPH, METADATA

pytestmark = [pytest.mark.host, pytest.mark.firmware]

pytest.importorskip("tflite_micro", exc_type=ImportError, reason="tflite-micro is not installed here")

TFLM = os.environ.get("KWS_TFLM")
HOPS = (2, 4, 10, 20, 50)
FORMS = pytest.mark.parametrize("fixed", [False, True], ids=["float", "fixed"])


@pytest.fixture
def run(run_cli):
    return lambda *arguments, **options: run_cli(*arguments, package="firmware_export", **options)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("step") / "step.tflite"
    path.write_bytes(pack(GRAPH, METADATA))
    return path


@pytest.fixture(scope="module")
def model(file):
    return Model(file, kernels="builtin")


@pytest.fixture(scope="module")
def samples(demo_stream):
    return soundfile.read(demo_stream, dtype="int16")[0]


@pytest.fixture(scope="module")
def export(model, tmp_path_factory):
    """The export at the file's own hop of 100 ms."""
    folder = tmp_path_factory.mktemp("export")
    write(prepare(model), folder)
    return folder


def with_step(step_ms, **changes):
    return dataclasses.replace(METADATA.detector_config, step_ms=step_ms, **changes)


def app_of(src, model, *, fixed=False, hop_frames=10, name="app"):
    need_program("g++")
    micro = MicroInterpreter(at_hop(model, hop_frames).flat, "step")
    return CApp(src, src.parent / f"{name}_{fixed:d}.so", micro, fixed=fixed)


def answers_of(interpreter, stream, hop):
    interpreter.reset()
    hops = [stream[np.newaxis, at : at + hop, np.newaxis] for at in range(0, len(stream), hop)]
    return np.concatenate([interpreter.invoke(levels)[0, :, 0] for levels in hops])


def numbers(text, name):
    """The numbers of an array in generated code."""
    (body,) = re.findall(rf"{name}\[\w+\] = \{{(.*?)\}};", text, re.DOTALL)
    return [int(value) for value in re.findall(r"-?\d+", body)]


@pytest.mark.parametrize("hop", HOPS)
def test_tflite_micro_gives_litert_s_bytes_at_every_hop(model, hop):
    """The graph as it is written for a hop, in both, against the file's own graph."""
    stream = np.random.default_rng(5).integers(-98, 128, (1000, 40)).astype(np.int8)
    whole = answers_of(StepInterpreter(model.flat, kernels="builtin"), stream, 10)
    flat = with_hop(model.flat, hop)
    assert len(np.unique(whole)) > 50
    assert flat.inputs[0].shape == (1, hop, 1, 40)
    for interpreter in (MicroInterpreter(flat, "step"), StepInterpreter(flat, kernels="builtin")):
        assert np.array_equal(answers_of(interpreter, stream, hop), whole)
        assert np.array_equal(answers_of(interpreter, stream[:100], hop), whole[:50])  # after a reset


def test_a_graph_of_another_hop_is_the_same_network(model):
    flat = with_hop(model.flat, 20)
    assert (flat.macs, flat.operators) == (2 * model.flat.macs, model.flat.operators)
    assert [(t.scales, t.zero_points, t.dtype) for t in flat.tensors] == [
        (t.scales, t.zero_points, t.dtype) for t in model.flat.tensors
    ]
    assert [t.shape for t in flat.inputs[1:]] == [t.shape for t in model.flat.inputs[1:]]
    assert len(flat.data) - len(model.flat.data) < 300
    assert with_hop(model.flat, 10) is model.flat
    back = with_hop(flat, 10)
    assert [t.shape for t in back.tensors] == [t.shape for t in model.flat.tensors]


@pytest.mark.parametrize(("step_ms", "fixed"), [(20, False), (100, True), (240, False)])
def test_application_gives_the_hosts_detections(model, samples, step_ms, fixed, tmp_path):
    """C turns PCM into detections; TFLite Micro's own interpreter computes, and keeps nothing between inferences.

    For the features that C computed, the host detects the same to the last bit. These features are the host's but for
    some steps.
    """
    detector_config, hop = with_step(step_ms), step_ms // 10
    write(prepare(model, detector_config=detector_config), tmp_path / "out")
    app = app_of(tmp_path / "out" / "src", model, fixed=fixed, hop_frames=hop)
    for start in range(0, len(samples), 333):
        assert app.process(samples[start : start + 333]) == 0
    spotter, interpreter = Spotter(model, detector_config=detector_config), model.stepping(hop)
    steps = list(spotter.process_steps(samples))
    host = [(step.detection.keyword, round(step.detection.end_s * 16000)) for step in steps if step.detection]
    assert len(app.inputs) == len(steps) // (hop // 2)
    spotter.reset()
    expected = []
    for number, levels in enumerate(app.inputs, 1):
        end = 480 + (hop * number - 1) * 160
        for posteriors in model.dequantize(interpreter.invoke(levels)):
            if found := spotter.detector.process(posteriors, end / 16000):
                expected.append((found.keyword, found.score, round(found.start_s * 16000), end, found.wake))
    assert app.heard == expected
    assert [(keyword, end) for keyword, _, _, end, _ in app.heard] == host
    assert len(host) >= 3


@FORMS
def test_self_test_passes(export, model, fixed):
    status, lines = app_of(export / "src", model, fixed=fixed, name="whole").self_test()
    assert (status, lines[-1]) == (0, "self-test passed"), lines
    assert "model: 20 of 20 inferences of golden features equal" in "\n".join(lines)
    assert "detector: 3 detections in 1545 inferences, as on the host" in lines


BREAKS = {
    "states are not given back": ("(state, tensor->data.int8, tensor->bytes)", "(state, tensor->data.int8, 0)"),
    "states are not taken": ("(tensor->data.int8, state, tensor->bytes)", "(tensor->data.int8, state, 0)"),
    "a reset forgets the states": ("    clear_states(*model, *interpreter);\n", ""),
    "states begin as nought": ("tensor->params.zero_point, tensor->bytes", "0, tensor->bytes"),
    "states are shifted": (
        "(state, tensor->data.int8, tensor->bytes)",
        "(state, tensor->data.int8 + 1, tensor->bytes - 1)",
    ),
    "scores are posteriors": ("kws_posteriors[posteriors[label] + 128]", "(uint32_t)(posteriors[label] + 128)"),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_self_test_notices(export, model, broken, tmp_path):
    """Every part of the glue of states counts: without it, the self-test fails."""
    need_program("g++")
    text, other = BREAKS[broken]
    (tmp_path / "src").mkdir()
    found = 0
    for path in (export / "src").iterdir():
        found += path.read_text().count(text)
        (tmp_path / "src" / path.name).write_text(path.read_text().replace(text, other))
    assert found == 1
    status, lines = app_of(tmp_path / "src", model).self_test()
    assert status != 0
    assert "FAILED" in lines[-1]


def test_table_of_posteriors_is_the_hosts(export, model):
    text = (export / "src" / "kws_detector_config.c").read_text()
    table = np.array(numbers(text, "kws_posteriors"))
    codes = np.arange(-128, 128).astype(np.int8)
    expected = [model.dequantize(np.full(3, q, np.int8))[0, 0] for q in codes]
    assert np.array_equal(table / np.float32(POSTERIOR_STEPS), expected)
    assert (table[0], np.all(np.diff(table) >= 0)) == (round(32768 / (1 + np.exp(6.5))), True)


DETECTORS = {
    "defaults": DetectorConfig(),
    "at once": DetectorConfig(smoothing_ms=0, refractory_ms=0, threshold=0.5, hysteresis=0.9),
    "a threshold each": DetectorConfig(threshold=0.8, thresholds={"yes": 0.4, "no": 0.95}, hysteresis=0.0),
    "armed": DetectorConfig(wake_word="yes", armed_s=3, threshold=0.4, smoothing_ms=100, refractory_ms=200),
    "two": DetectorConfig(keywords=("no", "up"), smoothing_ms=60, threshold=0.3, refractory_ms=40),
    "quick": DetectorConfig(smoothing_ms=60, threshold=0.3, refractory_ms=40),
}
LABELS = ("silence", "unknown", "yes", "no", "up", "down")


@pytest.mark.parametrize("name", DETECTORS)
def test_detector_in_c_is_the_hosts(name, export, tmp_path):
    """Scores that wander: keyword, score to the last bit, start, end and wake word of all detections.

    Unknown words and silence do not compete with keywords, and words that are not active do so each for itself.
    """
    need_program("gcc")
    rng = np.random.default_rng(21)
    detector = Detector(LABELS, DETECTORS[name], step_s=0.02, clip_s=1, independent=True)
    scores = np.convolve(rng.normal(0, 1, 6 * 9000), np.ones(25), "same").reshape(6, 9000).T
    q = np.clip(np.rint(20 * scores - 20), -128, 127).astype(np.int8)
    values = posterior(dequantize(np.arange(-128, 128).astype(np.int8), 0.07, -128), 8.5)
    expected, ends = [], 480 + 320 * np.arange(len(q))
    for row, end in zip(q, ends, strict=True):
        if found := detector.process(values[row.astype(int) + 128], end / 16000):
            times = round(found.start_s * 16000), round(found.end_s * 16000)
            expected.append((found.keyword, found.score, *times, found.wake))
    settings = DetectorSettings(detector, step_frames=10, values=values)
    src = tmp_path / "src"
    src.mkdir()
    for file, text in code(states=True).items():
        (src / file).write_text(text)
    config = (export / "src" / "kws_config.h").read_text()
    for macro, value in settings.macros().items():
        config = re.sub(rf"#define {macro} .*", f"#define {macro} {value}", config)
    (src / "kws_config.h").write_text(config)
    (src / "kws_detector_config.c").write_text(settings.source())
    assert CDetector(src)(q, ends) == expected
    assert len(expected) > 20
    assert any(wake for *_, wake in expected) == (name == "armed")


def test_other_tensors_are_refused(export, model):
    """A state whose successor has another size, and one too few: kws_model_init returns KWS_ERR_TENSOR."""
    app = app_of(export / "src", model, name="other")
    sizes = [state.size for state in model.flat.inputs]
    assert app.init() == 0
    for output, sizes_now in ((True, [*sizes[:-1], sizes[-1] - 8]), (True, sizes), (False, sizes[:-1]), (False, sizes)):
        for i, size in enumerate(sizes_now):
            app.tensor(output, i, size if i or not output else 15, model.flat.inputs[i].zero_point)
        app.count(len(sizes) if output else len(sizes_now), len(sizes))
        assert app.init() == (0 if sizes_now == sizes else -30004)


def test_lost_samples_and_resets_begin_anew(export, model, samples):
    """After kws_app_lost and kws_app_reset nothing of earlier audio is left in any state."""
    app, spotter = app_of(export / "src", model, name="lost"), Spotter(model)
    expected = hear_with_losses(app, spotter, samples)
    assert [(keyword, start, end) for keyword, _, start, end, _ in app.heard] == expected
    assert len(expected) >= 2
    first = len(app.heard)
    for _ in range(2):
        assert app.reset() == 0
        assert app.process(samples) == 0
    again = app.heard[first:]
    assert len(again) >= 6
    assert again[: len(again) // 2] == again[len(again) // 2 :]


def test_memory_plan_is_the_interpreters(model):
    """It counts states as inputs and outputs, to the byte."""
    for hop in HOPS:
        flat = with_hop(model.flat, hop)
        graph = flat.graphs[0]
        scratch = {i: asked(Node(flat, graph, op), "reference")[0] for i, op in enumerate(graph.operators)}
        arena = MicroInterpreter(flat, "step").arena()
        assert head_bytes(graph, scratch)[0] == arena.tensors
        assert list(arena.kernels) == list(KERNELS)
        assert arena.kernels["reference"] >= arena.total


def test_sources_have_one_form(export):
    """A folder has code of one form alone, and each form compiles without the other's names."""
    for states in (False, True):
        texts = "".join(code(states=states).values())
        assert "#if KWS_STATES" not in texts and "endif /* KWS_STATES" not in texts
        assert ("kws_posteriors" in texts) == states
    for name, text in code(states=True).items():
        assert (export / "src" / name).read_text() == text
    text = "".join(path.read_text() for path in CSRC.iterdir())
    assert text.count("#if KWS_STATES\n") == text.count("#endif /* KWS_STATES */\n") > 10


@FORMS
@pytest.mark.parametrize("compiler", ["gcc", "clang", "arm-none-eabi-gcc"])
def test_compiles_without_a_warning(export, compiler, fixed, tmp_path):
    need_program(compiler)
    for path in sorted((export / "src").glob("*.c")):
        compile_c(compiler, "-O2", f"-DKWS_FIXED_POINT={fixed:d}", "-c", path, "-o", tmp_path / "x.o")


@pytest.mark.parametrize("fixed", [0, 1])
def test_errors_stick_and_arguments_are_refused(export, tmp_path, fixed):
    """``checks.c`` under sanitizers, as for a model that hears clips."""
    need_program("g++")
    src, sanitizers = export / "src", ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")
    options = (f"-DKWS_FIXED_POINT={fixed}", *sanitizers, f"-I{src}", f"-I{HERE}", f"-I{tmp_path}")
    write_tflm(tmp_path, "tflite")
    objects = []
    for path in [*src.glob("*.c*"), HERE / "checks.c", HERE / "tflm_fake.cc"]:
        objects.append(tmp_path / f"{path.name}.o")
        if path.suffix == ".c":
            compile_c("gcc", *options, "-c", path, "-o", objects[-1])
        else:
            compile_cc(*options, "-c", path, "-o", objects[-1])
    compile_cc(*sanitizers, *objects, "-lm", "-o", tmp_path / "checks")
    done = subprocess.run([tmp_path / "checks"], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, "all checks hold\n"), done.stdout + done.stderr


@FORMS
def test_sizes_are_those_of_the_compiler(export, model, fixed, tmp_path):
    need_program("gcc")
    summary = json.loads((export / MANIFEST).read_text())
    program = tmp_path / "sizes.c"
    program.write_text(
        '#include <stdio.h>\n#include "kws_detector.h"\n#include "kws_frontend.h"\n#include "kws_model.h"\n'
        'int main(void) { printf("%zu %zu %zu", sizeof(kws_frontend_state), sizeof(kws_detector_state),'
        " sizeof ((kws_model *)0)->states); return 0; }\n"
    )
    compile_c("gcc", f"-DKWS_FIXED_POINT={fixed:d}", f"-I{export / 'src'}", program, "-o", tmp_path / "sizes")
    sizes = [int(size) for size in subprocess.check_output([tmp_path / "sizes"]).split()]
    ram = summary["ram"]
    assert sizes == [ram["front_end_fixed" if fixed else "front_end"], ram["detector"], summary["state_bytes"]]
    assert summary["state_bytes"] == 504
    assert ram["front_end"] == 3416  # a hop of frames, not a whole clip


def test_reset_in_the_callback_drops_the_rest_of_the_hop(export, model, samples):
    """An inference answers five times. After a reset in the callback, the detector hears none of the others."""
    app = app_of(export / "src", model, name="reset")
    seen = []

    def on_keyword(detection):
        seen.append(detection.values()[3])
        assert app.reset() == 0

    app.on_keyword = on_keyword
    assert app.process(samples) == 0
    spotter, expected = Spotter(model), []
    for at in range(0, len(samples), 160):  # frames end with blocks
        if spotter.process(samples[at : at + 160]):
            expected.append(spotter.n_samples)
            spotter.reset()
    assert seen == expected
    assert len(seen) >= 2


@pytest.mark.parametrize("core", ["m3", "m4"])
def test_self_test_of_front_end_and_detector_in_qemu(export, core, tmp_path):
    """In fixed point on a Cortex-M3, in single precision on an M4."""
    for program in ("make", "arm-none-eabi-gcc", "qemu-system-arm"):
        need_program(program)
    command = ["make", "-s", "run", f"CORE={core}", f"BUILD={tmp_path}"]
    done = subprocess.run(command, cwd=export / "examples" / "cortex_m", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "self-test of front end and detector passed" in done.stdout
    assert "3 detections in 1545 inferences, as on the host" in done.stdout


@pytest.mark.timeout(2000)
@pytest.mark.skipif(not TFLM, reason="KWS_TFLM names no checkout of TensorFlow Lite Micro")
def test_application_in_qemu_gives_the_hosts_detections(model, tmp_path):
    """With TensorFlow Lite Micro's own sources and CMSIS-NN on a Cortex-M4F. The self-test runs before."""
    detector_config = with_step(100, threshold=0.2, refractory_ms=100)
    write(prepare(model, detector_config=detector_config), tmp_path)
    command = ["make", "-s", "-j2", "run", "CORE=m4", "KERNELS=cmsis-nn", f"TFLM={Path(TFLM).resolve()}"]
    folder = tmp_path / "examples" / "cortex_m"
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "self-test passed" in done.stdout
    audio = numbers((tmp_path / "src" / "kws_vectors.c").read_text(), "kws_vector_audio")
    expected = [
        f"heard {found.keyword} ({int(100 * np.float32(found.score))} %) at {round(1000 * found.end_s)} ms"
        for found in Spotter(model, detector_config=detector_config).process(np.array(audio, np.int16))
    ]
    assert re.findall("heard .* ms", done.stdout) == expected
    assert len(expected) >= 2


def test_command(run, file, tmp_path):
    done = run("export", file, "-o", "out", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["answers"], summary["states"], summary["state_bytes"], summary["step_ms"]) == (5, 4, 504, 100)
    assert summary["macs_a_second"] == 10 * summary["macs"] == 222_400
    assert summary["parity"]["identical"] == summary["parity"]["inferences"] == 1545
    assert summary["operators"] == ["ADD", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "STRIDED_SLICE"]
    readme = (tmp_path / "out" / "README.md").read_text()
    assert "A network with state" in readme
    assert "504" in readme
    assert not re.search(r"@[A-Z_]+@", readme)
    first = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert run("export", file, "-o", "out").returncode == 0
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == first
    other = json.loads(run("export", file, "-o", "other", "--step-ms", "240", "--exact", "--json").stdout)
    assert (other["answers"], other["states"], other["macs_a_second"]) == (12, 4, 222_400)
    assert "KWS_STEP_FRAMES 24\n" in (tmp_path / "other" / "src" / "kws_config.h").read_text()
    text = run("report", file).stdout.decode()
    assert "222,400 a second" in text
    assert "states 504" in text


@pytest.mark.parametrize("step_ms", ["30", "15"])
def test_hops_that_are_no_multiple_of_the_step(run, file, tmp_path, step_ms):
    failed = run("export", file, "-o", "out", "--step-ms", step_ms)
    assert failed.returncode == 2
    assert b"answers every 20 ms; give a multiple" in failed.stderr
    assert not (tmp_path / "out").exists()


def test_settings_that_the_detector_in_c_lacks(run, file):
    failed = run("export", file, "-o", "out", "--smoothing-ms", "3000")
    assert_one_line_error(failed, "up to 100 posteriors, got 150", program="kws-firmware")
    failed = run("export", file, "-o", "out", "--threshold", "1")
    assert_one_line_error(failed, "never reached", "--threshold", program="kws-firmware")


def test_golden_vectors_are_a_stream(model):
    """At least 20 hops from the start of a stream, also where hops are long."""
    for step_ms, clips in ((20, 99), (100, 20), (240, 20)):
        files = prepare(model, detector_config=with_step(step_ms)).files
        config = files["src/kws_config.h"]
        assert int(re.search("KWS_VECTOR_CLIPS (\\d+)", config)[1]) == clips
        assert int(re.search("KWS_VECTOR_STEPS (\\d+)", config)[1]) > 1500
        ends = [320 + 16 * step_ms * i for i in range(1, clips + 1)]
        assert numbers(files["src/kws_vectors.c"], "kws_vector_ends") == ends


def test_estimates_are_what_was_counted(model):
    """QEMU counted the instructions of an inference on a Cortex-M4F, with a checkout of TensorFlow Lite Micro."""
    cycles = prepare(model).summary["speed"]["kernels"]
    for kernels, counted in (("reference", 339_747), ("cmsis-nn", 131_640)):
        assert cycles[kernels]["inference_cycles"] == pytest.approx(2 * counted, rel=0.1)


def test_speed_grows_with_the_hop(model):
    """A longer hop saves what each inference takes besides; it cannot save multiply-accumulates."""
    short, long = (prepare(model, detector_config=with_step(step_ms)).summary["speed"] for step_ms in (20, 240))
    for kernels, need in short["kernels"].items():
        more = long["kernels"][kernels]
        assert 1 < more["inference_cycles"] / need["inference_cycles"] < 12
        assert more["mhz"] <= need["mhz"]
    board = on_board(short, mhz=9.5, step_ms=20)["kernels"]
    for kernels, found in board.items():
        least = found["least_step_ms"]
        if least is not None:
            again = on_board(short, mhz=9.5, step_ms=least)["kernels"][kernels]
            assert again["keeps_up"]
