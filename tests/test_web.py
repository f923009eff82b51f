"""The web page over real HTTP: what it answers, whom it refuses, and what hostile clients cannot do."""

import asyncio
import contextlib
import http.client as http_client
import re
import socket
import time
from itertools import islice, pairwise
from pathlib import Path

import pytest

pytest.importorskip("h11", reason="h11 is not installed here")

from kws_edge.service.config import read_config
from kws_edge.service.web import http
from kws_edge.service.web.access import Token
from kws_edge.service.web.server import MAX_CLIENTS, MAX_OF_ONE, Server
from tests.conftest import wait_until
from tests.served import measured_model, served, unmeasured_model

PAGE = Path(http.__file__).parent / "page"


@pytest.fixture(scope="module")
def page(tmp_path_factory, demo_stream):
    """A service whose page only this machine reaches."""
    with served(
        tmp_path_factory.mktemp("page") / "s", '[web]\nport = 0\n[clips]\nfolder = "clips"\n', demo_stream
    ) as s:
        yield s
        log = s.end()
        assert "Traceback" not in log
        assert "defect" not in log


def own_address():
    """An address of this machine that is not its loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but its loopback")
        return probe.getsockname()[0]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, demo_stream):
    """A service that every address reaches, and its token."""
    folder = tmp_path_factory.mktemp("guarded") / "s"
    sections = '[web]\nhost = "0.0.0.0"\nport = 0\nhosts = ["voice.example"]\n[clips]\nfolder = "clips"\n'
    with served(folder, sections, demo_stream) as s:
        assert s.port
        yield s, re.search(r"the token is ([0-9a-f]+);", s.log)[1]


def exchange(port, data, *, host="127.0.0.1", timeout=30.0):
    """Send bytes as they are; return all that comes back until the connection ends."""
    got = b""
    with socket.create_connection((host, port), timeout=timeout) as client:
        client.sendall(data)
        try:
            while part := client.recv(65536):
                got += part
        except ConnectionError:  # it was refused before all was read
            pass
    return got


def status(answer):
    return int(answer.split(b" ", 2)[1])


def request(*lines, body=b""):
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


# The page


def test_the_page_is_whole_and_asks_no_other_host(page):
    code, html = page.ask("GET", "/", raw=True)
    assert code == 200
    assert html == (PAGE / "index.html").read_bytes()
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    wanted = {"/style.css", "/app.js"}
    assert set(re.findall(r'(?:src|href)="(/[^"]*)"', html.decode())) == wanted
    seen = set()
    while wanted - seen:
        seen.add(path := (wanted - seen).pop())
        code, data = page.ask("GET", path, raw=True)
        assert code == 200
        assert page.headers["Content-Type"] == ("text/css" if path.endswith("css") else "text/javascript")
        assert "://" not in data.decode().replace("http://www.w3.org/2000/svg", "")
        wanted |= {f"/{name}" for name in re.findall(r'from "\./([a-z.]+)"', data.decode())}
    assert {f"/{file.name}" for file in PAGE.iterdir()} == seen | {"/index.html"}


def test_head_has_no_body(page):
    answer = exchange(page.port, request("HEAD / HTTP/1.1", "Host: localhost", "Connection: close"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert status(answer) == 200
    assert b"Content-Length: 0" not in head
    assert body == b""


def test_many_requests_on_one_connection(page):
    one = request("GET /api/session HTTP/1.1", "Host: localhost")
    last = request("GET /api/session HTTP/1.1", "Host: localhost", "Connection: close")
    assert exchange(page.port, 50 * one + last).count(b'{"known": true}') == 51


def test_live_events_are_what_the_service_hears(page):
    with page.events() as events:
        name, state = next(events)
        assert name == "begin"
        assert state["rooms"][0]["room"] == "kitchen"
        assert state["rooms"][0]["possible"] == state["rooms"][0]["keywords"]
        assert state["clips"] is True
        assert state["login"] is False
        scores, heard = [], []
        for name, values in events:
            if name == "scores":
                scores.append(values)
            elif name == "detection":
                heard.append(values)
            if len(scores) > 40 and heard:
                break
    assert all(round(b["t"] - a["t"], 3) == 0.1 for a, b in pairwise(scores))
    assert all(len(one["p"]) == len(one["at"]) == 12 and one["bands"] == 40 for one in scores)
    assert heard[0]["score"] >= heard[0]["threshold"]
    assert heard[0]["keyword"] in state["rooms"][0]["keywords"]


def test_another_room_gets_no_scores(page):
    with page.events("cellar") as events:
        kinds = [name for name, _ in islice(events, 4)]
    assert "scores" not in kinds


def test_a_change_holds_at_once_and_is_told(page):
    with page.events() as events:
        assert page.ask("POST", "/api/settings", {"room": "kitchen", "thresholds": {"yes": 0.5}}) == (200, {})
        told = next(values for name, values in events if name == "settings")
        assert told["thresholds"]["yes"] == 0.5
        at = told["labels"].index("yes")
        assert 500 in {values["at"][at] for name, values in islice(events, 30) if name == "scores"}
    assert page.ask("POST", "/api/settings", {"room": "kitchen", "keywords": ["yes", "no"]})[0] == 200
    assert page.event("begin")["rooms"][0]["keywords"] == ["yes", "no"]


def test_sensitivity_changes_all_thresholds(tmp_path, demo_stream):
    model = measured_model(tmp_path / "measured.tflite")
    with served(tmp_path / "s", f'[web]\nport = 0\n[model]\nfile = "{model}"\n', demo_stream) as s:
        before = s.event("begin")["rooms"][0]["thresholds"]
        assert s.ask("POST", "/api/settings", {"room": "kitchen", "sensitivity": 0.9})[0] == 200
        higher = s.event("begin")["rooms"][0]
        assert higher["sensitivity"] == 0.9
        assert higher["thresholds"] == {word: pytest.approx(before[word] - 0.16) for word in before}
        assert s.ask("POST", "/api/settings", {"room": "kitchen", "sensitivity": 0.5})[0] == 200
        assert s.event("begin")["rooms"][0]["thresholds"] == before


def test_a_model_without_operating_points_has_no_sensitivity(tmp_path, demo_stream):
    model = unmeasured_model(tmp_path / "unmeasured.tflite")
    with served(tmp_path / "s", f'[web]\nport = 0\n[model]\nfile = "{model}"\n', demo_stream) as s:
        assert s.event("begin")["rooms"][0]["has_sensitivity"] is False
        assert s.ask("POST", "/api/settings", {"room": "kitchen", "sensitivity": 0.9})[0] == 400


def test_saved_changes_hold_after_a_restart(tmp_path, demo_stream):
    for saves in (True, False):
        with served(tmp_path / "s", "[web]\nport = 0\n", demo_stream) as s:
            if saves:
                assert s.ask("POST", "/api/settings", {"room": "kitchen", "thresholds": {"no": 0.41}})[0] == 200
                assert s.ask("POST", "/api/save", {})[0] == 200
                s.end()
            else:
                assert s.event("begin")["rooms"][0]["thresholds"]["no"] == 0.41


@pytest.mark.parametrize(
    ("path", "values", "said"),
    [
        ("/api/settings", {"room": "attic", "sensitivity": 0.5}, "attic"),
        ("/api/settings", {"room": "kitchen", "sensitivity": 2}, "sensitivity"),
        ("/api/settings", {"room": "kitchen", "sensitivity": "high"}, "number"),
        ("/api/settings", {"room": "kitchen", "sensitivity": True}, "number"),
        ("/api/settings", {"room": "kitchen", "thresholds": {"banana": 0.5}}, "banana"),
        ("/api/settings", {"room": "kitchen", "thresholds": {"yes": 7}}, "7"),
        ("/api/settings", {"room": "kitchen", "thresholds": [1]}, "thresholds"),
        ("/api/settings", {"room": "kitchen", "keywords": []}, "keywords"),
        ("/api/settings", {"room": "kitchen", "keywords": "yes"}, "keywords"),
        ("/api/settings", {"room": 5}, "room"),
        ("/api/wrong", {"room": "attic", "end_s": 1}, "attic"),
        ("/api/wrong", {"room": "kitchen"}, "number"),
        ("/api/examine", {"room": "attic"}, "attic"),
        ("/api/calibration", {"room": "attic", "minutes": 5, "budget": 1}, "attic"),
        ("/api/calibration", {"room": "kitchen", "minutes": 1, "budget": 1}, "minutes"),
        ("/api/calibration", {"room": "kitchen", "minutes": 5, "budget": -1}, "budget"),
        ("/api/clips/label", {"name": "x.wav", "word": "banana"}, "keyword"),
        ("/api/clips/label", {"name": "../serve.toml", "word": "yes"}, "no clip"),
        ("/api/clips/delete", {"name": "/etc/passwd"}, "no clip"),
        ("/api/clips/delete", {}, "name"),
    ],
)
def test_wrong_values_are_refused_and_named(page, path, values, said):
    before = page.event("begin")["rooms"]
    code, answer = page.ask("POST", path, values)
    assert code == 400
    assert said in answer["error"]
    assert page.event("begin")["rooms"] == before


def test_the_doctor_examines_the_sound(page):
    wait_until(lambda: page.event("telemetry")["heard_s"] > 5, 60)
    code, found = page.ask("POST", "/api/examine", {"room": "kitchen"})
    assert code == 200
    assert 4 < found["seconds"] <= 10
    assert -40 < found["signal"]["level_db"] < 0
    assert not [one for one in found["findings"] if one["level"] == "fault"]


def test_a_calibration_runs_and_can_be_ended(page):
    with page.events() as events:
        assert page.ask("POST", "/api/calibration", {"room": "kitchen", "minutes": 3, "budget": 1})[0] == 200
        assert (
            "already"
            in page.ask("POST", "/api/calibration", {"room": "kitchen", "minutes": 3, "budget": 1})[1]["error"]
        )
        heard = [values["heard"] for name, values in islice(events, 40) if name == "calibration"]
        assert heard == sorted(heard)
        assert heard[-1] > 0
        assert page.ask("POST", "/api/calibration/stop", {})[0] == 200
        last = next(values for name, values in events if name == "calibration" and values["state"] == "failed")
    assert "3 min are the least" in last["text"]


# Other sites


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Origin": "file://"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Host": "evil.example"},
        {"Host": "evil.example:80"},
        {"Host": "localhost@evil.example"},
        {"Host": "192.168.1.5"},
    ],
)
def test_requests_of_other_sites_change_nothing(page, headers):
    before = page.event("begin")["rooms"]
    code, answer = page.ask("POST", "/api/settings", {"room": "kitchen", "thresholds": {"yes": 0.11}}, headers=headers)
    assert code in (403, 415, 421)
    assert "error" in answer
    assert page.event("begin")["rooms"] == before


@pytest.mark.parametrize("path", ["/api/live?room=kitchen", "/api/clips", "/api/session", "/app.js", "/"])
def test_other_sites_cannot_embed_anything_and_foreign_names_read_nothing(page, path):
    assert page.ask("GET", path, headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"})[0] == 403
    assert page.ask("GET", path, headers={"Host": "rebound.example"})[0] == 421


def test_another_site_may_link_to_the_page(page):
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert page.ask("GET", "/", headers=headers, raw=True)[0] == 200
    assert page.ask("GET", "/api/clips", headers=headers)[0] == 403


def test_the_page_itself_may_change_things(page):
    headers = {"Origin": f"http://127.0.0.1:{page.port}", "Sec-Fetch-Site": "same-origin"}
    assert page.ask("POST", "/api/save", {}, headers=headers) == (200, {})


# Paths


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd",
        "/..%2f..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/./index.html",
        "/page/index.html",
        "/index.html",
        "/app.js/",
        "/app.js%00.css",
        "/..\\..\\serve.toml",
        "/api/clip?name=../../serve.toml",
        "/api/clip?name=/etc/passwd",
        "/api/clip?name=%2e%2e%2fserve.toml",
        "/api/clip?name=",
        "/api/clip",
        "/api/clip?name=a&name=..%2fserve.toml",
        "/api/../serve.toml",
        "http://evil.example/",
        "*",
    ],
)
def test_tricks_with_paths_read_nothing(page, path):
    answer = exchange(page.port, request(f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close"))
    assert status(answer) in (400, 404), answer
    assert b"root:" not in answer
    assert b"telemetry_s" not in answer


def test_links_among_the_clips_are_not_followed(page):
    words = page.folder / "clips" / "words" / "stop"
    words.mkdir(parents=True, exist_ok=True)
    link = words / "20260101T000000000Z-kitchen-stop-0.90-hit.wav"
    link.symlink_to("/etc/passwd")
    assert link.name not in {clip["name"] for clip in page.ask("GET", "/api/clips")[1]["clips"]}
    assert page.ask("GET", f"/api/clip?name={link.name}")[0] == 404
    link.unlink()


# Hostile clients


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x00\xff\x16\x03\x01", None),
        (b"\r\n\r\n\r\n", None),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 421),
        (b"get it\r\n\r\n", 400),
        (request("GET / HTTP/1.1"), 400),
        (request("GET / HTTP/1.1", "Host: localhost", "Host: evil.example"), 400),
        (request("GET / HTTP/1.1", "Host: localhost", "Bad Header"), 400),
        (request("GET / HTTP/1.1", "Host: localhost", " folded: x", "x: \0"), 400),
        (request("GET /api/clips?" + "&".join(f"a{i}=1" for i in range(50)) + " HTTP/1.1", "Host: localhost"), 400),
        (request("POST /api/save HTTP/1.1", "Host: localhost", "Content-Length: -5"), 400),
        (request("POST /api/save HTTP/1.1", "Host: localhost", "Content-Length: 1, 2"), 400),
        (request("POST /api/save HTTP/1.1", "Host: localhost", "Transfer-Encoding: gzip"), 501),
        (request("POST /api/save HTTP/1.1", "Host: localhost", "Transfer-Encoding: chunked", body=b"zz\r\n"), 400),
        (
            request("POST /api/save HTTP/1.1", "Host: localhost", "Content-Length: 5", "Transfer-Encoding: chunked")
            + b"0\r\n\r\n",
            400,
        ),
        (request("GET / HTTP/1.1", "Host: localhost", "A: " + "x" * 20_000), 431),
        (request("GET /" + "x" * 20_000 + " HTTP/1.1", "Host: localhost"), 431),
        (request("GET / HTTP/1.1", "Host: localhost", *(f"X-{i}: {i}" for i in range(5000))), 431),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 300_000, 431),
        (request("POST /api/save HTTP/1.1", "Host: localhost", "Content-Length: 99999999", body=b"{" * 70_000), 413),
        (
            request("POST /api/save HTTP/1.1", "Host: localhost", "Transfer-Encoding: chunked")
            + 80 * (b"400\r\n" + b" " * 1024 + b"\r\n"),
            413,
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_malformed_and_oversized_requests_are_refused(page, data, code):
    answer = exchange(page.port, data)
    assert code is None or not answer or status(answer) == code  # a reset may overtake the answer
    assert page.ask("GET", "/api/session")[0] == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b"\xff", b'{"a": NaN}', b"[" * 5000, b'{"a": 1, "a": 2}', b"9" * 5000],
    ids=lambda body: body[:9],
)
def test_bodies_that_are_no_object_are_refused(page, body):
    lines = ("POST /api/settings HTTP/1.1", "Host: localhost", "Content-Type: application/json", "Connection: close")
    assert status(exchange(page.port, request(*lines, f"Content-Length: {len(body)}", body=body))) == 400


def test_a_wrong_method_is_named(page):
    assert page.ask("POST", "/api/clips", {})[0] == 405
    assert page.ask("GET", "/api/settings")[0] == 405
    assert page.headers["Allow"] == "POST"
    assert page.ask("DELETE", "/")[0] == 404


def test_a_client_that_says_nothing_is_dropped(page):
    began = time.monotonic()
    assert exchange(page.port, b"") == b""
    assert exchange(page.port, b"GET / HTTP/1.1\r\nHost: loc") == b""
    assert time.monotonic() - began < 45


def stalled(port):
    """A client that asks for the live events and never reads them."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.connect(("127.0.0.1", port))
    client.sendall(request("GET /api/live?room=kitchen HTTP/1.1", "Host: localhost"))
    return client


def connections(port):
    """Established connections of the page, by the kernel's table."""
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(row.split()[1].endswith(f":{port:04X}") and row.split()[3] == "01" for row in rows)


def test_a_client_that_never_reads_is_dropped_and_disturbs_nobody(page):
    with page.events() as events, stalled(page.port):
        assert connections(page.port) == 2
        wait_until(lambda: connections(page.port) == 1, 120)
        times = [values["t"] for name, values in islice(events, 40) if name == "scores"]
    assert all(round(b - a, 3) == 0.1 for a, b in pairwise(times))


def test_answers_that_nobody_reads_end_in_time():
    """They fill no slot for ever, whether they are small or large."""

    async def answer(request):
        return http.Response(bytes(int(request.query["bytes"])))

    async def main():
        server = Server(answer, {}, lambda error: None)
        port = await server.start("127.0.0.1", 0)
        clients = []
        for size in (30_000, 300_000, 3_000_000):
            clients.append(client := socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.connect(("127.0.0.1", port))
            for _ in range(4):
                client.sendall(request(f"GET /?bytes={size} HTTP/1.1", "Host: localhost"))
        await asyncio.sleep(1)
        assert connections(port) == 3
        while server._tasks:
            await asyncio.sleep(0.2)
        for client in clients:
            client.close()
        await server.close()

    asyncio.run(asyncio.wait_for(main(), 120))


def test_a_hundred_clients_and_no_more(page):
    """All of them get events; the next one is refused; and when they go, there is room again."""
    wait_until(lambda: connections(page.port) == 0, 30)
    clients = []
    try:
        for _ in range(MAX_CLIENTS):
            client = socket.create_connection(("127.0.0.1", page.port), timeout=60)
            client.sendall(request("GET /api/live?room=kitchen HTTP/1.1", "Host: localhost"))
            clients.append(client)
        for client in clients:
            data = b""
            while data.count(b"event: scores") < 3:
                data += client.recv(65536)
            assert data.startswith(b"HTTP/1.1 200")
        assert status(exchange(page.port, request("GET / HTTP/1.1", "Host: localhost"))) == 503
    finally:
        for client in clients:
            client.close()
    wait_until(lambda: page.ask("GET", "/api/session")[0] == 200, 30)


def test_a_stream_that_is_not_read_stops_growing():
    """The page writes as fast as it can to a client that does not read."""
    sent = []

    async def flood(stream):
        while True:
            stream.send(bytes(10_000))
            sent.append(10_000)
            await asyncio.sleep(0)
            if stream.dropped:
                return

    async def answer(request):
        return http.Response(stream=flood)

    async def main():
        server = Server(answer, {}, lambda error: None)
        port = await server.start("127.0.0.1", 0)
        client = stalled(port)
        while (client.fileno() >= 0 and not sent) or connections(port):
            await asyncio.sleep(0.01)
        client.close()
        await server.close()

    asyncio.run(asyncio.wait_for(main(), 60))
    assert sum(sent) < 10_000_000


# Log-in


def test_without_credentials_another_address_gets_nothing(guarded):
    s, _ = guarded
    host = own_address()
    assert s.ask("GET", "/api/session", host=host) == (200, {"known": False})
    for path in ("/api/live?room=kitchen", "/api/clips", "/api/clip?name=x", "/api/unknown"):
        assert s.ask("GET", path, host=host) == (401, {"error": "log in first"})
    for path in ("/api/settings", "/api/save", "/api/wrong", "/api/examine", "/api/clips/delete", "/api/calibration"):
        assert s.ask("POST", path, {"room": "kitchen", "sensitivity": 0}, host=host)[0] == 401
    for cookie in ("kws-edge=", "kws-edge=x", "kws-edge", "a=b; kws-edge=\xff", ";;=;"):
        assert s.ask("GET", "/api/clips", host=host, headers={"Cookie": cookie.encode("latin-1")})[0] == 401


def test_one_client_cannot_take_all_connections(guarded):
    s, _ = guarded
    wait_until(lambda: connections(s.port) == 0, 30)
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_OF_ONE):
            stack.enter_context(socket.create_connection((own_address(), s.port), timeout=10))
        refused = exchange(s.port, request("GET / HTTP/1.1", f"Host: {own_address()}"), host=own_address())
        assert status(refused) == 503 and b"more than 25 connections of one client" in refused
        assert s.ask("GET", "/api/session")[0] == 200  # this machine is another client
    wait_until(lambda: s.ask("GET", "/api/session", host=own_address())[0] == 200, 30)


@pytest.mark.parametrize(
    ("address", "client"),
    [("192.0.2.7", "192.0.2.7"), ("2001:db8::1:2:3:4%eth0", "2001:db8::"), ("::1", "::1")],
)
def test_a_client_of_ipv6_is_its_network(address, client):
    assert http.client_of(address) == client
    assert http.is_loopback(client) == (client == "::1")


def test_a_log_in_gives_a_cookie_that_other_sites_cannot_use(guarded):
    s, token = guarded
    host = own_address()
    assert s.ask("POST", "/api/login", {"token": token}, host=host) == (200, {"known": True})
    cookie, *flags = s.headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(flags)
    assert token not in cookie
    headers = {"Cookie": f"other=1; {cookie}"}
    assert s.ask("GET", "/api/session", host=host, headers=headers) == (200, {"known": True})
    assert s.ask("GET", "/api/clips", host=host, headers=headers)[0] == 200
    evil = {**headers, "Origin": "http://evil.example"}
    assert s.ask("POST", "/api/save", {}, host=host, headers=evil)[0] == 403
    assert s.ask("GET", "/api/clips", host=host, headers={**headers, "Host": "evil.example"})[0] == 421
    assert s.ask("GET", "/api/clips", host=host, headers={**headers, "Host": "voice.example"})[0] == 200
    assert s.ask("POST", "/api/logout", {}, host=host, headers=headers)[0] == 200
    assert s.ask("GET", "/api/clips", host=host, headers=headers)[0] == 401


def test_whoever_logs_out_sees_nothing_more(guarded):
    """Another window that looks is cut off, too."""
    s, token = guarded
    assert s.ask("POST", "/api/login", {"token": token})[0] == 200
    headers = {"Cookie": s.headers["Set-Cookie"].split("; ")[0]}
    with s.events(headers=headers) as events:
        assert next(events)[0] == "begin"
        assert s.ask("POST", "/api/logout", {}, headers=headers)[0] == 200
        end = time.monotonic() + 30
        with contextlib.suppress(ConnectionError, http_client.HTTPException):
            for _ in events:
                assert time.monotonic() < end


def test_guessing_tokens_is_slowed_down(guarded):
    s, token = guarded
    host = own_address()
    codes = [s.ask("POST", "/api/login", {"token": f"{i:040x}"}, host=host)[0] for i in range(8)]
    assert set(codes) == {403, 429}
    assert codes[-1] == 429
    assert s.ask("POST", "/api/login", {"token": token}, host=host)[0] == 429  # even the right one waits
    assert s.headers["Retry-After"]
    assert s.ask("POST", "/api/login", {"token": token})[0] == 200  # another address need not


def test_the_token_is_shown_once_and_kept_as_a_hash(guarded, demo_stream, tmp_path):
    s, token = guarded
    path = s.folder / "state" / "web-token.json"
    assert path.stat().st_mode & 0o077 == 0
    assert token not in path.read_text()
    assert Token(str(path)).fits(token)
    assert not Token(str(path)).fits(token[:-1])
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / path.name).write_bytes(path.read_bytes())
    with served(tmp_path, '[web]\nhost = "0.0.0.0"\nport = 0\n', demo_stream) as again:
        assert again.ask("POST", "/api/login", {"token": token})[0] == 200
        assert "token" not in again.log


def test_a_token_file_that_is_damaged_lets_nobody_in(demo_stream, tmp_path):
    (tmp_path / "state").mkdir()
    for text in ("", "{}", '{"salt": "", "pbkdf2_sha256": "", "iterations": 1}', "[]", '{"salt": "zz"}'):
        (tmp_path / "state" / "web-token.json").write_text(text)
        with served(tmp_path, '[web]\nhost = "0.0.0.0"\nport = 0\n', demo_stream) as s:
            assert s.process.wait(60) == 1
            assert re.search(r"web-token\.json: cannot be used \(.*\); remove it, and a new token is made", s.log)


# The port


def test_each_address_of_the_loopback_names_the_page(demo_stream, tmp_path):
    with served(tmp_path / "s", '[web]\nhost = "127.0.0.2"\nport = 0\n', demo_stream) as s:
        assert s.ask("GET", "/api/session", host="127.0.0.2") == (200, {"known": True})
        assert s.ask("GET", "/api/session", host="127.0.0.2", headers={"Host": "192.0.2.1"})[0] == 421


def test_a_port_that_is_taken_is_told_once_and_taken_later(demo_stream, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with served(tmp_path / "s", f"[web]\nport = {port}\n", demo_stream) as s:
            wait_until(lambda: "cannot listen at 127.0.0.1 port" in s.log, 60)
            time.sleep(2)
            other.close()
            assert s.port == port
            assert s.event("scores")
            assert s.log.count("cannot listen") == 1


def test_a_reload_changes_the_page_and_keeps_its_port(demo_stream, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    with served(tmp_path / "s", f"[web]\nport = {port}\n", demo_stream) as s:
        assert s.event("scores")
        with (s.folder / "serve.toml").open("a") as file:
            file.write('hosts = ["voice.example"]\n')
        s.serving.reload()
        wait_until(lambda: "the token is" in s.log and s.log.count("the page is") == 2, 60)
        assert s.ask("GET", "/api/clips")[0] == 401
        assert "cannot listen" not in s.log


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("port = 70000", "port"),
        ('port = "http"', "port"),
        ("hosts = 5", "hosts"),
        ("hots = []", "hots"),
        ("host = 5", "host"),
        ('host = ""', "host must be a name or address without scheme, port and path, in ASCII letters, got ''"),
        ('host = "a..b"', "got 'a..b'"),
        ('host = "a\\u0000b"', "must be a name or address"),
        (f'host = "{64 * "a"}"', "must be a name or address"),
        (
            'hosts = ["pi.local", "http://voice.example"]',
            "hosts must be a name or address without scheme, port and path, in ASCII letters, got 'http://voice.example'",
        ),
        ('hosts = ["voice.example:80"]', "got 'voice.example:80'"),
    ],
)
def test_wrong_sections_are_named(run_cli, tmp_path, lines, said):
    (tmp_path / "serve.toml").write_text(f'[[source]]\nfile = "x"\n[web]\n{lines}\n')
    done = run_cli("serve", "--config", "serve.toml", "--check")
    assert done.returncode == 1
    assert said.encode() in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_the_page_alone_needs_no_file(run_cli):
    done = run_cli("serve", "--web", "--check")
    assert (done.returncode, done.stderr) == (0, b"kws-edge: serve --web: nothing is wrong\n")
    done = run_cli("serve", "--check")
    assert done.returncode == 2
    assert b"or give --web for the web page alone" in done.stderr


def test_an_option_adds_the_page_to_a_file(run_cli, tmp_path):
    """What the file says of the page counts."""
    (tmp_path / "serve.toml").write_text('[[source]]\nfile = "x"\n')
    for config in (read_config(None, add=("web",)), read_config(tmp_path / "serve.toml", add=("web",))):
        assert config.outputs["web"].port == 8597
    (tmp_path / "serve.toml").write_text('[[source]]\nfile = "x"\n[web]\nport = 1234\n')
    assert read_config(tmp_path / "serve.toml", add=("web",)).outputs["web"].port == 1234
    assert "web" not in read_config(None).outputs
