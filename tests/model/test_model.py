"""The service against the reference model: random commands, the same answers and the same wallets."""
from __future__ import annotations
import os, random
from collections import Counter
from pathlib import Path
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from model_driver import ModelServer
from model_machine import machine

def test_x(tmp_path: Path) -> None:
    n = int(os.environ.get("EX", "20")); s = int(os.environ.get("POINTS_MODEL_SEED", "1"))
    server = ModelServer(tmp_path, orgs=n + 500)
    hits = Counter()
    try:
        run_state_machine_as_test(seed(s)(machine(server, hits)), settings=settings(max_examples=n, stateful_step_count=30, deadline=None, database=None, print_blob=True, suppress_health_check=list(HealthCheck), phases=[Phase.generate]))
        server.verify()
    finally:
        server.close()
        for k, v in sorted(hits.items(), key=lambda x: x[1]): print(v, k)
