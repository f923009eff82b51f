"""Runs ``kws-host`` in processes in which TensorFlow is already imported. The import alone takes four seconds.

The processes are forks of one that has imported TensorFlow and done nothing else. Each works as a new process would,
with its own folder, arguments, standard streams and exit status.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

COMMANDS = {"train", "qat", "quantize", "evaluate", "report", "import", "export-microwakeword"}
"""Those that import TensorFlow."""

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tensorflow", "keras"])


def run(arguments: list[str], folder: Path, *, timeout: float) -> subprocess.CompletedProcess:
    """Run ``kws-host ARGUMENTS`` in `folder`.

    Raises
    ------
    subprocess.TimeoutExpired
        If the command takes longer than `timeout` seconds.
    """
    streams = [folder.parent / f"{folder.name}.{name}" for name in ("stdout", "stderr")]
    process = _CONTEXT.Process(target=_main, args=(arguments, folder, streams, dict(os.environ)))
    # The command sets these before it imports TensorFlow. The first process starts the one that is forked.
    with mock.patch.dict(os.environ, TF_CPP_MIN_LOG_LEVEL="2", TF_ENABLE_ONEDNN_OPTS="0"):
        process.start()
    try:
        process.join(timeout)
        if process.exitcode is None:
            raise subprocess.TimeoutExpired(arguments, timeout)
    finally:
        process.kill()
        process.join()
    return subprocess.CompletedProcess(arguments, process.exitcode, *(stream.read_bytes() for stream in streams))


def _main(arguments: list[str], folder: Path, streams: list[Path], environment: Mapping[str, str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in enumerate((os.devnull, *streams)):
        os.dup2(os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = ["kws-host", *arguments]

    from host_tools.__main__ import main

    sys.exit(main())
