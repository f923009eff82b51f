"""The exported functions on this machine: errors, bad arguments, lost samples, and two models in one program."""

import re
import subprocess
from pathlib import Path

import pytest
import soundfile

from firmware_export.arena import MicroInterpreter
from firmware_export.export import prepare
from firmware_export.manifest import write
from firmware_export.names import DEFAULT_PREFIX, check_prefix, renamed
from firmware_export.sources import CSRC, code
from kws_edge import ConfigError, Metadata, Model, Spotter, pack, shipped_models, unpack
from tests.conftest import need_program
from tests.firmware.host import HERE, CApp, compile_c, compile_cc, hear_with_losses, write_tflm

pytestmark = [pytest.mark.host, pytest.mark.firmware]

pytest.importorskip("tflite_micro", exc_type=ImportError, reason="tflite-micro is not installed here")

SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")


@pytest.fixture(scope="module", autouse=True)
def compiler():
    need_program("gcc")
    need_program("g++")


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    folder = tmp_path_factory.mktemp("micro12")
    write(prepare(Model("micro12", kernels="builtin")), folder)
    return folder


@pytest.fixture(scope="module")
def tflm(tmp_path_factory):
    """Headers of TensorFlow Lite Micro, and code that stands in for it."""
    folder = tmp_path_factory.mktemp("tflm")
    write_tflm(folder, "tflite")
    compile_cc(f"-I{folder}", f"-I{HERE}", "-c", HERE / "tflm_fake.cc", "-o", folder / "tflm_fake.o")
    return folder


def archive(src, tflm, folder, *options):
    """The library of an export, ``libkws.a``."""
    folder.mkdir()
    for path in sorted(src.glob("*.c*")):
        target = folder / f"{path.name}.o"
        if path.suffix == ".c":
            compile_c("gcc", "-O0", *options, f"-I{src}", "-c", path, "-o", target)
        else:
            compile_cc(*options, f"-I{src}", f"-I{tflm}", "-c", path, "-o", target)
    subprocess.run(["ar", "rcs", folder / "libkws.a", *sorted(folder.glob("*.o"))], check=True)
    return folder / "libkws.a"


def linked(target, parts, tflm, *options):
    command = ["g++", *options, *parts, tflm / "tflm_fake.o", "-lm", "-o", target]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def output(program):
    done = subprocess.run([program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("fixed", [0, 1])
def test_errors_stick_and_arguments_are_refused(export, tflm, tmp_path, fixed):
    """``checks.c`` tests errors of the board, sticky errors, and NULL and negative arguments.

    It also tests the caller's arena, two models in turns, lost samples and the ring.
    """
    src, form = export / "src", f"-DKWS_FIXED_POINT={fixed}"
    library = archive(src, tflm, tmp_path / "library", form, *SANITIZERS)
    compile_c("gcc", form, *SANITIZERS, f"-I{src}", f"-I{HERE}", "-c", HERE / "checks.c", "-o", tmp_path / "checks.o")
    program = linked(tmp_path / "checks", [tmp_path / "checks.o", library], tflm, *SANITIZERS)
    assert output(program) == "all checks hold\n"


def test_statuses_are_a_range_of_their_own():
    """The range has no errno, esp_err_t or error of CMSIS's drivers, and each number has one name."""
    text = (CSRC / "kws_status.h").read_text()
    values = {name: int(value) for name, value in re.findall(r"(KWS_\w+) = (-?\d+)", text)}
    first, last = values.pop("KWS_ERR_FIRST"), values.pop("KWS_ERR_LAST")
    assert values.pop("KWS_OK") == 0
    assert len(set(values.values())) == len(values) >= 9
    assert all(last <= value <= first < -1000 for value in values.values())
    assert last > -32768  # some cores have an int of 16 bits


def test_nothing_is_kept_in_the_library(export, tflm, tmp_path):
    """No object file has a variable. The caller owns all state of a stream."""
    listing = subprocess.check_output(
        ["nm", archive(export / "src", tflm, tmp_path / "library", "-fno-pie")], text=True
    )
    assert len(re.findall(r"^[0-9a-f]+ T kws_", listing, re.MULTILINE)) > 20
    assert re.findall(r"^[0-9a-f]+ [bBdDC] .*$", listing, re.MULTILINE) == []


def test_the_example_of_the_readme_survives_a_negative_read(export, tflm, tmp_path):
    """The example compiles without a warning, and ends with the microphone's error."""
    (example,) = re.findall(r"```c\n(.*?)```", (export / "README.md").read_text(), re.DOTALL)
    (tmp_path / "example.c").write_text(example.replace("int main(void) {", "int main(void) {\n    kws_answers();", 1))
    (tmp_path / "microphone.c").write_text(
        '#include "kws_app.h"\nint microphone_read(int16_t *samples, int n);\n'
        "int microphone_read(int16_t *samples, int n) {\n    static int reads = 30;\n    samples[0] = 0;\n"
        "    return reads-- > 0 ? n : -101;\n}\n"
    )
    src, objects = export / "src", []
    for name, extra in (("example", ("-include", HERE / "answers.h")), ("microphone", ())):
        objects.append(tmp_path / f"{name}.o")
        compile_c("gcc", f"-I{src}", *extra, "-c", tmp_path / f"{name}.c", "-o", objects[-1])
    program = linked(tmp_path / "example", [*objects, archive(src, tflm, tmp_path / "library")], tflm)
    done = subprocess.run([program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == -101 % 256, done.stderr


def test_detection_starts_anew_after_lost_samples(export, demo_stream):
    """After gaps that kws_app_lost reports, keywords and times are those of ``Spotter.skip``."""
    model = Model("micro12", kernels="builtin")
    micro, src = MicroInterpreter(model.flat, "micro12"), export / "src"
    app, spotter = CApp(src, export / "lost.so", micro, fixed=False), Spotter(model)
    samples = soundfile.read(demo_stream, dtype="int16")[0]
    expected = hear_with_losses(app, spotter, samples)
    assert [(keyword, start, end) for keyword, _, start, end, _ in app.heard] == expected
    assert len(expected) >= 5


_MODELS = {"lamp": "micro12", "door": "words36"}


@pytest.fixture(scope="module")
def two_exports(tflm, tmp_path_factory):
    """Exports by their prefixes, with their libraries."""
    folder, made = tmp_path_factory.mktemp("two"), {}
    for prefix, name in _MODELS.items():
        write(prepare(Model(name, kernels="builtin"), prefix=prefix), folder / prefix)
        made[prefix] = folder / prefix, archive(folder / prefix / "src", tflm, folder / f"{prefix}-library")
    return made


def test_two_models_in_one_program(two_exports, tflm, tmp_path):
    """Two libraries are linked into one program, in either order, and fed in turns.

    Each prints what it prints alone: detections, the hash of its features, and its self-test.
    """
    libraries, objects = {}, {}
    for prefix, (out, library) in two_exports.items():
        libraries[prefix] = library
        own = tmp_path / f"{prefix}-own"
        own.mkdir()
        for name in ("hear.c", "answers.h"):
            (own / name).write_text(renamed((HERE / name).read_text(), prefix))
        objects[prefix] = own / "hear.o"
        options = (f"-I{own}", f"-I{out / 'src'}", f"-I{HERE}")
        compile_c("gcc", *options, "-c", own / "hear.c", "-o", objects[prefix])

    def program(name, *prefixes):
        main = tmp_path / f"{name}.c"
        declared = "".join(f"void {prefix}_hear(int turn);\n" for prefix in prefixes)
        calls = "".join(f"        {prefix}_hear(turn);\n" for prefix in prefixes)
        main.write_text(
            f"{declared}int main(void) {{\n    for (int turn = 0; turn < 400; turn++) {{\n{calls}    }}\n"
            f"    return 0;\n}}\n"
        )
        compile_c("gcc", "-c", main, "-o", main.with_suffix(".o"))
        parts = [main.with_suffix(".o"), *(objects[p] for p in prefixes), *(libraries[p] for p in prefixes)]
        return output(linked(main.with_suffix(".out"), parts, tflm)).splitlines()

    alone = {prefix: program(prefix, prefix) for prefix in _MODELS}
    for prefix, lines in alone.items():
        assert f"{prefix}: self-test passed" in lines
        assert sum("heard" in line for line in lines) >= 10
    assert alone["lamp"][-1] != alone["door"][-1]
    for order in (("lamp", "door"), ("door", "lamp")):
        both = program("-".join(order), *order)
        for prefix, lines in alone.items():
            assert [line for line in both if line.startswith(f"{prefix}:")] == lines
        assert len(both) == sum(map(len, alone.values()))


def test_every_name_has_the_prefix(two_exports):
    """This holds for files, macros, build targets and all symbols of the linker."""
    for prefix, (out, library) in two_exports.items():
        listing = subprocess.check_output(["nm", "-g", "--defined-only", library], text=True)
        symbols = re.findall(r"^[0-9a-f]+ \w (\S+)$", listing, re.MULTILINE)
        assert len(symbols) > 30
        others = [name for name in symbols if "6tflite" not in name and name != "_ZnwmPv"]  # TFLM's; placement new
        assert [name for name in others if prefix not in name] == []
        assert [path.name for path in (out / "src").iterdir() if not path.name.startswith(f"{prefix}_")] == []
        for path in out.rglob("*"):
            if path.is_file() and path.name != "kws_export.json":
                left = re.findall(r"(?i)\bkws\b(?!-)|(?i:\bkws_)(?!edge)\w*|-DKWS\w*", path.read_text())
                assert left == [], path
        for macro in re.findall(r"#define (\w+)", "".join(p.read_text() for p in (out / "src").glob("*.h"))):
            assert macro.startswith(f"{prefix.upper()}_"), macro
        assert f"src/{prefix}_model_data.cc" in (out / "NOTICE").read_text()


def test_no_prefix_makes_a_name_of_another_export(export):
    """The prefixes ``kws_vector`` and ``kws`` must not meet: ``kws_vector`` + ``_x`` is ``kws`` + ``_vector_x``."""
    text = "".join(path.read_text() for path in (export / "src").iterdir())
    text = re.sub(r"kws_\w+\.\w+", "", text)  # names of files may be equal, because they lie in folders of their own
    names = set(re.findall(r"\b(?:kws|KWS)_\w+", text))
    assert len(names) > 150
    for name in names - {"KWS_ERR_SELF_TEST"}:  # kws_err is refused
        first, *parts = name.split("_")
        shorter = {"_".join([first, *parts[i:]]) for i in range(1, len(parts))}
        assert not shorter & names, name


def test_without_a_prefix_nothing_changes(export):
    """The exported sources are those of the package, unchanged."""
    for name, text in code(states=False).items():
        assert (export / "src" / name).read_text() == text
        assert "KWS_STATES" not in text


def test_labels_and_file_names_are_no_names_of_code(tmp_path):
    """A label or a model file's name that looks like a function is not renamed."""
    flatbuffer, metadata = unpack(Path(shipped_models()["micro12"]).read_bytes(), "micro12")
    labels = ("kws_app", *metadata.labels[1:-1], "KWS_OK @ARENA@")
    path = tmp_path / "kws_model.tflite"
    path.write_bytes(
        pack(
            flatbuffer,
            Metadata(labels=labels, frontend_config=metadata.frontend_config, detector_config=metadata.detector_config),
        )
    )
    files = prepare(Model(path, kernels="builtin"), prefix="lamp").files
    assert '"kws_app"' in files["src/lamp_detector_config.c"]
    assert '"KWS_OK @ARENA@"' in files["src/lamp_detector_config.c"]
    assert "from kws_model.tflite" in files["src/lamp_config.h"].splitlines()[0]
    assert "KWS_OK @ARENA@" in files["README.md"]


@pytest.mark.parametrize(
    "prefix", ["", "Lamp", "9a", "_a", "a_", "a__b", "a b", "ä", "a-b", "a" * 32, "a\n", "kws_err"]
)
def test_prefixes_that_are_no_names(prefix):
    with pytest.raises(ConfigError, match="--prefix"):
        check_prefix(prefix)


def test_c_array_has_the_prefix(run_cli, tmp_path):
    for prefix in ("lamp", DEFAULT_PREFIX):
        done = run_cli("c-array", "micro12", "-o", "out", "--prefix", prefix, package="firmware_export")
        assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 4
    assert "lamp_model_data[lamp_model_data_len]" in (tmp_path / "out" / "lamp_model_data.cc").read_text()
    assert "kws_model_data[kws_model_data_len]" in (tmp_path / "out" / "kws_model_data.cc").read_text()
