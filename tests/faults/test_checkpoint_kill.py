"""A process that is killed at any step of writing a checkpoint leaves whole files, and the next one goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from points_grpc.cli.checkpoint_folder import CheckpointFolder
from points_grpc.domain.checkpoint import CheckpointHead
from points_grpc.service.keyring import KEY_BYTES, Keyring

CHILD = """
import os, pathlib, signal, sys
from points_grpc.cli import checkpoint_folder
from points_grpc.domain.checkpoint import CheckpointHead
from points_grpc.service.keyring import KEY_BYTES, Keyring

folder, step = pathlib.Path(sys.argv[1]), int(sys.argv[2])
steps = 0

def audit(event, arguments):
    global steps
    if event in {"open", "os.rename", "os.remove"} and str(arguments[0]).startswith(str(folder)):
        killed()

def killed():
    global steps
    if steps == step:
        os.kill(os.getpid(), signal.SIGKILL)
    steps += 1

fsync = os.fsync

def counted(descriptor):
    killed()
    fsync(descriptor)
    killed()

keyring = Keyring({"k": b"k".ljust(KEY_BYTES)}, "k")
made, signature = keyring.checkpoint(int(sys.argv[3]), [CheckpointHead(1, 0, 7, bytes(32))])
os.fsync = counted
sys.addaudithook(audit)
checkpoint_folder.CheckpointFolder(folder).put(made, signature)
steps = -1_000
"""

STEPS_MAX = 20


@pytest.mark.ci
def test_killed_at_every_step(tmp_path: Path) -> None:
    """What is read is the checkpoint before, or the new one: never a part; what lies about is removed later."""
    keyring = Keyring({"k": b"k".ljust(KEY_BYTES)}, "k")
    folder = CheckpointFolder(tmp_path, unreadable=pytest.fail)
    folder.put(*keyring.checkpoint(1_000_000, [CheckpointHead(1, 0, 6, bytes(32))]))
    before, codes, left = 1_000_000, [], 0
    for step in range(STEPS_MAX):
        at = (step + 2) * 1_000_000
        arguments = [sys.executable, "-c", CHILD, str(tmp_path), str(step), str(at)]
        codes.append(subprocess.run(arguments, check=False, timeout=60).returncode)
        left = max(left, sum(one.name.startswith(".") for one in tmp_path.iterdir()))
        last = CheckpointFolder(tmp_path, unreadable=pytest.fail).kept(at).last
        assert last is not None
        assert last.made_at in {before, at}
        before = last.made_at
        if codes[-1] == 0:
            break

    assert ([-signal.SIGKILL] * (len(codes) - 1), 0) == (codes[:-1], codes[-1])
    assert 6 <= len(codes) < STEPS_MAX
    assert left
    assert [] == [one for one in tmp_path.iterdir() if one.name.startswith(".")]
