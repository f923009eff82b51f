"""``kws-edge service``: let systemd run ``kws-edge serve`` from the start of the machine on."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

from kws_edge.errors import KwsError, WriteError
from kws_edge.files import explained, write_atomically

if TYPE_CHECKING:
    from kws_edge.cli.parser import Commands
    from kws_edge.service.units import Unit

_SYSTEM_CONFIG = "/etc/kws-edge/serve.toml"
_USER_CONFIG = "~/.config/kws-edge/serve.toml"
_PATIENCE_S = 150.0
_SHOWN = ("ActiveState", "SubState", "StatusText", "MainPID", "NRestarts", "MemoryCurrent", "ActiveEnterTimestamp")


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "service",
        help="let systemd run kws-edge serve",
        description="Let systemd start `kws-edge serve` with the machine, and start it anew when it ends or hangs. The "
        "system's systemd runs it as a user of its own, with access to the sound cards and little else. If a sound "
        "server such as PipeWire holds the card, use --user: your own systemd then runs it beside the server.",
        epilog="Exit status of service status: 0 it runs, 3 it does not run.",
    )
    parser.add_argument("action", choices=("install", "status", "uninstall"), help="what to do")
    parser.add_argument("--user", action="store_true", help="your own systemd in place of the system's")
    parser.add_argument(
        "--config", metavar="FILE", help=f"the TOML file; default: {_SYSTEM_CONFIG}, or with --user {_USER_CONFIG}"
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would be done, and do nothing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    action = {"install": _install, "status": _status, "uninstall": _uninstall}[args.action]
    return action(args)


def _unit(args: argparse.Namespace) -> Unit:
    """The unit that the configuration needs, checked."""
    from kws_edge.service.config import read_config
    from kws_edge.service.service import Service
    from kws_edge.service.units import can_cage, system_unit, user_unit

    path = os.path.expanduser(args.config or (_USER_CONFIG if args.user else _SYSTEM_CONFIG))
    config = read_config(path)
    Service(path, notice=_say)  # it checks the rest
    if not args.user:
        return system_unit(config)
    if not (caged := can_cage()):
        _say("warning: this machine lets users make no namespaces, so the service can do all that you can")
    return user_unit(config, caged=caged)


def _install(args: argparse.Namespace) -> int:
    from kws_edge.diagnostics.sound_server import servers
    from kws_edge.service.units import NAME

    unit = _unit(args)
    commands = [unit.systemctl("daemon-reload"), unit.systemctl("enable", NAME), unit.systemctl("restart", NAME)]
    if args.user:
        commands.append(["loginctl", "enable-linger"])  # it runs without anybody being logged in
    elif found := servers():
        program, user = found[0]
        _say(f"warning: {program} of user {user} may hold the card; if so, run it as {user}'s unit, with --user")
    if args.dry_run:
        print(f"# {unit.path}\n{unit.text}")
        for command in commands:
            print(f"# would run: {shlex.join(command)}")
        return 0
    _need_systemd(args)
    write_atomically(unit.path, unit.text)
    for command in commands:
        _call(command)
    _say(f"wrote {unit.path}, and started it; kws-edge service status{' --user' * args.user} shows how it fares")
    return 0


def _status(args: argparse.Namespace) -> int:
    unit = _where(args)
    _need_unit(unit)
    from kws_edge.service.units import NAME

    done = _call(unit.systemctl("show", "--property", ",".join(_SHOWN), NAME))
    values = dict(line.split("=", 1) for line in done.splitlines() if "=" in line)
    print("\n".join(f"{name:<21} {values.get(name, '')}".rstrip() for name in _SHOWN))
    return 0 if values.get("ActiveState") == "active" else 3


def _uninstall(args: argparse.Namespace) -> int:
    from kws_edge.service.units import NAME

    unit = _where(args)
    _need_unit(unit)
    commands = [unit.systemctl("disable", "--now", NAME), unit.systemctl("daemon-reload")]
    if args.dry_run:
        print(f"# would remove {unit.path}")
        for command in commands:
            print(f"# would run: {shlex.join(command)}")
        return 0
    _need_systemd(args)
    _call(commands[0])
    with explained(unit.path):
        os.remove(unit.path)
    _call(commands[1])
    _say(f"removed {unit.path}; the configuration and what was saved are left")
    return 0


def _where(args: argparse.Namespace) -> Unit:
    """The installed unit, without its text."""
    from kws_edge.service.units import Unit, system_path, user_path

    return Unit(user=args.user, path=user_path() if args.user else system_path(), text="")


def _need_unit(unit: Unit) -> None:
    if not os.path.exists(unit.path):
        raise KwsError(f"{unit.path}: no such unit; kws-edge service install{' --user' * unit.user} makes it")


def _need_systemd(args: argparse.Namespace) -> None:
    """Refuse what cannot work here."""
    if not os.path.isdir("/run/systemd/system"):
        raise KwsError("systemd does not run on this machine; let your supervisor run kws-edge serve (see --dry-run)")
    if not args.user and os.geteuid() != 0:
        raise WriteError("the system's units are root's: put sudo before the command, or use --user")


def _call(command: list[str]) -> str:
    """Run a command of systemd's; return its output.

    Raises
    ------
    KwsError
        If it fails. The message is what it said.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KwsError(f"{shlex.join(command)}: {getattr(error, 'strerror', None) or 'no end in time'}") from None
    if done.returncode:
        raise KwsError(f"{shlex.join(command)}: {done.stderr.strip() or f'status {done.returncode}'}")
    return done.stdout


def _say(text: str) -> None:
    print(f"kws-edge: {text}", file=sys.stderr)
