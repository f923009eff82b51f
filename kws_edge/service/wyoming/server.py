"""The Wyoming server: an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from kws_edge.errors import KwsError
from kws_edge.service.outputs.base import OutputError
from kws_edge.service.wyoming.frames import MOST_LINE
from kws_edge.service.wyoming.session import Session

if TYPE_CHECKING:
    from kws_edge.service.events import Reloaded
    from kws_edge.service.wyoming.announce import Announcer
    from kws_edge.service.wyoming.hearing import Hearing

__all__ = ["Server"]

_START_S = 10.0
_END_S = 3.0


class Server:
    """Serves clients until it is stopped.

    Parameters
    ----------
    hearing : Hearing
    host, port : str, int
        Where to listen. Port 0 takes a free one.
    clients : int
        Most clients at a time. One more is told so, and leaves.
    patience_s : float
        As for :class:`Session`.
    announcer : Announcer or None
        Tells the network of the server.
    notice : callable
        Called with a text for people.
    on_fault : callable
        Called with a defect that ended the server.
    """

    def __init__(
        self,
        hearing: Hearing,
        *,
        host: str,
        port: int,
        clients: int,
        patience_s: float,
        announcer: Announcer | None,
        notice: Callable[[str], None],
        on_fault: Callable[[BaseException], None],
    ) -> None:
        self._hearing, self._host, self.port = hearing, host, port
        self._most, self._patience_s = clients, patience_s
        self._announcer, self._notice, self._on_fault = announcer, notice, on_fault
        self._clients: set[asyncio.Task[None]] = set()
        self._served = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._started = threading.Event()
        self._refused: str | None = None
        self._thread = threading.Thread(target=self._run, name="wyoming server", daemon=True)

    def start(self) -> None:
        """Listen for clients.

        Raises
        ------
        OutputError
            If the port is taken, or the address is not one of this machine.
        """
        try:
            self._thread.start()
        except RuntimeError as error:
            raise OutputError(f"no thread for the server: {error}") from None
        self._started.wait(_START_S)
        if self._refused is not None:
            raise OutputError(self._refused)

    def change(self, room: Reloaded) -> None:
        """Let the next streams be heard as this room is."""
        if self._loop is not None:
            with suppress(RuntimeError):  # it has just ended
                self._loop.call_soon_threadsafe(self._hearing.change, room)

    def stop(self) -> None:
        """End all connections and the thread."""
        if self._loop is not None and self._stopping is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stopping.set)
        if self._thread.is_alive():
            self._thread.join(_END_S)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # a defect: the service sees it, and ends
            self._on_fault(error)
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        try:
            server = await asyncio.start_server(self._accept, self._host, self.port, limit=MOST_LINE)
        except OSError as error:
            self._refused = f"cannot listen on {self._host}:{self.port} ({error.strerror or error})"
            return
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        announcing = asyncio.create_task(self._announcer.run(self.port)) if self._announcer else None
        try:
            await self._stopping.wait()
        finally:
            server.close()
            tasks = [*self._clients, *([announcing] if announcing else [])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        has_room = self._served < self._most
        self._served += has_room
        task = asyncio.ensure_future(self._attend(reader, writer, has_room))
        self._clients.add(task)
        task.add_done_callback(self._left)

    def _left(self, task: asyncio.Task[None]) -> None:
        self._clients.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_fault(error)

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, has_room: bool) -> None:
        session = Session(self._hearing, reader, writer, patience_s=self._patience_s)
        try:
            if has_room:
                await session.run()
            else:
                await session.refuse(f"{self._most} clients are served already")
        except KwsError as error:
            self._complain(writer, error)
        except OSError:  # the client is gone
            pass
        finally:
            self._served -= has_room
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    def _complain(self, writer: asyncio.StreamWriter, error: KwsError) -> None:
        host = (writer.get_extra_info("peername") or ["?"])[0]
        self._notice(f"a client at {host}: {error}")
