"""Features on a Ray cluster and from an S3 server. Where Ray, s3fs or moto are not installed, these are skipped."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from host_tools.shards.stored import LIST, ShardList
from tests.conftest import assert_one_line_error_at_end
from tests.ray_cluster import cluster
from tests.test_shards import contents, features, finished, write_folder, write_tar

pytestmark = [pytest.mark.host, pytest.mark.timeout(1800)]

SHARDS = 24
WAIT_S = 300


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("corpus") / "words", 60)


@pytest.fixture(scope="module")
def undisturbed(corpus, tmp_path_factory):
    """The shards that one process of this machine makes."""
    out = tmp_path_factory.mktemp("shards") / "out"
    done = finished(features(corpus, out, "--shards", SHARDS, "--workers", 1))
    assert done.returncode == 0, done.stderr
    return contents(out)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for(condition, process=None):
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.02)


def own_address():
    """The address at which Ray listens: that of the way to other machines, which sends nothing."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect(("8.8.8.8", 80))
        return one.getsockname()[0]
    return "127.0.0.1"


def answers(port, host="127.0.0.1"):
    with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
        return True
    return False


def of_session(leader):
    """Processes of a session, by number, with their command."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            if os.getsid(int(path.name)) == leader:
                yield int(path.name), (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def workers(cluster):
    """Processes that run a task."""
    found = of_session(cluster.head.pid)
    return [pid for pid, command in found if command.startswith("ray::make_shard")]


def on_cluster(cluster, corpus, out):
    """The command, started on a cluster by its client server."""
    where = f"ray://{own_address()}:{cluster.client_port}"
    return features(corpus, out, "--shards", SHARDS, "--on", where, env=cluster.env)


@pytest.fixture(scope="module")
def ray():
    pytest.importorskip("ray", exc_type=ImportError, reason="Ray is not installed here (the extra cluster)")
    with cluster() as one:
        yield one


def test_a_killed_worker_changes_no_byte(ray, corpus, undisturbed, tmp_path):
    out = tmp_path / "out"
    process = on_cluster(ray, corpus, out)
    wait_for(lambda: contents(out) and workers(ray), process)
    assert len(contents(out)) < SHARDS - 2
    os.kill(workers(ray)[0], signal.SIGKILL)
    done = finished(process)
    assert done.returncode == 0, done.stderr
    assert contents(out) == undisturbed
    assert not list(out.glob(".kws-*")) or (out / LIST).exists()


def test_a_head_that_is_killed_and_restarted(ray, corpus, undisturbed, tmp_path):
    out = tmp_path / "out"
    process = on_cluster(ray, corpus, out)
    wait_for(lambda: contents(out), process)
    assert len(contents(out)) < SHARDS - 2
    ray.kill()
    assert_one_line_error_at_end(finished(process), "the same command goes on")
    assert not (out / LIST).exists()
    kept = {name: (out / name).stat().st_mtime_ns for name in contents(out)}
    ray.start()
    done = finished(on_cluster(ray, corpus, out))
    assert done.returncode == 0, done.stderr
    assert contents(out) == undisturbed
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept


def test_no_cluster_there(corpus, tmp_path):
    pytest.importorskip("ray", exc_type=ImportError, reason="Ray is not installed here (the extra cluster)")
    done = finished(features(corpus, tmp_path / "out", "--on", f"ray://127.0.0.1:{free_port()}"))
    assert_one_line_error_at_end(done, "no Ray cluster answers there", "see ray start --head")
    assert not (tmp_path / "out").exists()


def test_without_s3fs(tmp_path):
    pytest.importorskip("fsspec", exc_type=ImportError, reason="fsspec is not installed here")
    code = "import sys; sys.modules['s3fs'] = None; from host_tools.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "features", "s3://bucket/words", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, check=False, timeout=WAIT_S)
    assert_one_line_error_at_end(done, "Install s3fs to access S3: pip install '.[cluster]'")


def test_buckets(tmp_path, monkeypatch):
    """A folder of words and a pattern of tar files in a bucket of an S3 server."""
    for name in ("s3fs", "moto.server", "boto3"):
        pytest.importorskip(name, exc_type=ImportError, reason=f"{name} is not installed here")
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-c", "from moto.server import main; main()", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "one"),
        ("AWS_SECRET_ACCESS_KEY", "two"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}"),
    ):
        monkeypatch.setenv(name, value)
    put = """
import pathlib, sys, boto3
store = boto3.client("s3")
store.create_bucket(Bucket="corpus")
for root in map(pathlib.Path, sys.argv[1:]):
    for path in root.rglob("*.*"):
        store.upload_file(str(path), "corpus", f"{root.name}/{path.relative_to(root)}")
"""
    few = write_folder(tmp_path / "few", 3)
    members = {str(path.relative_to(few)): path.read_bytes() for path in sorted(few.rglob("*.wav"))}
    write_tar(tmp_path / "tars" / "a.tar", members)
    try:
        wait_for(lambda: answers(port), server)
        subprocess.run([sys.executable, "-c", put, few, tmp_path / "tars"], check=True, timeout=WAIT_S)
        for source, out in (("s3://corpus/few", "bucket"), ("s3://corpus/tars/*.tar", "packed"), (few, "local")):
            done = finished(features(source, tmp_path / out, "--shards", 1, "--workers", 1))
            assert done.returncode == 0, done.stderr
        missing = finished(features("s3://corpus/nothing", tmp_path / "none"))
    finally:
        server.kill()
        server.wait()
    assert [*contents(tmp_path / "bucket").values()] == [*contents(tmp_path / "local").values()]
    assert ShardList.load(tmp_path / "packed").clips == len(members)
    assert_one_line_error_at_end(missing, "s3://corpus/nothing: ")
