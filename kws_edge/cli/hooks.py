"""The commands that ``kws-edge listen --exec`` and the service run when a keyword is heard. Nothing waits for them."""

from __future__ import annotations

import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from kws_edge.detection.detector import Detection
from kws_edge.detection.records import as_values
from kws_edge.diagnostics.latency import wall_clock
from kws_edge.errors import KwsError, UsageError
from kws_edge.spotter import Step
from kws_edge.text import shown

__all__ = ["NAMES", "Command", "Hooks"]

NAMES = ("keyword", "score", "start_s", "end_s", "time")
"""Names of the values that a command gets."""

_MOST = 8
"""How often one command may run at the same time. So a command that hangs does not stop the other ones."""
_END_S = 5.0
"""Seconds that commands may still run after listening ends."""
_AT_ONCE_S = 0.5
"""Seconds to wait for commands before a notice says so."""
_GRACE_S = 1.0
"""Seconds from SIGTERM to SIGKILL."""
_LATE_S = 10.0
"""Further seconds that a busy machine may need to start and end a hundred commands."""
_POLL_S = 0.05
_NAME = re.compile(r"(?<!\$)\{([a-z_]+)\}")
_FOR_A_SHELL = re.compile(r"\|\|?|&&?|\S*;|<|[12]?>>?\S*|~(/.*)?|.*(`|\$(\(|\{?[A-Z_]{3})).*", re.DOTALL)
"""Words that only a shell understands."""


class Command:
    """A command that detections start.

    Parameters
    ----------
    command : str
    keyword : str, optional
        The keyword that starts it; None: every keyword.
    shell : bool
        Whether ``/bin/sh`` runs it.
    what : str
        What messages call it.
    shell_option : str
        What the user adds for a shell.
    names : sequence of str
        Names of the values that it gets.

    Raises
    ------
    UsageError
        If it is no command, or its program is missing or cannot be run.
    """

    def __init__(
        self,
        command: str,
        *,
        keyword: str | None = None,
        shell: bool = False,
        what: str,
        shell_option: str = "--exec-shell",
        names: Sequence[str] = NAMES,
    ) -> None:
        if not hasattr(os, "killpg"):
            raise UsageError(f"{what} needs Linux or macOS; kws-edge listen --json gives detections to any program")
        self.what, self.keyword = what, keyword
        self._shell, self._shell_option, self._names = shell, shell_option, names
        self._argv = self._of_shell(command) if shell else self._split(command)

    @classmethod
    def of_option(cls, given: str, keywords: Sequence[str], *, shell: bool) -> Command:
        """The command of an ``--exec [KEYWORD=]COMMAND``; `keywords` are the active ones."""
        what = f"--exec {shown(given)}"
        keyword = max((word for word in keywords if given.startswith(f"{word}=")), key=len, default=None)
        name, equals, _ = given.partition("=")
        if keyword is None and equals and not re.search(r"[\s/\"']", name):
            known = ", ".join(keywords)
            raise UsageError(f"{what}: {shown(name)} is none of the keywords: {known}; env sets variables")
        command = given if keyword is None else given[len(keyword) + 1 :]
        return cls(command, keyword=keyword, shell=shell, what=what)

    def _wrong(self, text: str) -> UsageError:
        return UsageError(f"{self.what}: {text}")

    def _of_shell(self, command: str) -> list[str]:
        if not command.strip():
            raise self._wrong("there is no command")
        for name in _NAME.findall(command):
            if name in self._names:  # the shell would parse the value, and its quotes would not protect it
                raise self._wrong(f"with {self._shell_option} write $KWS_{name.upper()} in place of {{{name}}}")
        return ["/bin/sh", "-c", command]

    def _split(self, command: str) -> list[str]:
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise self._wrong(f"it cannot be split into words ({str(error).lower()})") from None
        if not words:
            raise self._wrong("there is no command")
        for word in words:
            if _FOR_A_SHELL.fullmatch(word):
                raise self._wrong(
                    f"{shown(word)} is for a shell, and none runs it: write it out, or add {self._shell_option}"
                )
            for name in _NAME.findall(word):
                if name not in self._names:
                    known = ", ".join(f"{{{one}}}" for one in self._names)
                    raise self._wrong(f"{{{name}}} is unknown; known are {known}")
        if _NAME.search(words[0]):
            raise self._wrong("the program has a fixed name; give each keyword a command of its own")
        return [self._program(words[0]), *words[1:]]

    def _program(self, name: str) -> str:
        path = shutil.which(name)
        if path:
            if fault := _fault(path):
                raise self._wrong(f"{name} {fault}")
            return path
        if os.path.isdir(name):
            remedy = "it is a folder"
        elif os.path.exists(name):
            remedy = f"write ./{name}" if os.sep not in name else f"you may not run it: chmod +x {shlex.quote(name)}"
        else:
            remedy = "check its path"
        raise self._wrong(f"no program {shown(name)} ({remedy})")

    def argv(self, values: Mapping[str, str]) -> list[str]:
        """The words of the command, with the values of the detection filled in."""
        return self._argv if self._shell else [_NAME.sub(lambda found: values[found[1]], word) for word in self._argv]


def _fault(path: str) -> str | None:
    """Why the system cannot run a file that is executable."""
    try:
        with open(path, "rb") as file:
            head = file.read(256)
    except OSError:  # executable, but not readable
        return None
    if not head.startswith(b"#!"):
        return None if b"\0" in head else "is a script without a first line such as #!/bin/sh"
    line = head[2:].partition(b"\n")[0]
    if line.endswith(b"\r"):
        return "has the line ends of Windows: sed -i 's/\\r$//' removes them"
    interpreter = os.fsdecode(b"".join(line.split()[:1]))
    return None if os.path.exists(interpreter) else f"is run by {shown(interpreter)}, which is missing"


class _Run:
    """A running command. It has a session of its own, so that Ctrl-C on the terminal does not reach it."""

    def __init__(self, command: Command, process: subprocess.Popen[bytes], until: float, reason: str) -> None:
        self.command, self.process = command, process
        self.until, self.reason = until, reason
        """Time at which the command must end, by :func:`time.monotonic`, and the reason."""
        self._signals = [signal.SIGTERM, signal.SIGKILL]

    @property
    def was_ended(self) -> bool:
        """Whether a signal ended the command."""
        return len(self._signals) < 2

    def is_over(self) -> bool:
        """Whether the command has ended. When its time is over, signals end it and every process in its session."""
        # The process is not reaped between the two signals, so that no other process can get its number.
        if len(self._signals) != 1 and self.process.poll() is not None:
            return True
        now = time.monotonic()
        if now >= self.until and self._signals:
            with suppress(OSError):  # it may belong to another user
                os.killpg(self.process.pid, self._signals.pop(0))
            self.until = now + _GRACE_S
        return False


class Hooks:
    """Commands that detections start. A thread starts, counts and reaps them.

    A command gets the detection as words and as environment variables, ``KWS_KEYWORD`` and so on. Its standard input is
    empty, and its output goes to standard error. At most eight copies of a command run at a time, and a command that
    runs too long is ended. When you leave the ``with`` block, running commands have five more seconds.

    Parameters
    ----------
    commands : sequence of Command
    limit_s : float
        Longest time that a command may run, in seconds.
    notice : callable
        Called with a text when something goes wrong, once for each command and fault.
    """

    def __init__(self, commands: Sequence[Command], *, limit_s: float, notice: Callable[[str], None]) -> None:
        self._commands = commands
        self._limit_s, self._notice = limit_s, notice
        self._told: set[str] = set()
        self._started = self._failed = self._dropped = 0
        self._jobs: queue.SimpleQueue[tuple[Command, dict[str, str]] | None] = queue.SimpleQueue()
        self._running: list[_Run] = []
        self._all_started = threading.Event()
        self._thread = threading.Thread(target=self._work, name="exec", daemon=True)

    def __call__(self, step: Step) -> None:
        """Start the commands of a step's detection, if it has one. This returns at once."""
        if step.detection:
            self.run(step.detection, time=wall_clock("milliseconds"))

    def run(self, found: Detection, **more: str) -> None:
        """Start the commands of a detection; `more` are further values for them. This returns at once."""
        values = {name: str(value).lower() if value is True else str(value) for name, value in as_values(found).items()}
        values |= more
        for command in self._commands:
            if command.keyword in (None, found.keyword):
                self._jobs.put((command, values))

    def _work(self) -> None:
        """Start and watch commands until there are no more to start and none runs."""
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # programs inherit the mask, and few of them set it
        more = True
        while more or self._running:
            with suppress(queue.Empty):
                if job := self._jobs.get(timeout=_POLL_S if self._running else None):
                    self._start(*job)
                else:
                    more = False
                    self._all_started.set()
                    self._limit(_END_S, f"it still ran {_END_S:g} s after the end of listening")
            self._running = [run for run in self._running if not self._is_over(run)]

    def _limit(self, seconds: float, reason: str) -> None:
        """End every running command after this time at the latest."""
        until = time.monotonic() + seconds
        for run in self._running:
            if until < run.until:
                run.until, run.reason = until, reason

    def _start(self, command: Command, values: dict[str, str]) -> None:
        if sum(run.command is command for run in self._running) >= _MOST:
            self._dropped += 1
            self._tell(command, f"not started, because {_MOST} of it still run")
            return
        self._started += 1
        inherited = {name: value for name, value in os.environ.items() if name != "KWS_WAKE"}  # as of another listener
        try:
            process = subprocess.Popen(
                command.argv(values),
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr,
                stderr=sys.stderr,
                env=inherited | {f"KWS_{name.upper()}": value for name, value in values.items()},
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            self._fail(command, f"cannot be started ({getattr(error, 'strerror', None) or error})")
        else:
            until = time.monotonic() + self._limit_s
            self._running.append(_Run(command, process, until, f"it ran for more than {self._limit_s:g} s"))

    def _is_over(self, run: _Run) -> bool:
        if not run.is_over():
            return False
        status = run.process.returncode
        if run.was_ended:
            self._fail(run.command, f"was ended: {run.reason}")
        elif status < 0:
            self._fail(run.command, f"ended by signal {-status}")
        elif status:
            self._fail(run.command, f"ended with exit status {status}")
        return True

    def _fail(self, command: Command, text: str) -> None:
        self._failed += 1
        self._tell(command, text)

    def _tell(self, command: Command, text: str) -> None:
        if (line := f"{command.what}: {text}") not in self._told:
            self._told.add(line)
            self._notice(line)

    def __enter__(self) -> Hooks:
        try:
            self._thread.start()
        except RuntimeError as error:  # no memory for the thread, or too many threads
            raise KwsError(f"the commands need a thread of its own: {error}") from None
        return self

    def __exit__(self, *error: object) -> None:
        self._jobs.put(None)
        self._thread.join(_AT_ONCE_S)
        if self._thread.is_alive():
            self._notice(f"commands still run; they are ended in {_END_S:g} s")
            self._all_started.wait(_LATE_S)
            self._thread.join(_END_S + _GRACE_S + _LATE_S)
        text = f"{self._started} command{'' if self._started == 1 else 's'} run"
        if self._failed:
            text += f", {self._failed} failed"
        if self._dropped:
            text += f", {self._dropped} not started"
        self._notice(text)
