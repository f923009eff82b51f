"""Style of the C code: comments on every declaration, licences, one format, shifts, versions."""

import ctypes
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import kws_edge
from firmware_export import write_c_array
from firmware_export.export import exported, measured
from firmware_export.manifest import write
from firmware_export.sources import CSRC, code, config_header
from firmware_export.tables import FrontendTables
from firmware_export.target import TARGETS
from firmware_export.version import version_macros
from kws_edge import Model, preset
from tests.conftest import ROOT, need_program
from tests.firmware.host import HERE, compile_c, shared_library, write_frontend

pytestmark = [pytest.mark.host, pytest.mark.firmware]

TEMPLATES = CSRC.parent / "targets"
SOURCES = {states: code(states=states, taught=True) for states in (False, True)}
"""The sources of both forms, by name."""
HEADERS = {
    f"{name} with states" if states else name: text
    for states, texts in SOURCES.items()
    for name, text in sorted(texts.items())
    if name.endswith(".h")
}
C_FILES = [
    *sorted(CSRC.iterdir()),
    *sorted(path for path in TEMPLATES.rglob("*") if path.suffix in (".c", ".cpp", ".h", ".ino")),
    *sorted(path for path in HERE.rglob("*") if path.suffix in (".c", ".cc", ".cpp", ".h")),
]
BUILD_FILES = [
    path for path in TEMPLATES.rglob("*") if path.name in ("CMakeLists.txt", "Makefile", "Kconfig", "prj.conf")
]

COMMENT = r"/\*(?:(?!\*/).)*\*/"
TOKEN = re.compile(rf"(?P<doc>{COMMENT})|(?P<code>[A-Za-z](?:(?!/\*)[^;{{])*(?:;|\{{.*?\n\}}[^\n]*))", re.DOTALL)
"""Matches a comment or a whole declaration of a header."""


def undocumented(header: str) -> list[str]:
    """Names that a header declares without a Doxygen comment, and parameters and results without a description."""
    text = re.sub(r"#ifdef __cplusplus\n.*?#endif\n", "", header, flags=re.DOTALL)
    text = re.sub(r"^#.*(?:\\\n.*)*\n", "", text, flags=re.MULTILINE)
    told, missing, doc = set(), [], ""
    for token in TOKEN.finditer(text):
        code, before = token["code"], doc
        doc = token["doc"] or ""
        if code is None:
            continue
        name = name_of(code)
        if before.startswith("/**") and "@file" not in before:
            told.add(name)
        elif name not in told:  # otherwise the other branch of an #if has the comment
            missing.append(name)
        if code.startswith(("typedef struct", "typedef enum")):
            missing += [f"{name}.{member}" for member in undocumented_members(code)]
        elif (function := re.search(r"(\w+)\(((?:[^()]|\([^()]*\))*)\)\s*(?:;|\{)", code)) and "typedef" not in code:
            returns_nothing = re.search(r"\bvoid\s+\w+\(", code)
            missing += [f"{name}: @param {one}" for one in parameters(function[2]) if f"@param {one} " not in before]
            missing += [] if returns_nothing or "@return" in before else [f"{name}: @return"]
    return missing


def name_of(code: str) -> str:
    if code.startswith(("typedef struct", "typedef enum")):
        return code.rsplit("}", 1)[1].strip(" ;")
    callback = re.match(r"typedef .*\(\*(\w+)\)", code)
    return callback[1] if callback else re.search(r"(\w+)\s*(?:\(|\[|;)", code)[1]


def parameters(text: str) -> list[str]:
    if text == "void":
        return []
    return [re.search(r"(\w+)(?:\[[^]]*\])?$", part.strip())[1] for part in text.split(",") if part.strip() != "..."]


def undocumented_members(code: str) -> list[str]:
    body = code[code.index("{") + 1 : code.rindex("}")]
    parts, missing = re.split(f"({COMMENT})", body, flags=re.DOTALL), []
    for at in range(0, len(parts), 2):
        members = [one.strip() for one in re.split(r"[;,](?![^(]*\))", parts[at]) if one.strip()]
        before = at > 0 and re.match(r"/\*\*[^<]", parts[at - 1]) is not None
        after = at + 1 < len(parts) and parts[at + 1].startswith("/**<")
        missing += members[before : len(members) - after]
    return missing


@pytest.mark.parametrize("header", HEADERS)
def test_every_declaration_is_documented(header):
    assert undocumented(HEADERS[header]) == []


def test_what_is_not_documented_is_found():
    text = (CSRC / "kws_ring.h").read_text()
    for found, removed in [
        ("kws_ring.uint32_t told", "    /**< The reader's: of these, those that kws_ring_read has told of. */"),
        ("kws_ring_read: @param lost", " * @param lost"),
        ("kws_ring_init: @return", " * @return KWS_OK, or KWS_ERR_ARGUMENT."),
    ]:
        assert removed.strip() in text
        assert undocumented(text.replace(removed.strip(), "", 1)) == [found]
    bare = re.sub(r"/\*\*\n \* Takes samples out.*?\*/\n", "", text, flags=re.DOTALL)
    assert undocumented(bare)[0] == "kws_ring_read"
    text = (CSRC / "kws_status.h").read_text()
    assert undocumented(re.sub(r"/\*\*< An operator failed. \*/", "", text)) == ["kws_status.KWS_ERR_INVOKE = -30005"]


def test_what_can_fail_returns_a_status():
    """No function of the library returns an int."""
    text = "".join(HEADERS.values())
    functions = re.findall(r"^(?:static inline )?([\w ]+?\*?)\s*(kws_\w+)\(", text, re.MULTILINE)
    returns = {name: kind for kind, name in functions}
    assert sum(kind == "kws_status" for kind in returns.values()) >= 20
    assert "int" not in returns.values()


@pytest.mark.parametrize("path", [*C_FILES, *BUILD_FILES], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_names_its_licence(path):
    assert "SPDX-License-Identifier: Apache-2.0" in path.read_text().splitlines()[0]


def test_generated_files_name_their_licence(tmp_path):
    """The array of a model names that model's licence, unless its file says that it is ours."""
    pytest.importorskip("tflite_micro", exc_type=ImportError, reason="tflite-micro is not installed here")
    firmware = measured(Model("micro12", kernels="builtin"))
    for name, target in TARGETS.items():
        write(exported(firmware, target), tmp_path / "out" / name)
    for path in (tmp_path / "out").rglob("*"):
        if path.suffix in (".c", ".cc", ".cpp", ".h", ".ld", ".mk") or path.name in ("CMakeLists.txt", "Makefile"):
            lines = path.read_text().splitlines()
            assert sum("SPDX-License-Identifier: Apache-2.0" in line for line in lines[:2]) == 1, path
    for path in write_c_array(ROOT / "tests" / "models" / "one.tflite", tmp_path / "array"):
        assert path.read_text().splitlines()[1] == "/* SPDX-License-Identifier: LicenseRef-model */"


def clang_format() -> str:
    """Path of clang-format: pip's, which brings its program, or the system's."""
    found = importlib.util.find_spec("clang_format")
    programs = [Path(found.origin).parent / "data" / "bin" / "clang-format"] if found else []
    program = next((str(path) for path in programs if path.exists()), None) or shutil.which("clang-format")
    if program is None:
        pytest.skip("clang-format is not installed")
    return program


def test_code_is_formatted(tmp_path):
    style = f"--style=file:{TEMPLATES / 'library' / '.clang-format'}"
    sources = [path for path in C_FILES if path.suffix != ".ino" and path.parent != CSRC]  # .ino: Arduino's style
    for states, texts in SOURCES.items():
        (tmp_path / f"{states:d}").mkdir()
        for name, text in texts.items():
            sources.append(tmp_path / f"{states:d}" / name)
            sources[-1].write_text(text)
    command = [clang_format(), style, "--dry-run", "-Werror", *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]
    assert [path for path in C_FILES if max(map(len, path.read_text().splitlines())) > 120] == []


SHIFTS = """
#include "kws_shift.h"
int32_t shift32(int32_t value, int bits);
int64_t shift64(int64_t value, int bits);
int32_t shift32(int32_t value, int bits) { return kws_floor_shift(value, bits); }
int64_t shift64(int64_t value, int bits) { return kws_floor_shift64(value, bits); }
"""


@pytest.mark.parametrize("optimise", ["-O0", "-O2"])
def test_shifts_round_down(tmp_path, optimise):
    """Shifts round like Python's for every number of bits. The C standard does not promise it."""
    need_program("gcc")
    (tmp_path / "shifts.c").write_text(SHIFTS)
    options = [optimise, "-fPIC", "-shared", "-fsanitize=undefined", "-fno-sanitize-recover=all", f"-I{CSRC}"]
    compile_c("gcc", *options, tmp_path / "shifts.c", "-o", tmp_path / "shifts.so")
    c = ctypes.CDLL(str(tmp_path / "shifts.so"))
    c.shift64.restype = ctypes.c_int64
    rng = np.random.default_rng(0)
    for width, shift, kind in ((32, c.shift32, ctypes.c_int32), (64, c.shift64, ctypes.c_int64)):
        least = -(2 ** (width - 1))
        edges = [sign * 2**n + d for n in range(width) for sign in (-1, 1) for d in (-1, 0, 1)]
        values = [value for value in edges if least <= value < -least]
        values += rng.integers(least, -least - 1, 500, endpoint=True).tolist()
        for value in values:
            for bits in range(width):
                assert shift(kind(value), bits) == value >> bits, (value, bits)


LOGARITHMS = """
#include "kws_levels_float.c"
void logarithms(const float *x, float *y, int n);
void logarithms(const float *x, float *y, int n) {
    for (int i = 0; i < n; i++) {
        y[i] = natural_log(x[i]);
    }
}
"""


def test_logarithm_is_as_near_as_it_says(tmp_path):
    """It lies within 1.2e-7 relative or 5.1e-8 absolute, over all positive normal numbers and where its parts meet."""
    need_program("gcc")
    write_frontend(FrontendTables(preset("logmel40"), 1.0, -128), tmp_path / "src")
    src = tmp_path / "src"
    (src / "log.c").write_text(LOGARITHMS)
    c = shared_library(tmp_path / "log.so", [src / "log.c", src / "kws_fft.c", src / "kws_tables.c"])
    rng = np.random.default_rng(0)
    bits = rng.integers(0x00800000, 0x7F7FFFFF, 1_000_000, endpoint=True)
    joints = np.arange(1, 255)[:, None] * 2**23 + np.array([0, 1, 0x3504F2, 0x3504F3, 0x3504F4, 0x7FFFFF])
    x = np.concatenate([bits, joints.ravel(), 0x3F800000 + np.arange(-5000, 5000)]).astype(np.uint32).view(np.float32)
    y = np.empty_like(x)
    c.logarithms(ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(y.ctypes.data), len(x))
    wanted = np.log(x.astype(np.float64))
    error = np.abs(y - wanted)
    assert (error <= np.maximum(1.2e-7 * np.abs(wanted), 5.1e-8)).all()


def test_version_is_the_packages(tmp_path):
    need_program("gcc")
    (tmp_path / "kws_config.h").write_text(config_header("For a test.", {}))
    (tmp_path / "version.c").write_text(
        '#include <stdio.h>\n#include "kws_config.h"\n'
        "#if KWS_VERSION_NUMBER != KWS_VERSION_MAJOR * 10000 + KWS_VERSION_MINOR * 100 + KWS_VERSION_PATCH\n"
        "#error\n#endif\n"
        'int main(void) {\n    printf("%s %d.%d.%d", KWS_VERSION, KWS_VERSION_MAJOR, KWS_VERSION_MINOR, '
        "KWS_VERSION_PATCH);\n    return 0;\n}\n"
    )
    compile_c("gcc", tmp_path / "version.c", "-o", tmp_path / "version")
    said, numbers = subprocess.check_output([tmp_path / "version"], text=True).split()
    assert said == kws_edge.__version__
    assert said.startswith(numbers)


@pytest.mark.parametrize(
    ("version", "number"), [("1.2.3", 10203), ("0.1.0", 100), ("2.0.1.dev3", 20001), ("1.0.0rc1", 10000)]
)
def test_versions_as_numbers(monkeypatch, version, number):
    monkeypatch.setattr(kws_edge, "__version__", version)
    macros = version_macros()
    assert (macros["KWS_VERSION"], macros["KWS_VERSION_NUMBER"]) == (version, number)
