"""Runs trials by Ray Tune, many at a time on many machines. ASHA stops those that fall behind.

This is the only module of sweeps that loads Ray.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from host_tools.errors import SweepError, WorkerError
from host_tools.sweep.file import Sweep
from host_tools.sweep.outcome import DONE, FAILED, STOPPED, Outcome
from host_tools.sweep.results import read_results, write_results
from host_tools.sweep.trial import Job, Running
from kws_edge.text import printable

__all__ = ["run_by_tune"]

_TUNE = "tune"
"""Folder of Ray Tune's own state."""
_RETRIES = 2
"""How often a trial begins anew that failed, or whose process or machine died."""
_WORST = 1e30
"""Stands for a judged figure that is no finite number."""
_POLL_S = 0.5


def run_by_tune(
    sweep: Sweep,
    jobs: Mapping[int, Job],
    todo: Sequence[int],
    folder: Path,
    *,
    resources: Mapping[str, float],
    tell: Callable[[Outcome], None],
) -> None:
    """Run trials on the Ray cluster that this process has joined.

    Ray Tune keeps its state in ``folder/tune``, and goes on from there. The results in `folder` are written whenever a
    trial ends. Ray Tune's state may be older, if it was killed. Then it begins trials that are done once more, which
    takes seconds.

    Parameters
    ----------
    sweep : Sweep
    jobs : mapping of int to Job
        All trials, by number.
    todo : sequence of int
        Numbers of the trials that are not done.
    folder : path
        Folder of the sweep, the same on every machine.
    resources : mapping of str to float
        ``cpu`` and ``gpu`` of each trial, where they are given.
    tell : callable
        Takes each outcome that changes.
    """
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Ctrl-C ends the command, and --resume goes on
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the results tell of trials that fail
    actor = tune.with_resources(tune.with_parameters(TrialActor, jobs=dict(jobs)), {**_share(), **resources})
    if tune.Tuner.can_restore(state := str(folder / _TUNE)):
        tuner = tune.Tuner.restore(state, actor, restart_errored=True)
    else:
        tuner = tune.Tuner(
            actor,
            param_space={"trial": tune.grid_search(list(todo))},
            tune_config=tune.TuneConfig(scheduler=_asha(sweep)),
            run_config=tune.RunConfig(
                name=_TUNE,
                storage_path=str(folder),
                failure_config=tune.FailureConfig(max_failures=_RETRIES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the recipe's stages are there
                callbacks=[Keeper(sweep, folder)],
                verbose=0,
            ),
        )
    with _followed(sweep, folder, tell):
        tuner.fit()


def _share() -> dict[str, float]:
    """Resources of a trial: all cores of the smallest machine, and one GPU if every machine has one.

    Raises
    ------
    WorkerError
        If no machine has cores.
    """
    machines = [one["Resources"] for one in ray.nodes() if one["Alive"] and one["Resources"].get("CPU")]
    if not machines:
        raise WorkerError("no machine of the Ray cluster has cores for trials; ray start --address=HEAD:PORT adds one")
    cpu, gpu = (min(one.get(name, 0) for one in machines) for name in ("CPU", "GPU"))
    return {"cpu": cpu, "gpu": min(1, gpu)}


def _asha(sweep: Sweep) -> ASHAScheduler | None:
    """ASHA's scheduler; None if the sweep stops no trials."""
    if not sweep.judge:
        return None
    return ASHAScheduler(
        time_attr="epoch",
        metric="judged",
        mode="max" if sweep.judge.larger_is_better else "min",
        max_t=max(sweep.epochs(sweep.load(trial)) for trial in sweep.trials),
        grace_period=sweep.search.grace_period or 1,
        reduction_factor=sweep.search.reduction_factor or 4,
        stop_last_trials=False,  # the stages after the training follow
    )


class TrialActor(tune.Trainable):
    """Starts a trial's process. Reports each epoch of the judged training, and then the figures."""

    def setup(self, config: dict[str, Any], jobs: Mapping[int, Job]) -> None:
        """Start the process, which goes on where an earlier one was."""
        self._running = Running(jobs[config["trial"]])
        self._row: dict[str, float] = {"epoch": 0}

    def step(self) -> dict[str, Any]:
        """Wait for the next epoch, or the end."""
        while True:
            over = self._running.over
            later = (row for row in self._running.epochs() if row["epoch"] > self._row["epoch"])
            if row := next(later, None):
                self._row = row
                return self._standing()
            if over:
                return {**self._standing(), "figures": self._running.figures(), "done": True}
            time.sleep(_POLL_S)

    def _standing(self) -> dict[str, Any]:
        judge = self._running.job.judge
        if not judge:
            return {}
        value = self._row.get(judge[1], math.nan)
        worst = -_WORST if judge[1] == "val_accuracy" else _WORST
        return {"epoch": int(self._row["epoch"]), "judged": value if math.isfinite(value) else worst}

    def cleanup(self) -> None:
        """End the process, if ASHA has stopped the trial."""
        self._running.stop()


class Keeper(tune.Callback):
    """Writes the sweep's results whenever a trial ends. It runs where Ray Tune runs.

    What is done stays done, and what has not ended changes nothing.
    """

    def __init__(self, sweep: Sweep, folder: Path) -> None:
        self._sweep, self._folder = sweep, folder

    def on_trial_complete(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        self._keep([trial])

    def on_trial_error(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        self._keep([trial])

    def on_experiment_end(self, trials: Sequence[Any], **info: Any) -> None:
        self._keep([one for one in trials if one.is_finished()])

    def _keep(self, ended: Sequence[Any]) -> None:
        outcomes = {one.number: one for one in read_results(self._sweep, self._folder)}
        for trial in ended:
            number = trial.config["trial"]
            if outcomes[number].state != DONE:
                outcomes[number] = _outcome(self._sweep, number, trial)
        write_results(self._sweep, list(outcomes.values()), self._folder)


def _outcome(sweep: Sweep, number: int, trial: Any) -> Outcome:
    """Where a trial of Ray Tune's stands that has ended."""
    values, last = sweep.trials[number - 1].values, trial.last_result or {}
    epoch = last.get("epoch")
    if trial.status == "ERROR":
        error = trial.get_error()
        problem = str(getattr(error, "cause", None) or error)
        return Outcome(number, values, FAILED, problem=printable(problem.strip().splitlines()[-1], most=500))
    if "figures" in last:
        return Outcome(number, values, DONE, last["figures"], epoch)
    judged = last.get("judged")
    return Outcome(number, values, STOPPED, {str(sweep.judge): None if judged in (-_WORST, _WORST) else judged}, epoch)


@contextlib.contextmanager
def _followed(sweep: Sweep, folder: Path, tell: Callable[[Outcome], None]) -> Iterator[None]:
    """Tell what the results say, meanwhile and at the end: Ray Tune may run on another machine."""
    over = threading.Event()

    def follow() -> None:
        last = False
        while not last:
            last = over.wait(_POLL_S)
            with contextlib.suppress(SweepError):
                for outcome in read_results(sweep, folder):
                    tell(outcome)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
