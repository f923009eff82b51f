"""Runs the trials of a sweep, here one after another or on Ray, and keeps their results."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from host_tools.cluster.joined import joined
from host_tools.cluster.place import LOCAL
from host_tools.errors import SweepError
from host_tools.locks import locked
from host_tools.recipe.graph import Workshop
from host_tools.recipe.run import check_data
from host_tools.sweep.file import Sweep, Trial
from host_tools.sweep.outcome import DONE, FAILED, STOPPED, WAITING, Outcome
from host_tools.sweep.results import read_results, write_results
from host_tools.sweep.trial import Job, Running

__all__ = ["run_sweep"]


def run_sweep(
    sweep: Sweep,
    *,
    runs: Path,
    data: Path | None = None,
    on: str = LOCAL,
    resume: bool = False,
    resources: Mapping[str, float] = MappingProxyType({}),
    say: Callable[[str], None] = print,
) -> list[Outcome]:
    """Run the trials that are not done yet, and return where all of them stand.

    Results are written to ``runs/NAME`` after each trial. The trials' stages lie in ``runs/RECIPE``, where what trials
    have in common is done once.

    Parameters
    ----------
    sweep : Sweep
    runs : path
        Folder of results.
    data : path, optional
        Folder that holds the data of the recipe.
    on : str
        Where trials run, as :func:`host_tools.cluster.place.place` reads it.
    resume : bool
        Go on with a sweep that has begun. Trials that failed begin anew.
    resources : mapping of str to float, optional
        ``cpu`` and ``gpu`` that Ray keeps for each trial.
    say : callable
        Takes lines of progress.

    Raises
    ------
    SweepError
        If the sweep has begun and `resume` is false, or the sweep has changed since.
    RecipeError
        If data are not there.
    RuntimeUnavailableError
        If Ray is needed and is not installed.
    WorkerError
        If the Ray cluster cannot be joined, or goes away.
    """
    folder, data = (runs / sweep.name).absolute(), data and data.absolute()
    jobs = {trial.number: _job(sweep, trial, folder, data) for trial in sweep.trials}
    first = sweep.load(sweep.trials[0])
    check_data(Workshop(first, folder, data), first.up_to(*sweep.wanted(first)))
    with locked(folder):
        outcomes = {one.number: one for one in read_results(sweep, folder)}
        if not resume and any(one.state != WAITING for one in outcomes.values()):
            raise SweepError(f"{folder}: the sweep has begun there; --resume goes on, or remove the folder")

        def tell(outcome: Outcome) -> None:
            if outcome != outcomes[outcome.number]:
                outcomes[outcome.number] = outcome
                say(_told(sweep, outcome))

        write_results(sweep, list(outcomes.values()), folder)
        todo = [number for number, one in outcomes.items() if one.state not in (DONE, STOPPED)]
        if not todo:
            say("every trial is done already")
        elif on == LOCAL and not sweep.judge:
            for job in (jobs[number] for number in todo):
                say(f"trial {job.number} of {len(sweep.trials)}: {_values(job.values)}; log: {job.log}")
                tell(_run_here(job))
                write_results(sweep, list(outcomes.values()), folder)
        else:
            with joined(on):
                from host_tools.sweep.ray_tune import run_by_tune

                run_by_tune(sweep, jobs, todo, folder, resources=resources, tell=tell)
            write_results(sweep, list(outcomes.values()), folder)  # Ray Tune has kept the limits as they once were
        return list(outcomes.values())


def _job(sweep: Sweep, trial: Trial, folder: Path, data: Path | None) -> Job:
    recipe = sweep.load(trial)
    return Job(
        trial.number,
        trial.values,
        str(sweep.recipe),
        sweep.changes(trial.values),
        sweep.scale,
        sweep.wanted(recipe),
        str(data) if data else None,
        str(folder.with_name(recipe.name)),
        [(one.stage, one.name) for one in sweep.figures],
        (sweep.judge.stage, sweep.judge.name) if sweep.judge else None,
        str(folder / "trials"),
        os.getcwd(),
    )


def _run_here(job: Job) -> Outcome:
    """Run a trial and wait for its end. It takes all cores."""
    running = Running(job)
    try:
        return Outcome(job.number, job.values, DONE, running.figures())
    except SweepError as error:
        return Outcome(job.number, job.values, FAILED, problem=str(error))
    finally:
        running.stop()


def _told(sweep: Sweep, outcome: Outcome) -> str:
    """Where a trial stands, for people."""
    where = f"trial {outcome.number} of {len(sweep.trials)}, {_values(outcome.values)}"
    if outcome.state == FAILED:
        return f"{where}: failed: {outcome.problem}"
    figures = ", ".join(f"{name} {value:.5g}" for name, value in outcome.figures.items() if value is not None)
    return f"{where}: {outcome.state}{f' after epoch {outcome.epoch}' if outcome.state == STOPPED else ''}; {figures}"


def _values(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
