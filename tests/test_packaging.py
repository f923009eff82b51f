"""What `pip install` brings."""

import configparser
import re
import zipfile

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def wheel(built_wheel):
    with zipfile.ZipFile(built_wheel) as archive:
        yield archive


def test_data_travels(wheel):
    names = set(wheel.namelist())
    wanted = ("models/commands12.tflite", "demo/stream.flac", "demo/stream.csv")
    assert {f"kws_edge/{name}" for name in wanted} <= names
    sources = [
        path for path in (ROOT / "firmware_export").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    assert len(sources) > 40
    assert {path.relative_to(ROOT).as_posix() for path in sources} <= names
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"kws_edge", "host_tools", "firmware_export"}
    assert any(name.endswith("NOTICE") for name in names)
    assert any(name.endswith("LICENSE") for name in names)


def metadata(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith("METADATA"))
    return wheel.read(name).decode().splitlines()


def requirements(wheel, **platform):
    """Names and versions that pip would install on a platform, without extras."""
    from packaging.requirements import Requirement

    lines = [line.split(": ", 1)[1] for line in metadata(wheel) if line.startswith("Requires-Dist: ")]
    found = {}
    for requirement in map(Requirement, lines):
        if requirement.marker is None or requirement.marker.evaluate({"extra": "", **platform}):
            found[requirement.name] = found.get(requirement.name, "") + str(requirement.specifier)
    return found


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
@pytest.mark.parametrize(
    ("machine", "system"), [("x86_64", "linux"), ("aarch64", "linux"), ("arm64", "darwin"), ("AMD64", "win32")]
)
def test_litert_where_it_has_wheels(wheel, python, machine, system):
    found = requirements(wheel, platform_machine=machine, sys_platform=system, python_version=python)
    light = system == "linux" and python != "3.13"
    assert found["ai-edge-litert"] in ({"==1.3.*"} if light else {"<2.2,>=2.1.6", ">=2.1.6,<2.2"})
    assert not {"tflite-runtime", "tensorflow", "tensorflow-cpu", "keras", "scipy", "matplotlib"} & set(found)


@pytest.mark.parametrize("machine", ["armv7l", "armv8l"])  # the second: a 64-bit kernel under linux32
def test_tflite_runtime_on_32_bit_arm(wheel, machine):
    found = requirements(wheel, platform_machine=machine, sys_platform="linux", python_version="3.11")
    assert found["tflite-runtime"] == "==2.14.*"
    assert "<2" in found["numpy"]
    assert "ai-edge-litert" not in found


def test_no_runtime_for_newer_python_on_32_bit_arm(wheel):
    """There is none: pip installs the rest, and the program says which systems have one."""
    found = requirements(wheel, platform_machine="armv7l", sys_platform="linux", python_version="3.13")
    assert not {"ai-edge-litert", "tflite-runtime", "tensorflow"} & set(found)


def test_tensorflow_as_a_last_resort(wheel):
    found = requirements(wheel, platform_machine="x86_64", sys_platform="darwin", python_version="3.12")
    assert "tensorflow" in found


def test_commands(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    parser = configparser.ConfigParser()
    parser.read_string(wheel.read(name).decode())
    assert set(parser["console_scripts"]) == {"kws-edge", "kws-host", "kws-firmware"}


@pytest.mark.parametrize(("package", "least"), [("firmware_export", 4), ("host_tools", 12)])
def test_help_of_the_workstation(run_cli, package, least):
    """Of the programs and of every command that they name."""
    shown = run_cli("--help", package=package)
    assert shown.returncode == 0, shown.stderr.decode()
    commands = re.findall(r"^    ([a-z][a-z-]*)(?: |$)", shown.stdout.decode(), re.MULTILINE)
    assert len(commands) >= least
    for command in commands:
        shown = run_cli(command, "--help", package=package)
        assert shown.returncode == 0, shown.stderr.decode()
        assert b"usage: " in shown.stdout
        assert not shown.stderr
