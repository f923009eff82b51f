"""The exported C against kws_edge, on this machine: the same features, detections and accuracy."""

import dataclasses
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from firmware_export.arena import MicroInterpreter
from firmware_export.export import prepare
from firmware_export.manifest import write
from firmware_export.settings import DetectorSettings
from firmware_export.tables import FrontendTables
from kws_edge import (
    ConfigError,
    DetectorConfig,
    Frontend,
    Model,
    Spotter,
    StreamingFrontend,
    preset,
    shipped_models,
    unpack,
)
from kws_edge.audio.file import AudioFile
from kws_edge.config import FrontendConfig
from kws_edge.features.frontend import fit_clip
from kws_edge.model.quantization import quantize
from kws_edge.model.tflite import FlatModel
from tests.conftest import need_program
from tests.firmware.host import (
    FRONTEND,
    HERE,
    CApp,
    CDetector,
    CFrontend,
    compile_c,
    write_frontend,
    write_tflm,
)

pytestmark = [pytest.mark.host, pytest.mark.firmware]

pytest.importorskip("tflite_micro", exc_type=ImportError, reason="tflite-micro is not installed here")

FORMS = pytest.mark.parametrize("fixed", [False, True], ids=["float", "fixed"])


@pytest.fixture(scope="module", autouse=True)
def compiler():
    need_program("gcc")


@pytest.fixture(scope="module")
def micro12():
    return Model("micro12", kernels="builtin")


@pytest.fixture(scope="module")
def src(micro12, tmp_path_factory):
    """Sources of micro12's export."""
    folder = tmp_path_factory.mktemp("micro12")
    write(prepare(micro12), folder)
    return folder / "src"


def tables_for(config, levels):
    """Tables for an input whose quantisation covers all of these levels, as the converter chooses it."""
    if config == preset("logmel40"):
        return FrontendTables(config, 1.0, -128)
    low, high = min(0.0, *(x.min() for x in levels)), max(0.0, *(x.max() for x in levels))
    scale = float(np.float32((high - low) / 255))
    return FrontendTables(config, scale, round(-128 - low / scale))


# Largest difference of the C forms from kws_edge at the model's input, and the share that must be equal.
BOUNDS = {False: (1, 0.999), True: (2, 0.9)}


@FORMS
@pytest.mark.parametrize("name", ["logmel40", "reference"])
def test_features_of_real_clips(name, fixed, clips, tmp_path):
    config = preset(name)
    clips = [fit_clip(clip, config.clip_samples) for clip in clips]
    frontend = Frontend(config)
    levels = [frontend(clip) for clip in clips]
    tables = tables_for(config, levels)
    write_frontend(tables, tmp_path / "src")
    c_frontend = CFrontend(tmp_path / "src", config, fixed=fixed)
    steps = np.array(
        [
            np.abs(c_frontend(clip).astype(int) - quantize(level, tables.scale, tables.zero_point))
            for clip, level in zip(clips, levels, strict=True)
        ]
    )
    most, equal = steps.max(), (steps == 0).mean()
    print(f"{name}, {'fixed' if fixed else 'float'}: {100 * equal:.4f} % equal, at most {most} steps apart")
    assert len(steps) == 200
    assert most <= BOUNDS[fixed][0]
    assert equal >= BOUNDS[fixed][1]


OTHERS = {
    # A hop longer than the frame, a transform of 4**n points, no upper clip, Slaney's mel scale.
    "sparse": FrontendConfig(
        frame_ms=16, hop_ms=20, n_fft=256, n_mels=20, f_min_hz=50, f_max_hz=7000, spectrum="power", sample_scale=1,
        log_offset=2, log_gain=5, level_min=0, mel_scale="slaney",
    ),
    # Frames beside each other, resized to fewer, Hamming, another rate, the whole transform used.
    "shrunk": FrontendConfig(
        sample_rate=8000, frame_ms=32, hop_ms=32, n_fft=1024, n_mels=32, f_min_hz=0, f_max_hz=4000,
        spectrum="magnitude", sample_scale=1 / 32768, log_offset=1e-3, resize_frames=20, window="hamming",
    ),
}  # fmt: skip


@FORMS
@pytest.mark.parametrize("name", OTHERS)
def test_other_settings_on_the_demo(name, fixed, demo_stream, tmp_path):
    config = OTHERS[name]
    with AudioFile(demo_stream, sample_rate=config.sample_rate) as file:
        samples = file.read_all()[: 8 * config.sample_rate]
    frontend, clips = StreamingFrontend(config), Frontend(config)
    silence = np.tile(clips.silence(), (config.n_frames, 1))
    tables = tables_for(config, [frontend.process(samples)])
    write_frontend(tables, tmp_path / "src")
    c_frontend = CFrontend(tmp_path / "src", config, fixed=fixed)
    for end in np.linspace(0, len(samples), 30).astype(int):
        frontend.reset()
        levels = np.vstack([silence, frontend.process(samples[:end])])[-config.n_frames :]
        expected = quantize(clips.resize(levels), tables.scale, tables.zero_point)
        steps = np.abs(c_frontend(samples[:end]).astype(int) - expected)
        assert steps.max() <= BOUNDS[fixed][0]
        assert (steps == 0).mean() >= BOUNDS[fixed][1]


@FORMS
def test_blocks_of_any_size_give_the_same_features(src, micro12, fixed, demo_stream):
    c_frontend = CFrontend(src, micro12.frontend_config, fixed=fixed)
    samples = soundfile.read(demo_stream, dtype="int16")[0][:33333]
    whole = c_frontend(samples)
    for block in (1, 7, 159, 160, 161, 480, 481, 5000):
        assert np.array_equal(c_frontend(samples, block), whole)


@FORMS
def test_quiet_and_constant_input(src, micro12, fixed):
    """If float spectra are only rounding errors, the levels are those of silence or close to them."""
    c_frontend, frontend = CFrontend(src, micro12.frontend_config, fixed=fixed), Frontend(micro12.frontend_config)
    n = micro12.frontend_config.clip_samples
    rng = np.random.default_rng(0)
    for samples in (np.zeros(n), np.ones(n), np.full(n, -32768), np.full(n, 32767), rng.integers(-1, 2, n)):
        samples = samples.astype(np.int16)
        steps = np.abs(c_frontend(samples).astype(int) - micro12.quantize(frontend(samples)).reshape(98, 40))
        assert steps.max() <= BOUNDS[fixed][0]


@FORMS
def test_accuracy_on_the_validation_clips(src, micro12, fixed, data):
    """With the C front end micro12 loses at most 0.2 points of accuracy (float) or 0.5 points (fixed)."""
    root = data / "speech_commands"
    c_frontend = CFrontend(src, micro12.frontend_config, fixed=fixed)
    unknown = micro12.labels.index("unknown")
    right = {"python": 0, "c": 0}
    paths = (root / "validation_list.txt").read_text().split()
    for path in paths:
        word = path.split("/")[0]
        label = micro12.labels.index(word) if word in micro12.labels else unknown
        clip = fit_clip(soundfile.read(root / path, dtype="int16")[0], micro12.frontend_config.clip_samples)
        right["python"] += micro12.classify(clip).posteriors.argmax() == label
        q = c_frontend(clip).reshape(micro12.input.shape)
        right["c"] += micro12.interpreter.invoke(q).argmax() == label
    python, c = (100 * count / len(paths) for count in right.values())
    print(f"micro12 on {len(paths)} validation clips: {python:.2f} % by kws_edge, {c:.2f} % by C")
    assert len(paths) > 1500
    assert python > 90
    assert abs(python - c) <= (0.5 if fixed else 0.2)


@pytest.fixture(scope="module")
def ten_minutes(micro12, data):
    """Posteriors of ten minutes of commands, other words, speech and noise, as micro12 hears them."""
    rng = np.random.default_rng(3)
    root = data / "speech_commands"
    paths = [root / path for path in (root / "validation_list.txt").read_text().split()]
    paths += [*(data / "negatives" / "speech").rglob("*.*")][:30] + [*(data / "negatives" / "noise").rglob("*.*")][:10]
    pieces, length = [], 0
    for i in rng.permutation(len(paths)):
        piece = soundfile.read(paths[i], dtype="int16")[0]
        gap = rng.normal(0, 20, rng.integers(0, 8000)).astype(np.int16)
        pieces += [piece, gap]
        length += len(piece) + len(gap)
        if length >= 600 * 16000:
            break
    return np.concatenate(pieces)


DETECTORS = {
    "defaults": DetectorConfig(),
    "two keywords": DetectorConfig(keywords=("stop", "go"), threshold=0.6),
    "a threshold each": DetectorConfig(threshold=0.8, thresholds={"yes": 0.4, "no": 0.95, "up": 0.99}, hysteresis=0.0),
    "at once": DetectorConfig(smoothing_ms=0, refractory_ms=0, threshold=0.5, hysteresis=0.9),
    "armed": DetectorConfig(wake_word="yes", keywords=("stop", "go", "no", "up", "left"), armed_s=30, threshold=0.4),
    "armed briefly": DetectorConfig(wake_word="left", armed_s=2, threshold=0.4, smoothing_ms=200, refractory_ms=300),
    "after speech": DetectorConfig(smoothing_ms=300, threshold=0.5, speech_margin=0.25),
    "long": DetectorConfig(smoothing_ms=700, refractory_ms=1500, step_ms=50, threshold=0.45),
}


def detections_of(spotter, samples):
    """Posteriors (int8), ends of the windows in samples, and the detections of kws_edge."""
    steps = list(spotter.process_steps(samples))
    q = np.array([quantize(step.posteriors, 1 / 256, -128) for step in steps])
    ends = np.array([round(step.time_s * 16000) for step in steps])
    found = [step.detection for step in steps if step.detection]
    return q, ends, [(d.keyword, d.score, round(d.start_s * 16000), round(d.end_s * 16000), d.wake) for d in found]


@pytest.mark.parametrize("name", DETECTORS)
def test_detector_on_ten_minutes(name, micro12, ten_minutes, tmp_path):
    detector = DETECTORS[name]
    write(prepare(micro12, detector_config=detector), tmp_path)
    q, ends, expected = detections_of(Spotter(micro12, detector_config=detector), ten_minutes)
    assert ends[-1] > 599 * 16000
    assert len(expected) > 50
    assert any(wake for *_, wake in expected) == (detector.wake_word is not None)
    assert CDetector(tmp_path / "src")(q, ends) == expected
    if detector.speech_margin:
        plain = dataclasses.replace(detector, speech_margin=0)
        assert len(detections_of(Spotter(micro12, detector_config=plain), ten_minutes)[2]) > len(expected)


@pytest.mark.parametrize("wake_word", [None, "marvin"])
def test_detector_counts_inactive_words_as_unknown(tmp_path, wake_word):
    """25 posteriors of words36 are added up. C and NumPy may add them in different orders."""
    model = Model("words36", kernels="builtin")
    detector = DetectorConfig(
        keywords=("yes", "marvin"), threshold=0.3, hysteresis=0.1, smoothing_ms=300, wake_word=wake_word, armed_s=10
    )
    spotter = Spotter(model, detector_config=detector)
    settings = DetectorSettings(spotter.detector, step_frames=spotter.step_frames)
    write(prepare(model, detector_config=detector), tmp_path)
    rng = np.random.default_rng(0)
    posteriors = rng.dirichlet(np.full(36, 0.02), 6000)
    q = quantize(np.repeat(posteriors, 3, axis=0).astype(np.float32), 1 / 256, -128)
    ends = 1600 * np.arange(1, len(q) + 1)
    expected = []
    for row, end in zip(q, ends, strict=True):
        found = spotter.detector.process((row.astype(np.float32) + 128) / 256, end / 16000)
        if found:
            times = round(found.start_s * 16000), round(found.end_s * 16000)
            expected.append((found.keyword, found.score, *times, found.wake))
    assert len(expected) > 50
    assert any(wake for *_, wake in expected) == (wake_word is not None)
    assert settings.sums(settings.detector.thresholds).astype(bool).sum() == 2
    assert CDetector(tmp_path / "src")(q, ends) == expected


@FORMS
def test_application_hears_the_demo(src, micro12, fixed, demo_stream):
    """C code turns PCM into detections. The model is TFLite Micro's own interpreter."""
    micro = MicroInterpreter(micro12.flat, "micro12")
    app = CApp(src, src.parent / f"app_{fixed:d}.so", micro, fixed=fixed)
    samples = soundfile.read(demo_stream, dtype="int16")[0]
    for start in range(0, len(samples), 333):
        assert app.process(samples[start : start + 333]) == 0
    _, _, expected = detections_of(Spotter(micro12), samples)
    assert [(keyword, start, end) for keyword, _, start, end, _ in app.heard] == [
        (keyword, start, end) for keyword, _, start, end, _ in expected
    ]
    assert len(app.heard) >= 10
    np.testing.assert_allclose([x[1] for x in app.heard], [x[1] for x in expected], atol=4 / 256)


def test_model_array_is_the_model(src, micro12, clips):
    """The bytes that a compiler makes of the array are the model's, and TFLite Micro runs them as LiteRT does."""
    text = (src / "kws_model_data.cc").read_text()
    array = bytes(int(value, 16) for value in re.findall(r"0x([0-9a-f]{2})\b", text))
    assert array == unpack(Path(shipped_models()["micro12"]).read_bytes(), "micro12")[0]
    micro = MicroInterpreter(FlatModel(array, "array"), "array")
    frontend = Frontend(micro12.frontend_config)
    for clip in clips[:50]:
        q = micro12.quantize(frontend(clip))
        assert np.array_equal(micro.invoke(q), micro12.interpreter.invoke(q))


@pytest.mark.parametrize("compiler", ["gcc", "clang", "arm-none-eabi-gcc"])
@FORMS
def test_compiles_without_a_warning(src, compiler, fixed, tmp_path):
    need_program(compiler)
    for path in sorted(src.glob("*.c")):
        for optimise in ("-O0", "-O2"):
            compile_c(compiler, optimise, f"-DKWS_FIXED_POINT={fixed:d}", "-c", path, "-o", tmp_path / "x.o")


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
@pytest.mark.parametrize("namespace", ["tflite", "tflite::micro"])
def test_glue_compiles(src, compiler, namespace, tmp_path):
    """The glue compiles against declarations of TFLite Micro, in the namespaces of older and newer sources.

    Linking the library itself is tested by hand.
    """
    need_program(compiler)
    write_tflm(tmp_path, namespace)
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror", "-fno-exceptions"]
    for path in sorted(src.glob("*.cc")):
        command = [compiler, *flags, f"-I{tmp_path}", "-c", path, "-o", tmp_path / "x.o"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    for path in sorted(src.glob("*.h")):  # every header is for C++, too
        if path.name not in ("kws_model_ops.h",):
            command = [compiler, *flags, "-include", path, "-x", "c++", "-fsyntax-only", "/dev/null"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@FORMS
@pytest.mark.parametrize("name", ["logmel40", "reference"])
def test_sanitizers_find_nothing(src, name, compiler, fixed, tmp_path):
    need_program(compiler)
    folder = src
    if name == "reference":  # the detector and the vectors of micro12, behind another front end
        folder = tmp_path / "src"
        tables = FrontendTables(preset(name), 0.07, 40)
        write_frontend(tables, folder)
        for path in ("kws_detector_config.c", "kws_vectors.c"):
            (folder / path).write_text((src / path).read_text())
        others = r"#define KWS_(?:N_LABELS|STEP_|SMOOTHING_|SPOKEN_|VECTOR_|MODEL_|ARENA_).*\n"
        shared = "".join(re.findall(others, (src / "kws_config.h").read_text()))
        own = (folder / "kws_config.h").read_text()
        (folder / "kws_config.h").write_text(own.replace("#endif", shared + "#endif"))
    parts = (*FRONTEND, "detector", "detector_config", "app", "vectors")
    sources = [*(folder / f"kws_{part}.c" for part in parts), HERE / "fuzz.c"]
    binary = tmp_path / "fuzz"
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1"]
    compile_c(compiler, *sanitizers, f"-DKWS_FIXED_POINT={fixed:d}", f"-I{folder}", *sources, "-o", binary, "-lm")
    done = subprocess.run([binary], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "detections" in done.stdout


@FORMS
def test_sizes_are_those_of_the_compiler(src, micro12, fixed, tmp_path):
    """State and tables have the stated sizes. The state fits into 12 KiB, and all tables are constant."""
    tables = FrontendTables(micro12.frontend_config, micro12.input.scale, micro12.input.zero_point)
    spotter = Spotter(micro12)
    settings = DetectorSettings(spotter.detector, step_frames=spotter.step_frames)
    program = tmp_path / "sizes.c"
    program.write_text(
        '#include <stdio.h>\n#include "kws_detector.h"\n#include "kws_frontend.h"\n'
        'int main(void) { printf("%zu %zu", sizeof(kws_frontend_state), sizeof(kws_detector_state)); return 0; }\n'
    )
    compile_c("gcc", f"-DKWS_FIXED_POINT={fixed:d}", f"-I{src}", program, "-o", tmp_path / "sizes")
    states = [int(n) for n in subprocess.check_output([tmp_path / "sizes"]).split()]
    assert states == [tables.state_bytes(fixed=fixed), settings.state_bytes()]
    assert sum(states) <= 12 * 1024
    compile_c("gcc", f"-DKWS_FIXED_POINT={fixed:d}", "-c", src / "kws_tables.c", "-o", tmp_path / "t.o")
    listing = subprocess.check_output(["nm", "-S", "--defined-only", tmp_path / "t.o"], text=True).splitlines()
    symbols = [line.split() for line in listing]
    assert {kind.lower() for _, _, kind, _ in symbols} == {"r"}
    assert sum(int(size, 16) for _, size, _, _ in symbols) == tables.table_bytes(fixed=fixed)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n_fft": 480}, "n_fft=480 is no power of two"),
        ({"n_fft": 8192, "n_mels": 4}, "mel band of"),
        ({"sample_rate": 192_000, "hop_ms": 500, "n_fft": 8192}, "the 65535 that the firmware skips"),
        ({"log_gain": 10_000.0}, "range"),
        ({"n_mfcc": 10}, "10 MFCC of 40 htk mels of power: the firmware's front end computes log-mel levels"),
        ({"normalise": True}, "each clip normalised: the firmware's front end computes log-mel levels"),
        (
            preset("microfrontend").to_dict(),
            "microfrontend of 40 htk mels of magnitude: .* or export a run of microfrontend with kws-host export-micro",
        ),
    ],
)
def test_front_ends_that_c_cannot_do_are_refused(changes, reason):
    with pytest.raises(ConfigError, match=reason):
        FrontendTables(dataclasses.replace(preset("logmel40"), **changes), 1.0, -128)
