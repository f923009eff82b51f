"""The files and requirements that `pip install` brings."""

import ast
import configparser
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, build_wheel, copied

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def wheel(built_wheel):
    with zipfile.ZipFile(built_wheel) as archive:
        yield archive


PACKAGES = {"kws_edge", "host_tools", "firmware_export"}


def test_the_wheel_holds_the_packages_and_nothing_else(wheel, repository):
    """It holds code, models, sounds, C sources, cards and marks of typing, no tests. Licences lie in the metadata."""
    ours = {name for name in repository if name.split("/")[0] in PACKAGES}
    assert len(ours) > 150
    assert {f"{package}/py.typed" for package in PACKAGES} < ours
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == ours
    licences = {name.split("/licenses/")[1] for name in wheel.namelist() if "/licenses/" in name}
    assert licences == {"LICENSE", "NOTICE"}


@pytest.fixture(scope="module")
def unpacked(built_sdist, tmp_path_factory):
    """The folder that the source distribution unpacks to."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(built_sdist) as archive:
        archive.extractall(folder, filter="data")
    (path,) = folder.iterdir()
    return path


def test_the_sdist_holds_all_of_the_repository(unpacked, repository):
    held = {path.relative_to(unpacked).as_posix(): path for path in unpacked.rglob("*") if path.is_file()}
    assert set(repository) <= set(held)
    added = {name for name in held if name not in repository}
    assert {name.split("/")[0] for name in added} <= {"PKG-INFO", "kws_edge.egg-info"}
    for name in repository:
        same = held[name].read_bytes() == (ROOT / name).read_bytes()
        assert same or name.split("/")[0] in ("setup.cfg", "PKG-INFO", "kws_edge.egg-info"), name
    assert os.access(held[".ci/run"], os.X_OK)


def test_the_wheel_is_the_same_from_the_sdist(wheel, repository, tmp_path):
    with zipfile.ZipFile(build_wheel(copied(repository, tmp_path / "checkout"), tmp_path)) as other:
        assert sorted(other.namelist()) == sorted(wheel.namelist())
        for name in wheel.namelist():
            assert other.read(name) == wheel.read(name), name


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is a source distribution's folder")
def test_tests_run_from_the_sdist(unpacked):
    """The source distribution suffices for the tests, without git."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KWS_TEST_RUN", "PYTEST"))}
    files = ["test_packaging.py", "test_public_api.py", "test_benchmarks.py", "test_foreign_models.py"]
    options = ["-q", "-p", "no:cacheprovider", "-k", "wheel or public or ratios or macs"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *(f"tests/{name}" for name in files)],
        cwd=unpacked,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]


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


@pytest.mark.parametrize("machine", ["armv7l", "armv8l"])  # armv8l: a 64-bit kernel under linux32
def test_tflite_runtime_on_32_bit_arm(wheel, machine):
    found = requirements(wheel, platform_machine=machine, sys_platform="linux", python_version="3.11")
    assert found["tflite-runtime"] == "==2.14.*"
    assert "<2" in found["numpy"]
    assert "ai-edge-litert" not in found


def test_no_runtime_for_newer_python_on_32_bit_arm(wheel):
    """Without a runtime pip installs the rest, and the program says which systems have one."""
    found = requirements(wheel, platform_machine="armv7l", sys_platform="linux", python_version="3.13")
    assert not {"ai-edge-litert", "tflite-runtime", "tensorflow"} & set(found)


def test_tensorflow_as_a_last_resort(wheel):
    found = requirements(wheel, platform_machine="x86_64", sys_platform="darwin", python_version="3.12")
    assert "tensorflow" in found


def test_metadata_names_licence_and_types(wheel):
    """The licence is an expression and files, as PEP 639 defines."""
    lines = metadata(wheel)
    assert "License-Expression: Apache-2.0" in lines
    assert {"License-File: LICENSE", "License-File: NOTICE"} <= set(lines)
    assert not [line for line in lines if line.startswith(("License: ", "Classifier: License"))]
    assert "Requires-Python: >=3.10" in lines
    assert "Classifier: Typing :: Typed" in lines
    assert "Description-Content-Type: text/markdown" in lines


PROGRAM = """
from kws_edge import {names}

for detection in Spotter(Model("commands12")).detections(AudioFile("a.wav", sample_rate=16000)):
    print(detection.keyword.upper(), detection.score + 1)
"""

WRONG = """
from firmware_export.export import prepare
from host_tools.evaluation.mistakes import posterior_columns
from kws_edge import Model

Model("commands12").frontend_config.hop_length.upper()
prepare("micro12")
posterior_columns(2)
"""


def test_type_checkers_know_the_types(built_wheel, tmp_path):
    """With the installed wheel, mypy's strict mode accepts a right program of public names, and no wrong one."""
    import kws_edge

    pytest.importorskip("mypy")
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    (packages,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    (packages / "numpy.pth").write_text(str(Path(np.__file__).parents[1]))
    with zipfile.ZipFile(built_wheel) as archive:
        archive.extractall(packages)
    (tmp_path / "right.py").write_text(PROGRAM.format(names=", ".join(sorted(kws_edge.__all__))))
    (tmp_path / "wrong.py").write_text(WRONG)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "right.py", "wrong.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert not re.search(r"^right\.py", done.stdout, re.MULTILINE), done.stdout
    errors = re.findall(r"^wrong\.py:(\d+): error: .* \[(.*)\]$", done.stdout, re.MULTILINE)
    assert errors == [("6", "attr-defined"), ("7", "arg-type"), ("8", "arg-type")], done.stdout


def test_installed_firmware_export_finds_the_licences(built_wheel, tmp_path):
    """An exported folder holds the licences. A wheel has them beside its metadata."""
    with zipfile.ZipFile(built_wheel) as archive:
        archive.extractall(tmp_path)
    script = (
        "from firmware_export.licences import *; from kws_edge import Model; "
        "print(licence_files(Model('micro12'), 'src/model.cc'))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    texts = ast.literal_eval(done.stdout)
    assert texts["LICENSE"] == (ROOT / "LICENSE").read_text()
    assert texts["NOTICE"].endswith((ROOT / "NOTICE").read_text())
    (licence,) = tmp_path.glob("*.dist-info/licenses/LICENSE")
    licence.unlink()
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "ConfigError: kws-edge was installed without its LICENSE" in done.stderr


@pytest.mark.parametrize("command", ["recipe plan commands12", "collect --only none --from repositories -o out"])
def test_installed_recipes_and_tables_are_found(built_wheel, tmp_path, command):
    with zipfile.ZipFile(built_wheel) as archive:
        archive.extractall(tmp_path)
    command = [sys.executable, "-m", "host_tools", *command.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    if "plan" in command:
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("commands12: ") and "(also_said)" in done.stdout
        assert (tmp_path / "host_tools" / "recipes" / "sources" / "librispeech_words.csv").is_file()
    else:
        assert (
            f"not among the repositories: none; {tmp_path}/host_tools/recipes/sources/repositories.toml" in done.stderr
        )


def test_commands(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    parser = configparser.ConfigParser()
    parser.read_string(wheel.read(name).decode())
    assert set(parser["console_scripts"]) == {"kws-edge", "kws-host", "kws-firmware"}


@pytest.mark.parametrize(("package", "least"), [("firmware_export", 4), ("host_tools", 12)])
def test_help_of_the_workstation(run_cli, package, least):
    """It covers the programs and every command that they name."""
    shown = run_cli("--help", package=package)
    assert shown.returncode == 0, shown.stderr.decode()
    commands = re.findall(r"^    ([a-z][a-z-]*)(?: |$)", shown.stdout.decode(), re.MULTILINE)
    assert len(commands) >= least
    for command in commands:
        shown = run_cli(command, "--help", package=package)
        assert shown.returncode == 0, shown.stderr.decode()
        assert b"usage: " in shown.stdout
        assert not shown.stderr
