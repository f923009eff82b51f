"""``kws-edge serve`` as users run it: real audio through real outputs, and faults on the way."""

from __future__ import annotations

import fcntl
import http.server
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws_edge import ConfigError, Detection
from kws_edge.service.events import Detected
from kws_edge.service.outputs.base import OutputError, RejectedError
from kws_edge.service.outputs.webhook import WebhookSection
from tests.conftest import assert_one_line_error, need_program, wait_until
from tests.serving import RATE, Feed, Serving, Supervisor, silence, without_time

BUILTIN = '[model]\nkernels = "builtin"\n'


@pytest.fixture(scope="module")
def speech(demo_stream):
    """The bundled stream, int16."""
    return soundfile.read(demo_stream, dtype="int16")[0]


@pytest.fixture(scope="module")
def expected(demo_stream):
    """What ``kws-edge detect`` finds in the bundled stream."""
    return detections_of(demo_stream)


def detections_of(path, *options, kernels="builtin"):
    command = [sys.executable, "-m", "kws_edge", "detect", "--kernels", kernels, "--json", *options, str(path)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=120)
    return without_time(json.loads(line) for line in done.stdout.splitlines())


@pytest.fixture
def serve(tmp_path):
    """Starts services, and ends those that a test leaves."""
    running = []

    def start(text, folder=tmp_path, **options):
        running.append(Serving(folder, text, **options))
        return running[-1]

    yield start
    for one in running:
        one.kill()


@pytest.fixture
def feed(tmp_path):
    """The audio of a source whose file is ``feed``."""
    with closing(Feed(tmp_path / "feed")) as feed:
        yield feed


@pytest.fixture
def supervisor(tmp_path):
    """A systemd that wants to hear of the service every four seconds."""
    with closing(Supervisor(tmp_path, watchdog_s=4)) as supervisor:
        yield supervisor


class Receiver(http.server.ThreadingHTTPServer):
    """A web server of the test's own. `answers` are functions that misbehave; when none is left, it answers 200."""

    def __init__(self, *answers, port=0):
        self.got, self.answers = [], list(answers)
        super().__init__(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/hook?a=b"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def handle_error(self, request, client_address):
        pass

    def stop(self):
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.got.append((self.path, dict(self.headers), body))
        if self.server.answers:
            self.server.answers.pop(0)(self)
        else:
            self.answer(200)

    def answer(self, status, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *args):
        pass


def stalls(handler):
    time.sleep(3)


def drips(handler):
    """A byte now and then: every single wait is short."""
    for byte in b"HTTP/1.1 200 OK\r\nX: " + bytes([65] * 100):
        handler.wfile.write(bytes([byte]))
        time.sleep(0.1)


def closes(handler):
    handler.connection.shutdown(socket.SHUT_RDWR)


def garbage(handler):
    handler.wfile.write(b"\x00" * 1000)


def floods(handler):
    """A header without an end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000)


def status(code, **headers):
    return lambda handler: handler.answer(code, **headers)


def test_detections_are_those_of_detect_through_every_output(serve, demo_stream, expected, tmp_path):
    receiver = Receiver()
    (tmp_path / "token").write_text("Bearer x\n")
    tell = tmp_path / "tell"
    tell.write_text('#!/bin/sh\necho "$@" >> heard\n')
    tell.chmod(0o755)
    quiet = tmp_path / "quiet.wav"
    soundfile.write(quiet, silence(1), RATE)
    service = serve(f"""
        [[source]]
        name = "kitchen"
        file = "{demo_stream}"
        [[source]]
        name = "nowhere"
        file = "{quiet}"
        {BUILTIN}
        [jsonl]
        [[exec]]
        command = "echo $KWS_ROOM $KWS_KEYWORD $KWS_END_S >> heard"
        shell = true
        [[exec]]
        command = "./tell {{room}} {{keyword}} {{end_s}}"
        [[exec]]
        command = "./tell never"
        room = "nowhere"
        [[webhook]]
        url = "{receiver.url}"
        secret_file = "token"
        [[webhook]]
        url = "{receiver.url}"
        keywords = ["stop"]
    """)
    rows = service.finish()
    receiver.stop()
    assert without_time(rows) == expected
    assert {row["file"] for row in rows} == {"kitchen"}
    heard = sorted((tmp_path / "heard").read_text().splitlines())
    assert heard == sorted(2 * [f"kitchen {row['keyword']} {row['end_s']}" for row in expected])
    stops = [row for row in expected if row["keyword"] == "stop"]
    bodies = [body for _, headers, body in receiver.got if headers.get("Authorization") == "Bearer x"]
    assert bodies == rows
    assert without_time(body for _, headers, body in receiver.got if "Authorization" not in headers) == stops
    assert {path for path, _, _ in receiver.got} == {"/hook?a=b"}


def test_check(run_cli, tmp_path):
    (tmp_path / "serve.toml").write_text("[jsonl]\n")
    done = run_cli("serve", "--config", "serve.toml", "--check")
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr == b"kws-edge: serve.toml: nothing is wrong\n"
    (tmp_path / "serve.toml").write_text("")
    done = run_cli("serve", "--config", "serve.toml", "--check")
    assert b"nobody is told of detections: add a section such as [jsonl] or [mqtt]\n" in done.stderr
    for text, parts in (
        ("[model]\nfile = 'no.tflite'", ["no.tflite: no such file"]),
        ("[[exec]]\ncommand = 'nosuchprogram x'", ["[[exec]] 'nosuchprogram x': no program 'nosuchprogram'"]),
        ("[[exec]]\ncommand = 'echo {x}'", ["{x} is unknown; known are {keyword}, ", "{room}"]),
        ("[[exec]]\ncommand = 'echo | cat'", ["is for a shell", "or add shell = true"]),
        ("[[exec]]\ncommand = 'echo'\nkeyword = 'banana'", ["[exec]: 'banana' is no keyword; they are yes, no"]),
        ("[[webhook]]\nurl = 'http://x/'\nsecret_file = 'none'", [f"{tmp_path}/none: cannot be read as a secret"]),
        ("[[webhook]]\nurl = 'http://x:0/'", ["[webhook]: url must be an address such as", "got 'http://x:0/'"]),
        ("[web]\nhost = '0.0.0.0'\ntoken = '.'", [f"{tmp_path}/.: cannot be used (it is no regular file)"]),
        ("[[webhook]]\nurl = 'https://x/'\nca_file = 'serve.toml'", ["serve.toml: holds no certificates"]),
        ("[jsonl]\nfile = 'serve.toml/x'", [f"[jsonl]: file {tmp_path}/serve.toml/x"]),
        ("[[source]]\nkeywords = ['banana']", ["'banana' is no keyword of this model"]),
        (
            "[[exec]]\ncommand = 'echo'\n[[exec]]\ncommand = 'echo'\nkeyword = 'x'",
            ["toml: [[exec]] 2: 'x' is no keyword"],
        ),
        ("[[exec]]\ncommand = 'echo'\nroom = 'hall'", ["serve.toml: [exec]: no [[source]] is called 'hall'"]),
        (
            "[wyoming]\nroom = 'microfone'",
            ["serve.toml: [wyoming]: no [[source]] is called", "did you mean 'microphone'?"],
        ),
        ("[[source]]\nname='a'\n[[source]]\nname='b'\nkeywords = ['x']", ["serve.toml: [[source]] 'b': 'x' is no"]),
        ("[[source]]\nroom = 'none.json'", [f"{tmp_path}/none.json: no such room profile"]),
        ("[[source]]\nwake_word = 'banana'", ["'banana' is no keyword of this model"]),
    ):
        (tmp_path / "serve.toml").write_text(text)
        assert_one_line_error(run_cli("serve", "--config", "serve.toml", "--check"), *parts)


def test_source_that_cannot_be_opened(run_cli, tmp_path):
    (tmp_path / "serve.toml").write_text("[[source]]\nfile = 'none.wav'\n")
    done = run_cli("serve", "--config", "serve.toml")
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[-1] == f"kws-edge: {tmp_path}/none.wav: no such file"


def test_room_that_cannot_be_opened_does_not_deafen_the_others(serve, feed, speech, expected, tmp_path):
    """It is tried again and again, and hears as soon as it can."""
    service = serve(f"""
        [[source]]
        name = "hall"
        file = "late.wav"
        [[source]]
        name = "kitchen"
        file = "feed"
        {BUILTIN}
        [jsonl]
    """)
    half = 16 * RATE
    feed.write(speech[:half])
    assert service.detection()["file"] == "kitchen"
    service.wait_for(f"hall: {tmp_path}/late.wav: no such file")
    soundfile.write(tmp_path / "late.tmp.wav", speech, RATE)
    os.rename(tmp_path / "late.tmp.wav", tmp_path / "late.wav")
    service.wait_for("ready") if "ready" not in str(service.errors) else None
    heard = 0
    while heard < len(expected):
        heard += service.detection()["file"] == "hall"
    feed.close()
    service.finish()


# Webhooks


@pytest.fixture
def post():
    """Sends one detection to a receiver; returns what it raises, and the time that it took."""

    def send(url, **options):
        told = []
        output = WebhookSection(url=url, timeout_s=0.5, **options).open("webhook", None, told.append)
        start = time.monotonic()
        try:
            output.send(Detected(room="x", detection=Detection("on", 0.9, 1.0, 2.0), threshold=0.8))
        except (OutputError, RejectedError, ConfigError) as error:
            return error, time.monotonic() - start
        return None, time.monotonic() - start

    return send


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (status(200), None, ""),
        (status(204), None, ""),
        (stalls, OutputError, "no answer in 0.5 s"),
        (drips, OutputError, "no answer in 0.5 s"),
        (closes, OutputError, "closed connection without response"),
        (garbage, OutputError, ""),
        (floods, OutputError, "got more than 100 headers"),
        (status(500), OutputError, "answered 500 Internal Server Error"),
        (status(503), OutputError, "answered 503"),
        (status(429), OutputError, "answered 429"),
        (status(404), RejectedError, "answered 404 Not Found"),
        (status(302, Location="http://evil/"), RejectedError, "it leads to 'http://evil/'; write that as url"),
        (status(307), RejectedError, "answered 307"),
    ],
)
def test_webhook_that_misbehaves(post, answer, kind, text):
    """No answer takes longer than the time that was given, and no redirection is followed."""
    receiver = Receiver(answer)
    error, seconds = post(receiver.url)
    receiver.stop()
    assert type(error) is (kind or type(None)), error
    assert text in str(error or "")
    assert seconds < 2
    assert len(receiver.got) == 1


def test_webhook_that_is_not_there(post):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    error, _ = post(f"http://127.0.0.1:{port}/")
    assert str(error) == f"http://127.0.0.1:{port}: Connection refused"
    error, _ = post("http://nosuchhost.invalid/")
    assert type(error) is OutputError


@pytest.mark.parametrize("content", [None, b"", "€".encode(), b"a\x01b", b"\xff"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_webhook_whose_files_go_bad_while_it_runs(post, tmp_path, content, scheme):
    """A token that is written anew at that moment does not end the service."""
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    section = {"http": "secret_file", "https": "ca_file"}[scheme]
    error, _ = post(f"{scheme}://127.0.0.1:9/", **{section: str(path)})
    assert type(error) is ConfigError
    assert str(path) in str(error)


def test_webhook_without_trust(post, tmp_path):
    """A certificate that nobody vouches for is refused, unless the section trusts it."""
    need_program("openssl")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert]
    subprocess.run(command, check=True, capture_output=True)
    import ssl

    receiver = Receiver()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
    url = f"https://localhost:{receiver.server_port}/"
    error, _ = post(url)
    assert type(error) is OutputError
    assert "certificate" in str(error).lower()
    assert post(url, ca_file=str(cert))[0] is None
    receiver.stop()
    assert len(receiver.got) == 1


def test_webhook_returns(serve, feed, speech):
    """While the server fails, commands wait for five seconds at most. What is late is dropped, and counted."""
    receiver = Receiver(status(500), closes, status(503))
    service = serve(f"[[source]]\nfile='feed'\n{BUILTIN}[jsonl]\n[[webhook]]\nurl = '{receiver.url}'\ntimeout_s = 1")
    feed.write(speech[: 2 * RATE])
    first = service.detection()
    service.wait_for(f"webhook: http://127.0.0.1:{receiver.server_port}: answered 500 Internal Server Error")
    service.wait_for("webhook: works again")
    assert {body["end_s"] for _, _, body in receiver.got} == {first["end_s"]}
    assert len(receiver.got) == 4
    receiver.stop()
    feed.write(speech[2 * RATE : 4 * RATE])
    assert service.detection()["keyword"] == "left"
    service.wait_for("Connection refused")
    time.sleep(6)
    receiver = Receiver(port=receiver.server_port)
    feed.write(speech[4 * RATE : 7 * RATE])
    assert service.detection()["keyword"] == "stop"
    wait_until(lambda: receiver.got, 5)
    feed.close()
    service.finish()
    receiver.stop()
    assert [body["keyword"] for _, _, body in receiver.got] == ["stop"]
    assert service.errors[-1].startswith("kws-edge: webhook: 2 sent, 1 dropped, ")


# Reloading


def test_reload_loses_no_sample(serve, feed, speech, expected):
    """The service is reloaded again and again while it hears. What it hears is what ``detect`` hears."""
    service = serve(f"[[source]]\nfile = 'feed'\n{BUILTIN}[jsonl]\n")
    reloads = 0
    for i, at in enumerate(range(0, len(speech), 1700)):
        feed.write(speech[at : at + 1700])
        if i % 25 == 10:
            assert service.reload().startswith("kws-edge: reloaded ")
            reloads += 1
    feed.close()
    assert without_time(service.finish()) == expected
    assert reloads > 8


def test_reload_changes_words_outputs_and_rooms(serve, feed, speech, expected, tmp_path):
    kitchen = "[[source]]\nname = 'kitchen'\nfile = 'feed'\n"
    service = serve(f"{kitchen}{BUILTIN}[jsonl]\n")
    feed.write(speech[: 5 * RATE])
    assert [service.detection()["keyword"] for _ in range(2)] == ["yes", "left"]
    receiver = Receiver()
    service.config.write_text(f"""
        {kitchen}
        keywords = ["right"]
        [[source]]
        name = "hall"
        file = "other"
        {BUILTIN}
        [[webhook]]
        url = "{receiver.url}"
    """)
    other = Feed(tmp_path / "other")
    threading.Thread(target=other.write, args=(silence(0.1),), daemon=True).start()
    service.reload()
    feed.write(speech[5 * RATE : 12 * RATE])
    other.write(speech[7 * RATE : 12 * RATE])
    other.close()
    wait_until(lambda: len(receiver.got) == 3, 30)
    heard = sorted((body["file"], body["keyword"]) for _, _, body in receiver.got)
    assert heard == [("hall", "right"), ("hall", "up"), ("kitchen", "right")]
    service.config.write_text(f"{kitchen}{BUILTIN}[jsonl]\n")
    service.reload()
    feed.write(speech[12 * RATE :])
    feed.close()
    rows = service.finish()
    receiver.stop()
    assert without_time(rows) == [row for row in expected if row["end_s"] > 12]
    assert {row["file"] for row in rows} == {"kitchen"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[", "no configuration of the service in TOML"),
        ("[jsonl]\nx = 1", "[jsonl]: unknown setting 'x'"),
        ("[[source]]\nfile = 'none.wav'", "none.wav: no such file"),
        ("[[source]]\nfile = 'feed'\n[[exec]]\ncommand = 'nosuchprogram'", "no program 'nosuchprogram'"),
        ("[[source]]\nfile = 'feed'\n[model]\nfile = 'other.tflite'", "other.tflite: "),
        (None, "serve.toml: No such file or directory"),
    ],
)
def test_bad_file_at_reload_leaves_all_as_it_was(serve, feed, supervisor, speech, expected, tmp_path, text, reason):
    """Bad TOML, a missing source, a garbage model, and no file at all; SIGHUP tells why, and nothing is lost."""
    (tmp_path / "other.tflite").write_bytes(os.urandom(100_000))
    service = serve(f"[[source]]\nfile = 'feed'\n{BUILTIN}[jsonl]\n", environment=supervisor.environment)
    feed.write(speech[: 8 * RATE])
    supervisor.wait_for("READY")
    if text is None:
        service.config.unlink()
    else:
        service.config.write_text(text)
    assert service.reload().startswith("kws-edge: not reloaded, all goes on as it was: ")
    assert reason in service.errors[-1]
    supervisor.wait_for("RELOADING")
    supervisor.wait_for("READY")
    feed.write(speech[8 * RATE :])
    feed.close()
    assert without_time(service.finish()) == expected


def test_model_file_replaced_by_garbage_in_place(serve, feed, speech, expected, tmp_path):
    """The file of the running model is overwritten, byte by byte in place."""
    from kws_edge import shipped_models

    path = tmp_path / "own.tflite"
    path.write_bytes(Path(shipped_models()["commands12"]).read_bytes())
    service = serve(f"[[source]]\nfile = 'feed'\n[model]\nfile = '{path}'\nkernels = 'builtin'\n[jsonl]\n")
    feed.write(speech[: 8 * RATE])
    with open(path, "r+b") as file:
        file.write(os.urandom(path.stat().st_size))
    assert "not reloaded" in service.reload()
    feed.write(speech[8 * RATE : 16 * RATE])
    path.write_bytes(Path(shipped_models()["commands12"]).read_bytes())
    assert service.reload().startswith("kws-edge: reloaded")
    feed.write(speech[16 * RATE :])
    feed.close()
    assert without_time(service.finish()) == expected


# Supervision


HANG = """
import time
from kws_edge.model.interpreter import Interpreter
invoke, count = Interpreter.invoke, 0
def hang(self, values):
    global count
    count += 1
    if count > 60:
        time.sleep(1000)
    return invoke(self, values)
Interpreter.invoke = hang
"""


def paced(feed, samples, stop):
    """Write samples at the pace of live audio until an event, whoever reads."""
    start, at = time.monotonic(), 0
    while not stop.is_set():
        end = round((time.monotonic() - start) * RATE)
        with suppress(BrokenPipeError):
            feed.write(np.resize(samples, end - at))
        at = end
        time.sleep(0.05)


def test_watchdog_is_fed_by_inferences(serve, feed, supervisor, tmp_path):
    """A hang in an inference is planted. The watchdog is not fed from then on; the test restarts the service."""
    text = f"[service]\ntelemetry_s = 0.2\n[[source]]\nfile = 'feed'\n{BUILTIN}"
    service = serve(text, environment=supervisor.environment, code=HANG)
    stop = threading.Event()
    writer = threading.Thread(target=paced, args=(feed, silence(1), stop), daemon=True)
    writer.start()
    supervisor.wait_for("READY")
    fed, last = 0, time.monotonic()
    while time.monotonic() - last < 4:  # systemd's rule
        states = supervisor.next(0.2)
        if states and "WATCHDOG" in states:
            fed, last = fed + 1, time.monotonic()
    assert fed >= 3
    assert service.process.poll() is None  # it looks alive, and is deaf: the watchdog fires
    service.process.send_signal(signal.SIGABRT)
    service.process.wait(timeout=10)
    service = serve(text, environment=supervisor.environment)
    supervisor.wait_for("READY")
    for _ in range(5):
        supervisor.wait_for("WATCHDOG", timeout=4)
    stop.set()
    writer.join()


def test_silent_pipe_does_not_feed_the_watchdog(serve, feed, supervisor):
    """Without audio there is no inference: what hears nothing must not look alive."""
    serve(f"[[source]]\nfile = 'feed'\n{BUILTIN}", environment=supervisor.environment)
    feed.write(silence(3))
    supervisor.wait_for("READY")
    time.sleep(2)
    while supervisor.next(0.01):
        pass
    with pytest.raises(AssertionError, match="no WATCHDOG"):
        supervisor.wait_for("WATCHDOG", timeout=4)


def test_sigterm_in_a_detection(serve, feed, supervisor, speech, expected, tmp_path):
    """SIGTERM comes while a slow webhook sends a detection, and the command of another one runs."""
    receiver = Receiver(lambda handler: (time.sleep(1), handler.answer(200)))
    service = serve(
        f"[[source]]\nfile = 'feed'\n{BUILTIN}[[webhook]]\nurl = '{receiver.url}'\n"
        "[[exec]]\ncommand = 'sleep 1; echo done >> done'\nshell = true",
        environment=supervisor.environment,
    )
    feed.write(speech[: 2 * RATE])
    wait_until(lambda: receiver.got, 30)
    feed.write(speech[2 * RATE : 3 * RATE + 2000])  # the next word is said, and not decided yet
    service.finish(signal.SIGTERM)
    receiver.stop()
    heard = [body["keyword"] for _, _, body in receiver.got]
    assert heard == [row["keyword"] for row in expected[: len(heard)]]
    assert (tmp_path / "done").read_text() == len(heard) * "done\n"
    assert f"kws-edge: webhook: {len(heard)} sent, 0 dropped, 0 failed, 0 waiting" in service.errors
    supervisor.wait_for("STOPPING")


@pytest.mark.parametrize("name", ["prepared", "temperature_c"])
def test_sigterm_while_a_module_is_loaded(serve, feed, tmp_path, name):
    """The service ends in good order, whether it starts or runs."""
    (tmp_path / "loaded.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n")
    code = f"""
import kws_edge.service.service as service
real = service.{name}
def planted(*given):
    import loaded
    return real(*given)
service.{name} = planted"""
    service = serve(f"[[source]]\nfile = 'feed'\n{BUILTIN}[jsonl]\n", code=code)
    threading.Thread(target=feed.write, args=(silence(0.1),), daemon=True).start()
    service.finish()
    assert service.errors[-1] == "kws-edge: jsonl: 0 sent, 0 dropped, 0 failed, 0 waiting"


def test_sigterm_while_outputs_are_dead(serve, feed, speech):
    """A receiver that never answers delays the end by some seconds at most."""
    receiver = Receiver(*[lambda handler: time.sleep(60)] * 9)
    service = serve(f"[[source]]\nfile = 'feed'\n{BUILTIN}[[webhook]]\nurl = '{receiver.url}'\ntimeout_s = 60\n")
    feed.write(speech[: 2 * RATE])
    wait_until(lambda: receiver.got, 30)
    start = time.monotonic()
    service.finish(signal.SIGTERM)
    assert time.monotonic() - start < 15


# Faults of the machine

CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(clock, now);
    if (clock == CLOCK_REALTIME && access("jump", F_OK) == 0) now->tv_sec -= 40 * 365 * 86400L;
    return status;
}
"""


def test_clock_jumps(serve, feed, supervisor, speech, expected, tmp_path):
    """The clock is set back by 40 years, as by a Pi without a battery that finds a time server. Only times change."""
    need_program("cc")
    (tmp_path / "clock.c").write_text(CLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "clock.so", "clock.c", "-ldl"], cwd=tmp_path, check=True)
    receiver = Receiver()
    service = serve(
        f"[service]\ntelemetry_s = 0.2\n[[source]]\nfile = 'feed'\n{BUILTIN}[jsonl]\n[[webhook]]\nurl='{receiver.url}'",
        environment={**supervisor.environment, "LD_PRELOAD": str(tmp_path / "clock.so")},
    )
    feed.write(speech[: 8 * RATE])
    rows = [service.detection() for _ in range(3)]
    (tmp_path / "jump").touch()
    feed.write(speech[8 * RATE : 17 * RATE])
    rows += [service.detection() for _ in range(4)]
    supervisor.wait_for("WATCHDOG")
    (tmp_path / "jump").unlink()
    feed.write(speech[17 * RATE :])
    feed.close()
    rows += service.finish()
    receiver.stop()
    assert without_time(rows) == expected
    years = [int(row["time"][:4]) for row in rows]
    assert max(years[3:7]) < min(years[:3]) - 38
    assert years[-1] == years[0]
    assert [body for _, _, body in receiver.got] == rows
    assert "0 dropped, 0 failed" in service.errors[-1]


def test_disk_full(serve, feed, speech, expected, tmp_path):
    """The file of lines may not grow for a while. Listening goes on, and no line is lost or torn."""
    path = tmp_path / "heard.jsonl"
    service = serve(f"[[source]]\nfile = 'feed'\n{BUILTIN}[jsonl]\nfile = '{path}'\n")
    feed.write(speech[: 2 * RATE])
    wait_until(path.exists, 30)
    wait_until(lambda: path.stat().st_size > 50)
    pid, full = service.process.pid, path.stat().st_size + 60  # some bytes, and not enough for a line
    hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (full, hard))
    feed.write(speech[2 * RATE : 20 * RATE])
    service.wait_for("jsonl: ")
    assert str(path) in service.errors[-1]
    assert len(path.read_text().splitlines()) == 1
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
    service.wait_for("jsonl: works again")
    feed.write(speech[20 * RATE :])
    feed.close()
    service.finish()
    assert without_time(json.loads(line) for line in path.read_text().splitlines()) == expected


def test_file_of_lines_is_bounded(serve, demo_stream, expected, tmp_path):
    path = tmp_path / "new" / "heard.jsonl"
    service = serve(f"[[source]]\nfile = '{demo_stream}'\n{BUILTIN}[jsonl]\nfile = '{path}'\nmost_mb = 0.001\n")
    service.finish()
    lines = (tmp_path / "new" / "heard.jsonl.1").read_text() + path.read_text()
    assert without_time(json.loads(line) for line in lines.splitlines()) == expected
    assert path.stat().st_size <= 1000 and (tmp_path / "new" / "heard.jsonl.1").stat().st_size <= 1000


def test_ten_minutes_need_no_more_memory_than_one(tmp_path):
    """The short form of ``python -m benchmarks.serve day``: all outputs are on, and clients are there."""
    for library in ("paho", "wyoming", "zeroconf", "h11"):
        pytest.importorskip(library, reason=f"{library} is not installed here")
    for program in ("mosquitto", "openssl"):
        need_program(program)
    from benchmarks.serve import MOST_GROWTH_KB, STREAM, day

    found = day(1 / 6, pace=4, warm_s=2)
    assert found.same and found.missing == {"webhook": 0, "mqtt": 0}
    assert len(found.memory_kb) > 5 and found.growth_kb < MOST_GROWTH_KB, found.memory_kb
    clients = found.clients
    assert clients["wyoming_streams"] >= 2 and not clients["wyoming_wrong"]
    assert clients["page_visits"] and clients["page_events"] > 1000
    speech, rate = soundfile.read(STREAM, dtype="int16")
    soundfile.write(tmp_path / "all.wav", np.tile(speech, round(found.hours * 3600 * rate / len(speech))), rate)
    assert len(found.rows) > 200
    assert without_time(found.rows) == detections_of(tmp_path / "all.wav", kernels="fast")


def test_nobody_reads_standard_output(feed, speech, tmp_path):
    """The pipe is full. The service goes on, says so, and ends when it is told to."""
    (tmp_path / "serve.toml").write_text(f"[[source]]\nfile = 'feed'\n{BUILTIN}[jsonl]\n[[exec]]\ncommand = 'true'\n")
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)
    command = [sys.executable, "-m", "kws_edge", "serve", "--config", "serve.toml"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=theirs, stderr=subprocess.PIPE, text=True) as process:
        os.close(theirs)
        for _ in range(4):
            feed.write(speech)
        wait_until(lambda: "nobody reads standard output" in process.stderr.readline(), 30)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=30)[1]
        assert process.returncode == 0
    os.close(ours)
    assert "exec: 5" in said.splitlines()[-1] and "0 dropped, 0 failed, 0 waiting" in said.splitlines()[-1]


def test_reader_of_standard_output_ends(feed, speech, tmp_path):
    """What cannot recover ends loudly."""
    (tmp_path / "serve.toml").write_text(f"[[source]]\nfile = 'feed'\n{BUILTIN}[jsonl]\n")
    command = [sys.executable, "-m", "kws_edge", "serve", "--config", "serve.toml"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        feed.write(speech[: 2 * RATE])
        assert process.wait(timeout=30) == 1
        assert process.stderr.read().splitlines()[-1] == "kws-edge: the reader of standard output is gone"


def test_signals_in_a_row(serve, feed, speech, expected):
    """SIGHUP comes 50 times at once, and then SIGTERM in the middle of a reload."""
    service = serve(f"[[source]]\nfile = 'feed'\n{BUILTIN}[jsonl]\n")
    feed.write(speech[: 2 * RATE])
    service.detection()
    for _ in range(50):
        service.process.send_signal(signal.SIGHUP)
    feed.write(speech[2 * RATE : 7 * RATE])
    assert [service.detection()["keyword"] for _ in range(2)] == ["left", "stop"]
    service.process.send_signal(signal.SIGHUP)
    assert service.finish(signal.SIGTERM) == []


def test_pipe_that_nobody_writes_to_does_not_hold_up_the_others(serve, feed, speech, tmp_path):
    os.mkfifo(tmp_path / "silent")
    text = f"[[source]]\nname='porch'\nfile='silent'\n[[source]]\nname='hall'\nfile='feed'\n{BUILTIN}[jsonl]\n"
    begin = time.monotonic()
    service = serve(text)
    feed.write(speech[: 2 * RATE])
    assert service.detection()["file"] == "hall"
    assert time.monotonic() - begin < 25  # not the 30 s of a source that may still open
    service.finish(signal.SIGTERM)


def test_camera_that_is_off_at_the_start_does_not_hold_up_the_others(serve, feed, supervisor, speech):
    """The service is ready when one room hears, and says what the other one does."""
    need_program("ffmpeg")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        text = f"[[source]]\nname='porch'\nffmpeg='{address}'\n[[source]]\nname='hall'\nfile='feed'\n{BUILTIN}[jsonl]\n"
        service = serve(text, environment=supervisor.environment)
        feed.write(speech[: 2 * RATE])
        assert service.detection()["file"] == "hall"
        service.wait_for("ready: porch hears nothing; hall listens for yes, no, up,")
        supervisor.wait_for("READY")
        service.finish(signal.SIGTERM)
    assert any(f"porch: {address} is gone (" in line for line in service.errors)
