"""How processes of a training find one another, and that none outlives another one's death. Without Keras."""

import contextlib
import socket
import subprocess
import sys
import threading
import time

import pytest

from host_tools.config import DevicesConfig
from host_tools.devices.roll_call import call_roll
from host_tools.errors import DevicesError
from kws_edge.errors import ConfigError

pytestmark = pytest.mark.host

PROCESS = """
import os, sys, time
from host_tools.config import DevicesConfig
from host_tools.devices.roll_call import call_roll

company = call_roll(DevicesConfig(hosts=sys.argv[1], rank=int(sys.argv[2])), {}, say=lambda line: None)
print("there", flush=True)
word = sys.stdin.readline().strip()
if word:
    company.leave("" if word == "done" else word)
    time.sleep(0.5)
    sys.exit(0 if word == "done" else 3)
time.sleep(600)
"""


def hosts(n):
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(n)]
        return ",".join(f"127.0.0.1:{one.getsockname()[1]}" for one in servers)


def places(names):
    return [DevicesConfig(hosts=names, rank=rank) for rank in range(names.count(",") + 1)]


def called(config, asked=None, *, wait_s=200.0):
    """What a roll call gives: a company, or the message of an error."""
    try:
        return call_roll(config, asked or {"epochs": 4}, say=lambda line: None, wait_s=wait_s)
    except DevicesError as error:
        return str(error)


def together(*calls):
    """What calls give that are made at the same time."""
    found = [None] * len(calls)

    def call(i):
        found[i] = calls[i]()

    threads = [threading.Thread(target=call, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(250)
        assert not thread.is_alive()
    return found


def test_all_come_and_leave():
    configs = places(hosts(3))
    companies = together(*(lambda config=config: called(config) for config in configs))
    assert len({company.coordinator for company in companies}) == 1
    for company in companies:
        company.leave()
    time.sleep(0.5)  # a death would end this process


def test_a_process_that_does_not_come_is_named():
    first, second, third = places(hosts(3))
    found = together(lambda: called(first, wait_s=1.5), lambda: called(second, wait_s=200))
    assert found[0] == found[1]
    assert f"rank 2 ({third.hosts.split(',')[2]}) did not come within 1.5 s: start the same command" in found[0]


def test_rank_0_that_does_not_answer_is_named():
    _, second = places(hosts(2))
    assert "rank 0 (127.0.0.1:" in (found := called(second, wait_s=1)) and "with --rank 0" in found


def test_the_wrong_machine_and_unknown_hosts_are_refused():
    assert "--rank 0: 192.0.2.1 is not this machine" in called(
        DevicesConfig(hosts="192.0.2.1:7777,127.0.0.1:7777", rank=0)
    )
    found = called(DevicesConfig(hosts="127.0.0.1:7777,nosuch.invalid:7777", rank=0))
    assert "'nosuch.invalid': no such host" in found


def test_a_port_in_use_is_said():
    with socket.create_server(("", 0)) as server:
        names = f"127.0.0.1:{server.getsockname()[1]},127.0.0.1:9"
        assert "name another port in --hosts" in called(DevicesConfig(hosts=names, rank=0))


def test_who_differs_is_told_and_who_is_right_still_comes():
    """Strange connections count for nothing."""
    names = hosts(2)
    first, second = places(names)
    port = first.addresses[0][1]

    def late():
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as stranger:
                stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
                break
        other = names.replace("127.0.0.1", "localhost")
        return [
            called(second, {"epochs": 5, "seed": 1}),
            called(DevicesConfig(hosts=other, rank=1)),
            called(second),
        ]

    company, (asked, listed, right) = together(lambda: called(first), late)
    assert asked == "rank 1 differs from rank 0: epochs 5, not 4; seed 1, not null; give all of them the same"
    assert listed.endswith("give all of them the same") and "--hosts localhost" in listed
    for one in (company, right):
        one.leave()


def test_a_rank_is_given_once():
    first, second, third = places(hosts(3))

    def late():
        waits = threading.Thread(target=lambda: found.append(called(second)))
        waits.start()
        time.sleep(1)
        twice = called(second)
        found.append(called(third))
        waits.join(250)
        return twice

    found = []
    company, twice = together(lambda: called(first), late)
    assert twice == "--rank 1: is there already; give each machine its own rank"
    for one in (company, *found):
        one.leave()


def start(names, rank):
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS, names, str(rank)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def three():
    names = hosts(3)
    processes = [start(names, rank) for rank in range(3)]
    assert [process.stdout.readline() for process in processes] == ["there\n"] * 3
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("dies", [0, 2])
def test_a_death_ends_all_others(three, dies):
    three[dies].kill()
    for rank, process in enumerate(three):
        if rank != dies:
            _, error = process.communicate(timeout=200)
            assert process.returncode == 1
            assert error.startswith(f"kws-host: rank {dies} (127.0.0.1:") and error.count("\n") == 1
            assert "has ended: it was ended from outside" in error and "the same commands go on" in error


def test_an_error_is_told_to_all_others(three):
    three[1].stdin.write("DATA: no such folder\n")
    three[1].stdin.flush()
    for rank in (0, 2):
        _, error = three[rank].communicate(timeout=200)
        assert three[rank].returncode == 1
        assert "has ended: DATA: no such folder; start all of them anew" in error


def test_those_that_are_done_leave_without_an_error(three):
    for process in three:
        process.stdin.write("done\n")
        process.stdin.flush()
    assert [(process.wait(200), process.stderr.read()) for process in three] == [(0, "")] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devices": "0"}, "must be all, or a whole number from 1 to 1024, got '0'"),
        ({"devices": "some"}, "must be all, or a whole number"),
        ({"hosts": "a,b", "rank": 0}, "must be HOST:PORT for each machine"),
        ({"hosts": "a:1,b:70000", "rank": 0}, "must be a whole number from 1 to 65535, got '70000'"),
        ({"hosts": "a:1,a:1", "rank": 0}, "must name each process once, got 'a:1' twice"),
        ({"hosts": "a:1", "rank": 0}, "must be two machines or more, got only a:1"),
        ({"hosts": "a:1,b:1"}, "hosts need --rank, this machine's place among them, from 0 to 1"),
        ({"rank": 0}, "rank 0 is a place in --hosts, which are not given"),
        ({"hosts": "a:1,b:1", "rank": 2}, "rank must be from 0 to 1, as there are 2 hosts, got 2"),
        ({"precision": "half"}, "must be one of float32, mixed"),
    ],
)
def test_contradictions_are_refused(options, message):
    with pytest.raises(ConfigError) as caught:
        DevicesConfig(**options)
    assert message in str(caught.value)


def test_addresses():
    config = DevicesConfig(hosts="[::1]:1,b.example:65535", rank=1)
    assert config.addresses == [("::1", 1), ("b.example", 65535)]
