"""A trial: a run of the recipe in a process of its own, which ends with the process that started it.

``python -m host_tools.sweep.trial JOB PARENT`` is that process. It keeps a record of the stages,
which :class:`Running` reads.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from host_tools.errors import SweepError, TrainingError
from host_tools.recipe.file import load_recipe
from host_tools.recipe.graph import State, Workshop
from host_tools.recipe.run import run
from host_tools.sweep.figures import Figure
from host_tools.training.curves import read_log
from kws_edge.cli import program
from kws_edge.cli.guard import interrupted_by
from kws_edge.files import write_atomically
from kws_edge.text import printable

__all__ = ["Job", "Running"]

_GRACE_S = 20.0
_POLL_S = 0.2


@dataclass(frozen=True)
class Job:
    """All that a process needs to run a trial. Every path is absolute, and the same on every machine."""

    number: int
    values: Mapping[str, Any]
    recipe: str
    changes: Mapping[str, str]
    """Values of ``stage.option``, in TOML."""
    scale: float
    until: Sequence[str]
    data: str | None
    runs: str
    """Folder of the recipe's results, which the trials share."""
    figures: Sequence[tuple[str, str]]
    """Stage and name of each figure to read."""
    judge: tuple[str, str] | None
    """The figure of the training's log that tells how the trial stands."""
    folder: str
    """Where the trial's record and log are written."""
    here: str
    """The current folder, in which a network of one's own is found."""

    @property
    def record(self) -> Path:
        return Path(self.folder) / f"{self.number:04}.json"

    @property
    def log(self) -> Path:
        return Path(self.folder) / f"{self.number:04}.log"

    @property
    def command(self) -> list[str]:
        """The command that does the same by hand."""
        words = ["kws-host", "recipe", "run", self.recipe, "-o", os.path.dirname(self.runs)]
        words += ["--data", self.data] if self.data else []
        words += ["--scale", f"{self.scale:g}"] if self.scale != 1 else []
        words += [word for name, value in self.changes.items() for word in ("--set", f"{name}={value}")]
        return words + [word for stage in self.until for word in ("--until", stage)]


class Running:
    """A trial's process."""

    def __init__(self, job: Job) -> None:
        self.job = job
        os.makedirs(job.folder, exist_ok=True)
        job.record.unlink(missing_ok=True)  # of an earlier process
        command = [sys.executable, "-m", "host_tools.sweep.trial", json.dumps(asdict(job)), str(os.getpid())]
        with open(job.log, "ab") as log:
            self._process = subprocess.Popen(
                command, cwd=job.here, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def over(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def wait(self) -> None:
        """Wait for the process to end."""
        self._process.wait()

    def epochs(self) -> list[dict[str, float]]:
        """The rows of the judged training's log so far."""
        output = self._record().get("outputs", {}).get((self.job.judge or ("",))[0])
        with contextlib.suppress(TrainingError):  # no epoch is done yet
            return read_log(Path(output)) if output else []
        return []

    def figures(self) -> dict[str, float | None]:
        """The figures that the trial measured, once its process has ended.

        Raises
        ------
        SweepError
            If the trial failed.
        """
        self.wait()
        found: dict[str, float | None] | None = self._record().get("figures")
        if found is None:
            raise SweepError(f"trial {self.job.number}: {_last_line(self.job.log)} (all of it: {self.job.log})")
        return found

    def _record(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads(self.job.record.read_bytes())
            return found
        return {}

    def stop(self) -> None:
        """End the process, and its stage's command, which both keep what they have done."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.over:
                return
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_S)


def _last_line(log: Path) -> str:
    try:
        lines = log.read_bytes()[-4096:].decode(errors="replace").replace("\r", "\n").split("\n")
    except OSError as error:
        return f"left no log ({error.strerror})"
    said = [line for line in lines if line.strip()]
    return printable(said[-1], most=300) if said else "ended without a word"


def _end_with(parent: int) -> None:
    """End this process, and all that it started, when its parent has ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_S)
        os.killpg(0, signal.SIGTERM)
        time.sleep(_GRACE_S)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _work(argv: Sequence[str]) -> None:
    job = Job(**json.loads(argv[0]))
    _end_with(int(argv[1]))
    interrupted_by("SIGTERM", "SIGHUP")
    started = time.monotonic()
    outputs: dict[str, str] = {}
    print(shlex.join(job.command), flush=True)
    recipe = load_recipe(job.recipe, changes=job.changes, scale=job.scale)
    workshop = Workshop(recipe, Path(job.runs), Path(job.data) if job.data else None)

    def keep(**more: Any) -> None:
        write_atomically(job.record, json.dumps({"outputs": outputs, **more}, indent=1) + "\n")

    def note(state: State, output: Path) -> None:
        outputs[state.stage.id] = str(output)
        keep()

    run(workshop, until=job.until, say=lambda line: print(printable(line), flush=True), note=note)
    figures = {
        f"{stage}.{name}": Figure(stage, name).read(recipe.by_id[stage], recipe, Path(outputs[stage]))
        for stage, name in job.figures
    }
    keep(figures=figures, seconds=round(time.monotonic() - started, 1))


if __name__ == "__main__":
    sys.exit(program("kws-host sweep", _work, sys.argv[1:]))
