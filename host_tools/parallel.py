"""Work spread over processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from host_tools.errors import WorkerError

__all__ = ["run_parallel"]


def run_parallel(work: Callable, jobs: Sequence, *, workers: int | None = None) -> Iterator:
    """Results of ``work(job)`` for every job, in order.

    An error or Ctrl-C ends the processes at once, even within a job.

    Parameters
    ----------
    work : callable
        A function of a module, or a partial of such a function.
    jobs : sequence
    workers : int, optional
        Processes; by default one a core. If it is 1, this process does the work.

    Raises
    ------
    WorkerError
        If one of the processes dies.
    """
    if workers == 1:
        yield from map(work, jobs)
        return
    others = set(multiprocessing.active_children())
    # Processes are spawned, not forked: the parent may have threads of TensorFlow. Only the parent handles Ctrl-C, so
    # SIGINT is blocked while a process starts, which inherits the blocked signals.
    with ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    ) as pool:
        try:
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                results = pool.map(work, jobs)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            yield from results
        except BaseException as error:
            for child in set(multiprocessing.active_children()) - others:
                child.terminate()
            pool.shutdown(cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                raise WorkerError(
                    "a worker process was ended from outside, as the system does when memory runs out; the same command"
                    " goes on from there"
                ) from None
            raise
