"""Run a command so that an error gives one line and an exit status, and never a traceback."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn, TextIO

from kws_edge.errors import KwsError, UsageError

__all__ = ["UNWRITTEN", "ended_by", "guarded", "interrupt", "interrupted_by"]

UNWRITTEN = 74
"""Exit status if the output cannot be written (EX_IOERR of sysexits.h)."""
_NOTICE_S = 1.0
_PIECE = getattr(select, "PIPE_BUF", 512)  # bytes that a pipe takes at once if it takes any


class _OutputError(Exception):
    """Standard output cannot be written to."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror or str(error))
        self.reader_gone = isinstance(error, BrokenPipeError)


def _wait(file: io.FileIO, event: int, seconds: float | None = None) -> bool:
    """Wait until a file can be read or written, for `seconds` at most (None: for ever); return whether it can."""
    poll = select.poll()  # unlike select(), it takes file descriptors beyond 1023
    poll.register(file, event)
    return bool(poll.poll(None if seconds is None else 1000 * seconds))


class _Input(io.FileIO):
    """Standard input. Its failures are raised as errors of this package."""

    def readinto(self, buffer: Any) -> int:
        try:
            while (n := super().readinto(buffer)) is None:  # as in _Output
                _wait(self, select.POLLIN)
            return n
        except OSError as error:
            raise KwsError(f"standard input: cannot be read ({error.strerror or error})") from None


class _Output(io.FileIO):
    """Standard output that fails only once. Output that is still buffered must not fail again when Python ends."""

    buffered = True
    """Whether a buffer lies above. After a failure, the buffer repeats the bytes that it could not write."""
    _failed = False
    _again = 0  # bytes that the buffer will repeat, although they are dealt with

    def write(self, data: Any) -> int:
        left, self._again = memoryview(data)[self._again :], 0
        try:
            while left and not self._failed:
                n = super().write(left)
                if n is None:  # another process has made the file non-blocking
                    _wait(self, select.POLLOUT)
                left = left[n or 0 :]
            return len(data)
        except OSError as error:
            self._failed = True
            raise _OutputError(error) from None
        except BaseException:  # Ctrl-C came while nobody read, or just after the write
            self._failed = os.name != "posix" or not _wait(self, select.POLLOUT, 0)
            self._again = len(data) if self.buffered else 0
            raise


class _Notices(io.FileIO):
    """Standard error that never fails and never waits for long. A lost notice is no reason to end the command."""

    _wait_s = _NOTICE_S

    def write(self, data: Any) -> int:
        left = memoryview(data)
        try:
            while left:
                if os.name == "posix" and not _wait(self, select.POLLOUT, self._wait_s):
                    self._wait_s = 0.0  # do not wait again before somebody reads
                    break
                self._wait_s = _NOTICE_S
                left = left[super().write(left[:_PIECE]) or len(left) :]
        except OSError:
            pass
        return len(data)


@contextlib.contextmanager
def _streams() -> Iterator[None]:
    """Make the standard streams usable for a command, even if they are closed or full."""
    # Open missing ones in the order of their numbers, because a new file gets the lowest free number. Reading from 0
    # and writing to 1 still fail.
    for fd, flags in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, flags)
    old = sys.stdin, sys.stdout, sys.stderr
    sys.stdin = _replaced(sys.stdin, 0, _Input, "r")
    sys.stdout = _replaced(sys.stdout, 1, _Output, "w")
    sys.stderr = _replaced(sys.stderr, 2, _Notices, "w")
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = old


def _replaced(stream: TextIO | None, fd: int, kind: type[io.FileIO], mode: str) -> TextIO:
    """Return the stream with another file below it. A stream that is not the process's own is returned unchanged."""
    buffer: Any = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)  # with python -u there is no buffer
    if stream and (type(raw) is not io.FileIO or raw.fileno() != fd):
        return stream
    # The file gets its own number, because number 2 is redirected at times to catch the output of native code.
    file = kind(os.dup(fd), mode)
    if isinstance(file, _Output):
        file.buffered = not (stream and raw is buffer)
    return io.TextIOWrapper(
        file if stream and raw is buffer else io.BufferedReader(file) if mode == "r" else io.BufferedWriter(file),
        encoding=stream.encoding if stream else "utf-8",
        errors=stream.errors if stream and mode == "r" else "as_it_can",
        line_buffering=bool(not stream or stream.line_buffering),
        write_through=isinstance(stream, io.TextIOWrapper) and stream.write_through,
    )


def _as_it_can(error: UnicodeError) -> tuple[str | bytes, int]:
    """Handle text that a stream cannot encode: bytes of file names go out unchanged, other characters as escapes."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeEncodeError as failed:
        return codecs.backslashreplace_errors(failed)


codecs.register_error("as_it_can", _as_it_can)

_program = ""
_received: set[int] = set()


def _leave(signum: int, frame: FrameType | None = None) -> NoReturn:
    """End the process at once."""
    try:
        if sys.stderr:
            print(f"{_program}: interrupted", file=sys.stderr, flush=True)
    finally:
        os._exit(128 + signum)


def interrupt(signum: int, frame: FrameType | None) -> None:
    """Handle a signal as Python handles SIGINT.

    The process ends at once at the second signal. It also ends at once while a module is loaded, because a
    KeyboardInterrupt could be lost or printed there.
    """
    while frame and frame.f_code is not guarded.__code__:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _leave(signum)
        frame = frame.f_back
    if signum in _received:
        _leave(signum)
    _received.add(signum)
    if len(_received) == 1:  # otherwise another signal came before, as at the end of a session
        raise KeyboardInterrupt


@contextlib.contextmanager
def ended_by(end: Callable[[], None], *names: str) -> Iterator[None]:
    """Let these signals, if the system has them, call `end`. A second one of a kind ends the process at once.

    Unlike an interrupt, this stops nothing half-way. Ignored signals (nohup) stay ignored.
    """

    def ask(signum: int, frame: FrameType | None) -> None:
        if signum in _received:
            _leave(signum)
        _received.add(signum)
        end()

    numbers = [number for name in names if (number := getattr(signal, name, None))]
    old = {number: signal.signal(number, ask) for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def interrupted_by(*names: str) -> None:
    """Let these signals, if the system has them, end a command as Ctrl-C does. Ignored ones (nohup) stay ignored."""
    for name in names:
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)


@contextlib.contextmanager
def _signals(*, last: bool) -> Iterator[None]:
    """Let Ctrl-C end a command by :func:`interrupt`, unless Ctrl-C is ignored or has another handler."""
    hook = sys.unraisablehook

    def on_unraisable(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):  # in a destructor it would be lost
            _leave(signal.SIGINT)
        hook(unraisable)

    sys.unraisablehook = on_unraisable
    with contextlib.suppress(ValueError):  # only the main thread may set handlers
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        for signum in signal.valid_signals():
            if signal.getsignal(signum) is interrupt:
                default = signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL
                signal.signal(signum, _leave if last else default)
        sys.unraisablehook = hook


def guarded(program: str, work: Callable[[], int | None], *, last: bool = False) -> int:
    """Run `work`; turn an error that is meant for people into one line and an exit status.

    Parameters
    ----------
    program : str
        Name of the program, with which messages begin.
    work : callable
        Returns an exit status; None is success. If `work` imports modules itself, Ctrl-C is handled during the import.
    last : bool
        Whether the process ends after `work`. Ctrl-C then gives no traceback during this end, either.
    """
    global _program
    _program = program
    _received.clear()
    with _signals(last=last), _streams():
        try:
            try:
                return work() or 0
            finally:
                sys.stdout.flush()
        except KwsError as error:
            print(f"{program}: {error}", file=sys.stderr)
            return 2 if isinstance(error, UsageError) else 1
        except _OutputError as error:
            if error.reader_gone:  # a reader such as `head` may go: this is no error
                return 0
            print(f"{program}: standard output: cannot be written ({error})", file=sys.stderr)
            return UNWRITTEN
        except KeyboardInterrupt:
            print(f"{program}: interrupted", file=sys.stderr)
            return 130
