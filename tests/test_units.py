"""systemd's units, judged by systemd's own programs, and what they forbid, by what the service calls."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kws_edge import ConfigError
from kws_edge.cli import doctor
from kws_edge.diagnostics import sound_server
from kws_edge.service import units
from kws_edge.service.config import read_config
from tests.conftest import assert_one_line_error, need_program

NETWORK = '[[webhook]]\nurl = "http://hass/x"\nsecret_file = "token"\n'


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Reads a configuration from a folder that all users may read, as an installed one is."""
    monkeypatch.setattr(units, "_check_readable", lambda path: None)

    def read(text=""):
        (tmp_path / "serve.toml").write_text(text)
        (tmp_path / "token").write_text("x")
        return read_config(tmp_path / "serve.toml")

    return read


def written(unit, folder):
    path = folder / units.NAME
    path.write_text(unit.text)
    return path


@pytest.mark.parametrize("make", [units.system_unit, units.user_unit])
@pytest.mark.parametrize("text", ["", NETWORK])
def test_systemd_understands_the_unit(config, tmp_path, make, text):
    need_program("systemd-analyze")
    path = written(make(config(text)), tmp_path)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("make", [units.system_unit, units.user_unit])
@pytest.mark.parametrize(("text", "most"), [(NETWORK, 2.0), ("[jsonl]\n", 1.2)])
def test_unit_is_shut_in(config, tmp_path, make, text, most):
    """By systemd's measure: 0 is nothing exposed, and 10 everything."""
    need_program("systemd-analyze")
    path = written(make(config(text)), tmp_path)
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    exposure = float(re.search(r"Overall exposure level for kws-edge.service: ([\d.]+)", done.stdout)[1])
    assert exposure <= most, done.stdout


def test_users_unit_takes_only_what_a_users_systemd_can_give(config):
    """Not devices, other processes or addresses: for those it lacks the rights. It would not even say so."""
    lines = units.user_unit(config("[jsonl]\n")).text.splitlines()
    names = {line.partition("=")[0] for line in lines}
    assert {"PrivateUsers", "ProtectSystem", "CapabilityBoundingSet", "PrivateNetwork"} <= names
    assert not names & {"DynamicUser", "DevicePolicy", "DeviceAllow", "ProtectProc", "ProcSubset", "IPAddressDeny"}
    assert "BindPaths=-/dev/snd" in lines and "ProtectHome" not in names  # microphones, and files of yours
    assert "PrivateNetwork=yes" not in units.user_unit(config(NETWORK)).text


@pytest.mark.parametrize("says", ["exit 0", "exit 1", None])
def test_where_users_make_no_namespaces_there_is_no_cage(config, tmp_path, monkeypatch, capsys, says):
    """A program in the place of unshare says whether the kernel allows them. The service starts without a cage, too."""
    from kws_edge.cli import main

    config("[jsonl]\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    if says:
        (tmp_path / "unshare").write_text(f"#!/bin/sh\n{says}\n")
        (tmp_path / "unshare").chmod(0o755)
    assert main(["service", "install", "--user", "--dry-run", "--config", str(tmp_path / "serve.toml")]) == 0
    out, err = capsys.readouterr()
    assert ("PrivateUsers=yes" in out) == ("warning" not in err) == (says == "exit 0")
    assert "NoNewPrivileges=yes" in out


def test_unit_says_what_it_runs(config, tmp_path):
    unit = units.system_unit(config(NETWORK))
    assert f"ExecStart={sys.executable} -m kws_edge serve --config {tmp_path}/serve.toml\n" in unit.text
    assert f"LoadCredential=token:{tmp_path}/token\n" in unit.text
    assert "PrivateNetwork" not in unit.text
    for line in ("Type=notify", "WatchdogSec=60", "DynamicUser=yes", "DeviceAllow=char-alsa rw", "Restart=always"):
        assert f"\n{line}\n" in unit.text
    alone = units.system_unit(config("[jsonl]\n")).text
    assert "PrivateNetwork=yes" in alone
    assert "LoadCredential" not in alone


@pytest.mark.parametrize("make", [units.system_unit, units.user_unit])
def test_unit_has_the_sockets_that_it_needs(config, make):
    assert "\nRestrictAddressFamilies=AF_UNIX\n" in make(config("[jsonl]\n")).text
    assert "\nRestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK\n" in make(config(NETWORK)).text


def test_strange_paths_are_quoted(tmp_path, monkeypatch, config):
    need_program("systemd-analyze")
    folder = tmp_path / 'a "b" $HOME %n \\x'
    folder.mkdir()
    (folder / "serve.toml").write_text("")
    unit = units.user_unit(read_config(folder / "serve.toml"))
    path = written(unit, tmp_path)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert '--config "' in unit.text and "$$HOME %%n" in unit.text


def test_program_that_the_services_user_may_not_read(tmp_path, monkeypatch):
    (tmp_path / "serve.toml").write_text("")
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setattr(sys, "executable", str(home / "python"))
    (home / "python").touch()
    with pytest.raises(
        ConfigError, match=r"move the installation to a folder that all may read, such as /opt/kws-edge"
    ):
        units.system_unit(read_config(tmp_path / "serve.toml"))


def test_service_dry_run_does_nothing(run_cli, tmp_path):
    (tmp_path / "serve.toml").write_text("[jsonl]\n")
    env = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "xdg")}
    done = run_cli("service", "install", "--user", "--dry-run", "--config", "serve.toml", env=env)
    assert done.returncode == 0, done.stderr
    out = done.stdout.decode()
    assert out.startswith(f"# {tmp_path}/xdg/systemd/user/kws-edge.service\n")
    assert "# would run: systemctl --user enable kws-edge.service\n" in out
    assert out.endswith("# would run: loginctl enable-linger\n")
    assert not (tmp_path / "xdg").exists()
    assert_one_line_error(run_cli("service", "uninstall", "--user", env=env), "kws-edge.service: no such unit")
    assert_one_line_error(run_cli("service", "status", "--user", env=env), "kws-edge.service: no such unit")
    assert_one_line_error(run_cli("service", "install", "--user", "--config", "no.toml", env=env), "no.toml: No such")


PROGRAM = """#!/bin/sh
echo "$0 $*" | sed 's|.*/||' >> "$CALLS"
case "$*" in *show*) printf 'ActiveState=active\\nStatusText=hears\\nNRestarts=0\\n';; esac
"""


def test_service_by_systemd(tmp_path, monkeypatch, capsys):
    """Installed, looked at and removed. A program in systemctl's place writes down what it is told."""
    from kws_edge.cli import main, service

    for name in ("systemctl", "loginctl"):
        (tmp_path / name).write_text(PROGRAM)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "serve.toml").write_text("[jsonl]\n")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(service, "_need_systemd", lambda args: None)
    unit = tmp_path / "xdg/systemd/user/kws-edge.service"
    assert main(["service", "install", "--user", "--config", str(tmp_path / "serve.toml")]) == 0
    assert "WantedBy=default.target" in unit.read_text()
    assert main(["service", "status", "--user"]) == 0
    assert re.search(r"^StatusText +hears$", capsys.readouterr().out, re.MULTILINE)
    assert main(["service", "uninstall", "--user"]) == 0
    assert not unit.exists()
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [line for line in calls if "show" not in line] == [
        "systemctl --user daemon-reload",
        "systemctl --user enable kws-edge.service",
        "systemctl --user restart kws-edge.service",
        "loginctl enable-linger",
        "systemctl --user disable --now kws-edge.service",
        "systemctl --user daemon-reload",
    ]


def allowed_calls():
    """System calls that the unit allows, by systemd's own sets."""

    def members(name):
        done = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
        words = {line.strip() for line in done.stdout.splitlines()[1:]} - {""}
        words = {word for word in words if not word.startswith("#")}
        return {one for word in words for one in (members(word) if word.startswith("@") else [word])}

    return members("@system-service") - members("@privileged") - members("@resources")


def test_service_works_without_what_the_unit_forbids(tmp_path, demo_stream):
    """strace sees the calls of a service with a command and a webhook, and then fails those that the unit forbids."""
    need_program("strace")
    need_program("systemd-analyze")
    (tmp_path / "serve.toml").write_text(
        f'[[source]]\nfile = "{demo_stream}"\n[jsonl]\n[[exec]]\ncommand = "true"\n'
        '[[webhook]]\nurl = "http://localhost:9/"\n'
    )
    command = [sys.executable, "-m", "kws_edge", "serve", "--config", "serve.toml"]
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}

    def traced(*options):
        strace = ["strace", "-f", "-qq", "-o", "calls", "-e", "signal=none", *options]
        done = subprocess.run([*strace, *command], cwd=tmp_path, env=env, capture_output=True, check=False, timeout=120)
        if b"PTRACE_TRACEME" in done.stderr:
            pytest.skip("this machine lets nobody trace a process")
        assert done.returncode == 0, done.stderr
        return [json.loads(line)["keyword"] for line in done.stdout.splitlines()]

    heard = traced()
    calls = set(re.findall(r"^\d+ +(\w+)\(", (tmp_path / "calls").read_text(), re.MULTILINE))
    assert {"openat", "connect", "execve"} <= calls
    if forbidden := calls - allowed_calls():
        assert traced("-e", f"inject={','.join(sorted(forbidden))}:error=EPERM") == heard
    assert len(heard) > 10


# Sound servers


def test_doctor_knows_whose_server_holds_the_card(tmp_path, monkeypatch):
    """A process called pipewire of another user holds the card."""
    status = tmp_path / "card0/pcm0c/sub0/status"
    status.parent.mkdir(parents=True)
    name = "import ctypes, time; ctypes.CDLL(None).prctl(15, b'pipewire'); print(flush=True); time.sleep(60)"
    other = {"user": 65534} if os.geteuid() == 0 else {}
    with subprocess.Popen(["/usr/bin/env", "python3", "-c", name], stdout=subprocess.PIPE, cwd="/", **other) as process:
        process.stdout.readline()
        try:
            status.write_text(f"state: RUNNING\nowner_pid   : {process.pid}\n")
            if os.geteuid() != 0:
                monkeypatch.setattr(os, "geteuid", lambda: -1)
            finding = doctor._held_by_server(tmp_path)
            user = sound_server.user_name(Path(f"/proc/{process.pid}").stat().st_uid)
            assert (finding.code, finding.what) == ("held", f"PipeWire of user {user} holds card0")
            assert f"run it as {user}: kws-edge service install --user" in finding.remedy
            assert ("PipeWire", user) in sound_server.servers()
        finally:
            process.kill()
    status.write_text("closed\n")
    assert doctor._held_by_server(tmp_path) is None
