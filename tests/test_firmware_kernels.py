"""The arena for each kind of kernels of TensorFlow Lite Micro, and the whole chain with a checkout of it."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from firmware_export.arena import MicroInterpreter, measure_arena
from firmware_export.export import prepare
from firmware_export.kernels import KERNELS, asked
from firmware_export.manifest import write
from firmware_export.ops import kernel_sources
from firmware_export.planner import head_bytes
from kws_edge import Model, unpack
from kws_edge.model.tflite.node import Node
from tests.conftest import OF_CLIPS, ROOT, assert_one_line_error, need_program, wait_until
from tests.firmware.host import HERE, write_tflm

pytestmark = [pytest.mark.host, pytest.mark.firmware]

pytest.importorskip("tflite_micro", exc_type=ImportError, reason="tflite-micro is not installed here")

MODELS = OF_CLIPS
TFLM = os.environ.get("KWS_TFLM")
"""A checkout of TensorFlow Lite Micro, with flatbuffers, gemmlowp, ruy and CMSIS-NN beside it."""


@pytest.fixture
def run(run_cli):
    return lambda *arguments, **options: run_cli(*map(str, arguments), package="firmware_export", **options)


def node(row):
    """An operator of one row of ``scratch_sizes.csv``."""
    n = {name: int(value) for name, value in row.items() if name != "operator"}

    def tensor(*shape):
        return SimpleNamespace(shape=shape, dtype="int8", scales=(1.0,))

    if row["operator"] == "FULLY_CONNECTED":
        values, weights, out = tensor(1, n["c"]), tensor(n["out_c"], n["c"]), tensor(1, n["out_c"])
    else:
        values, out = tensor(1, n["h"], n["w"], n["c"]), tensor(1, n["out_h"], n["out_w"], n["out_c"])
        weights = tensor(1, n["filter_h"], n["filter_w"], n["filter_c"])
    depthwise = row["operator"] == "DEPTHWISE_CONV_2D"
    options = [1 - n["same"], n["stride_w"], n["stride_h"], *([n["multiplier"], 0] if depthwise else [0])]
    options += [n["dilation_w"], n["dilation_h"]]
    return SimpleNamespace(
        op=SimpleNamespace(name=row["operator"]),
        inputs=(values, weights),
        outputs=(out,),
        option=lambda field, kind, default=0: options[field],
    )


@pytest.mark.parametrize("kernels", ["cmsis-nn", "cmsis-nn-mve", "esp-nn"])
def test_scratch_buffers_are_those_of_the_libraries(kernels):
    """What CMSIS-NN 7.0 (compiled as by Arm's compiler) and ESP-NN 1.1.2, 1.2.0 and 1.2.3 return, the largest of these,
    for layers of the shipped models and others."""
    with (HERE / "scratch_sizes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 150
    for row in rows:
        if row["operator"] in KERNELS[kernels]:
            sizes, _ = asked(node(row), kernels)
            assert sum(sizes) == int(row[kernels]), row


@pytest.mark.parametrize("name", MODELS)
def test_memory_plan_is_the_interpreters(name):
    """The plan agrees to the byte, with the scratch buffers of the reference kernels."""
    flat = Model(name, kernels="builtin").flat
    graph = flat.graphs[0]
    scratch = {i: asked(Node(flat, graph, op), "reference")[0] for i, op in enumerate(graph.operators)}
    assert head_bytes(graph, scratch)[0] == MicroInterpreter(flat, name).arena().tensors


@pytest.mark.parametrize("name", ["one", "operators_int8", "stateful", "loops"])
def test_arena_of_small_models(name):
    """TensorFlow Lite Micro plans memory in the arena. For a small model the plan takes more than the tensors."""
    from tflite_micro import runtime

    path = ROOT / "tests" / "models" / f"{name}.tflite"
    arena = measure_arena(path)
    assert arena.kernels["reference"] >= arena.total
    flatbuffer, _ = unpack(path.read_bytes(), name)
    assert runtime.Interpreter.from_bytes(flatbuffer, arena_size=arena.kernels["reference"])


def test_arena_by_kernels(run, tmp_path):
    """The arena has at least the size that was measured on boards. The default is the largest."""
    micro12 = json.loads(run("arena", "micro12", "--json").stdout)
    assert list(micro12["kernels"]) == list(KERNELS)
    assert micro12["kernels"]["reference"] == micro12["total"]
    assert micro12["kernels"]["cmsis-nn-mve"] >= 27_700
    commands12 = json.loads(run("arena", "commands12", "--json").stdout)["kernels"]
    assert commands12["esp-nn"] >= 102_628
    assert commands12["reference"] < commands12["cmsis-nn"] < commands12["cmsis-nn-mve"] < 30_000
    text = run("arena", "micro12").stdout.decode()
    assert all(f"{kernels} {need:,}" in text for kernels, need in micro12["kernels"].items())
    sizes = {}
    for kernels in (None, *KERNELS):
        done = run("export", "micro12", "-o", "out", "--json", *(("--kernels", kernels) if kernels else ()))
        assert done.returncode == 0, done.stderr
        arena = json.loads(done.stdout)["arena"]
        assert arena["kernels"] == (kernels or "esp-nn")
        assert f"KWS_ARENA_SIZE {arena['size']}\n" in (tmp_path / "out" / "src" / "kws_config.h").read_text()
        assert arena["size"] >= 1.1 * micro12["kernels"][arena["kernels"]]
        sizes[kernels] = arena["size"]
    assert sizes[None] == max(sizes.values())
    assert run("export", "micro12", "-o", "out", "--kernels", "ethos").returncode == 2


FAILING = """
#include <cstdarg>
#include <cstdio>
#include "kws_model.cc"
namespace tflite {
void MicroPrintf(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::vprintf(format, arguments);
    va_end(arguments);
}
std::uint32_t Model::version() const { return 3; }
const Model *GetModel(const void *) { static const Model model; return &model; }
MicroInterpreter::MicroInterpreter(const Model *, const MicroOpResolver &, std::uint8_t *, std::size_t) {}
MicroInterpreter::~MicroInterpreter() {}
TfLiteStatus MicroInterpreter::AllocateTensors() { return kTfLiteError; }
TfLiteStatus MicroInterpreter::Invoke() { return kTfLiteError; }
TfLiteStatus MicroInterpreter::Reset() { return kTfLiteError; }
TfLiteTensor *MicroInterpreter::input(std::size_t) { return nullptr; }
TfLiteTensor *MicroInterpreter::output(std::size_t) { return nullptr; }
std::size_t MicroInterpreter::arena_used_bytes() const { return 12345; }
}
int main() {
    static kws_model model;
    static KWS_ALIGNED std::uint8_t arena[KWS_ARENA_SIZE];
    return kws_model_init(&model, arena, sizeof arena) == KWS_ERR_ARENA ? 0 : 1;
}
"""
"""A program of the glue and a library whose interpreter finds the arena too small."""


def test_need_is_printed_where_the_arena_is_too_small(tmp_path):
    """The glue prints it through TensorFlow Lite Micro's log, whatever the application does with the status."""
    need_program("g++")
    write(prepare(Model("micro12", kernels="builtin")), tmp_path / "out")
    write_tflm(tmp_path, "tflite")
    (tmp_path / "main.cc").write_text(FAILING)
    src = tmp_path / "out" / "src"
    command = ["g++", "-std=c++17", f"-I{tmp_path}", f"-I{src}", tmp_path / "main.cc", src / "kws_model_data.cc"]
    subprocess.run([*command, "-o", tmp_path / "failing"], check=True)
    done = subprocess.run([tmp_path / "failing"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "gave up with 12345 bytes" in done.stdout
    needs = MicroInterpreter(Model("micro12").flat, "micro12").arena().kernels
    assert all(f"{kernels} {need:,}" in done.stdout for kernels, need in needs.items())


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Empty files that the example's Makefile looks for in a checkout, for dry runs."""
    root = tmp_path_factory.mktemp("checkout")
    for name in (
        "tflite-micro/tensorflow/lite/micro/micro_interpreter.h",
        *(
            f"tflite-micro/tensorflow/lite/micro/kernels/{name}.cc"
            for name in ("conv", "conv_common", "svdf", "reduce")
        ),
        "tflite-micro/tensorflow/lite/micro/kernels/cmsis_nn/conv.cc",
        "flatbuffers/include/flatbuffers/base.h",
        "gemmlowp/fixedpoint/fixedpoint.h",
        "ruy/ruy/profiler/instrumentation.h",
        "CMSIS-NN/Include/arm_nnfunctions.h",
        "CMSIS-NN/Source/ConvolutionFunctions/arm_convolve_s8.c",
        "CMSIS-NN/Source/ConvolutionFunctions/arm_convolve_f16.c",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root / "tflite-micro"


def make(folder, *arguments, timeout=300):
    """Run the example's Makefile."""
    command = ["make", *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder / "examples" / "cortex_m", capture_output=True, text=True, check=False, timeout=timeout
    )


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    write(prepare(Model("micro12", kernels="builtin")), folder)
    return folder


def test_objects_of_another_model_are_not_reused(export, checkout):
    """Objects without a model, of other kernels or settings, or of an earlier export's headers are not reused."""
    need_program("make")
    need_program("arm-none-eabi-gcc")
    built = make(export, "build", "CORE=m4")
    assert built.returncode == 0, built.stderr
    assert make(export, "-q", "build", "CORE=m4").returncode == 0
    for more in ([f"TFLM={checkout}"], [f"TFLM={checkout}", "KERNELS=cmsis-nn"]):
        planned = make(export, "-n", "build", "CORE=m4", *more)
        assert planned.returncode == 0, planned.stderr
        assert re.search(r"-DKWS_WITH_MODEL=1 -c main.c", planned.stdout)
        assert re.search(r"-c ../../src/kws_self_test_model.c", planned.stdout)
        ours = "kernels/cmsis_nn/conv.cc" if len(more) > 1 else "kernels/conv.cc"
        assert ours in planned.stdout
        assert "svdf" not in planned.stdout  # the model has none
        assert ("arm_convolve_s8.c" in planned.stdout) == (len(more) > 1)
        assert "arm_convolve_f16.c" not in planned.stdout
    relative = make(export, "-n", "build", "CORE=m4", "TFLM=tflite-micro")
    assert re.search("TFLM=tflite-micro is no checkout .* seen from .*/examples/cortex_m", relative.stderr)
    planned = make(export, "-n", "build", "CORE=m4", "CFLAGS=-std=c99 -DKWS_FIXED_POINT=1")
    assert planned.stdout.count("-DKWS_FIXED_POINT=1 -c") >= 8
    assert make(export, "build", "CORE=m4").returncode == 0
    header = export / "src" / "kws_config.h"
    header.write_text(header.read_text() + "/* another model's */\n")
    planned = make(export, "-n", "build", "CORE=m4")
    assert all(f"-c ../../src/kws_{name}.c" in planned.stdout for name in ("frontend", "detector", "vectors", "tables"))


def test_variables_of_the_environment_are_not_the_examples(export, monkeypatch):
    """A shell's own SRC, BUILD, CORE or KERNELS, common on build servers, does not count."""
    need_program("make")
    need_program("arm-none-eabi-gcc")
    for name in ("SRC", "BUILD", "CORE", "KERNELS"):
        monkeypatch.setenv(name, "/nowhere")
    planned = make(export, "-n", "build", "BUILD=another")
    assert planned.returncode == 0, planned.stderr
    assert "-c ../../src/kws_frontend.c -o another/kws_frontend.c.o" in planned.stdout
    assert "-mcpu=cortex-m4" in planned.stdout


LINKED = """
#include "kws_config.h"
#include "kws_vectors.h"
void systick_handler(void) {}
static const unsigned char model[] = {%s};
static volatile unsigned char arena[KWS_ARENA_SIZE];
__attribute__((noinline)) static void code(void) { __asm volatile(".space 300 * 1024"); }
int main(void) {
    unsigned sum = 0;
    for (unsigned i = 0; i < sizeof model; i++) sum += model[i];
    arena[KWS_ARENA_SIZE - 1] = 7;
    if (arena[0]) code();
    return sum != %du || arena[KWS_ARENA_SIZE - 1] != 7 || kws_vector_audio[0] != %d;
}
"""


@pytest.mark.parametrize(("core", "machine"), [("m4", "mps2-an386"), ("m55", "mps3-an547")])
@pytest.mark.parametrize("name", MODELS)
def test_shipped_models_fit_into_qemus_boards(name, core, machine, tmp_path):
    """The example's linker script links golden vectors, the default arena and 300 KiB of code."""
    need_program("arm-none-eabi-gcc")
    need_program("qemu-system-arm")
    model = Model(name, kernels="builtin")
    write(prepare(model), tmp_path)
    src, example = tmp_path / "src", tmp_path / "examples" / "cortex_m"
    first = re.search(r"kws_vector_audio\[.*?\{\s*(-?\d+)", (src / "kws_vectors.c").read_text(), re.DOTALL).group(1)
    values = model.flat.data
    (tmp_path / "main.c").write_text(LINKED % (",".join(map(str, values)), sum(values), int(first)))
    command = ["arm-none-eabi-gcc", f"-mcpu=cortex-{core}", "-mthumb", "-mfloat-abi=hard", "-O1", f"-I{src}"]
    command += ["-mfpu=fpv4-sp-d16"] * (core == "m4") + ["--specs=rdimon.specs", "-nostartfiles"]
    command += ["-T", example / "link.ld", "-Wl,--fatal-warnings", "-Wl,--no-warn-rwx-segments"]
    command += [tmp_path / "main.c", example / "startup.c", src / "kws_vectors.c", "-o", tmp_path / "x.elf"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    emulator = ["qemu-system-arm", "-M", machine, "-nographic", "-semihosting-config", "enable=on,target=native"]
    assert subprocess.run([*emulator, "-kernel", tmp_path / "x.elf"], check=False, timeout=60).returncode == 0


def test_with_tflm_says_what_it_needs(run, tmp_path, checkout, monkeypatch):
    """One line names the remedy before anything is computed."""
    failed = run("export", "micro12", "-o", "out", "--with-tflm", ".")
    assert_one_line_error(failed, "no checkout of TensorFlow Lite Micro", "git clone", program="kws-firmware")
    failed = run("report", "micro12", "--with-tflm", checkout, "--kernels", "esp-nn")
    assert_one_line_error(failed, "no board for the kernels esp-nn", program="kws-firmware")
    need_program("make")
    need_program("arm-none-eabi-gcc")
    spaced = tmp_path / "a b"
    shutil.copytree(checkout, spaced)
    failed = run("export", "micro12", "-o", "out", "--with-tflm", spaced)
    assert_one_line_error(failed, "a b", "spaces", program="kws-firmware")
    assert not (tmp_path / "out").exists()
    need_program("arm-none-eabi-g++")
    need_program("qemu-system-arm")
    bare = tmp_path / "bare" / "tflite-micro"
    shutil.copytree(checkout, bare)
    failed = run("export", "micro12", "-o", "out", "--with-tflm", bare, "--kernels", "cmsis-nn")
    assert_one_line_error(failed, "flatbuffers", "FLATBUFFERS=", program="kws-firmware")
    failed = run("export", "micro12", "-o", "out", "--with-tflm", checkout, "--kernels", "cmsis-nn")
    assert_one_line_error(failed, "with the kernels cmsis-nn on m4: cannot be built", program="kws-firmware")
    monkeypatch.setenv("PATH", str(tmp_path))
    failed = run("export", "micro12", "-o", "out", "--with-tflm", checkout)
    assert_one_line_error(failed, "make is not installed", "Debian", program="kws-firmware")


HANGS = """
build:
\ttouch built
run:
\t@cat >heard; sh -c 'echo $$$$ >emulator; exec sleep 600'
"""


def test_an_interrupted_chain_leaves_nothing_behind(tmp_path, monkeypatch):
    """Processes that make has started read nothing of this program's input, and end with it."""
    need_program("make")
    example = tmp_path / "examples" / "cortex_m"
    example.mkdir(parents=True)
    (example / "Makefile").write_text(HANGS)
    script = (
        "import signal, sys\nfrom pathlib import Path\nfrom firmware_export.chain import run_chain\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "run_chain(Path(sys.argv[1]), Path('.'), [('m4', 'reference')], golden=0)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        wait_until(lambda: (example / "emulator").exists() and (example / "emulator").read_text().endswith("\n"), 30)
        assert (example / "heard").read_text() == ""
        process.send_signal(signal.SIGINT)
        process.communicate(b"another command's", timeout=30)
    emulator = Path(f"/proc/{(example / 'emulator').read_text().strip()}")
    wait_until(lambda: not emulator.exists() or " Z " in (emulator / "stat").read_text())


@pytest.mark.skipif(not TFLM, reason="KWS_TFLM names no checkout of TensorFlow Lite Micro")
@pytest.mark.parametrize("name", MODELS)
def test_shipped_models_pass_with_a_checkout(run, name):
    """The whole self-test passes on Cortex-M4 and M55, with reference kernels and CMSIS-NN's. Each takes minutes."""
    done = run("report", name, "--json", "--with-tflm", TFLM, timeout=3600)
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    by_kernels = values["arena"]["by_kernels"]
    assert len(values["boards"]) == 4
    for row in values["boards"]:
        kernels = "cmsis-nn-mve" if (row["core"], row["kernels"]) == ("m55", "cmsis-nn") else row["kernels"]
        assert row["arena"] <= by_kernels[kernels]


@pytest.mark.timeout(2000)
@pytest.mark.skipif(not TFLM, reason="KWS_TFLM names no checkout of TensorFlow Lite Micro")
def test_models_in_turns_with_a_checkout(tmp_path):
    """Two models of one export and one of another run in turns on a Cortex-M4, in TFLite Micro's own interpreters.

    Each gives its golden posteriors, whatever the others do between its input and its output.
    """
    kernels = set()
    for prefix, name in (("lamp", "micro12"), ("door", "commands12")):
        model = Model(name, kernels="builtin")
        write(prepare(model, prefix=prefix), tmp_path / prefix)
        kernels.update(kernel_sources(model.flat))
    shutil.copy(HERE / "turns.c", tmp_path / "lamp" / "examples" / "cortex_m")
    folders = [tmp_path / prefix / "src" for prefix in ("lamp", "door")]
    sources = [str(path) for folder in folders for path in sorted(folder.glob("*.c*"))]
    includes = " ".join(f"-I{folder}" for folder in folders)
    done = make(
        tmp_path / "lamp",
        "-j2",
        "run",
        "CORE=m4",
        "KERNELS=cmsis-nn",
        f"TFLM={Path(TFLM).resolve()}",
        f"KERNEL_NAMES={' '.join(sorted(kernels))}",
        f"SOURCES={' '.join(sources)} turns.c startup.c",
        f"VPATH={' '.join(map(str, folders))}",
        f"CFLAGS=-std=c99 -Wall -Wextra -Werror {includes}",
        f"CXXFLAGS=-std=c++17 -fno-exceptions -fno-rtti -fno-threadsafe-statics {includes}",
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.rstrip().endswith("0 wrong")
    assert done.stdout.count("turn\n") == 6
