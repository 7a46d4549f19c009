"""Two projects whose processes name the same ledger."""

import os
import subprocess
import sys
from pathlib import Path

from cb import Ledger
from tests.support import ROOT

PROGRAM = """
import sys
from cb import BreakerConfig, CircuitBreaker, Ledger

breaker = CircuitBreaker("vendor", BreakerConfig(timeout=float(sys.argv[1])), ledger=Ledger.open("shm://common"))
breaker.call(int)
print("ready", flush=True)
sys.stdin.read()
"""


def test_programs_that_name_the_same_ledger_both_say_so_and_scripts_of_one_project_do_not(tmp_path: Path) -> None:
    environ = os.environ | {"CB_STATE_DIR": str(tmp_path / "state"), "PYTHONPATH": str(ROOT)}
    for file in ("shop/app.py", "shop/worker.py", "bank/app.py"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(PROGRAM)

    def start(file: str, timeout: int) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [sys.executable, tmp_path / file, str(timeout)],
            env=environ,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
        )
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        return process

    residents = [start("shop/app.py", 30), start("shop/worker.py", 30)]
    newcomer = start("bank/app.py", 60)
    seen = Ledger.view(tmp_path / "state/common.v3.ledger")
    assert [each.rpartition("-")[0] for each in seen.programs] == ["bank", "shop"]
    bank, shop = seen.programs
    for process in residents:
        assert process.stderr
        assert f"{shop}, which is this one, and {bank} (worker {newcomer.pid})" in process.stderr.readline()
        assert "given elsewhere hold now, in place of those here: timeout = 60.0" in process.stderr.readline()
    said = newcomer.communicate()[1]
    assert f"{bank}, which is this one, and {shop} (worker " in said
    assert "thresholds given here hold now: timeout = 60.0 (was 30.0)" in said
    for process in residents:
        assert process.communicate()[1] == ""
