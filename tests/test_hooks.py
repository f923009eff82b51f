"""``kws-edge listen --exec`` with real programs and real detections."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws_edge.cli import hooks as hooks_module
from kws_edge.cli.hooks import Command, Hooks
from kws_edge.detection.detector import Detection
from kws_edge.errors import UsageError
from kws_edge.spotter import Step
from tests.conftest import assert_usage_error, is_gone, wait_until
from tests.sound import RATE, Listener, SoundServer

TELL = """
import json, os, sys
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
told = {
    "words": sys.argv[1:],
    "variables": {
        name: value
        for name, value in os.environ.items()
        if name in ("KWS_KEYWORD", "KWS_SCORE", "KWS_START_S", "KWS_END_S", "KWS_TIME", "KWS_WAKE")
    },
    "files": sorted(map(int, set(os.listdir("/proc/self/fd")) - {"3"})),
    "input": os.readlink("/proc/self/fd/0"),
    "blocked": int(status["SigBlk"], 16),
    "ignored": int(status["SigIgn"], 16),
    "leads": os.getsid(0) == os.getpid(),
}
open("told.jsonl", "a").write(json.dumps(told) + chr(10))
print("printed by the command")
"""


@pytest.fixture(scope="module")
def words(demo_stream):
    """Seven seconds of the demo as raw samples, with yes, left and stop."""
    return soundfile.read(demo_stream, dtype="int16", frames=7 * RATE)[0].tobytes()


@pytest.fixture
def script(tmp_path):
    """A function that writes a program and returns the command to run it."""

    def write(name, text, first="#!/bin/sh\n"):
        (tmp_path / name).write_text(first + text)
        (tmp_path / name).chmod(0o755)
        return f"./{name}"

    return write


def rows(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_exec(run_cli, script, words, tmp_path):
    """A keyword has its own command, and another command is for every keyword.

    They get the detection as words and in the environment. The words are not split again, and no shell sees them.
    They get nothing else from the listener, and not its standard output.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    tell = script("tell", TELL, f"#!{sys.executable}\n")
    every = f"{tell} {{keyword}} '{{score}};  $x {{start_s}}' a={{keyword}},{{end_s}} '' {{}} * {{time}}"
    done = run_cli("listen", "-", "--json", "--exec", f"stop={tell} own", "--exec", every, input=words)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    assert done.returncode == 0, done.stderr
    heard = rows(done)
    assert [row["keyword"] for row in heard] == ["yes", "left", "stop"]
    told = [json.loads(line) for line in (tmp_path / "told.jsonl").read_text().splitlines()]
    (own,) = (one for one in told if one["words"] == ["own"])
    assert own["variables"]["KWS_KEYWORD"] == "stop"
    told.remove(own)
    by_keyword = {one["words"][0]: one for one in told}
    assert len(told) == len(by_keyword) == 3
    for row in heard:
        one = by_keyword[row["keyword"]]
        when = one["variables"]["KWS_TIME"]
        score, start, end = (str(row[name]) for name in ("score", "start_s", "end_s"))
        assert one["words"][1:] == [f"{score};  $x {start}", f"a={row['keyword']},{end}", "", "{}", "*", when]
        assert one["variables"] == {
            "KWS_KEYWORD": row["keyword"], "KWS_SCORE": score, "KWS_START_S": start, "KWS_END_S": end, "KWS_TIME": when
        }  # fmt: skip
        assert (one["files"], one["input"], one["blocked"], one["leads"]) == ([0, 1, 2], os.devnull, 0, True)
        assert not one["ignored"] & 1 << signal.SIGINT - 1
    assert done.stderr.decode().count("printed by the command") == 4
    assert done.stderr.decode().splitlines()[-1] == "kws-edge: 4 commands run"


def test_exec_for_the_wake_word(run_cli, script, words, tmp_path):
    tell = script("tell", TELL, f"#!{sys.executable}\n")
    nested = {**os.environ, "KWS_WAKE": "true"}  # as if a hook had started it
    run_cli("listen", "-", "--wake-word", "left", "--armed-s", "5", "--exec", tell, input=words, env=nested)
    told = [json.loads(line)["variables"] for line in (tmp_path / "told.jsonl").read_text().splitlines()]
    assert sorted((one["KWS_KEYWORD"], one.get("KWS_WAKE")) for one in told) == [("left", "true"), ("stop", None)]


def test_exec_by_a_shell(run_cli, words, tmp_path):
    """A shell runs only on request. The detection is never a part of its text."""
    command = 'echo "$KWS_KEYWORD" | tr a-z A-Z >> heard.txt; exit 3'
    done = run_cli("listen", "-", "--exec-shell", "--exec", f"stop={command}", input=words)
    assert (tmp_path / "heard.txt").read_text() == "STOP\n"
    assert f"kws-edge: --exec {f'stop={command}'!r}: ended with exit status 3\n" in done.stderr.decode()
    assert done.stderr.decode().splitlines()[-1] == "kws-edge: 1 command run, 1 failed"
    wrong = run_cli("listen", "-", "--exec-shell", "--exec", "echo {keyword}", input=b"")
    assert_usage_error(wrong, "write $KWS_KEYWORD in place of {keyword}")


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        ("stpo=./good", ["'stpo' is none of the keywords: left, stop"]),
        ("silence=./good", ["'silence' is none of the keywords"]),
        ("up=./good", ["'up' is none of the keywords: left, stop"]),  # --keywords leaves it out
        ("=./good", ["'' is none"]),
        ("A=b ./good", ["'A' is none", "env sets variables"]),
        ("", ["there is no command"]),
        ("stop=", ["there is no command"]),
        ("stop= ", ["there is no command"]),
        ("stop=nobody-has-this", ["no program 'nobody-has-this'"]),
        ("./nobody-has-this a=b", ["no program './nobody-has-this'"]),
        ("good", ["no program 'good' (write ./good)"]),
        ("./plain", ["you may not run it: chmod +x ./plain"]),
        ("./folder", ["it is a folder"]),
        ("./text", ["./text is a script without a first line such as #!/bin/sh"]),
        ("./lost", ["./lost is run by '/no/such/shell', which is missing"]),
        ("./windows", ["./windows has the line ends of Windows"]),
        ("./good '", ["cannot be split into words (no closing quotation)"]),
        ("./good {keywrod}", ["{keywrod} is unknown; known are {keyword}, {score}"]),
        ("./{keyword}.sh", ["give each keyword a command of its own"]),
        *((f"./good {word}", [f"{word.split()[0]!r} is for a shell", "--exec-shell"])
          for word in ("| tee x", "> x", ">>x", "2>&1", "&", "&& x", "~/x", "$HOME/x", "${KWS_SCORE}", "$(date)",
                       "a; ./good", "`date`")),
    ],
)  # fmt: skip
def test_exec_used_wrongly(script, tmp_path, monkeypatch, command, parts):
    """Cases reach from a missing program to a script that the system does not run."""
    for name, first in (("good", "#!/bin/sh\n"), ("text", ""), ("lost", "#!/no/such/shell\n"), ("windows", "#!sh\r\n")):
        script(name, "echo", first)
    (tmp_path / "plain").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as wrong:
        Command.of_option(command, ["left", "stop"], shell=False)
    assert f"--exec {command!r}: " in str(wrong.value)
    for part in parts:
        assert part in str(wrong.value)


def test_exec_for_keywords_of_any_name(script, tmp_path, monkeypatch):
    """Names have blanks, signs and all kinds of letters, as in models from elsewhere."""
    monkeypatch.chdir(tmp_path)
    note = script("note", 'printf "%s|" "$@" "$KWS_KEYWORD" >> notes')
    keywords = ["hey größe", "-rf", "on/off", "x", "x=y"]
    told = []
    given = [f"{word}={note} {{keyword}} {i}" for i, word in enumerate(keywords)]
    commands = [Command.of_option(one, keywords, shell=False) for one in given]
    with Hooks(commands, limit_s=9, notice=told.append) as hooks:
        for word in keywords:
            hooks(Step(1.0, np.zeros(1), Detection(word, 0.9, 0.0, 1.0), 1.0))
    assert told[-1] == "5 commands run"
    ran = sorted((tmp_path / "notes").read_text().split("|")[:-1])
    assert ran == sorted([*keywords, *keywords, *map(str, range(5))])


def test_exec_used_wrongly_is_known_at_the_start(run_cli):
    """The error comes before listening, with exit status 2."""
    failed = run_cli("listen", "-", "--keywords", "left,stop", "--exec", "up=true", "--exec", "true", input=b"")
    assert_usage_error(failed, "--exec 'up=true': 'up' is none of the keywords: left, stop")
    assert_usage_error(run_cli("listen", "-", "--exec", "stop=./none", input=b""), "no program './none'")
    assert_usage_error(run_cli("listen", "-", "--exec-shell", input=b""), "--exec")
    assert_usage_error(run_cli("listen", "-", "--exec", "true", "--exec-timeout", "0", input=b""), "--exec-timeout")


@pytest.fixture
def listening(words, tmp_path):
    """A function that starts listening on a pipe, which stays open after some words. It returns the process."""
    started = []

    def start(*args):
        command = [sys.executable, "-m", "kws_edge", "listen", "-", *args]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, text=True)
        started.append(process)
        process.stdin.buffer.write(words)
        process.stdin.buffer.flush()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def pids(path):
    """The process ids that the commands wrote."""
    return [int(word) for word in path.read_text().split()] if path.exists() else []


def children(process):
    return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()


def test_exec_that_hangs(listening, script, tmp_path):
    """A command that hangs is ended when its time is over, if need be by force, with its child processes.

    One message says so. Nothing is left of the command, and listening goes on.
    """
    hang = script("hang", "trap '' TERM; sleep 100 & echo $$ $! >> pids; while :; do sleep 1; done")
    process = listening("--exec-timeout", "0.5", "--exec", hang)
    wait_until(lambda: len(pids(tmp_path / "pids")) == 6)
    wait_until(lambda: all(map(is_gone, pids(tmp_path / "pids"))))
    wait_until(lambda: not children(process))  # reaped, too
    _, err = process.communicate(timeout=30)
    assert err.count("--exec './hang': was ended: it ran for more than 0.5 s") == 1
    assert err.splitlines()[-1] == "kws-edge: 3 commands run, 3 failed"


def test_exec_at_most_eight_at_once(run_cli, script, tmp_path, demo_stream):
    """The limit holds for each command; others run meanwhile. Commands that do not start are reported and counted."""
    slow, quick = script("slow", "echo $$ >> pids; sleep 100"), script("quick", "echo >> quick.txt")
    samples = soundfile.read(demo_stream, dtype="int16")[0].tobytes()
    done = run_cli("listen", "-", "--json", "--exec", slow, "--exec", f"off={quick}", input=samples)
    heard = len(rows(done))
    assert heard > 9  # off comes after eight others
    assert len(pids(tmp_path / "pids")) == 8
    assert (tmp_path / "quick.txt").exists()
    assert all(map(is_gone, pids(tmp_path / "pids")))
    err = done.stderr.decode()
    assert err.count("--exec './slow': not started, because 8 of it still run") == 1
    assert err.count("--exec './slow': was ended: it still ran 5 s after the end of listening") == 1
    assert err.splitlines()[-1] == f"kws-edge: 9 commands run, 8 failed, {heard - 8} not started"


def test_exec_on_a_machine_that_is_slow_to_start_them(monkeypatch):
    """The final time of commands begins when the last one has started. All are counted and ended."""
    monkeypatch.setattr(hooks_module, "_END_S", 0.2)
    monkeypatch.setattr(hooks_module, "_GRACE_S", 0.1)
    told = []

    def slowly(text):
        told.append(text)
        time.sleep(0.3)

    commands = [Command(one, what=one) for one in (*(f"false {i}" for i in range(6)), "sleep 60")]
    with Hooks(commands, limit_s=90, notice=slowly) as hooks:
        hooks(Step(1.0, np.zeros(1), Detection("stop", 0.9, 0.0, 1.0), 1.0))
    assert told[-1] == "7 commands run, 7 failed"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_exec_and_the_end_of_listening(listening, script, tmp_path, number):
    """After Ctrl-C or a supervisor's SIGTERM, running commands get some seconds to finish."""
    process = listening("--exec", "stop=" + script("two-seconds", "echo $$ >> pids; sleep 2; echo done >> done"))
    wait_until(lambda: pids(tmp_path / "pids"))
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert (tmp_path / "done").read_text() == "done\n"
    last, count = err.splitlines()[-2:]
    assert (last, count) == ("kws-edge: commands still run; they are ended in 5 s", "kws-edge: 1 command run")


def test_exec_second_interrupt(listening, script, tmp_path):
    """A second interrupt does not wait for commands, and leaves them alone."""
    process = listening("--exec", "stop=" + script("long", "echo $$ >> pids; exec sleep 4"))
    wait_until(lambda: pids(tmp_path / "pids"))
    process.send_signal(signal.SIGINT)
    while "still run" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=3) == 130
    (pid,) = pids(tmp_path / "pids")
    assert not is_gone(pid)
    os.kill(pid, signal.SIGKILL)


def test_exec_that_vanishes(listening, script, tmp_path):
    """A program that exists at the start may vanish later. A message says so, and listening goes on."""
    process = listening("--exec", f"yes=rm {tmp_path}/gone", "--exec", "stop=" + script("gone", ""))
    wait_until(lambda: not (tmp_path / "gone").exists())
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "--exec 'stop=./gone': cannot be started (No such file or directory)" in err
    assert err.splitlines()[-1] == "kws-edge: 2 commands run, 1 failed"


@pytest.mark.sound
def test_exec_slow_fifty_times_loses_no_audio(tmp_path, demo_stream):
    """Each detection starts fifty commands that do not end during the stream. Later words are heard, without a lost
    sample."""
    server = SoundServer(tmp_path)
    try:
        path = tmp_path / "left_stop.wav"  # these are heard wherever the steps of inference fall
        soundfile.write(path, soundfile.read(demo_stream, dtype="int16", frames=7 * RATE)[0][round(1.7 * RATE) :], RATE)
        slow = [word for _ in range(50) for word in ("--exec", "sleep 60")]
        listener = Listener(server, "--device", "pulse", "--threshold", "0.5", *slow)
        server.play(path)
        heard = [listener.detection(), listener.detection()]
        listener.process.send_signal(signal.SIGINT)
        summary = listener.wait_for("samples dropped")
        rest, commands = listener.finish()
    finally:
        server.stop()
    assert [row["keyword"] for row in (*heard, *rest)] == ["left", "stop"]
    assert summary.endswith("0 samples dropped, 0 overruns\n")
    assert commands == "kws-edge: 100 commands run, 100 failed"
