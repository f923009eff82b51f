"""Fetches the dataset from a real server on this machine, which misbehaves on demand."""

import functools
import gc
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import tracemalloc
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import soundfile
from tqdm import tqdm

from host_tools.data.dataset import index_clips
from host_tools.data.download import MARKER, URL, download
from host_tools.data.transfer import Transfer
from host_tools.errors import DatasetError

pytestmark = pytest.mark.host

WORDS = ("yes", "no", "marvin")
SPEAKERS = ("0a7c2a8d", "1b4c9b89", "ffd2ba2f")
NAME = URL.rpartition("/")[2]


class Handler(BaseHTTPRequestHandler):
    """Serves one file, in ranges too, with the fault that ``server.faults`` has for this request."""

    def do_GET(self):
        server = self.server
        server.requests.append(self.headers)
        fault, value = server.faults.pop(0) if server.faults else (None, None)
        if fault == "status":
            return self.reply(value)
        if fault == "raw":
            return self.wfile.write(value)
        if fault == "redirect":
            return self.reply(302, {"Location": value})
        if fault == "redirect without end":
            self.reply(302, {"Location": value})
            while not server.released.is_set():
                self.wfile.write(bytes(2**16))
                server.served += 2**16
        body, start = server.body, 0
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        current = self.headers["If-Range"] in (None, server.etag, server.modified) or server.ignores_if_range
        if wanted and current and server.ranges:
            start = int(wanted[1])
            if start >= len(body):
                return self.reply(416, {"Content-Range": f"bytes */{len(body)}"})
        headers = {"ETag": server.etag, "Last-Modified": server.modified, "Content-Length": len(body) - start}
        if start:
            headers["Content-Range"] = f"bytes {start + (fault == 'shifted')}-{len(body) - 1}/{len(body)}"
        if fault == "unsized":
            del headers["Content-Length"]
        if fault == "announced":
            headers["Content-Length"] = value
        if fault == "headers that trickle":
            return self.trickle(b"HTTP/1.1 200 OK\r\n" + b"X-Padding: x\r\n" * 1000)
        self.reply(206 if start else 200, headers)
        if fault == "trickle":
            return self.trickle(body[start:])
        body = body[start:] if fault not in ("break", "stall") else body[start : start + value]
        server.served += len(body)
        self.wfile.write(body)
        if fault == "stall":
            server.released.wait(30)
        return None

    def reply(self, status, headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            if value is not None:
                self.send_header(name, str(value))
        self.end_headers()

    def trickle(self, data):
        """Send a byte now and then, each well before the connection counts as silent."""
        for i in range(len(data)):
            if self.server.released.wait(0.02):
                break
            self.wfile.write(data[i : i + 1])
            self.wfile.flush()

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    def __init__(self, body):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.etag, self.modified = body, '"first"', "Wed, 11 Apr 2018 19:41:55 GMT"
        self.ranges, self.ignores_if_range = True, False
        self.faults, self.requests, self.served, self.released = [], [], 0, threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/data/{NAME}"

    def handle_error(self, *_):
        """Ignore clients that hang up, which is part of the tests."""


def pack(entries):
    """A .tar.gz of (TarInfo, bytes). Every call gives the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info, data in entries:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def entry(name, data=b"", **fields):
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def wav(rng, seconds):
    buffer = io.BytesIO()
    soundfile.write(buffer, rng.integers(-3000, 3000, int(16000 * seconds), dtype=np.int16), 16000, format="WAV")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def entries():
    """Members like those of the real archive, all under ``./``."""
    rng = np.random.default_rng(0)
    lists = [("validation_list.txt", b"yes/0a7c2a8d_nohash_0.wav\n"), ("testing_list.txt", b"")]
    made = [entry("./", type=tarfile.DIRTYPE)]
    made += [entry(f"./{name}", data) for name, data in [*lists, ("README.md", b"# Speech\n"), ("LICENSE", b"CC BY")]]
    for word in WORDS:
        made.append(entry(f"./{word}", type=tarfile.DIRTYPE))
        made += [entry(f"./{word}/{speaker}_nohash_0.wav", wav(rng, 0.5)) for speaker in SPEAKERS]
    return [*made, entry("./_background_noise_/pink_noise.wav", wav(rng, 2))]


@pytest.fixture(scope="module")
def plain(entries):
    """The archive before compression."""
    return pack(entries)


@pytest.fixture(scope="module")
def archive(plain):
    return gzip.compress(plain, mtime=0)


@pytest.fixture
def server(archive, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server(archive) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.released.set()
        made.shutdown()
        thread.join()


@pytest.fixture
def fetch(server, tmp_path):
    """A function that downloads the server's file into ``tmp_path / "clips"``, quietly and without waiting.

    Its options are those of `download` and of its transfer.
    """

    def run(folder=tmp_path / "clips", **options):
        own = {"sha256": sha(server.body)} | {
            name: options.pop(name) for name in ("sha256", "keep_archive", "limit") if name in options
        }
        quiet = {"backoff": 0, "say": run.says.append, "progress": functools.partial(tqdm, disable=True)}
        return download(folder, Transfer(**{"url": server.url} | quiet | options), **own)

    run.says = []
    return run


def sha(data):
    return hashlib.sha256(data).hexdigest()


def work(tmp_path):
    return tmp_path / "clips.kws-download"


def part(tmp_path):
    return work(tmp_path) / f"{NAME}.part"


def names(folder):
    """Every path under `folder`, relative."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def assert_whole(tmp_path, entries):
    """Assert that the folder holds the archive's files, and that nothing else was left."""
    folder = tmp_path / "clips"
    files = {os.path.normpath(info.name): data for info, data in entries if info.isreg()}
    assert {name: (folder / name).read_bytes() for name in files} == files
    assert sorted(p for p in names(folder) if (folder / p).is_file()) == sorted([*files, MARKER])
    assert json.loads((folder / MARKER).read_text())["files"] == len(files)
    assert names(tmp_path) == ["clips", *(f"clips/{name}" for name in names(folder))]


def assert_refused(fetch, tmp_path, *parts, **options):
    """Assert that the call fails with a message that has `parts`, and leaves nothing behind."""
    before = names(tmp_path)
    with pytest.raises(DatasetError) as raised:
        fetch(**options)
    for text in parts:
        assert text in str(raised.value)
    assert "\n" not in str(raised.value)
    assert names(tmp_path) == before


def test_download(fetch, server, tmp_path, entries):
    assert fetch() == tmp_path / "clips"
    assert_whole(tmp_path, entries)
    assert len(index_clips(tmp_path / "clips").clips) == len(WORDS) * len(SPEAKERS)
    assert server.served == len(server.body)
    assert server.requests[0]["User-Agent"].startswith("kws-edge/")


def test_command(server, run_cli, tmp_path, entries):
    command = ("download", "clips", "--url", server.url, "--sha256", sha(server.body), "--keep-archive")
    done = run_cli(*command, package="host_tools")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / NAME).read_bytes() == server.body
    (tmp_path / NAME).unlink()
    assert_whole(tmp_path, entries)
    done = run_cli(*command, package="host_tools")
    assert done.stdout.decode().startswith(f"{tmp_path}/clips: complete, ")
    failed = run_cli("download", "clips", package="host_tools")  # the published archive has another checksum
    assert failed.returncode == 1 and b"not af14739ee7dc3114" in failed.stderr


def test_progress_is_in_bytes(fetch, server):
    bars = []

    def bar(**options):
        bars.append(tqdm(**options, file=io.StringIO()))
        return bars[-1]

    fetch(progress=bar)
    assert [(b.desc, b.unit, b.total) for b in bars] == [
        (name, "B", len(server.body)) for name in ("download", "checksum", "unpack")
    ]
    assert [b.n for b in bars[:2]] == [len(server.body)] * 2


def test_folder_may_exist_empty_or_lie_deep(fetch, server, tmp_path, entries):
    (tmp_path / "clips").mkdir()
    fetch()
    assert_whole(tmp_path, entries)
    deep = fetch(tmp_path / "a" / "b", sha256=sha(server.body).upper())
    assert (deep / "README.md").exists()


def test_folder_may_be_a_link_to_an_empty_one(fetch, tmp_path):
    (tmp_path / "disk" / "data").mkdir(parents=True)
    (tmp_path / "clips").symlink_to(tmp_path / "disk" / "data")
    assert fetch() == tmp_path / "disk" / "data"
    assert (tmp_path / "clips" / "README.md").exists()


def test_second_call_does_nothing(fetch, server, tmp_path, entries):
    fetch()
    asked = len(server.requests)
    work(tmp_path).mkdir()  # a kill just after the folder came into place leaves this
    part(tmp_path).write_bytes(server.body)
    fetch()
    assert len(server.requests) == asked
    assert "complete, 14 files" in fetch.says[-1]
    assert_whole(tmp_path, entries)


def test_folder_that_lost_files(fetch, tmp_path):
    fetch()
    (tmp_path / "clips" / "LICENSE").unlink()
    assert_refused(fetch, tmp_path, "holds 13 of 14 files", "remove it")


def test_folder_of_another_archive(fetch, tmp_path):
    fetch()
    assert_refused(fetch, tmp_path, "not " + "0" * 64, "another folder", sha256="0" * 64)


def test_broken_marker(fetch, tmp_path):
    fetch()
    (tmp_path / "clips" / MARKER).write_text("{")
    assert_refused(fetch, tmp_path, MARKER, "remove")


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_foreign_folder_is_left_alone(fetch, server, tmp_path, kind):
    foreign = tmp_path / "clips" / "mine.txt" if kind == "folder" else tmp_path / "clips"
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("mine")
    assert_refused(fetch, tmp_path, str(tmp_path / "clips"), "new or empty folder")
    assert foreign.read_text() == "mine"
    assert not server.requests


@pytest.mark.parametrize(
    "url",
    ["file:///etc/hostname", "ftp://host/x.tar.gz", "x.tar.gz", "http://", "http://host", "http://host/..",
     "http:///x.tar.gz", "http://[/x.tar.gz", "http://host/a b", "http://host/é"],
)  # fmt: skip
def test_address_that_is_none(fetch, tmp_path, url):
    assert_refused(fetch, tmp_path, repr(url), "http://", url=url)


def test_redirections(fetch, server, tmp_path, entries):
    server.faults = [("redirect", "ftp://127.0.0.1/x.tar.gz")]
    assert_refused(fetch, tmp_path, "ftp", tries=1)
    server.faults = [("redirect", "file:///etc/hostname")]
    assert_refused(fetch, tmp_path, "file:", tries=1)
    server.faults = [("redirect", server.url)]
    fetch()
    assert_whole(tmp_path, entries)


def test_digest_that_is_none(fetch, tmp_path):
    assert_refused(fetch, tmp_path, "'abc'", "64 hexadecimal digits", sha256="abc")


def test_not_found_is_final(fetch, server, tmp_path):
    server.faults = [("status", 404)]
    assert_refused(fetch, tmp_path, server.url, "404 Not Found")
    assert len(server.requests) == 1


def test_busy_server_is_asked_again(fetch, server, tmp_path, entries):
    server.faults = [("status", 503), ("status", 429)]
    fetch()
    assert_whole(tmp_path, entries)
    assert "503 Service Unavailable; trying again" in fetch.says[0]


def test_nobody_listens(fetch, server, tmp_path):
    with Server(b"") as gone:
        url = gone.url
    assert_refused(fetch, tmp_path, url, "refused", "0 bytes", "same command", url=url, tries=2)


def test_server_that_hides_the_size(fetch, server, tmp_path):
    server.faults = [("unsized", None)]
    assert_refused(fetch, tmp_path, server.url, "how large")


def test_broken_connection_is_continued(fetch, server, tmp_path, entries):
    server.faults = [("break", 100_000), ("status", 502), ("break", 50_000)]
    fetch(tries=3)
    assert_whole(tmp_path, entries)
    assert [r["Range"] for r in server.requests] == [None, "bytes=100000-", "bytes=100000-", "bytes=150000-"]
    assert server.served == len(server.body)


def test_silent_connection_is_continued(fetch, server, tmp_path, entries):
    server.faults = [("stall", 131_072)]
    fetch(timeout=0.2)
    assert_whole(tmp_path, entries)
    assert server.served == len(server.body)


@pytest.mark.parametrize("fault", ["trickle", "headers that trickle"])
def test_slow_servers(fetch, server, tmp_path, entries, fault):
    """A transfer that gets only a byte now and then makes no progress, and ends."""
    server.faults = [(fault, None)]
    fetch(timeout=0.2)
    assert_whole(tmp_path, entries)
    assert len(server.requests) == 2
    assert any("bytes a second" in line or "no answer in" in line for line in fetch.says)
    shutil.rmtree(tmp_path / "clips")
    server.faults = [(fault, None)] * 20
    with pytest.raises(DatasetError, match=r"bytes a second|no answer in|timed out"):
        fetch(timeout=0.1, tries=3)
    assert len(server.requests) == 5


def test_redirection_with_a_content_that_never_ends(fetch, server, tmp_path, entries):
    server.faults = [("redirect without end", server.url)]
    fetch()
    assert_whole(tmp_path, entries)
    assert server.served < 2**25


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # urllib leaves such sockets open
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 500 \x1b[2J" + b"x" * 5000 + b"\r\n\r\n",
        b"\x1b]0;title\x07" + b"y" * 5000 + b"\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: zz://\x1b[2J\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n",
    ],
)
def test_answers_that_are_none(fetch, server, tmp_path, answer):
    """The error is one short line without control characters."""
    server.faults = [("raw", answer)]
    with pytest.raises(DatasetError) as raised:
        fetch(tries=1)
    message = str(raised.value)
    assert message.isprintable() and len(message) < 500
    del raised
    gc.collect()


@pytest.mark.parametrize("size", ["9" * 5000, "-1", "1e6", "\u00b2"])
def test_size_that_is_none(fetch, server, tmp_path, size):
    server.faults = [("announced", size)]
    assert_refused(fetch, tmp_path, server.url, "how large")


def test_tries_are_used_up_and_the_next_call_goes_on(fetch, server, tmp_path, entries):
    server.faults = [("break", 1000), ("break", 0)]
    with pytest.raises(DatasetError) as raised:
        fetch(tries=2)
    assert "1,000 bytes are in " + str(part(tmp_path)) in str(raised.value)
    assert "same command" in str(raised.value)
    fetch()
    assert_whole(tmp_path, entries)
    assert server.requests[-1]["Range"] == "bytes=1000-"
    assert server.served == len(server.body)


@pytest.mark.parametrize(
    ("etag", "modified", "validator"),
    [('"a"', None, '"a"'), ('W/"a"', "Wed, 11 Apr 2018 19:41:55 GMT", "Wed, 11 Apr 2018 19:41:55 GMT"),
     ('W/"a"', None, None), (None, None, None)],
)  # fmt: skip
def test_validators(fetch, server, tmp_path, entries, etag, modified, validator):
    server.etag, server.modified, server.faults = etag, modified, [("break", 1000)]
    fetch()
    assert_whole(tmp_path, entries)
    assert server.requests[1]["If-Range"] == validator
    assert server.served == len(server.body)


def test_server_without_ranges(fetch, server, tmp_path, entries):
    server.ranges, server.faults = False, [("break", 100_000)]
    fetch()
    assert_whole(tmp_path, entries)
    assert server.served == 100_000 + len(server.body)
    assert any("starting again" in line for line in fetch.says)


def test_server_without_ranges_that_always_breaks_is_given_up(fetch, server):
    server.ranges, server.faults = False, [("break", 1000)] * 20
    with pytest.raises(DatasetError, match="1,000 bytes"):
        fetch(tries=3)
    assert len(server.requests) == 3


@pytest.mark.parametrize("ignores_if_range", [False, True])
@pytest.mark.parametrize("change", ["longer", "shorter", "as long"])
def test_file_that_changed_on_the_server(fetch, server, tmp_path, entries, change, ignores_if_range):
    now = server.body
    server.body = {"longer": now[:-1], "shorter": now + b"more", "as long": now[::-1]}[change]
    server.faults = [("break", 100_000)]
    with pytest.raises(DatasetError):
        fetch(tries=1)
    server.body, server.etag, server.ignores_if_range = now, '"second"', ignores_if_range
    fetch()
    assert_whole(tmp_path, entries)


@pytest.mark.parametrize("have", ["less than the new file", "as much", "more"])
def test_file_that_changed_on_a_server_without_validators(fetch, server, tmp_path, entries, have):
    now = server.body
    kept = {"less than the new file": 1000, "as much": len(now), "more": len(now) + 1}[have]
    server.body, server.etag, server.modified = bytes(len(now) + 5000), None, None
    server.faults = [("break", kept)]
    with pytest.raises(DatasetError):
        fetch(tries=1)
    server.body = now
    fetch()
    assert_whole(tmp_path, entries)


def test_range_that_was_not_asked_for(fetch, server, tmp_path, entries):
    server.faults = [("break", 1000), ("shifted", None)]
    fetch()
    assert_whole(tmp_path, entries)


def test_part_from_another_address(fetch, server, tmp_path, entries):
    server.faults = [("break", 1000)]
    with pytest.raises(DatasetError):
        fetch(url=server.url.replace("/data/", "/mirror/"), tries=1)
    fetch()
    assert_whole(tmp_path, entries)
    assert server.requests[-1]["Range"] is None


@pytest.mark.parametrize("damage", ["no state", "broken state", "state of another kind", "grown"])
def test_leftovers_that_cannot_be_continued(fetch, server, tmp_path, entries, damage):
    server.faults = [("break", 1000)]
    with pytest.raises(DatasetError):
        fetch(tries=1)
    state = work(tmp_path) / f"{NAME}.json"
    if damage == "grown":
        part(tmp_path).write_bytes(server.body + b"more")
    elif damage == "broken state":
        state.write_text("{")
    elif damage == "state of another kind":
        state.write_text("[]")
    else:
        state.unlink()
    fetch()
    assert_whole(tmp_path, entries)
    assert server.requests[-1]["Range"] is None


def test_wrong_checksum_starts_afresh(fetch, server, tmp_path, entries):
    good, server.body = server.body, server.body[:-100] + bytes(100)
    assert_refused(fetch, tmp_path, sha(good), sha(server.body), str(part(tmp_path)), "anew", sha256=sha(good))
    server.body = good
    fetch()
    assert_whole(tmp_path, entries)


def cut_inside_header(plain):
    return gzip.compress(plain[: 512 * 3 + 100])


def cut_between_members(plain):
    """The archive, cut right before the last member's header."""
    return gzip.compress(plain[: plain.rindex(b"./_background_noise_")])


def broken_header(plain):
    at = plain.index(b"./marvin/0a7c2a8d")
    return gzip.compress(plain[:at] + b"X" + plain[at + 1 :])


DAMAGES = {
    "no gzip": lambda plain: b"<html>Not here</html>",
    "nothing": lambda plain: b"",
    "no tar": lambda plain: gzip.compress(b"hello" * 1000),
    "no files": lambda plain: gzip.compress(pack([])),
    "gzip cut short": lambda plain: gzip.compress(plain)[:-1000],
    "gzip without its checksum": lambda plain: gzip.compress(plain)[:-8],
    "gzip with a wrong checksum": lambda plain: gzip.compress(plain)[:-8] + bytes(8),
    "gzip with garbage inside": lambda plain: gzip.compress(plain)[:20000] + bytes(5000),
    "tar cut inside a file": lambda plain: gzip.compress(plain[: len(plain) // 2]),
    "tar cut inside a header": cut_inside_header,
    "tar cut between members": cut_between_members,
    "tar with a broken header": broken_header,
    "a file twice": lambda plain: gzip.compress(pack([entry("yes/a.wav", b"1"), entry("yes/a.wav", b"2")])),
    "a file that is also a folder": lambda plain: gzip.compress(pack([entry("yes", b"1"), entry("yes/a.wav", b"2")])),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_broken_archive_with_the_right_checksum(fetch, server, tmp_path, plain, damage):
    server.body = DAMAGES[damage](plain)
    assert_refused(fetch, tmp_path, str(part(tmp_path)), "broken archive")


MEMBERS = {
    "parent": entry("../escaped", b"x"),
    "parent inside": entry("./yes/../../escaped", b"x"),
    "absolute": entry("/tmp/escaped", b"x"),
    "backslash": entry("..\\escaped", b"x"),
    "folder outside": entry("../escaped", type=tarfile.DIRTYPE),
    "symbolic link": entry("./yes/link", type=tarfile.SYMTYPE, linkname="../../escaped"),
    "symbolic link inside": entry("./yes/link", type=tarfile.SYMTYPE, linkname="other.wav"),
    "hard link": entry("./yes/link", type=tarfile.LNKTYPE, linkname="./README.md"),
    "character device": entry("./yes/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    "block device": entry("./yes/disk", type=tarfile.BLKTYPE),
    "pipe": entry("./yes/pipe", type=tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("member", MEMBERS)
def test_dangerous_member_refuses_the_whole_archive(fetch, server, tmp_path, entries, member):
    info, data = MEMBERS[member]
    server.body = gzip.compress(pack([*entries, (info, data)]))
    assert_refused(fetch, tmp_path, repr(info.name), "leads out" if "escaped" in info.name else "link or device")


def header(name, size, kind):
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.USTAR_FORMAT)


def long_pax_header(size=2**25):
    return header("pax", size, b"x") + bytes(size)


def chain_of_pax_headers():
    record = b"11 path=xy\n"
    return (header("pax", len(record), b"x") + record.ljust(512, b"\0")) * 5000


def long_name(size=2**25):
    return header("././@LongLink", size, b"L") + b"a" * size


def sparse_map():
    """The map of a sparse file in the form of PAX 1.0, without end."""
    fields = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "a", "GNU.sparse.realsize": "1"}
    info = tarfile.TarInfo("yes/a.wav")
    info.pax_headers, info.size = fields, 2**23
    return info.tobuf(tarfile.PAX_FORMAT) + b"99999999\n" + b"0\n" * 2**22


HEADERS = {
    "a PAX header": long_pax_header,
    "PAX headers": chain_of_pax_headers,
    "a name": long_name,
    "the map of a sparse file": sparse_map,
}


@pytest.mark.parametrize("what", HEADERS)
def test_headers_are_bounded(fetch, server, tmp_path, entries, what):
    """Headers that tarfile would read into memory are bounded."""
    server.body = gzip.compress(HEADERS[what]() + pack(entries), 1)
    tracemalloc.start()
    assert_refused(fetch, tmp_path, str(part(tmp_path)), "broken archive")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24


def test_sparse_file(fetch, server, tmp_path, entries):
    """Some hundred bytes make a sparse file of an exabyte."""
    info = tarfile.TarInfo("yes/a.wav")
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.map": "0,1",
        "GNU.sparse.size": "9",
    }
    info.pax_headers["GNU.sparse.realsize"] = str(2**60)
    info.size = 1
    sparse = info.tobuf(tarfile.PAX_FORMAT) + b"x".ljust(512, b"\0")
    server.body = gzip.compress(sparse + pack(entries))
    assert_refused(fetch, tmp_path, "yes/a.wav", "has holes")


def test_number_of_folders(fetch, server, tmp_path, monkeypatch):
    monkeypatch.setattr("host_tools.data.archive._MOST_FOLDERS", 100)
    monkeypatch.setattr("host_tools.data.archive._MOST_FILES", 100)
    many = [entry(f"{i}", type=tarfile.DIRTYPE) for i in range(101)]
    for made in (many, [entry(f"{i}/{i}/a.wav") for i in range(51)]):
        server.body = gzip.compress(pack(made))
        assert_refused(fetch, tmp_path, "more than 100 folders")
    server.body = gzip.compress(pack([entry(f"yes/{i}.wav") for i in range(101)]))
    assert_refused(fetch, tmp_path, "more than 100 files")
    server.body = gzip.compress(pack([entry("a/" * 33 + "a.wav")]))
    assert_refused(fetch, tmp_path, "below 33 folders")


def test_zeros_without_end(fetch, server, tmp_path, entries):
    """The zeros follow the end of the archive."""
    server.body = gzip.compress(pack(entries) + bytes(2**26), 1)
    assert_refused(fetch, tmp_path, "unpacks to more than", limit=2**20)


def test_modes_and_owners_are_not_taken_over(fetch, server, tmp_path):
    server.body = gzip.compress(pack([entry("./yes/a.wav", b"x", mode=0o6000, uid=12345, mtime=2**40)]))
    fetch()
    status = (tmp_path / "clips" / "yes" / "a.wav").stat()
    assert status.st_mode & 0o6400 == 0o400
    assert status.st_uid == os.getuid()


def test_bomb(fetch, server, tmp_path):
    server.body = gzip.compress(pack([entry(f"./yes/{i}.wav", bytes(100_000)) for i in range(20)]))
    assert_refused(fetch, tmp_path, "more than 1,000,000 bytes", limit=1_000_000)
    fetch(limit=2_000_000)


def test_disk_space_is_checked_before_the_transfer(fetch, server, tmp_path):
    needed = len(server.body) + int(1.6 * len(server.body))
    asked = []

    def free(path):
        asked.append(path)
        return needed - 1

    assert_refused(fetch, tmp_path, f"needs {needed:,} bytes", f"{needed - 1:,} are free", free=free)
    assert all(path.is_relative_to(tmp_path) for path in asked)
    fetch(free=lambda path: needed)


def test_disk_space_for_what_is_missing(fetch, server, tmp_path, entries):
    server.faults = [("break", 100_000)]
    with pytest.raises(DatasetError, match="early"):
        fetch(tries=1)
    needed = len(server.body) - 100_000 + int(1.6 * len(server.body))
    with pytest.raises(DatasetError, match=f"needs {needed:,} bytes"):
        fetch(free=lambda path: needed - 1)
    fetch(free=lambda path: needed)
    assert server.requests[-1]["Range"] == "bytes=100000-"
    assert_whole(tmp_path, entries)


def test_archive_is_kept_on_request_and_used_again(fetch, server, tmp_path):
    fetch(keep_archive=True)
    assert (tmp_path / NAME).read_bytes() == server.body
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clips", NAME]
    asked = len(server.requests)
    (tmp_path / "clips").rename(tmp_path / "elsewhere")
    fetch()
    assert len(server.requests) == asked
    assert (tmp_path / NAME).exists()
    assert (tmp_path / "clips" / "README.md").exists()


def test_archive_that_lies_there_is_not_touched(fetch, server, tmp_path):
    (tmp_path / NAME).write_bytes(b"something else")
    assert_refused(fetch, tmp_path, str(tmp_path / NAME), sha(b"something else"), sha(server.body), "move it away")
    assert (tmp_path / NAME).read_bytes() == b"something else"
    assert not server.requests


def test_folder_that_cannot_be_written(fetch, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="Not a directory"):
        download(tmp_path / "file" / "clips", Transfer(url="http://host/x.tar.gz"))


@pytest.mark.parametrize("stage", ["download", "checksum", "unpack"])
def test_interrupt_keeps_what_was_fetched(fetch, server, tmp_path, entries, stage):
    class Bar(tqdm):
        def update(self, n=1):
            if self.desc == stage:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(progress=functools.partial(Bar, file=io.StringIO()))
    assert not (tmp_path / "clips").exists()
    assert sorted(os.listdir(work(tmp_path))) == ["lock", f"{NAME}.json", f"{NAME}.part"]
    kept, served = part(tmp_path).stat().st_size, server.served
    assert kept > 0
    fetch()
    assert_whole(tmp_path, entries)
    if stage != "download":
        assert (kept, server.served) == (len(server.body), served)


KILLED = """
import os, signal, sys
from tqdm import tqdm
from host_tools.data.download import download
from host_tools.data.transfer import Transfer

folder, url, sha256, stage, after = sys.argv[1:]

class Bar(tqdm):
    def update(self, n=1):
        super().update(n)
        if self.desc == stage and self.n > int(after):
            os.kill(os.getpid(), signal.SIGKILL)

download(folder, Transfer(url=url, progress=Bar), sha256=sha256)
"""


@pytest.mark.parametrize(("stage", "after"), [("download", 70_000), ("checksum", 70_000), ("unpack", 150_000)])
def test_kill_leaves_nothing_that_looks_whole(fetch, server, tmp_path, entries, stage, after):
    arguments = [tmp_path / "clips", server.url, sha(server.body), stage, after]
    process = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, arguments)], capture_output=True, timeout=60, check=False
    )
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    assert not (tmp_path / "clips").exists()
    kept = part(tmp_path).stat().st_size
    assert kept > 60_000
    if stage == "unpack":
        assert (work(tmp_path) / "unpacked" / "README.md").exists()
        (work(tmp_path) / "unpacked" / "stale.wav").write_bytes(b"of another day")
    server.requests.clear()
    fetch()
    assert_whole(tmp_path, entries)
    assert [r["Range"] for r in server.requests] == ([f"bytes={kept}-"] if stage == "download" else [])


def test_two_at_a_time(fetch, server, tmp_path, entries):
    refused = []

    def bar(**options):
        with pytest.raises(DatasetError, match="another download") as raised:
            fetch()
        refused.append(raised)
        return tqdm(**options, disable=True)

    fetch(progress=bar)
    assert len(refused) == 3
    assert_whole(tmp_path, entries)
