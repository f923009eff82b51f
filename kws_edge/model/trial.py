"""Run a model that is not known to be safe in a process of its own first."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kws_edge.errors import KwsError, ModelError
from kws_edge.model.runtime import load_native, load_runtime
from kws_edge.model.tflite import FlatModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["try_out"]

_SECONDS, _LONGEST_S = 1.0, 10.0
_BYTES = 192 * 2**20
"""Limits for loading a model and three inferences: CPU seconds, seconds by the clock, and bytes."""
_START_S = 60.0  # start of Python and the runtime on a slow board
_COMMAND = "import sys; from kws_edge.model.trial import main; sys.exit(main(*sys.argv[1:]))"


def try_out(flat: FlatModel, unproven: Sequence[str], *, runtime: str, threads: int, kernels: str) -> None:
    """Run a model in another process on the least, the middle and the largest inputs.

    Parameters
    ----------
    unproven : sequence of str
        Parts of the model that could not be checked.

    Raises
    ------
    RuntimeUnavailableError
        If no runtime can be loaded.
    ModelError
        If the model ends that process, the process does not end in time, or it reports that the model cannot run.
    """
    import subprocess

    load_runtime(runtime)  # a missing runtime must not look like a fault of the model
    reason = f"{unproven[0]}{f' (and {len(unproven) - 1} more)' if len(unproven) > 1 else ''}"
    try:
        done = subprocess.run(
            [sys.executable, "-c", _COMMAND, runtime, str(threads), kernels],
            input=flat.data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            timeout=_START_S,
            check=False,
        )
    except OSError as error:
        raise ModelError(f"{flat.name}: {reason}, and cannot be tried in another process ({error.strerror})") from None
    except subprocess.TimeoutExpired:
        raise ModelError(f"{flat.name}: {reason}, and it does not load within {_START_S:g} s") from None
    if done.returncode == 0:
        return
    said = done.stdout.decode(errors="replace").strip().splitlines()
    if done.returncode in (-signal.SIGPROF, -signal.SIGALRM):
        how = f"three inferences take longer than {_SECONDS:g} s"
    elif done.returncode < 0:
        how = f"it ends the runtime by signal {-done.returncode}"
    elif said:
        how = said[-1]
    else:
        how = f"a trial run ended with status {done.returncode}"
    raise ModelError(f"{flat.name}: cannot be run: {how}; {reason}")


def main(runtime: str, threads: str, kernels: str) -> int:
    """Run the other process. It reads the model from standard input, and writes errors to standard output."""
    return run(sys.stdin.buffer.read(), runtime, int(threads), kernels)


def run(flatbuffer: bytes, runtime: str, threads: int, kernels: str) -> int:
    """Load a model and exercise it; return 0 on success."""
    try:
        load_runtime(runtime)
        _limit()  # from here on, failures are the model's fault
        native, _, _ = load_native(flatbuffer, runtime=runtime, threads=threads, kernels=kernels)
        exercise(native)
    except (KwsError, RuntimeError, ValueError, TypeError, MemoryError) as error:
        print(" ".join(str(error).split()))
        return 1
    return 0


def exercise(native: Any) -> None:
    """Invoke a runtime's own interpreter on the middle, the least and the largest inputs."""
    for pick in (0, -1, 1):
        for tensor in native.get_input_details():
            native.set_tensor(tensor["index"], _filled(tensor["shape"], np.dtype(tensor["dtype"]), pick))
        native.invoke()
        for tensor in native.get_output_details():
            native.get_tensor(tensor["index"])


def _limit() -> None:
    """Limit time and memory from here on, and write no core file."""
    signal.setitimer(signal.ITIMER_PROF, _SECONDS)
    signal.setitimer(signal.ITIMER_REAL, _LONGEST_S)
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (now + _BYTES, now + _BYTES))


def _filled(shape: Sequence[int], dtype: np.dtype[Any], sign: int) -> NDArray[Any]:
    """Make an array of zeros or of limits of an 8- or 16-bit type. Other types, perhaps counts, get moderate values."""
    if sign and dtype.kind in "iu" and dtype.itemsize <= 2:
        value = np.iinfo(dtype).max if sign > 0 else np.iinfo(dtype).min
    else:
        value = 1000 * sign if dtype.kind == "f" else sign > 0
    return np.full(shape, value, dtype)
