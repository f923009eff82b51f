"""``kws-firmware export --for``: each system gets its own files. ``kws-firmware boards``: estimates for boards."""

import dataclasses
import json
import re

import pytest

from firmware_export.boards import BOARDS, describe_boards
from firmware_export.export import exported, measured, prepare
from firmware_export.target import TARGETS
from kws_edge import ConfigError, Model, Spotter
from kws_edge.detection.sensitivity import point_at

pytestmark = [pytest.mark.host, pytest.mark.firmware]

pytest.importorskip("tflite_micro", exc_type=ImportError, reason="tflite-micro is not installed here")


@pytest.fixture
def run(run_cli):
    return lambda *arguments, **options: run_cli(*arguments, package="firmware_export", **options)


@pytest.fixture(scope="module")
def firmware():
    return measured(Model("micro12", kernels="builtin"))


@pytest.fixture(scope="module")
def exports(firmware):
    """Exports of micro12 by target."""
    return {name: exported(firmware, target) for name, target in TARGETS.items()}


def test_each_target_has_its_own_files_alone(exports):
    """The sources are the same, except for C++ sources of ESPHome. No file of another target is there."""
    own = {
        "cmake": {"CMakeLists.txt", "examples/cortex_m/Makefile"},
        "idf": {"CMakeLists.txt", "idf_component.yml", "examples/esp32s3_i2s/main/main.c"},
        "arduino": {"library.properties", "examples/nano33ble_pdm/nano33ble_pdm.ino"},
        "platformio": {"library.json", "examples/nano33ble_pdm/nano33ble_pdm.ino"},
        "zephyr": {"zephyr/module.yml", "examples/nano33ble_dmic/src/main.c"},
        "esphome": {"kws_edge.yaml", "components/kws_edge/__init__.py"},
    }
    assert own.keys() == exports.keys()
    marks = set().union(*own.values())
    sources = {path: text for path, text in exports["cmake"].files.items() if path.startswith("src/")}
    for name, export in exports.items():
        assert marks & export.files.keys() == own[name], name
        assert {"README.md", "LICENSE", "NOTICE"} <= export.files.keys()
        assert export.summary["target"] == name
        for path, text in sources.items():
            assert export.files[TARGETS[name].source(path[4:])] == text
        assert not any(re.search("@[A-Z_]+@", text) for text in export.files.values())


def test_packages_parse(exports):
    library = json.loads(exports["platformio"].files["library.json"])
    assert library["name"]
    assert library["version"]
    arduino = exports["arduino"].files
    properties = dict(line.split("=", 1) for line in arduino["library.properties"].splitlines() if line.strip())
    required = {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures"}
    assert required <= set(properties)
    assert f"src/{properties['includes'].split(',')[0]}" in arduino
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed here")
    component = yaml.safe_load(exports["idf"].files["idf_component.yml"])
    assert "espressif/esp-tflite-micro" in component["dependencies"]
    assert "build" in yaml.safe_load(exports["zephyr"].files["zephyr/module.yml"])


def test_only_the_default_target_runs_in_qemu(run, tmp_path):
    done = run("export", "micro12", "-o", "out", "--for", "idf", "--with-tflm", ".")
    assert done.returncode == 2
    assert b"--with-tflm builds the example of --for cmake; leave it out for idf" in done.stderr
    assert run("export", "micro12", "-o", "out", "--for", "esp").returncode == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("target", "file"),
    [("arduino", "library.properties"), ("platformio", "library.json"), ("zephyr", "zephyr/module.yml")],
)
def test_package_managers_tell_two_models_apart(firmware, exports, target, file):
    lamp = exported(dataclasses.replace(firmware, prefix="lamp"), TARGETS[target]).files[file]
    assert lamp != exports[target].files[file]
    assert "lamp" in lamp


def test_an_esphome_component_has_no_prefix():
    with pytest.raises(ConfigError, match="--prefix lamp: an ESPHome component has names of its own"):
        prepare(Model("micro12", kernels="builtin"), target="esphome", prefix="lamp")


def test_sensitivities_are_the_hosts(exports):
    """Each row of the table has the thresholds of a sensitivity; the middle one is the model's own."""
    files, model = exports["cmake"].files, Model("micro12", kernels="builtin")
    assert exports["cmake"].summary["sensitivity"] == {"steps": 20, "initial": 0.5}
    text = files["src/kws_sensitivities.c"]
    rows = re.findall(r"\.thresholds = \{(.*?)\}", text)
    (own,) = re.findall(r"\.thresholds = \{(.*?)\}", files["src/kws_detector_config.c"])
    assert len(rows) == 21
    assert rows[10] == own
    for step in (0, 3, 20):
        point = point_at(model.metadata.operating_points, step / 20)
        detector = Spotter(model, detector_config=point.applied(model.detector_config)).detector
        sums = [int(value) for value in rows[step].split(", ")]
        n = detector.smoothing_steps
        for threshold, active, total in zip(detector.thresholds, detector.active, sums, strict=True):
            assert (total - 1) / 256 / n < threshold <= total / 256 / n if active else total == 0


def test_thresholds_of_ones_own_leave_no_sensitivities(run, tmp_path):
    done = run("export", "micro12", "--threshold", "0.7", "-o", "out", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sensitivity"] is None
    assert "KWS_SENSITIVITY_STEPS 0" in (tmp_path / "out/src/kws_config.h").read_text()


def test_boards(run):
    """A line for each board. It says which step a slow one takes, and that one keeps up."""
    text = run("boards", "micro12").stdout.decode()
    assert "all figures are estimates" in text
    lines = {line.split("  ")[0].split(" ")[0]: line for line in text.splitlines()[2:-1]}
    assert list(lines) == [board.name for board in BOARDS] and len(BOARDS) == 7
    step = int(re.search(r"too slow: export with --step-ms (\d+)", lines["nRF52840"])[1])
    rows = json.loads(run("boards", "micro12", "--step-ms", str(step), "--json").stdout)
    (row,) = [row for row in rows if row["board"] == "nRF52840"]
    assert 0.9 < row["cpu"] <= 1
    assert row["ram_bytes"] < 1024 * row["ram_kib"]
    assert all(other["cpu"] > 0 for other in rows)


def test_boards_that_no_step_helps_and_that_lack_memory():
    row = {"board": "X", "core": "C", "mhz": 1, "inference_ms": 1.0, "ram_bytes": 3000, "ram_kib": 2}
    (_, line) = describe_boards([row | {"cpu": 2.0, "least_step_ms": None}])
    assert line.endswith("3 of 2 KiB, too little, too slow for any step")
