"""Tells the network of the server, so that Home Assistant finds it: ``_wyoming._tcp.local.`` by mDNS."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Sequence

import ifaddr
from zeroconf import Error
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

__all__ = ["SERVICE", "Announcer", "own_addresses"]

SERVICE = "_wyoming._tcp.local."
_LOOK_S = 30.0
"""Seconds from one look at the machine's addresses to the next. A network may come late, and go."""


def own_addresses(host: str) -> list[str]:
    """The addresses at which others reach a server that listens on `host`; none for one of this machine alone."""
    try:
        given = ipaddress.ip_address(host)
    except ValueError:  # a name
        return []
    if not given.is_unspecified:
        return [] if given.is_loopback else [host]
    found = [ipaddress.ip_address(ip.ip) for one in ifaddr.get_adapters() for ip in one.ips if isinstance(ip.ip, str)]
    return sorted(str(one) for one in found if not (one.is_loopback or one.is_link_local))


class Announcer:
    """Announces a server for as long as :meth:`run` runs.

    Parameters
    ----------
    name : str
        Name of the service, before that of this machine.
    addresses : callable
        Returns the addresses to announce now.
    notice : callable
        Called with a text for people.
    """

    def __init__(self, name: str, addresses: Callable[[], Sequence[str]], *, notice: Callable[[str], None]) -> None:
        self._host = socket.gethostname().partition(".")[0][:40]
        self._name = f"{name} {self._host}"
        self._addresses, self._notice = addresses, notice
        self._link: AsyncZeroconf | None = None
        self._told: str | None = None

    async def run(self, port: int) -> None:
        """Announce the server at `port`, and again when the machine's addresses change."""
        announced: Sequence[str] = []
        try:
            while True:
                if (addresses := self._addresses()) != announced:
                    await self._end()
                    announced = addresses if await self._begin(addresses, port) else []
                await asyncio.sleep(_LOOK_S)
        finally:
            await self._end()

    async def _begin(self, addresses: Sequence[str], port: int) -> bool:
        """Announce the server at these addresses. Return whether that worked."""
        if not addresses:
            return False
        info = AsyncServiceInfo(
            SERVICE,
            f"{self._name}.{SERVICE}",
            port=port,
            parsed_addresses=list(addresses),
            server=f"kws-edge-{self._host}.local.",  # the machine's own name belongs to its mDNS daemon
        )
        try:
            self._link = AsyncZeroconf(interfaces=list(addresses))
            await (await self._link.async_register_service(info, allow_name_change=True))
        except (OSError, Error) as error:
            reason = str(error) or type(error).__name__
            self._tell(f"not announced on the network ({reason}); Home Assistant takes this host and port {port}, too")
            await self._end()
        return self._link is not None

    async def _end(self) -> None:
        """Say goodbye, if the server was announced."""
        link, self._link = self._link, None
        if link:
            await link.async_close()

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._notice(text)
