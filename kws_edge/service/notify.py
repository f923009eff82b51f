"""Tell systemd how the service fares, by sd_notify's protocol."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress

__all__ = ["Notifier"]


class Notifier:
    """Sends states to the supervisor that the environment names; without one it does nothing.

    Examples
    --------
    >>> from kws_edge.service.notify import Notifier
    >>> Notifier().send(READY=1, STATUS="listening")
    """

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
        mine = pid in ("", str(os.getpid()))
        self.watchdog_s = int(usec) / 1e6 if usec.isdecimal() and mine and self._address else None
        """Seconds within which the supervisor wants ``WATCHDOG=1``; None: it does not want it."""

    def send(self, **states: object) -> None:
        """Send states, such as ``READY=1``."""
        if self._address:
            text = "\n".join(f"{name}={value}" for name, value in states.items())
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
                supervisor.settimeout(1)
                supervisor.sendto(text.encode(), self._address)

    def reloading(self) -> None:
        """Send that a reload begins."""
        self.send(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
