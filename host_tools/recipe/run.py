"""Runs recipes stage by stage. Each stage's command runs in a process of its own."""

from __future__ import annotations

import datetime
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from host_tools.errors import RecipeError
from host_tools.locks import locked
from host_tools.recipe.file import Stage
from host_tools.recipe.graph import DONE, FILES, RECORD, Result, State, Workshop
from host_tools.recipe.lock import lock
from kws_edge.files import explained, write_atomically

__all__ = ["check_data", "run"]

_GRACE_S = 6.0
_INTERRUPTED = 130
_PACKAGES = {"kws-host": "host_tools", "kws-firmware": "firmware_export"}


def run(
    workshop: Workshop,
    *,
    until: Sequence[str] = (),
    say: Callable[[str], None] = print,
    note: Callable[[State, Path], None] = lambda state, output: None,
) -> dict[str, State]:
    """Do the stages that are not done yet: all of them, or `until` and those that they take. Return the state of each.

    If the run is killed anywhere, the same call goes on from there. Several runs may share the folder: a lock has each
    stage done by one of them, and the others wait for it.

    Parameters
    ----------
    workshop : Workshop
    until : sequence of str
        Do only these stages and the stages that they need.
    say : callable
        Takes lines of progress.
    note : callable
        Takes the state of each stage before it is begun and when it is done, and the path of its output.

    Raises
    ------
    RecipeError
        If data are not there, before anything is done. If a stage fails: its command has said why on standard error.
        If the data of a stage change while it is done.
    """
    wanted = workshop.recipe.up_to(*until)
    check_data(workshop, wanted)
    states: dict[str, State] = {}
    for number, stage in enumerate(wanted, 1):
        workshop.look_again()
        state = workshop.state(stage, states)
        output = workshop.output(stage, workshop.folder_of(stage, state.key))
        if state.name != DONE:
            note(state, output)
            say(f"[{number}/{len(wanted)}] {stage.id}: {stage.why}")
            for line in state.reasons:
                say(f"  because: {line}")
            with locked(workshop.folder, name=f".{stage.id}-{state.key[:12]}", wait=True) as lock_held:
                state = workshop.state(stage, states)  # another run may have done it meanwhile
                if state.name != DONE:
                    state = _do(workshop, state, states, say, lock_held)
            say(f"  done in {state.done.record['seconds']:.0f} s: {output}")
        note(state, output)
        states[stage.id] = state
    return states


def check_data(workshop: Workshop, wanted: Sequence[Stage]) -> None:
    """Raise an error unless the data that the stages `wanted` take are there.

    Raises
    ------
    RecipeError
        If they are not. The message names the missing path.
    """
    for name in dict.fromkeys(name for stage in wanted for name in stage.data):
        if not os.path.exists(path := workshop.path_of_data(name)):
            raise RecipeError(f"{path}: no such file or folder; the recipe takes its {name} from there (--data)")


def _do(
    workshop: Workshop, state: State, states: dict[str, State], say: Callable[[str], None], lock_held: int
) -> State:
    stage, folder = state.stage, workshop.folder_of(state.stage, state.key)
    with explained(folder):
        if (folder / RECORD).exists():  # its output has changed since it was written
            say(f"  kept as it is: {_set_aside(folder)}")
        folder.mkdir(parents=True, exist_ok=True)
    inputs = workshop.inputs(stage, states)
    started = time.monotonic()
    if not stage.kind.program:
        write_atomically(workshop.output(stage, folder), lock(workshop, stage, states))
    else:
        _command(workshop, stage, states, folder, lock_held)
    workshop.look_again()
    if workshop.inputs(stage, states) != inputs:
        raise RecipeError(
            f"{workshop.recipe.path}: stage {stage.id}: its data changed while it was done; the same command does it"
            " anew"
        )
    files = {name: [[e.path, e.size, e.sha256] for e in workshop.manifest_of_data(name).entries] for name in stage.data}
    write_atomically(folder / FILES, json.dumps(files))
    record = {
        "id": stage.id,
        "key": state.key,
        "sha256": workshop.checksum(stage, folder),
        "inputs": inputs,
        "seconds": round(time.monotonic() - started, 1),
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds"),
    }
    write_atomically(folder / RECORD, json.dumps(record, indent=1) + "\n", durable=True)
    return State(stage, DONE, state.key, Result(folder, record))


def _set_aside(folder: Path) -> Path:
    """Rename a folder that somebody has changed to a free name, and return the new path."""
    names = (folder.with_name(f"{folder.name}.changed{n}") for n in itertools.count(1))
    return folder.rename(next(name for name in names if not name.exists()))


def _command(workshop: Workshop, stage: Stage, states: dict[str, State], folder: Path, lock_held: int) -> None:
    arguments = workshop.arguments(stage, states, folder)
    command = [sys.executable, "-m", _PACKAGES[stage.kind.program], *arguments]
    kept = stage.kind.program == "kws-firmware"
    status, output = _ended(command, subprocess.PIPE if kept else None, lock_held)
    if status:
        how = f"status {status}" if status > 0 else f"signal {-status}"
        raise RecipeError(
            f"{workshop.recipe.path}: stage {stage.id}: ended with {how}; the same command goes on from there"
        )
    if kept:
        write_atomically(workshop.output(stage, folder), output)


def _ended(command: list[str], stdout: int | None, lock_held: int) -> tuple[int, bytes]:
    """Run a command and return its status and output. If this process is interrupted, the command gets time to end.

    If this process is killed, the command goes on, and holds the lock until it ends.
    """
    with subprocess.Popen(command, stdout=stdout, pass_fds=(lock_held,)) as process:
        try:
            output = process.communicate()[0] or b""
            return process.returncode, output
        except KeyboardInterrupt:
            try:
                process.communicate(timeout=_GRACE_S)  # the terminal has interrupted the command, too
            except subprocess.TimeoutExpired:
                process.terminate()
            if process.returncode == _INTERRUPTED:  # the command has already reported the interruption
                raise SystemExit(_INTERRUPTED) from None
            raise
