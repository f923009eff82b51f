"""The devices that options ask for, for as long as a training goes on."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import keras

from host_tools.config import DevicesConfig
from host_tools.devices.one import OneDevice
from host_tools.devices.precision import accelerated
from host_tools.devices.roll_call import WAIT_S, call_roll
from host_tools.errors import DevicesError
from kws_edge.errors import KwsError, extra
from kws_edge.text import counted

if TYPE_CHECKING:
    import jax

__all__ = ["joined"]

_NEWS_S = 3.0
"""A process that ends causes errors here. The news of its end, which ends this process, may come as much later."""


@contextlib.contextmanager
def joined(
    config: DevicesConfig, asked: Mapping[str, Any], *, say: Callable[[str], None] = print, wait_s: float = WAIT_S
) -> Iterator[OneDevice]:
    """The devices of a training. With hosts, the processes wait for one another at the beginning and at the end.

    Parameters
    ----------
    config : DevicesConfig
    asked : mapping
        What every process must ask for alike, by name, JSON-ready.
    say : callable
        Takes lines of progress.
    wait_s : float
        How long processes wait for one another at the beginning.

    Raises
    ------
    DevicesError
        If there are no such devices, or a process does not come, differs from rank 0, or ends before the training.
    """
    if config.several and keras.backend.backend() != "jax":
        raise DevicesError(
            f"{'--hosts' if config.hosts else '--devices'} needs Keras on JAX, not {keras.backend.backend()}: set"
            f" KERAS_BACKEND=jax, and install it by {extra('jax')}"
        )
    with _together(config, asked, say, wait_s) if config.hosts else contextlib.nullcontext():
        mixed = config.precision == "mixed"
        if mixed and not accelerated():
            raise DevicesError(
                f"--precision mixed is for GPUs, and Keras on {keras.backend.backend()} finds none here: give"
                " --precision float32"
            )
        chosen = _chosen(config) if config.several else []
        if len(chosen) <= 1:
            yield OneDevice(mixed=mixed)
            return
        from host_tools.devices.data_parallel import DataParallel

        devices = DataParallel(chosen, mixed=mixed)
        say(f"each batch is shared by {counted(devices.number, 'device')} ({devices.kind})")
        yield devices


def _chosen(config: DevicesConfig) -> list[jax.Device]:
    """The devices of all machines, in the order of their ranks."""
    import jax

    machines = [jax.local_devices(process_index=rank) for rank in range(jax.process_count())]
    counts, platform = [len(found) for found in machines], machines[0][0].platform
    if len({*counts}) > 1:
        told = ", ".join(f"rank {rank} has {n}" for rank, n in enumerate(counts))
        raise DevicesError(
            f"machines must have as many devices each, but {told}: set CUDA_VISIBLE_DEVICES where there are more than"
            f" {min(counts)}"
        )
    here = counts[0]
    wanted = here if config.devices in ("", "all") else int(config.devices)
    if wanted > here:
        more = "; XLA_FLAGS=--xla_force_host_platform_device_count=N splits a CPU" * (platform == "cpu")
        raise DevicesError(
            f"--devices {wanted}: this machine has {counted(here, f'{platform} device')}: give --devices {here}{more}"
        )
    return [device for found in machines for device in found[:wanted]]


@contextlib.contextmanager
def _together(
    config: DevicesConfig, asked: Mapping[str, Any], say: Callable[[str], None], wait_s: float
) -> Iterator[None]:
    """All processes at once, until each is done. If one ends before, so do all others."""
    import jax

    alike = {"devices": config.devices, "precision": config.precision}
    versions = {"keras": keras.__version__, "jax": jax.__version__}
    if hasattr(jax.config, "jax_enable_preemption_service"):  # it would ignore SIGTERM
        jax.config.update("jax_enable_preemption_service", False)
    company = call_roll(config, {**asked, **alike, **versions}, say=say, wait_s=wait_s)
    try:
        jax.distributed.initialize(
            company.coordinator,
            len(config.addresses),
            config.rank,
            initialization_timeout=60,
            cluster_detection_method="deactivate",
        )
        yield
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        _leave_at_once(130 if interrupted else 1)
        if not isinstance(error, (KwsError, KeyboardInterrupt)):
            time.sleep(_NEWS_S)
        company.leave("it was interrupted" if interrupted else str(error) or type(error).__name__)
        raise
    company.leave()
    jax.distributed.shutdown()


def _leave_at_once(status: int) -> None:
    """Let Python end without JAX's farewell, which waits for processes that have ended and then aborts."""

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    atexit.register(leave)
