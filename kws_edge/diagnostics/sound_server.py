"""The sound server's information on its sources."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any

__all__ = ["MOST_CHANNELS", "SoundServer", "is_monitor"]

MOST_CHANNELS = 8
"""Largest number of a source's channels that are examined."""


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
