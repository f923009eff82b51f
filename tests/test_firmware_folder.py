"""Exported folders are complete or unchanged, also after a full disk, a kill, or a failure to write."""

import os
import signal
import subprocess
import sys

import pytest

from firmware_export.export import Export
from firmware_export.folder import write_files
from firmware_export.manifest import MANIFEST, write
from kws_edge import ConfigError
from kws_edge.errors import WriteError
from tests.conftest import ROOT, assert_one_line_error
from tests.test_files import files_of_at_most

pytestmark = [pytest.mark.host, pytest.mark.firmware]

SMALL = {"src/a.h": "int a;\n", "src/b.c": "int b;\n" * 500, "README.md": "read\n"}


def contents(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_new_folder_appears_whole_or_not_at_all(tmp_path):
    with files_of_at_most(1000), pytest.raises(WriteError, match=r"out: cannot be written \(File too large\)"):
        write_files(tmp_path / "new" / "out", SMALL)
    assert not os.listdir(tmp_path)
    write_files(tmp_path / "new" / "out", SMALL)
    assert contents(tmp_path / "new" / "out") == SMALL
    assert os.listdir(tmp_path / "new") == ["out"]


def test_an_earlier_export_stays_as_it_was_on_a_full_disk(tmp_path):
    write(Export({"src/a.h": "old\n", "src/gone.c": "old\n"}, {"made": 1}), tmp_path)
    (tmp_path / "mine.c").write_text("mine\n")
    before = contents(tmp_path)
    with files_of_at_most(1000), pytest.raises(WriteError):
        write(Export(SMALL, {"made": 2}), tmp_path)
    assert contents(tmp_path) == before
    write(Export(SMALL, {"made": 2}), tmp_path)
    after = contents(tmp_path)
    assert after.pop(MANIFEST)
    assert after == {**SMALL, "mine.c": "mine\n"}


@pytest.mark.parametrize("block", ["src", "README.md"])
def test_what_is_in_the_way_is_found_first(tmp_path, block):
    """A file in place of a folder, or the reverse, is found before anything is written."""
    (tmp_path / "src.txt").touch()
    if block == "src":
        (tmp_path / "src").touch()
    else:
        (tmp_path / "README.md").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises((WriteError, ConfigError), match=block):
        write(Export(SMALL, {}), tmp_path, force=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_links_and_modes_in_a_folder_are_kept(tmp_path):
    (tmp_path / "real.c").write_text("old")
    (tmp_path / "real.c").chmod(0o600)
    (tmp_path / "out" / "src").mkdir(parents=True)
    (tmp_path / "out" / "src" / "b.c").symlink_to("../../real.c")
    (tmp_path / "link").symlink_to("out")
    write_files(tmp_path / "link", SMALL)
    assert (tmp_path / "out" / "src" / "b.c").is_symlink()
    assert (tmp_path / "real.c").read_text() == SMALL["src/b.c"]
    assert (tmp_path / "real.c").stat().st_mode & 0o777 == 0o600
    (tmp_path / "dangling").symlink_to("later")
    write_files(tmp_path / "dangling", SMALL)
    assert contents(tmp_path / "later") == SMALL


_KILLED = """
import os, signal, sys
from firmware_export.folder import write_files
class Texts(dict):
    def items(self):
        for n, item in enumerate(super().items()):
            if n == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            yield item
write_files(sys.argv[1], Texts({"src/a.h": "new", "src/b.c": "new", "README.md": "new"}))
"""


@pytest.mark.parametrize("there", [True, False])
def test_a_kill_leaves_no_half_of_a_folder(tmp_path, there):
    out = tmp_path / "out"
    if there:
        write_files(out, SMALL)
    killed = subprocess.run([sys.executable, "-c", _KILLED, out], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    if there:
        seen = {path: text for path, text in contents(out).items() if not path.startswith(".kws-")}
        assert seen == SMALL
    else:
        assert not out.exists()
    write_files(out, SMALL)
    assert contents(out) == SMALL
    assert os.listdir(tmp_path) == ["out"]


def test_the_command_says_it_in_one_line(run_cli, tmp_path):
    (tmp_path / "file").touch()
    done = run_cli("c-array", "micro12", "-o", "file", package="firmware_export")
    assert_one_line_error(done, "cannot be written (Not a directory)", program="kws-firmware")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["src/a.h", MANIFEST])
def test_what_is_no_file_is_refused(tmp_path, name):
    """A pipe, whose reader would wait for ever, and a device without an end are refused."""
    (tmp_path / "src").mkdir()
    script = (
        "import sys\nfrom firmware_export.export import Export\nfrom firmware_export.manifest import write\n"
        "write(Export({'src/a.h': 'int a;\\n'}, {}), sys.argv[1], force=True)\n"
    )
    for make in (os.mkfifo, lambda path: os.symlink("/dev/zero", path)):
        make(tmp_path / name)
        done = subprocess.run(
            [sys.executable, "-c", script, tmp_path], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
        )
        assert f"ConfigError: {tmp_path / name}: is a pipe or a device; move it away" in done.stderr
        (tmp_path / name).unlink()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"files": []}', '{"files": {"a\\u0000b": ""}}', '{"files": {"../a": ""}}', "[" * 100_000]
)
def test_manifests_that_are_none(tmp_path, text):
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ConfigError, match="is no manifest of an export; move it away, or export elsewhere"):
        write(Export(SMALL, {}), tmp_path)
    assert os.listdir(tmp_path) == [MANIFEST]
