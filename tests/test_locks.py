"""Run folders and caches that two processes use at once."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import soundfile

from host_tools.data.features import clip_features
from host_tools.errors import BusyError
from host_tools.locks import LOCK, locked
from kws_edge import preset
from kws_edge.errors import WriteError
from tests.conftest import ROOT, assert_one_line_error, train_command

pytestmark = pytest.mark.host

CONFIG = preset("logmel40")
_HOLDER = """
import sys
from host_tools.locks import locked
with locked(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def holder(folder):
    """A process that has locked a folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    with process:
        assert process.stdout.readline() == b"locked\n"
        yield process
        if process.poll() is None:
            process.communicate(b"\n", timeout=60)


def test_a_folder_is_of_one_process_and_free_after_it(tmp_path):
    folder = tmp_path / "new" / "run"
    with holder(folder) as other:
        with (
            pytest.raises(BusyError, match=rf"run: process {other.pid} writes there; .*remove .*{LOCK}"),
            locked(folder),
        ):
            pass
        other.communicate(b"\n", timeout=60)
        assert not folder.exists()  # nothing was written
        with locked(folder):
            assert os.listdir(folder) == [LOCK]
            (folder / "file").touch()
    assert os.listdir(folder) == ["file"]


def test_a_killed_process_has_nothing(tmp_path):
    with holder(tmp_path) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert os.listdir(tmp_path) == [LOCK]
        with locked(tmp_path):
            assert (tmp_path / LOCK).read_text() == f"{os.getpid()}\n"
    assert not os.listdir(tmp_path)


def test_who_waits_says_so_and_goes_on(tmp_path, capsys):
    with holder(tmp_path) as other:
        threading.Timer(0.5, other.kill).start()
        started = time.monotonic()
        with locked(tmp_path, wait=True):
            assert time.monotonic() - started > 0.4
    said = f"kws-host: {tmp_path}: waiting for process {other.pid}, which writes there"
    assert capsys.readouterr().err == f"{said} (if there is no such process, remove {tmp_path / LOCK})\n"


def test_without_locks_who_made_the_file_has_the_folder(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with locked(tmp_path):
        with pytest.raises(BusyError, match=f"process {os.getpid()}"), locked(tmp_path):
            pass
        assert os.listdir(tmp_path) == [LOCK]
    with locked(tmp_path):
        pass


def test_one_at_a_time(tmp_path):
    """No two of many processes are in the folder at once."""
    script = (
        "import os, sys\nfrom host_tools.locks import locked\n"
        "for _ in range(10):\n"
        "    with locked(sys.argv[1], wait=True):\n"
        "        os.close(os.open(sys.argv[1] + '/alone', os.O_CREAT | os.O_EXCL)); os.unlink(sys.argv[1] + '/alone')\n"
    )
    command = [sys.executable, "-c", script, tmp_path]
    processes = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) for _ in range(4)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    assert not os.listdir(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="cannot be written"), locked(tmp_path / "file" / "run"):
        pass


# Caches of features are shared: one process computes, and the others wait.

_COMPUTER = """
import sys
from pathlib import Path
from host_tools.data.features import clip_features
from kws_edge import preset
if __name__ == "__main__":
    paths = sorted(Path(sys.argv[1]).glob("*.wav"))
    found = clip_features(paths, preset("logmel40"), cache=Path(sys.argv[2]), workers=1)
    print(len(found.usable), found.levels.astype("f8").sum())
"""


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(300):
        soundfile.write(folder / f"{i:03}.wav", rng.normal(0, 3000, 16000).astype(np.int16), 16000)
    (folder / "100.wav").write_bytes(b"no sound")
    return sorted(folder.glob("*.wav"))


def test_a_cache_that_two_processes_use_at_once_is_computed_once(tmp_path, clips):
    command = [sys.executable, "-c", _COMPUTER, tmp_path / "clips", tmp_path / "cache"]
    processes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
    results = [process.communicate(timeout=120) for process in processes]
    expected = clip_features(clips, CONFIG, workers=1)
    text = f"{len(expected.usable)} {expected.levels.astype('f8').sum()}\n".encode()
    assert [out for out, _ in results] == [text] * 3, results
    assert len(expected.usable) == 299
    again = clip_features(clips, CONFIG, cache=tmp_path / "cache")
    assert again.skipped == expected.skipped
    assert list(again.skipped) == [100]


def test_a_computation_that_is_killed_is_gone_on_with(tmp_path, clips):
    command = [sys.executable, "-c", _COMPUTER, tmp_path / "clips", tmp_path / "cache"]
    killed = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob("cache/*/skipped.json")):
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    again = clip_features(clips, CONFIG, cache=tmp_path / "cache", workers=1)
    expected = clip_features(clips, CONFIG, workers=1)
    np.testing.assert_array_equal(again.levels, expected.levels)
    assert again.skipped == expected.skipped
    (folder,) = (tmp_path / "cache").iterdir()
    assert sorted(os.listdir(folder)) == ["done.npy", "levels.npy", "skipped.json"]


def test_a_cache_that_is_complete_may_be_read_only(tmp_path, clips):
    cache = tmp_path / "cache"
    first = clip_features(clips[:3], CONFIG, cache=cache)
    (folder,) = cache.iterdir()
    for name in ("done.npy", "levels.npy"):
        (folder / name).chmod(0o444)
    folder.chmod(0o555)
    with holder(tmp_path / "other"):
        np.testing.assert_array_equal(clip_features(clips[:3], CONFIG, cache=cache).levels, first.levels)
    folder.chmod(0o755)


def test_a_full_disk_is_said_before_the_work(tmp_path, clips):
    """Writing to a memory map on a full disk would kill the process, so its space is reserved first."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount, and not everywhere")
    try:
        with pytest.raises(WriteError, match="No space left on device"):
            clip_features(clips, CONFIG, cache=disk)
        assert not os.listdir(disk)
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("command", ["train", "synthesize"])
def test_two_runs_in_one_folder(run_cli, tmp_path, folder, command):
    """The second run is refused, and names the process that is there."""
    if command == "train":
        pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")
        arguments = train_command(folder, tmp_path / "run")
    else:
        arguments = ["synthesize", "-o", tmp_path / "run", "--minutes", "0", "--per-word", "1"]
    with holder(tmp_path / "run") as other:
        done = run_cli(*arguments, package="host_tools")
    assert_one_line_error(done, f"{tmp_path / 'run'}: process {other.pid} writes there", program="kws-host")
