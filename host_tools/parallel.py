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
    """``work(job)`` for every job, in order.

    An error, and Ctrl-C, end the processes at once, in the middle of their jobs.

    Parameters
    ----------
    work : callable
        Of a module, or a partial of one.
    jobs : sequence
    workers : int, optional
        Processes; by default one a core. With 1 the work is done in this process.

    Raises
    ------
    WorkerError
        If one of the processes dies.
    """
    if workers == 1:
        yield from map(work, jobs)
        return
    others = set(multiprocessing.active_children())
    # Not forked: the parent may have threads of TensorFlow's. And Ctrl-C is the parent's to hear, also while a process
    # starts, which inherits what is blocked.
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
