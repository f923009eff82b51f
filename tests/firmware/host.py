"""The exported C sources compiled for this machine, and called from Python."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np

from firmware_export.arena import MicroInterpreter
from firmware_export.sources import code, config_header
from firmware_export.tables import FrontendTables
from kws_edge import FrontendConfig, Spotter

HERE = Path(__file__).parent
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Wmissing-prototypes", "-Werror"]
FRONTEND = ("frontend", "fft", "levels_float", "levels_fixed", "tables")


def compile_c(compiler: str, *arguments: object) -> None:
    """Compile C99 with every warning an error. The failure shows the compiler's messages."""
    command = [compiler, "-std=c99", *STRICT, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"


def write_frontend(tables: FrontendTables, src: Path) -> None:
    """Write the sources of a front end alone, without a model."""
    src.mkdir()
    for name, text in code(states=False).items():
        (src / name).write_text(text)
    (src / "kws_config.h").write_text(config_header("For a test.", tables.macros()))
    (src / "kws_tables.c").write_text(tables.source())


def write_tflm(folder: Path, namespace: str) -> None:
    """Write headers at the paths of TensorFlow Lite Micro's, with the declarations in ``tflm.h``."""
    names = namespace.split("::")
    header = (HERE / "tflm.h").read_text()
    header = header.replace("OPENING", " ".join(f"namespace {name} {{" for name in names))
    for name in (
        "micro/micro_interpreter.h",
        "micro/micro_log.h",
        "micro/micro_mutable_op_resolver.h",
        "schema/schema_generated.h",
    ):
        path = folder / "tensorflow" / "lite" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(header.replace("CLOSING", "}" * len(names)))


def compile_cc(*arguments: object) -> None:
    """Compile C++17, as :func:`compile_c` compiles C."""
    flags = [flag for flag in STRICT if flag != "-Wmissing-prototypes"]
    command = ["g++", "-std=c++17", *flags, "-fno-exceptions", "-fno-rtti", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"


def whole_library(src: Path, target: Path, *options: str) -> ctypes.CDLL:
    """All of an export as the shared library `target`, with ``tflm_bridge.cc`` in place of TensorFlow Lite Micro."""
    folder = target.with_suffix("")
    write_tflm(folder, "tflite")
    options = ("-O1", "-fPIC", f"-I{src}", *options)
    objects = [folder / f"{path.name}.o" for path in src.glob("*.c*")]
    for made in objects:
        source = src / made.stem
        if source.suffix == ".c":
            compile_c("gcc", *options, "-c", source, "-o", made)
        else:
            compile_cc(*options, f"-I{folder}", "-c", source, "-o", made)
    compile_cc("-O1", "-fPIC", "-shared", f"-I{folder}", HERE / "tflm_bridge.cc", *objects, "-lm", "-o", target)
    return ctypes.CDLL(str(target))


def shared_library(target: Path, sources: list[Path], *options: str) -> ctypes.CDLL:
    compile_c("gcc", "-O2", "-fPIC", "-shared", *options, *sources, "-o", target, "-lm")
    return ctypes.CDLL(str(target))


class CFrontend:
    """The front end in `src`, as a shared library."""

    def __init__(self, src: Path, frontend_config: FrontendConfig, *, fixed: bool) -> None:
        self.frontend_config = frontend_config
        sources = [src / f"kws_{name}.c" for name in FRONTEND]
        target = src.parent / f"frontend_{'fixed' if fixed else 'float'}.so"
        self.c = shared_library(target, sources, f"-DKWS_FIXED_POINT={fixed:d}")
        self._state = ctypes.create_string_buffer(1 << 18)

    def __call__(self, samples: np.ndarray, block: int = 1 << 30) -> np.ndarray:
        """The model's input, shape feature_shape, int8, after a new stream of int16 samples in blocks."""
        samples = np.ascontiguousarray(samples, np.int16)
        self.c.kws_frontend_reset(self._state)
        frame, taken = ctypes.c_bool(), ctypes.c_size_t()
        for start in range(0, len(samples), block):
            at, end = start, min(start + block, len(samples))
            while at < end:
                pointer = ctypes.c_void_p(samples.ctypes.data + 2 * at)
                left = ctypes.c_size_t(end - at)
                assert not self.c.kws_frontend_process(
                    self._state, pointer, left, ctypes.byref(taken), ctypes.byref(frame)
                )
                at += taken.value
        features = np.empty(self.frontend_config.feature_shape, np.int8)
        self.c.kws_frontend_features(self._state, ctypes.c_void_p(features.ctypes.data))
        return features


class CDetection(ctypes.Structure):
    """``kws_detection``."""

    _fields_ = (
        ("keyword", ctypes.c_char_p),
        ("label", ctypes.c_uint8),
        ("wake", ctypes.c_bool),
        ("score", ctypes.c_float),
        ("start", ctypes.c_uint64),
        ("end", ctypes.c_uint64),
    )

    def values(self) -> tuple[str, float, int, int, bool]:
        return self.keyword.decode(), self.score, self.start, self.end, self.wake


class CDetector:
    """The detector in `src`, as a shared library."""

    def __init__(self, src: Path) -> None:
        self.c = shared_library(src.parent / "detector.so", [src / "kws_detector.c", src / "kws_detector_config.c"])
        self._state = ctypes.create_string_buffer(1 << 18)
        self._config = ctypes.c_char.in_dll(self.c, "kws_detector_defaults")

    def __call__(self, posteriors: np.ndarray, ends: np.ndarray) -> list[tuple[str, float, int, int, bool]]:
        """Detections in int8 posteriors: keyword, score, start and end in samples, and whether it is the wake word."""
        found, detection, detected = [], CDetection(), ctypes.c_bool()
        self.c.kws_detector_reset(self._state)
        for row, end in zip(np.ascontiguousarray(posteriors, np.int8), ends, strict=True):
            status = self.c.kws_detector_process(
                self._state,
                ctypes.byref(self._config),
                ctypes.c_void_p(row.ctypes.data),
                ctypes.c_uint64(int(end)),
                ctypes.byref(detection),
                ctypes.byref(detected),
            )
            assert status == 0
            if detected:
                found.append(detection.values())
        return found


def bridge(library: ctypes.CDLL, micro: MicroInterpreter, on_invoke: Callable[[np.ndarray], object]) -> tuple:
    """Let `micro` compute the inferences of a library that has ``tflm_bridge.cc``.

    `on_invoke` gets the model's input of each inference. Keep the result as long as the library runs.
    """
    places = ctypes.POINTER(ctypes.POINTER(ctypes.c_int8))
    flat = micro.flat

    @ctypes.CFUNCTYPE(ctypes.c_int, places, places)
    def invoke(inputs, outputs):
        values = [np.ctypeslib.as_array(inputs[i], t.shape).copy() for i, t in enumerate(flat.inputs)]
        on_invoke(values[0])
        for i, computed in enumerate(micro.run(values)):
            np.ctypeslib.as_array(outputs[i], computed.shape)[:] = computed
        return 0

    for output, tensors in enumerate((flat.inputs, flat.outputs)):
        for i, tensor in enumerate(tensors):
            library.bridge_tensor(
                bool(output), ctypes.c_size_t(i), ctypes.c_size_t(tensor.size), ctypes.c_int(tensor.zero_point)
            )
    library.bridge_set(invoke, ctypes.c_size_t(len(flat.inputs)), ctypes.c_size_t(len(flat.outputs)))
    return (invoke,)


class CApp:
    """The application in `src`, as the shared library `target`. `micro` computes its inferences."""

    def __init__(self, src: Path, target: Path, micro: MicroInterpreter, *, fixed: bool) -> None:
        self._c = whole_library(src, target, f"-DKWS_FIXED_POINT={fixed:d}")
        self.inputs: list[np.ndarray] = []
        """The model's input of each inference."""
        self.heard: list[tuple[str, float, int, int, bool]] = []
        """Detections: keyword, score, start and end in samples, and whether it is the wake word."""

        @ctypes.CFUNCTYPE(None, ctypes.POINTER(CDetection), ctypes.c_void_p)
        def callback(detection, _):
            self.on_keyword(detection.contents)

        # kept, because C calls them as long as the application lives
        self._kept = *bridge(self._c, micro, self.inputs.append), callback
        for name in ("app", "model"):
            getattr(self._c, f"kws_{name}_sizeof").restype = ctypes.c_size_t
        self._app = ctypes.create_string_buffer(self._c.kws_app_sizeof())
        self._model = ctypes.create_string_buffer(self._c.kws_model_sizeof())
        self._arena = ctypes.create_string_buffer(1024)
        assert self.init() == 0
        assert self._c.kws_app_init(self._app, self._model, callback, None) == 0

    def tensor(self, output: bool, index: int, size: int, zero_point: int) -> None:
        """Say what TensorFlow Lite Micro finds in the model."""
        self._c.bridge_tensor(output, ctypes.c_size_t(index), ctypes.c_size_t(size), zero_point)

    def count(self, inputs: int, outputs: int) -> None:
        """Say how many tensors there are."""
        self._c.bridge_set(self._kept[0], ctypes.c_size_t(inputs), ctypes.c_size_t(outputs))

    def init(self) -> int:
        """Set the model up and return the status."""
        return self._c.kws_model_init(self._model, self._arena, ctypes.c_size_t(len(self._arena)))

    def on_keyword(self, detection: CDetection) -> None:
        self.heard.append(detection.values())

    def process(self, samples: np.ndarray) -> int:
        """Process int16 samples and return the status."""
        block = np.ascontiguousarray(samples)
        return self._c.kws_app_process(self._app, ctypes.c_void_p(block.ctypes.data), ctypes.c_size_t(len(block)))

    def reset(self) -> int:
        """Start a new stream and return the status."""
        return self._c.kws_app_reset(self._app)

    def self_test(self) -> tuple[int, list[str]]:
        """Run the self-test; return its status and the lines that it prints. Reset the stream afterwards."""
        lines: list[str] = []

        @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p)
        def print_line(_, line):
            lines.append(line.decode())

        port = (ctypes.c_void_p * 5)(None, ctypes.cast(print_line, ctypes.c_void_p))
        return self._c.kws_self_test(port, self._app), lines

    def lost(self, n: int) -> int:
        """Report `n` lost samples and return the status."""
        return self._c.kws_app_lost(self._app, ctypes.c_uint32(n))


def hear_with_losses(app: CApp, spotter: Spotter, samples: np.ndarray) -> list[tuple[str, int, int]]:
    """Both hear blocks of a recording, and lose what is between them.

    Returns
    -------
    list of tuple
        Keyword, start and end in samples of what the spotter heard.
    """
    heard, rng, at = [], np.random.default_rng(18), 0
    while at < len(samples):
        block, lost = samples[at : at + rng.integers(5000, 90000)], int(rng.integers(1, 20000))
        at += len(block) + lost
        for step in spotter.process_steps(block):
            if found := step.detection:
                heard.append((found.keyword, round(found.start_s * 16000), round(found.end_s * 16000)))
        assert app.process(block) == 0
        spotter.skip(lost)
        assert app.lost(lost) == 0
    return heard
