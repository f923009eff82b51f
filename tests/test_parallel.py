"""Work spread over processes."""

import os
import signal

import pytest

from host_tools.errors import WorkerError
from host_tools.parallel import run_parallel

pytestmark = pytest.mark.host


def half(number):
    if number < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return number / 2


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order(workers):
    assert list(run_parallel(half, range(9), workers=workers)) == [i / 2 for i in range(9)]


def test_a_process_that_is_killed_is_one_error():
    with pytest.raises(WorkerError, match="ended from outside") as error:
        list(run_parallel(half, [1, -1, 2], workers=2))
    assert "\n" not in str(error.value)
