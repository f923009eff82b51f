"""`make` sets up environments. The same command repairs an environment that was interrupted, broken or moved.

Makefile, Python, venv and pip are real. A package without requirements stands for those that pip would fetch.
"""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT, need_program

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(os.name != "posix", reason="the Makefile is for POSIX systems"),
]

BACKEND = """
import os, time, zipfile
from pathlib import Path

def build_editable(folder, config_settings=None, metadata_directory=None):
    while os.path.exists("hang"):
        Path("hanging").touch()
        time.sleep(0.05)
    info = "kws_edge-1.dist-info"
    files = {
        "kws.pth": os.getcwd(),
        f"{info}/METADATA": "Metadata-Version: 2.1\\nName: kws-edge\\nVersion: 1\\nProvides-Extra: plot\\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        f"{info}/entry_points.txt": "[console_scripts]\\nkws-edge = kws_edge:main\\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(Path(folder) / "kws_edge-1-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return "kws_edge-1-py3-none-any.whl"
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder where `make demo` has run."""
    need_program("make")
    folder = tmp_path_factory.mktemp("make") / "it's here"
    (folder / "kws_edge").mkdir(parents=True)
    (folder / "kws_edge" / "__init__.py").write_text("def main():\n    print('heard')\n")
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (folder / "setup.cfg").touch()
    (folder / "backend.py").write_text(BACKEND)
    shutil.copy(ROOT / "Makefile", folder)
    assert_heard(folder)
    return folder


@pytest.fixture
def folder(made):
    """A folder where `make demo` has run, ready for changes."""
    assert_heard(made)
    return made


def make(folder, *variables):
    return subprocess.Popen(
        ["make", "demo", f"PYTHON={sys.executable}", *variables],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "PYTHON", "PIP_"))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def assert_heard(folder):
    process = make(folder)
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    assert said.endswith("heard\n")
    assert "install" not in (again := make(folder).communicate(timeout=200)[0]), again
    assert not (folder / ".venv-unfinished").exists()


def wait(process, until):
    deadline = time.monotonic() + 200
    while not until():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def end(process, what):
    os.killpg(process.pid, what)
    process.communicate(timeout=200)
    assert process.returncode


@pytest.mark.parametrize(
    ("what", "there"),
    [(signal.SIGKILL, "bin/python"), (signal.SIGINT, "lib/*/*/pip/_vendor")],
    ids=["killed", "Ctrl-C"],
)
def test_interrupted_make_demo_repairs_itself_while_the_environment_is_made(folder, what, there):
    shutil.rmtree(folder / ".venv")
    process = make(folder)
    wait(process, lambda: any((folder / ".venv").glob(there)))
    end(process, what)
    assert_heard(folder)


def test_interrupted_make_demo_repairs_itself_while_pip_installs(folder):
    """A half-finished installation of pip does not count. A second make does not disturb the first."""
    (folder / "hang").touch()
    os.utime(folder / "setup.cfg")
    process = make(folder)
    wait(process, (folder / "hanging").exists)
    said, _ = make(folder).communicate(timeout=200)
    assert f"make of process {process.pid} is setting .venv up" in said
    end(process, signal.SIGKILL)
    (folder / "hang").unlink()
    (folder / ".venv" / "bin" / "kws-edge").write_bytes(b"")
    (folder / ".venv" / "left").touch()
    assert_heard(folder)
    assert not (folder / ".venv" / "left").exists()


def test_an_environment_whose_python_is_gone_is_made_anew(folder):
    python = folder / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3.9")
    assert_heard(folder)


def test_make_demo_works_once_python_can_make_environments(folder):
    """On Debian without python3-venv, Python leaves half an environment and fails."""
    shutil.rmtree(folder / ".venv")
    python = folder / "python"
    half = f"'{sys.executable}' -m venv --without-pip .venv"
    python.write_text(f'#!/bin/sh\n[ "$2" != venv ] || {{ {half}; exit 1; }}\nexec \'{sys.executable}\' "$@"\n')
    python.chmod(0o755)
    process = make(folder, f"PYTHON={str(python)!r}")
    process.communicate(timeout=200)
    assert process.returncode == 2
    assert_heard(folder)


def test_a_moved_folder_is_set_up_again(folder, tmp_path):
    moved = shutil.copytree(folder, tmp_path / "moved", symlinks=True)
    assert_heard(moved)
    assert str(moved) in (moved / ".venv" / "bin" / "kws-edge").read_text()


def test_what_somebody_installed_stays(folder):
    """This holds in every complete environment, also in the user's own."""
    (packages,) = folder.glob(".venv/lib/*/site-packages")
    (packages / "mine.py").touch()
    (folder / ".venv" / "demo").unlink()
    assert_heard(folder)
    os.utime(folder / "setup.cfg")
    assert_heard(folder)
    assert (packages / "mine.py").exists()
