"""How the kernel is asked to schedule the server."""

import os
import subprocess
import sys

import pytest

LINUX = hasattr(os, "SCHED_BATCH")

ASK = """
import os
{before}
from points_grpc.cli.scheduling import run_in_batches
run_in_batches()
child = os.fork()
if child == 0:
    print(os.sched_getscheduler(0), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


def policy_after(before: str) -> int:
    ran = subprocess.run([sys.executable, "-c", ASK.format(before=before)], check=True, capture_output=True, text=True)
    return int(ran.stdout)


@pytest.mark.skipif(not LINUX, reason="the policy is Linux's own")
class TestRunInBatches:
    """The policy of the process and of those that it starts."""

    def test_a_process_runs_in_batches_and_so_does_its_child(self) -> None:
        """What wakes the server goes on first; the writer inherits that."""
        assert policy_after("") == os.SCHED_BATCH

    def test_what_the_operator_chose_stays(self) -> None:
        """A policy set from outside, by systemd or chrt, is not overruled."""
        assert policy_after("os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))") == os.SCHED_IDLE

    def test_a_sandbox_that_forbids_it_does_not_keep_the_server_from_starting(self) -> None:
        """Only speed hangs on the policy."""
        forbidden = "def no(*_): raise PermissionError(1, 'no')\nos.sched_setscheduler = no"
        assert policy_after(forbidden) == os.SCHED_OTHER
