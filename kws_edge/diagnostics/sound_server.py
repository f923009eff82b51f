"""The sound server's information on its sources."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

__all__ = ["MOST_CHANNELS", "SoundServer", "is_monitor", "server_of", "servers", "user_name"]

MOST_CHANNELS = 8
"""Largest number of a source's channels that are examined."""


_SERVERS = {"pipewire": "PipeWire", "pulseaudio": "PulseAudio"}
"""Sound servers by the name of their process."""


def servers(proc: str | os.PathLike[str] = "/proc") -> list[tuple[str, str]]:
    """Sound servers that run on this machine, and the user that each belongs to."""
    found = []
    for process in sorted(Path(proc).glob("[0-9]*")):
        with contextlib.suppress(OSError):
            if server := server_of(process.name, proc):
                found.append((server, user_name(process.stat().st_uid)))
    return list(dict.fromkeys(found))


def server_of(pid: int | str, proc: str | os.PathLike[str] = "/proc") -> str | None:
    """Name of the sound server that a process is, if it is one.

    Raises
    ------
    OSError
        If there is no such process.
    """
    return _SERVERS.get(Path(proc, str(pid), "comm").read_text().strip())


def user_name(uid: int) -> str:
    """Name of a user, or the number if there is no name."""
    try:
        import pwd

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return str(uid)


class SoundServer:
    """PulseAudio, or PipeWire in its place, as ``pactl`` shows it. Without a sound server all answers are empty."""

    def _ask(self, *question: str) -> str:
        import subprocess

        if not shutil.which("pactl"):
            return ""
        try:
            return subprocess.run(
                ["pactl", *question], capture_output=True, text=True, timeout=5, env={**os.environ, "LC_ALL": "C"}
            ).stdout
        except (OSError, subprocess.TimeoutExpired):
            return ""

    def _list(self, what: str) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = json.loads(self._ask("--format=json", "list", what))
        except ValueError:
            return []
        return found

    def sources(self) -> list[dict[str, Any]]:
        """The sources."""
        return self._list("sources")

    def source_of(self, pid: int) -> dict[str, Any] | None:
        """The source that a process records from, if it does."""
        for output in self._list("source-outputs"):
            if output["properties"].get("application.process.id") == str(pid):
                return next((s for s in self.sources() if s["index"] == output["source"]), None)
        return None

    def channels(self) -> int:
        """Channels of the default source; 1 if they are unknown."""
        name = os.environ.get("PULSE_SOURCE") or self._ask("get-default-source").strip()
        for source in self.sources():
            if source["name"] == name:
                return min(MOST_CHANNELS, len(source["volume"]))
        return 1


def is_monitor(source: dict[str, Any]) -> bool:
    """Whether a source is a monitor, which records what an output plays."""
    return bool(source.get("monitor_source")) or source["properties"].get("device.class") == "monitor"
