"""The ESPHome component: its configuration by ESPHome itself, and its code on this machine, on recorded audio."""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from firmware_export.export import prepare
from firmware_export.manifest import write
from kws_edge import Metadata, Model, Spotter, pack, shipped_models, unpack
from kws_edge.audio.level import level_db
from tests.conftest import need_program
from tests.firmware.host import HERE, write_tflm
from tests.test_step_stream import GRAPH, METADATA

pytestmark = [pytest.mark.host, pytest.mark.firmware]

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed here")
pytest.importorskip("tflite_micro", exc_type=ImportError, reason="tflite-micro is not installed here")

ESPHOME = os.environ.get("KWS_ESPHOME") or shutil.which("esphome")
OURS = HERE / "esphome"
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror"]
COMPILERS = {"gcc": "g++", "clang": "clang++"}


def esphome(*arguments, cwd):
    """Run ESPHome, without the colours of its log."""
    if not ESPHOME:
        pytest.skip("ESPHome is not installed: KWS_ESPHOME names no program, and there is none in PATH")
    done = subprocess.run(
        [ESPHOME, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False, timeout=200
    )
    done.stdout, done.stderr = (re.sub(r"\x1b\[[0-9;]*m", "", text) for text in (done.stdout, done.stderr))
    return done


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    folder = tmp_path_factory.mktemp("micro12")
    write(prepare(Model("micro12", kernels="builtin"), target="esphome"), folder)
    return folder


def checked(config, folder):
    """The result of ``esphome config`` on a configuration, a text or a mapping."""
    path = folder / "test.yaml"
    path.write_text(config if isinstance(config, str) else yaml.safe_dump(config))
    return esphome("config", path.name, cwd=folder)


def parts(export):
    """The example of an export, as a mapping."""
    config = yaml.safe_load((export / "kws_edge.yaml").read_text())
    config["external_components"] = [{"source": str(export / "components")}]
    return config


def test_example_passes_esphome_config(export):
    done = esphome("config", "kws_edge.yaml", cwd=export)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Configuration is valid" in done.stdout + done.stderr


@pytest.mark.parametrize("form", ["list", "mapping"])
def test_two_words_in_one_configuration(export, tmp_path, form):
    config = parts(export)
    words = {"stop": [{"kws_edge.stop": {}}], "off": [{"logger.log": "off"}, {"kws_edge.start": {}}]}
    config["kws_edge"]["on_command"] = words if form == "mapping" else [{word: do} for word, do in words.items()]
    done = checked(config, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "stop:" in done.stdout and "'off':" in done.stdout


def _word(word):
    return {"on_command": [{word: [{"logger.log": "heard"}]}]}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_word("halt"), "'halt' is no word of micro12; there are yes, no, up"),
        (_word(True), "put the word in quotes"),
        ({"on_command": ["stop"]}, "give a word and its actions"),
        ({"on_command": [{"stop": [{"no.such": {}}]}]}, "no.such"),
    ],
    ids=["unknown", "boolean", "no actions", "actions"],
)
def test_what_the_configuration_gets_wrong(export, tmp_path, change, reason):
    config = parts(export)
    config["kws_edge"] |= change
    done = checked(config, tmp_path)
    assert done.returncode != 0
    assert reason in " ".join((done.stdout + done.stderr).split())


def test_a_microphone_of_another_rate_is_refused(export, tmp_path):
    config = parts(export)
    config["microphone"][0]["sample_rate"] = 48000
    done = checked(config, tmp_path)
    assert done.returncode != 0
    assert "16000" in done.stdout + done.stderr


def test_another_framework_is_refused(export, tmp_path):
    config = parts(export)
    config["esp32"]["framework"]["type"] = "arduino"
    done = checked(config, tmp_path)
    assert done.returncode != 0
    assert "it takes the framework esp-idf, not arduino" in done.stdout + done.stderr


@pytest.fixture
def without_points(tmp_path):
    """micro12 without operating points, exported."""
    flatbuffer, metadata = unpack(Path(shipped_models()["micro12"]).read_bytes(), "micro12")
    names = ("labels", "frontend_config", "detector_config")
    path = tmp_path / "plain.tflite"
    path.write_bytes(pack(flatbuffer, Metadata(**{name: getattr(metadata, name) for name in names})))
    write(prepare(Model(path, kernels="builtin"), target="esphome"), tmp_path / "out")
    return tmp_path / "out"


def test_model_without_sensitivities(without_points, tmp_path):
    """The example has no number, and a number is refused."""
    assert json.loads((without_points / "components/kws_edge/model.json").read_text())["sensitivity"] is None
    config = parts(without_points)
    assert "number" not in config
    done = checked(config, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    config["number"] = [{"platform": "kws_edge", "sensitivity": {"name": "Sensitivity"}}]
    done = checked(config, tmp_path)
    assert done.returncode != 0
    assert "was exported without sensitivities; leave this number out" in done.stdout + done.stderr


class Program:
    """An export, and the code that ESPHome generates for ``host.yaml``, compiled for this machine.

    Compiled files lie in `objects`, where another program finds those that it shares.
    """

    def __init__(self, model, folder, objects, words=("stop", "on")):
        self.model, self.folder, self.objects = model, folder, objects
        write(prepare(Model(model, kernels="builtin"), target="esphome"), folder / "out")
        config = (OURS / "host.yaml").read_text()
        config = config.replace("EXPORTED", str(folder / "out")).replace("COMPONENTS", str(OURS / "components"))
        config = config.replace("WORD_1", words[0]).replace("WORD_2", words[1])
        (folder / "host.yaml").write_text(config)
        done = esphome("compile", "--only-generate", "host.yaml", cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
        self.src = folder / ".esphome" / "build" / "kws-test" / "src"
        self.component = self.src / "esphome" / "components" / "kws_edge"
        text = (self.src.parent / "platformio.ini").read_text()
        self.flags = [flag for flag in re.findall(r"^ +(-\S+)$", text, re.MULTILINE) if "-Wno" not in flag]
        write_tflm(folder / "tflm", "tflite")

    def compile(self, source, *options, compiler="gcc"):
        """Compile a file as ESPHome does. In the component's own files each warning is an error."""
        command = [compiler] if source.suffix == ".c" else [COMPILERS[compiler], *self.flags]
        own = source.is_relative_to(self.component) or not source.is_relative_to(self.src)
        command += [*(STRICT if own else ["-w"]), "-DUSE_HOST", "-fPIC", "-isystem", self.src]
        command += ["-isystem", self.folder / "tflm", *options, source]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def object(self, source):
        """A compiled file. Its name is made of what it depends on."""
        texts = [source, self.src / "esphome" / "core" / "defines.h"]
        if source.parent == self.component or source.parent == self.src:  # these include the model's headers
            texts += sorted(self.component.glob("*.h"))
        made = self.objects / hashlib.sha256(b"".join(path.read_bytes() for path in texts)).hexdigest()
        if not made.exists():
            self.compile(source, "-c", "-o", made)
        return made

    def library(self, name="program"):
        """All of it as a shared library, with ``tflm_bridge.cc`` in place of TensorFlow Lite Micro."""
        sources = [*sorted(self.src.rglob("*.c")), *sorted(self.src.rglob("*.cpp")), HERE / "tflm_bridge.cc"]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            made = list(pool.map(self.object, sources))
        library = self.folder / f"{name}.so"
        command = ["g++", "-shared", *map(str, made), "-lm", "-lpthread", "-o", str(library)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return library

    def run(self, library, samples, *, linger=0.5, limit=250, **environment):
        """The lines that the program logs while it hears these samples."""
        home = self.folder / "home"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        samples.tofile(self.folder / "recording.raw")
        variables = {"HOME": home, "RECORDING": self.folder / "recording.raw", "RECORDING_FOLLOWS": "1", **environment}
        done = subprocess.run(
            [sys.executable, "-m", "tests.firmware.esphome.run", library, self.model, str(linger), str(limit)],
            cwd=HERE.parent.parent,
            env=os.environ | {name: str(value) for name, value in variables.items()},
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )
        assert done.returncode == 0, done.stderr
        return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in done.stdout.splitlines()]


def commands(lines):
    """Words and scores that ``on_any_command`` logged."""
    found = (re.search(r"command (\S+) (\d\.\d{6})", line) for line in lines)
    return [(match[1], float(match[2])) for match in found if match]


def assert_as_on_the_host(lines, model, samples, sensitivity=None):
    """The words are the host's. Features may differ by a step, and so scores by a little."""
    model = Model(model, kernels="builtin")
    config = None if sensitivity is None else model.operating_point(sensitivity).applied(model.detector_config)
    steps = Spotter(model, detector_config=config).process_steps(samples)
    expected = [(step.detection.keyword, step.detection.score) for step in steps if step.detection]
    found = commands(lines)
    assert [word for word, _ in found] == [word for word, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=0.02)
    assert len(found) >= 3


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    if not ESPHOME:
        pytest.skip("ESPHome is not installed: KWS_ESPHOME names no program, and there is none in PATH")
    need_program("g++")
    return tmp_path_factory.mktemp("objects")


@pytest.fixture(scope="module")
def program(objects, tmp_path_factory):
    return Program("micro12", tmp_path_factory.mktemp("program"), objects)


@pytest.fixture(scope="module")
def library(program):
    return program.library()


@pytest.fixture(scope="module")
def samples(demo_stream):
    return soundfile.read(demo_stream, dtype="int16")[0]


@pytest.mark.parametrize("compiler", COMPILERS)
def test_compiles_without_a_warning(program, compiler, tmp_path):
    """All files of the component, with ESPHome's headers. A file of ours uses each of its templates."""
    need_program(COMPILERS[compiler])
    (tmp_path / "all.cpp").write_text(
        f'#include "{program.component}/automation.h"\n#include "{program.component}/sensitivity.h"\n'
        "namespace esphome::kws_edge {\ntemplate class StartAction<>;\ntemplate class StopAction<std::string, float>;\n"
        "template class IsRunningCondition<>;\n}\n"
    )
    sources = [*program.component.glob("*.c"), *program.component.glob("*.cpp"), tmp_path / "all.cpp"]
    assert len(sources) > 15
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda source: program.compile(source, "-fsyntax-only", compiler=compiler), sources))


def test_hears_what_the_host_hears(program, library, samples):
    """The self-test passes at boot. Words, scores and levels are the host's, and nothing is lost."""
    lines = program.run(library, samples)
    text = "\n".join(lines)
    assert "self-test passed" in text and "FAILED" not in text
    assert "samples were lost" not in text
    assert_as_on_the_host(lines, program.model, samples)
    scores = [float(score) for score in re.findall(r"'Score': Sending state (\d+\.\d+) %", text)]
    assert scores == pytest.approx([100 * score for _, score in commands(lines)], abs=1e-3)
    levels = [float(level) for level in re.findall(r"'Level': Sending state (-\d+\.\d+) dB", text)]
    assert len(levels) >= len(samples) // 16000 - 1
    blocks = np.array_split(samples[: 16000 * len(levels)], len(levels))
    assert levels == pytest.approx([level_db(block) for block in blocks], abs=0.5)


def test_a_network_with_state_hears_what_the_host_hears(objects, samples, tmp_path):
    """It does so at its own sensitivity, and at another."""
    own = METADATA.detector_config.threshold
    rates = {"misses": 0.1, "false_accepts_per_hour": 1.0}
    points = [{"sensitivity": s, "threshold": t, **rates} for s, t in ((0, 0.99), (0.5, own), (1, own / 2))]
    model = tmp_path / "step.tflite"
    model.write_bytes(pack(GRAPH, dataclasses.replace(METADATA, metrics={"operating_points": points})))
    program = Program(str(model), tmp_path, objects, words=("rise", "fall"))
    library = program.library()
    lines = program.run(library, samples)
    assert "self-test passed" in "\n".join(lines)
    assert_as_on_the_host(lines, program.model, samples)
    assert_as_on_the_host(program.run(library, samples, SENSITIVITY="1"), program.model, samples, 1.0)


def test_triggers_and_restarts(program, library, samples):
    """A word of its own triggers its own actions. Listening ends and begins by actions."""
    lines = program.run(library, samples, RESTART="1")
    text, words = "\n".join(lines), [word for word, _ in commands(lines)]
    assert len(re.findall("the first word is heard", text)) == words.count("stop") > 0
    assert text.count("it is stopped") == words.count("on") > 0
    assert text.count("]: listening") == 1 + words.count("on")
    assert len(words) >= 8


@pytest.mark.parametrize("sensitivity", ["0", "0.3", "1"])
def test_sensitivity_is_the_hosts(program, library, samples, sensitivity):
    lines = program.run(library, samples, SENSITIVITY=sensitivity)
    assert_as_on_the_host(lines, program.model, samples, float(sensitivity))


def test_a_microphone_that_falls_silent_is_told(program, library, samples):
    lines = program.run(library, samples[:32000], linger=6)
    assert any("error the microphone gives no samples" in line for line in lines)


def test_a_board_that_computes_something_else_does_not_listen(program, samples):
    """The self-test fails, the component says so, and the microphone never starts."""
    vectors = program.component / "kws_vectors.c"
    text = vectors.read_text()
    head, body = text.split("kws_vector_features[KWS_VECTOR_CLIPS][KWS_INPUT_SIZE] = {", 1)
    wrong = re.sub(r"-?\d+", lambda value: str(-int(value[0])) if int(value[0]) > -128 else "127", body[:4000])
    vectors.write_text(f"{head}kws_vector_features[KWS_VECTOR_CLIPS][KWS_INPUT_SIZE] = {{{wrong}{body[4000:]}")
    try:
        lines = program.run(program.library("wrong"), samples[:16000], limit=15)
    finally:
        vectors.write_text(text)
    said = "\n".join(lines)
    assert "FAILED: " in said
    assert "error the self-test failed (KWS_ERR -30007)" in said
    assert "]: listening" not in said
