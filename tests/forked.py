"""``kws-host`` in processes that find TensorFlow imported, which alone takes four seconds.

They are forks of a process that has imported it and done nothing else. What they are asked to do, they do as a new
process would: in a folder, with arguments, standard streams and an exit status of their own.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

COMMANDS = {"train", "qat", "quantize", "evaluate", "report", "import"}
"""Those that import TensorFlow."""

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tensorflow", "keras"])


def run(arguments: list[str], folder: Path, *, timeout: float) -> subprocess.CompletedProcess:
    """``kws-host ARGUMENTS`` in `folder`.

    Raises
    ------
    subprocess.TimeoutExpired
        If it takes longer than `timeout`, in seconds.
    """
    streams = [folder.parent / f"{folder.name}.{name}" for name in ("stdout", "stderr")]
    process = _CONTEXT.Process(target=_main, args=(arguments, folder, streams, dict(os.environ)))
    # As the command sets them before it imports TensorFlow; the first process starts the one that is forked.
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
