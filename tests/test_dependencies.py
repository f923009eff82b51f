"""Which package may import which, and what importing costs."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"tensorflow", "keras", "matplotlib", "scipy", "torch", "jax", "tqdm", "host_tools", "firmware_export"}
FORBIDDEN = {
    "kws_edge": HEAVY - {"matplotlib"},  # kws_edge.cli.plot loads it to draw a plot
    "firmware_export": {"host_tools", "tensorflow", "keras"},
    "host_tools": {"firmware_export"},
}


def imports(path):
    """Modules that a file imports, and the names that it takes from them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", FORBIDDEN)
def test_direction(package):
    files = list((ROOT / package).rglob("*.py"))
    assert len(files) > 1
    for path in files:
        wrong = {name.split(".")[0] for name in imports(path)} & FORBIDDEN[package]
        assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(wrong)}"


@pytest.mark.parametrize("package", FORBIDDEN)
def test_no_modules_import_each_other_in_a_circle(package):
    """This holds for imports at load time and for later ones in functions."""
    paths = (ROOT / package).rglob("*.py")
    files = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
    graph = {name: {one for one in imports(path) if one in files and one != name} for name, path in files.items()}
    assert sum(map(len, graph.values())) > 30
    graphlib.TopologicalSorter(graph).prepare()


def test_host_tools_compute_no_front_end_of_their_own():
    for path in (ROOT / "host_tools").rglob("*.py"):
        assert not re.search(r"\b(rfft|stft|hann\w*|linear_to_mel\w*|rint)\b", path.read_text()), path.name


def loaded_by(code):
    script = f"import sys\n{code}\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_import_is_light():
    late = {"soundfile", "sounddevice", "soxr", "ai_edge_litert", "tflite_runtime", "rich"}
    assert not loaded_by("import kws_edge") & (HEAVY | late)


def test_detecting_is_light(demo_stream):
    code = (
        "from kws_edge import *\n"
        f"with AudioFile({str(demo_stream)!r}, sample_rate=16000) as audio:\n"
        "    print(len(list(Spotter(Model()).steps(audio))))\n"
    )
    assert not loaded_by(code) & (HEAVY | {"sounddevice", "soxr"})


def test_help_is_light():
    code = "import sys; sys.argv = ['kws-edge', 'info']\nfrom kws_edge.cli import make_parser; make_parser()"
    assert not loaded_by(code) & (HEAVY | {"sounddevice", "soundfile", "ai_edge_litert", "tflite_runtime"})


def test_listening_is_light():
    """Listening loads only what the microphone and the model need.

    It loads no parser of e-mails or addresses, nothing for archives, no OpenSSL and no other command. Modules that
    NumPy 1 and pathlib load do not count.
    """
    code = (
        "from kws_edge import *; from kws_edge.cli import make_parser\n"
        "make_parser(['listen']).parse_args(['listen']); Spotter(Model())\n"
        "print(*[name.replace('.', '_') for name in sys.modules if name.startswith('kws_edge.cli.')])\n"
    )
    loaded = loaded_by(code) - loaded_by("import numpy, pathlib")
    assert "kws_edge_cli_listen" in loaded
    late = {"_hashlib", "email", "ipaddress", "shlex", "socket", "zipfile"}
    late |= {f"kws_edge_cli_{name}" for name in ("bench", "calibrate", "hooks")}
    assert not loaded & (HEAVY | late)


def test_serving_loads_only_the_outputs_that_are_configured(tmp_path):
    """Each output's library, and the modules for its network, load when the file has its section."""
    late = {"asyncio", "email", "http", "paho", "ssl", "wyoming", "zeroconf", "h11", "sounddevice", "soundfile"}
    outputs = {"kws_edge_service_outputs_base", "kws_edge_service_outputs"}

    def loaded(text):
        (tmp_path / "serve.toml").write_text(text)
        return loaded_by(
            "from kws_edge.service.service import Service\n"
            f"Service({str(tmp_path / 'serve.toml')!r}, notice=print)\n"
            "print(*[name.replace('.', '_') for name in sys.modules if name.startswith('kws_edge.service.outputs')])\n"
        )

    without = loaded_by("import numpy, pathlib")
    alone = loaded("") - without
    assert not alone & (HEAVY | late)
    assert {name for name in alone if "outputs" in name} <= outputs
    more = loaded('[jsonl]\n[[exec]]\ncommand = "true"\n') - without
    assert not more & (HEAVY | late)
    assert {name for name in more if "outputs" in name} - outputs == {
        "kws_edge_service_outputs_jsonl",
        "kws_edge_service_outputs_exec",
    }


def test_spotting_is_light():
    """Spotting on your own blocks loads nothing for microphones, files or threads."""
    code = (
        "from kws_edge import Model, Spotter; Spotter(Model())\n"
        "print(*[name.replace('.', '_') for name in sys.modules if name.startswith('kws_edge.')])\n"
    )
    loaded = loaded_by(code) - loaded_by("import numpy")
    assert "kws_edge_spotter" in loaded
    audio = {name.removeprefix("kws_edge_audio_") for name in loaded if name.startswith("kws_edge_audio_")}
    assert audio == {"source", "limits"}
    assert not loaded & (HEAVY | {"pathlib", "soundfile", "threading", "zipfile"})


def test_host_and_firmware_commands_start_without_tensorflow():
    for package in ("host_tools", "firmware_export"):
        assert not loaded_by(f"import {package}.cli") & {"tensorflow", "keras"}


def test_only_the_command_that_is_named_is_loaded():
    code = (
        "from host_tools.cli import make_parser; make_parser(['import', 'x']); import sys\n"
        "print(*[name.replace('.', '_') for name in sys.modules if name.startswith('host_tools.')])\n"
    )
    loaded = {name for name in loaded_by(code) if name.startswith("host_tools_cli_")}
    assert loaded == {"host_tools_cli_options", "host_tools_cli_model_import"}
