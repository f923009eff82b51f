"""A Ray cluster on this machine: a head in processes of its own, which a test may kill."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PATIENT = {
    "RAY_raylet_start_wait_time_s": "600",
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "200",
    "GRPC_ENABLE_FORK_SUPPORT": "false",
    "RAY_health_check_failure_threshold": "100",
}
"""Settings of Ray for a machine that has much else to do. With gRPC's fork support, processes for clients may crash."""


def _free_ports(n):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Cluster:
    """A head with two cores for trials."""

    def __init__(self):
        self.port, self.client_port = _free_ports(2)
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.env = {**os.environ, **token, **PATIENT, "RAY_USAGE_STATS_ENABLED": "0"}
        self.head = None

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        """Start the head, and wait until it answers."""
        self.folder = tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True)
        log = Path(self.folder.name, "head.log")
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus", "2"]
        command += ["--include-dashboard=false", "--object-store-memory", "80000000", "--temp-dir", self.folder.name]
        command += ["--port", str(self.port), "--ray-client-server-port", str(self.client_port)]
        with log.open("w") as file:
            self.head = subprocess.Popen(
                command, env=self.env, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )
        deadline = time.monotonic() + 250
        while "Ray runtime started" not in (said := log.read_text()):
            assert self.head.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.2)

    def kill(self):
        """Kill the head, and all that it started."""
        os.killpg(self.head.pid, signal.SIGKILL)
        self.head.wait()
        self.folder.cleanup()


@contextlib.contextmanager
def cluster():
    """A cluster with its head started; killed at the end."""
    made = Cluster()
    try:
        made.start()
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError):
            made.kill()
