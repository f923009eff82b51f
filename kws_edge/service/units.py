"""systemd units of the service: a system unit for ALSA, and a user unit for PipeWire."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from dataclasses import dataclass

from kws_edge.errors import ConfigError
from kws_edge.service.config import Config

__all__ = ["NAME", "Unit", "can_cage", "system_unit", "user_unit"]

NAME = "kws-edge.service"
_HOMES = ("/home/", "/root/")
_NAMESPACES = ("unshare", "--user", "--map-current-user", "--mount", "--net", "true")

_TEMPLATE = """\
# Written by kws-edge service install. Changes of your own: systemctl {user}edit kws-edge
[Unit]
Description=kws-edge, spoken commands
{after}
# The service ends when it cannot go on. It is started anew as often as that takes.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
ExecReload=kill -HUP $MAINPID
Restart=always
RestartSec=5
TimeoutStartSec=120
TimeoutStopSec=20
# Commands of yours get five seconds to end.
KillMode=mixed
# Fed by inferences: a service that hears nothing is started anew.
WatchdogSec=60
MemoryMax=300M
TasksMax=100
OOMPolicy=stop
UMask=0077
{more}NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictAddressFamilies={families}
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy={target}
"""

_CAGE = """\
CapabilityBoundingSet=
AmbientCapabilities=
PrivateMounts=yes
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
"""

_SYSTEM = """\
DynamicUser=yes
StateDirectory=kws-edge
SupplementaryGroups=audio
DevicePolicy=closed
DeviceAllow=char-alsa rw
ProtectSystem=strict
ProtectHome={home}
ProtectProc=invisible
KeyringMode=private
{credentials}"""

_USER = """\
# A user's systemd has the rights for a cage only in a user namespace.
PrivateUsers=yes
ProtectSystem=full
PrivateDevices=yes
BindPaths=-/dev/snd
"""


@dataclass(frozen=True)
class Unit:
    """A unit file.

    Examples
    --------
    >>> from kws_edge.service.units import Unit
    >>> Unit(user=True, path="/home/pi/.config/systemd/user/kws-edge.service", text="").systemctl("daemon-reload")
    ['systemctl', '--user', 'daemon-reload']
    """

    user: bool
    """Whether the user's own systemd runs it."""
    path: str
    text: str

    def systemctl(self, *words: str) -> list[str]:
        """The command that tells the right systemd."""
        return ["systemctl", *(["--user"] if self.user else []), *words]


def system_path() -> str:
    """Path of the system unit."""
    return f"/etc/systemd/system/{NAME}"


def user_path() -> str:
    """Path of the user unit."""
    config = os.environ.get("XDG_CONFIG_HOME", "")
    folder = config if os.path.isabs(config) else os.path.expanduser("~/.config")
    return f"{folder}/systemd/user/{NAME}"


def system_unit(config: Config) -> Unit:
    """The unit for a machine without a sound server: it opens the card by ALSA, as a user of its own.

    Raises
    ------
    ConfigError
        If that user could not read the program or the configuration.
    """
    program = os.path.abspath(sys.executable)
    for path in (program, os.path.realpath(program), os.path.abspath(sys.prefix), _package(), config.path):
        _check_readable(path)
    paths = (program, os.path.realpath(program), sys.prefix, _package(), config.path)
    at_home = any(os.path.abspath(path).startswith(_HOMES) for path in paths)
    network = config.needs_network
    more = _SYSTEM.format(
        home="read-only" if at_home else "yes",
        credentials="".join(f"LoadCredential={os.path.basename(path)}:{path}\n" for path in config.secrets),
    )
    text = _TEMPLATE.format(
        user="",
        after="After=sound.target" + ("\nWants=network-online.target\nAfter=network-online.target" if network else ""),
        command=_command(config),
        more=more + _CAGE + ("" if network else "PrivateNetwork=yes\nIPAddressDeny=any\n"),
        families=_families(network),
        target="multi-user.target",
    )
    return Unit(user=False, path=system_path(), text=text)


def user_unit(config: Config, *, caged: bool = True) -> Unit:
    """The unit for a machine with PipeWire or PulseAudio, which belongs to a user, and shares the card.

    Parameters
    ----------
    config : Config
    caged : bool
        Whether the machine lets users make namespaces, as :func:`can_cage` finds out. Otherwise the service can do what
        its user can, but for some system calls and sockets.
    """
    network = config.needs_network
    cage = _USER + _CAGE + ("" if network else "PrivateNetwork=yes\n")
    text = _TEMPLATE.format(
        user="--user ",
        after="Wants=pipewire-pulse.service wireplumber.service\nAfter=pipewire-pulse.service wireplumber.service",
        command=_command(config),
        more=cage if caged else "",
        families=_families(network),
        target="default.target",
    )
    return Unit(user=True, path=user_path(), text=text)


def can_cage() -> bool:
    """Whether this machine lets users make the namespaces that the user unit's cage needs."""
    try:
        done = subprocess.run(_NAMESPACES, capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _families(network: bool) -> str:
    """The sockets that the service may open. PipeWire's are of the first family."""
    return "AF_UNIX AF_INET AF_INET6 AF_NETLINK" if network else "AF_UNIX"


def _package() -> str:
    """Folder of this package."""
    import kws_edge

    return os.path.dirname(os.path.abspath(kws_edge.__file__))


def _command(config: Config) -> str:
    words = [os.path.abspath(sys.executable), "-m", "kws_edge", "serve", "--config", config.path]
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    """A word of a command line in a unit file."""
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{text}"' if text != word or " " in word or "'" in word else word


def _check_readable(path: str) -> None:
    """Check that every user may read a file or folder.

    Raises
    ------
    ConfigError
        If not. The message says what to do.
    """
    at = os.path.abspath(path)
    while True:
        try:
            mode = os.stat(at).st_mode
        except OSError as error:
            raise ConfigError(f"{at}: {error.strerror}") from None
        wanted = stat.S_IXOTH if stat.S_ISDIR(mode) else stat.S_IROTH
        if not mode & wanted:
            raise ConfigError(
                f"{path}: the service's own user may not read it, because of {at}; move the installation to a folder "
                "that all may read, such as /opt/kws-edge, or use --user"
            )
        if at == os.path.dirname(at):
            return
        at = os.path.dirname(at)
