"""A short turmoil; `make prove` runs a whole minute of it."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.quiet


@pytest.mark.parametrize(("seconds", "blocks"), [("4", "63"), ("5", "2")])
def test_processes_killed_stopped_and_replaced_under_load_leave_nothing_wrong(seconds: str, blocks: str) -> None:
    # By itself: what other tests leave in this process makes its forks slow, and the turmoil tame.
    command = [sys.executable, "-m", "tests.proofs.turmoil", seconds, blocks]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    result = json.loads(ran.stdout)
    assert result["problems"] == []
    assert result["kills"] > 3
    assert result["rounds"] > 0
