"""Recipes done: stage by stage, each by the command that it names, in a process of its own."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from host_tools.errors import RecipeError
from host_tools.locks import locked
from host_tools.recipe.file import Stage
from host_tools.recipe.graph import DONE, FILES, RECORD, Result, State, Workshop
from host_tools.recipe.lock import lock
from kws_edge.files import write_atomically

__all__ = ["run"]

_PACKAGES = {"kws-host": "host_tools", "kws-firmware": "firmware_export"}


def run(workshop: Workshop, *, until: str | None = None, say: Callable[[str], None] = print) -> dict[str, State]:
    """Do what is not done yet, and return where every stage stands.

    Killed anywhere, the same call goes on where it was. Nothing else works in the folder at the same time.

    Parameters
    ----------
    workshop : Workshop
    until : str, optional
        Only this stage and what it takes.
    say : callable
        Takes lines of progress.

    Raises
    ------
    RecipeError
        If a stage fails; its command has said why on standard error.
    """
    recipe = workshop.recipe
    wanted = {stage.id for stage in (recipe.up_to(until) if until else recipe.stages)}
    states: dict[str, State] = {}
    with locked(workshop.folder):
        for number, stage in enumerate(recipe.stages, 1):
            state = workshop.state(stage, states)
            if stage.id in wanted and state.name != DONE:
                say(f"[{number}/{len(recipe.stages)}] {stage.id}: {stage.why}")
                for line in state.reasons:
                    say(f"  because: {line}")
                state = _do(workshop, stage, state, states)
                say(f"  done in {state.result.record['seconds']:.0f} s: {workshop.output(stage, state.result.folder)}")
            states[stage.id] = state
    return states


def _do(workshop: Workshop, stage: Stage, state: State, states: dict[str, State]) -> State:
    folder = workshop.folder_of(stage, state.key)
    if (folder / RECORD).exists():  # what came out of it is not what it was
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    inputs = workshop.inputs(stage, states)
    started = time.monotonic()
    if not stage.kind.program:
        write_atomically(workshop.output(stage, folder), lock(workshop, stage, states))
    else:
        _command(workshop, stage, states, folder)
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


def _command(workshop: Workshop, stage: Stage, states: dict[str, State], folder: Path) -> None:
    arguments = workshop.arguments(stage, states, folder)
    command = [sys.executable, "-m", _PACKAGES[stage.kind.program], *arguments]
    if stage.kind.program == "kws-firmware":
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        if done.returncode == 0:
            write_atomically(workshop.output(stage, folder), done.stdout)
    else:
        done = subprocess.run(command, check=False)
    if done.returncode:
        how = f"status {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
        raise RecipeError(
            f"{workshop.recipe.path}: stage {stage.id}: ended with {how}; the same command goes on from there"
        )
