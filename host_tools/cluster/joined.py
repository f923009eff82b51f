"""Joins a Ray cluster, or starts Ray on this machine, and spreads work over it."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from host_tools.cluster.place import LOCAL
from host_tools.errors import WorkerError
from kws_edge.errors import RuntimeUnavailableError, extra

__all__ = ["joined", "run_on_cluster"]

_RETRIES = 10
"""How often a task begins anew where its process or its machine died."""
_TRIES = 4
"""How often Ray is asked to take a client. A client's server may crash as it starts, where gRPC forks (ray#63202)."""
_ANSWER_S = 10.0


@contextlib.contextmanager
def joined(where: str) -> Iterator[Any]:
    """The module ``ray``, joined to the cluster at `where`. ``local`` starts Ray on this machine for as long.

    Parameters
    ----------
    where : str
        As :func:`host_tools.cluster.place.place` reads it.

    Raises
    ------
    RuntimeUnavailableError
        If Ray is not installed, or has another version than the cluster.
    WorkerError
        If there is no such cluster, or it goes away meanwhile.

    Examples
    --------
    >>> with joined("local") as ray:  # doctest: +SKIP
    ...     ray.cluster_resources()["CPU"]
    2.0
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray will do anyway, and warns of
    try:
        import ray
    except ImportError as error:
        raise RuntimeUnavailableError(f"{error}; a cluster needs Ray: {extra('cluster')}") from None
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if where == LOCAL:
            ray.init("local", include_dashboard=False, **options)
        else:
            _check_answers(where)  # Ray itself asks for minutes
            _join(ray, where, options)
    except (OSError, ValueError) as error:
        raise WorkerError(f"{where}: no Ray cluster answers there ({_line(error)}); see ray start --head") from None
    except RuntimeError as error:  # of other versions of Ray or of Python
        raise RuntimeUnavailableError(f"{where}: {_line(error)}") from None
    except Exception as error:  # Ray has no closer one where it does not start in time
        raise WorkerError(f"{where}: Ray did not start ({_line(error)}); the same command tries again") from None
    try:
        yield ray
    except (ConnectionError, ray.exceptions.RaySystemError) as error:
        raise WorkerError(f"{where}: the cluster went away ({_line(error)}); the same command goes on") from None
    finally:
        with contextlib.suppress(Exception):  # a cluster that went away takes no farewell
            ray.shutdown()


def run_on_cluster(work: Callable, jobs: Iterable, where: str) -> Iterator:
    """Results of ``work(job)`` for every job, as they come, computed by tasks of a Ray cluster.

    A task whose process or machine dies begins anew elsewhere. At most twice as many tasks are under way as the
    cluster has cores. So neither jobs nor results pile up.

    Parameters
    ----------
    work : callable
        A function of a module that every machine has, or a partial of such a function.
    jobs : iterable
    where : str
        As :func:`host_tools.cluster.place.place` reads it.

    Raises
    ------
    WorkerError
        If the cluster goes away, or a task's process dies again and again.
    Exception
        What `work` raises.
    """
    with joined(where) as ray:
        task = ray.remote(max_retries=_RETRIES)(_done).options(name=getattr(work, "func", work).__name__)
        most = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        waiting = iter(jobs)
        pending = [task.remote(work, job) for job in itertools.islice(waiting, most)]
        try:
            while pending:
                ready, pending = ray.wait(pending)
                for one in ready:
                    yield ray.get(one)
                    pending += [task.remote(work, job) for job in itertools.islice(waiting, 1)]
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as error:
            raise WorkerError(f"{where}: a task's process died {_RETRIES + 1} times ({_line(error)})") from None


def _done(work: Callable, job: Any) -> Any:
    """What each task does. Ray takes no partial of a function."""
    return work(job)


def _join(ray: Any, where: str, options: dict[str, Any]) -> None:
    for left in reversed(range(_TRIES)):
        try:
            ray.init(where, **options)
            return
        except ConnectionAbortedError:  # a ConnectionError of another kind is of a cluster that went away
            if not left:
                raise
            ray.shutdown()


def _check_answers(where: str) -> None:
    host, _, port = where.removeprefix("ray://").rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()


def _line(error: BaseException) -> str:
    """The first line of an error, with the last one where the first only announces it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    announced = lines[0].endswith(":") and len(lines) > 1
    return (f"{lines[0]} {lines[-1]}" if announced else lines[0])[:200]
