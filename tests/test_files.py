"""Files of users are safe: a file keeps its kind, and is written completely or not at all."""

import ast
import errno
import io
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws_edge import files
from kws_edge.errors import WriteError
from kws_edge.files import check_writable, scratch_folder, write_atomically
from tests.conftest import ROOT, assert_one_line_error


def assert_only(folder, *names):
    """Assert that nothing else lies in a folder."""
    assert sorted(os.listdir(folder)) == sorted(names)


@pytest.fixture
def device(tmp_path):
    """A function that makes a device node like /dev/null or /dev/full. No test may replace it."""

    def make(name, minor):
        path = tmp_path / name
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, minor))
            path.write_bytes(b"")
        except PermissionError:
            pytest.skip("only root may make devices, and not everywhere")
        return path

    return make


@pytest.fixture
def unprivileged():
    """A function that runs another in a process with only the rights of its user."""

    def run(work):
        child = os.fork()
        if not child:
            code = 70
            try:
                if os.getuid() == 0:
                    os.setgroups([])
                    os.setresgid(65534, 65534, 65534)
                    os.setresuid(65534, 65534, 65534)
                code = work() or 0
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    return run


def reading(path):
    """Start a thread that reads a pipe to its end into the list that is returned."""
    found = []
    thread = threading.Thread(target=lambda: found.append(path.read_bytes()))
    thread.start()
    return thread, found


def savez(path):
    np.savez(path, a=np.arange(1000))


def wav(path):
    soundfile.write(path, np.zeros(16000, np.int16), 16000)


# A target that is no regular file is written into.


def test_a_device_stays_a_device(device):
    path = device("null.wav", 3)
    for content in ("text", b"bytes", savez, wav):
        write_atomically(path, content)
        assert stat.S_ISCHR(os.lstat(path).st_mode)
    assert_only(path.parent, "null.wav")


def test_a_device_that_takes_nothing_is_an_error(device):
    path = device("full", 7)
    with pytest.raises(WriteError, match=r"full: cannot be written \(No space left on device\); make room"):
        write_atomically(path, "text")
    assert stat.S_ISCHR(os.lstat(path).st_mode)
    assert_only(path.parent, "full")


@pytest.mark.parametrize("write", [savez, wav])
def test_a_pipe_is_written_into_by_writers_that_seek(tmp_path, write):
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    thread, found = reading(pipe)
    write_atomically(pipe, write)
    thread.join(10)
    if write is savez:
        assert np.load(io.BytesIO(found[0]))["a"][-1] == 999
    else:
        assert soundfile.info(io.BytesIO(found[0])).frames == 16000
    assert stat.S_ISFIFO(os.lstat(pipe).st_mode)
    assert_only(tmp_path, "pipe.wav")


def test_a_pipe_that_nobody_reads_never_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_READER_S", 0.2)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WriteError, match="nobody reads from this pipe"):
        write_atomically(tmp_path / "pipe", "text")
    assert_only(tmp_path, "pipe")


def test_a_pipe_whose_reader_goes_is_no_error_of_ours(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    threading.Timer(0.2, os.close, [reader]).start()
    with pytest.raises(BrokenPipeError):
        write_atomically(tmp_path / "pipe", bytes(10**6))


def test_a_disk_is_refused(tmp_path):
    try:
        os.mknod(tmp_path / "disk", stat.S_IFBLK | 0o600, os.makedev(7, 250))
    except PermissionError:
        pytest.skip("only root may make devices")
    with pytest.raises(WriteError, match="disk: is a disk; name a file"):
        write_atomically(tmp_path / "disk", "text")
    assert stat.S_ISBLK(os.lstat(tmp_path / "disk").st_mode)


def test_standard_output_is_written_into(tmp_path):
    """Text printed before and after stays, in a file or a pipe."""
    name = str(tmp_path / "stdout")  # a link like /dev/stdout, which no test may replace
    os.symlink("/proc/self/fd/1", name)
    script = (
        "from kws_edge.files import write_atomically\n"
        f"print('before'); write_atomically({name!r}, 'file\\n'); print('after')"
    )
    with open(tmp_path / "out", "w") as out:
        out.write("first\n")
        out.flush()
        subprocess.run([sys.executable, "-c", script], stdout=out, check=True, timeout=60)
    assert (tmp_path / "out").read_text() == "first\nbefore\nfile\nafter\n"
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True, timeout=60)
    assert done.stdout == b"before\nfile\nafter\n"
    closed = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "{script}" >&-', sys.executable], capture_output=True, timeout=60, check=False
    )
    assert closed.returncode
    assert b"WriteError" in closed.stderr


def test_commands_write_into_what_is_no_file(run_cli, tmp_path, device):
    """As root, `-o` on a device once replaced the device."""
    device("null", 3)
    wav(tmp_path / "a.wav")
    assert run_cli("calibrate", "a.wav", "--force", "-o", "null").returncode == 0
    assert stat.S_ISCHR(os.lstat(tmp_path / "null").st_mode)
    os.mkfifo(tmp_path / "pipe")
    thread, found = reading(tmp_path / "pipe")
    assert run_cli("calibrate", "a.wav", "--force", "-o", "pipe").returncode == 0
    thread.join(10)
    assert b'"thresholds"' in found[0]


# Links are followed, modes are kept.


def test_links_are_followed(tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (tmp_path / "second").symlink_to("elsewhere/file")
    (tmp_path / "first.txt").symlink_to("second")
    for content in ("dangling", "again"):
        write_atomically(tmp_path / "first.txt", content)
        assert (folder / "file").read_text() == content
        assert not (folder / "file").is_symlink()
        assert os.readlink(tmp_path / "first.txt") == "second"
        assert os.readlink(tmp_path / "second") == "elsewhere/file"
    (tmp_path / "folder").symlink_to("elsewhere")
    write_atomically(tmp_path / "folder" / "other", "x")
    assert_only(folder, "file", "other")
    assert_only(tmp_path, "elsewhere", "first.txt", "folder", "second")


def test_a_loop_of_links_is_one_line(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(WriteError, match="Too many levels of symbolic links"):
        write_atomically(tmp_path / "a", "x")
    assert_only(tmp_path, "a", "b")


@contextmanager
def umask(mask):
    old = os.umask(mask)
    try:
        yield
    finally:
        os.umask(old)


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077, 0])
@pytest.mark.parametrize("content", ["text", savez, wav])
def test_a_new_file_has_the_mode_that_the_umask_says(tmp_path, mask, content):
    with umask(mask):
        write_atomically(tmp_path / "new.wav", content)
    (name,) = os.listdir(tmp_path)
    assert stat.S_IMODE(os.stat(tmp_path / name).st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755])
def test_mode_and_owner_are_kept(tmp_path, mode):
    path = tmp_path / "file.wav"
    path.touch()
    path.chmod(mode)
    owner = (65534, 65534) if os.getuid() == 0 else (os.getuid(), os.getgid())
    os.chown(path, *owner)
    for content in ("text", savez, wav):
        write_atomically(path, content)
        status = os.stat(path)
        assert stat.S_IMODE(status.st_mode) == mode
        assert (status.st_uid, status.st_gid) == owner


def test_extended_attributes_are_kept_and_hard_links_keep_what_they_have(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    os.link(path, tmp_path / "backup")
    try:
        os.setxattr(path, "user.note", b"mine")
    except OSError:
        pytest.skip("no extended attributes here")
    write_atomically(path, "new")
    assert os.getxattr(path, "user.note") == b"mine"
    assert (path.read_text(), (tmp_path / "backup").read_text()) == ("new", "old")


def test_settings_are_on_the_disk(tmp_path, monkeypatch):
    synced = []

    def fsync(descriptor, real=os.fsync):
        synced.append(os.fstat(descriptor))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(tmp_path / "file", "x")
    assert not synced
    write_atomically(tmp_path / "file", "x", durable=True)
    assert any(os.path.samestat(s, os.stat(tmp_path / "file")) for s in synced)
    assert os.path.samestat(synced[-1], os.stat(tmp_path))


# A failure to write is one line, and nothing changes.


def refused(path, content="x" * 5000):
    """The message of a failure to write."""
    with pytest.raises(WriteError) as raised:
        write_atomically(path, content)
    return str(raised.value)


def test_names_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    for name, words in {
        "x" * 300: "File name too long",
        "file/below": "Not a directory",
        "folder": "is a folder; name a file",
        "folder/": "is a folder; name a file",
        "new/": "is a folder; name a file",
        "/".join(["x" * 200] * 30): "File name too long",
        f"new/newer/{'x' * 300}": "File name too long",
    }.items():
        assert words in refused(f"{tmp_path}/{name}"), name
        if not name.startswith("new/n"):  # only making the folders would tell
            with pytest.raises(WriteError, match=words):
                check_writable(f"{tmp_path}/{name}")
    assert "is a folder" in refused("")
    assert (tmp_path / "file").read_text() == "old"
    assert_only(tmp_path, "file", "folder")


def test_names_of_the_greatest_length_are_written(tmp_path):
    write_atomically(tmp_path / ("x" * 255), "x")
    assert_only(tmp_path, "x" * 255)


def test_folders_and_files_that_are_protected(tmp_path, unprivileged):
    tmp_path.chmod(0o755)
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "file").write_text("old")
    (tmp_path / "closed" / "file").chmod(0o666)
    (tmp_path / "closed").chmod(0o555)
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "file").write_text("old")
    (tmp_path / "open" / "file").chmod(0o444)
    (tmp_path / "open").chmod(0o777)
    for above in tmp_path.parents:
        if os.stat(above).st_mode & 0o001 == 0:
            above.chmod(os.stat(above).st_mode | 0o001)

    def work():
        for name in ("closed/file", "closed/new", "closed/new/er", "open/file"):
            for write in (check_writable, lambda path: write_atomically(path, "new")):
                try:
                    write(tmp_path / name)
                except WriteError as error:
                    assert "Permission denied" in str(error)
                else:
                    return 1
        write_atomically(tmp_path / "open" / "new", "new")
        return 0

    assert unprivileged(work) == 0
    assert (tmp_path / "closed" / "file").read_text() == (tmp_path / "open" / "file").read_text() == "old"
    assert_only(tmp_path / "closed", "file")
    assert_only(tmp_path / "open", "file", "new")


@contextmanager
def files_of_at_most(size):
    """Let the disk be full after this many bytes of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("content", ["x" * 5000, savez])
def test_a_full_disk(tmp_path, content):
    (tmp_path / "file").write_text("old")
    with files_of_at_most(1000):
        assert f"{tmp_path}/file: cannot be written (File too large)" in refused(tmp_path / "file", content)
        refused(tmp_path / "new" / "er" / "file", content)
    assert (tmp_path / "file").read_text() == "old"
    assert_only(tmp_path, "file")


def test_a_disk_that_is_full_indeed(tmp_path):
    """The old file takes most of a file system of 64 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount, and not everywhere")
    try:
        (disk / "file").write_bytes(b"o" * 40_000)
        assert "No space left on device); make room" in refused(disk / "file", "n" * 40_000)
        assert (disk / "file").read_bytes() == b"o" * 40_000
        assert_only(disk, "file")
        (tmp_path / "mounted").touch()
        (tmp_path / "source").write_text("old")
        subprocess.run(["mount", "--bind", tmp_path / "source", tmp_path / "mounted"], check=True)
        try:  # containers mount files of settings like this
            write_atomically(tmp_path / "mounted", "new", durable=True)
        finally:
            subprocess.run(["umount", tmp_path / "mounted"], check=True)
        assert (tmp_path / "source").read_text() == "new"
    finally:
        subprocess.run(["umount", disk], check=True)


# Files that a kill leaves are removed, files that others write are not.

_WRITER = """
import sys, time
from kws_edge.files import write_atomically
def write(path):
    open(path, "w").write("half")
    print("writing", flush=True)
    sys.stdin.readline()
write_atomically(sys.argv[1], write)
"""


@contextmanager
def writer(path):
    """A process in the middle of writing a file."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    with process:
        assert process.stdout.readline() == b"writing\n"
        yield process
        if process.poll() is None:
            process.communicate(b"\n", timeout=60)


def test_what_a_kill_leaves_is_removed_at_the_next_write(tmp_path):
    (tmp_path / "file").write_text("old")
    with writer(tmp_path / "file") as killed, writer(tmp_path / "other") as running:
        assert len(os.listdir(tmp_path)) == 3
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert (tmp_path / "file").read_text() == "old"
        (tmp_path / ".kws-lock").touch()
        (tmp_path / ".kws-link").symlink_to(tmp_path)
        write_atomically(tmp_path / "third", "x")
        (left,) = set(os.listdir(tmp_path)) - {"file", "third", ".kws-lock", ".kws-link"}
        assert left.startswith(".kws-")  # the file of the process that is still running
        running.communicate(b"\n", timeout=60)
        assert running.returncode == 0
    assert (tmp_path / "other").read_text() == "half"
    assert_only(tmp_path, ".kws-link", ".kws-lock", "file", "other", "third")


def test_an_interrupt_leaves_nothing(tmp_path):
    def write(path):
        Path(path).write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "new" / "file", write)
    assert_only(tmp_path)


def test_without_locks_only_what_is_old_is_removed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    for name, age in ((".kws-old", 2 * 86400), (".kws-new", 60)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    write_atomically(tmp_path / "file", "x")
    assert_only(tmp_path, ".kws-new", "file")


def test_many_writers_in_one_folder(tmp_path):
    """Each file is complete at any time, and nobody takes another's file for a leftover."""
    script = (
        "import sys\nfrom kws_edge.files import write_atomically\n"
        "for i in range(150): write_atomically(sys.argv[1] + f'/{i % 3}', sys.argv[2] * 20_000)"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, tmp_path, str(n)], cwd=ROOT) for n in range(4)]
    while any(process.poll() is None for process in writers):
        for name in "012":
            if (tmp_path / name).exists():
                text = (tmp_path / name).read_text()
                assert len(text) == 20_000
                assert len(set(text)) == 1
    assert [process.wait() for process in writers] == [0] * 4
    assert_only(tmp_path, "0", "1", "2")


def test_scratch_folders_are_of_their_user_alone(tmp_path):
    with umask(0), scratch_folder(tmp_path / "new") as folder:
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        assert Path(folder).parent == tmp_path / "new"
    assert_only(tmp_path)


# There is one way to write.

_OTHERS = {  # write into temporary folders, or by a protocol of their own
    "firmware_export/folder.py": {"write_bytes"},
    "firmware_export/report.py": {"write_text", "write_bytes"},
    "host_tools/data/archive.py": {"open"},
    "host_tools/data/source_files.py": {"write_bytes"},
    "host_tools/data/stored_features.py": {"open_memmap"},  # for reading
    "host_tools/data/download.py": {"open"},
    "host_tools/data/transfer.py": {"open"},
    "host_tools/data/features.py": {"open", "open_memmap"},
    "host_tools/convert/model_import.py": {"write_bytes"},
    "host_tools/convert/comparison.py": {"write_bytes"},
    "host_tools/data/sound_files.py": {"write"},
    "host_tools/shards/shard.py": {"open"},  # for write_atomically
    "host_tools/shards/sounds.py": {"write_bytes"},  # in a temporary folder
    "host_tools/sweep/trial.py": {"open"},  # a log, which grows
    "kws_edge/files.py": {"open"},
    "kws_edge/native_output.py": {"open"},
    "kws_edge/service/clips.py": {"open"},  # in memory
    "kws_edge/service/outputs/jsonl.py": {"open"},  # which grows
}
_INSIDE = {
    "write",
    "plot_curves",
    "plot_confusions",
    "plot_det",
    "plot_parallel",
    "plot_timeline",
    "_write_rows",
    "save_figure",
}


def writes(path):
    """Names of the calls that write a file, outside of functions that are given to write_atomically."""
    tree = ast.parse(path.read_text())
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.Lambda)) and getattr(function, "name", "write") in _INSIDE
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or id(node) in inside:
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        module = getattr(getattr(node.func, "value", None), "id", "")
        mode = [a.value for a in node.args[:2] if isinstance(a, ast.Constant)]
        if (
            name in ("write_text", "write_bytes", "savefig", "open_memmap", "tofile")
            or (name == "open" and any(m in ("w", "wb", "a", "ab", "x", "xb", "r+b") for m in mode))
            or (module in ("np", "numpy") and name.startswith("save"))
            or (module in ("soundfile", "sf") and name == "write")
            or (module == "json" and name == "dump")
        ):
            yield name


@pytest.mark.parametrize("package", ["kws_edge", "host_tools", "firmware_export"])
def test_there_is_one_way_to_write_a_file(package):
    for path in (ROOT / package).rglob("*.py"):
        others = _OTHERS.get(str(path.relative_to(ROOT)), set())
        assert set(writes(path)) <= others, path


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.EDQUOT])
def test_whatever_the_system_says_is_one_line(tmp_path, code):
    def write(path):
        raise OSError(code, os.strerror(code))

    message = refused(tmp_path / "file", write)
    assert os.strerror(code) in message
    assert "\n" not in message
    assert_only(tmp_path)


@pytest.mark.host
@pytest.mark.parametrize("command", ["card", "evaluate"])
def test_host_commands_say_what_they_cannot_write(run_cli, tmp_path, command):
    if command == "card":
        arguments = ("card", "commands12", "-o", "file/card.md")
    else:
        (tmp_path / "clips" / "yes").mkdir(parents=True)
        wav(tmp_path / "clips" / "yes" / "a.wav")
        arguments = ("evaluate", "commands12", "--clips", "clips", "-o", "file/out.json")
    (tmp_path / "file").touch()
    done = run_cli(*arguments, package="host_tools")
    if command == "card":
        assert_one_line_error(done, "file/card.md: cannot be written (Not a directory)", program="kws-host")
    else:
        assert done.returncode == 1
        assert b"accuracy" in done.stdout  # what was measured is not lost
        assert b"kws-host: file/out.json: cannot be written (Not a directory)" in done.stderr
