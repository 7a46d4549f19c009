"""The ledger of a project in its processes: one from each of its programs, and no other project's."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from cb import BreakerConfig, CircuitBreaker, State
from cb.ledger.opened import open_once
from cb.ledger.project import ledger_name
from tests.support import ROOT
from tests.support.failing import fail

ONE = BreakerConfig(failure_threshold=1)
NAME = ledger_name(str(ROOT))
PRINT = "from cb import CircuitBreaker\nprint(CircuitBreaker('vendor', shared=True).ledger.path)\n"
POOL = (
    "import multiprocessing\nfrom functools import partial\nfrom cb import CircuitBreaker\n"
    "def made(name):\n"
    "    scope = {'make': partial(CircuitBreaker, shared=True)}\n"
    "    exec('breaker = make(\\'vendor\\')', scope)\n"
    "    return scope['breaker'].ledger.path\n"
    "if __name__ == '__main__':\n"
    "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
    "        assert pool.map(made, ['vendor']) == [made('vendor')]\n"
    "        [breaker] = pool.map(partial(CircuitBreaker, shared=True), ['vendor'])\n"
    "    print(breaker.ledger.path)\n"
)
FLASK = (
    "from flask import Flask\nfrom cb import CircuitBreaker\nfrom cb.integrations.flask import CircuitBreakers\n"
    "ledger = CircuitBreakers(Flask(__name__)).registry.ledger\n"
    "assert ledger is CircuitBreaker('vendor', shared=True).ledger\nprint(ledger.path)\n"
)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CB_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("CB_LEDGER", raising=False)
    return tmp_path / "state"


def make(home: Path, *files: str) -> None:
    for each in files:
        (home / each).parent.mkdir(parents=True, exist_ok=True)
        (home / each).touch()


def test_programs_of_a_project_share_a_ledger_and_those_of_another_have_their_own(tmp_path: Path) -> None:
    home = Path(os.path.realpath(tmp_path))
    make(home, "shop/shop/__init__.py", "shop/requirements.txt", "shop/scripts/clean.py", "other/app.py")
    for program in ("shop/manage.py", "shop/shop/worker.py", "shop/scripts/clean.py", "other/app.py"):
        (home / program).write_text(PRINT)
    (home / "shop/shop/web.py").write_text(FLASK)
    (home / "shop/pool.py").write_text(POOL)
    commands = [
        ("other", [str(home / "shop/pool.py")]),
        ("shop", ["-c", PRINT]),
        ("shop", ["-m", "shop.worker"]),
        ("shop/shop", ["worker.py"]),
        ("other", [str(home / "shop/scripts/clean.py")]),
        ("shop", ["-m", "shop.web"]),
        ("shop", ["-c", "import shop.web"]),
        ("other", ["app.py"]),
    ]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    running = [
        subprocess.Popen([sys.executable, *arguments], cwd=home / cwd, env=environ, stdout=subprocess.PIPE, text=True)
        for cwd, arguments in commands
    ]
    *shop, other = [Path(process.communicate(timeout=60)[0].strip()).name for process in running]
    assert shop == [f"{ledger_name(str(home / 'shop'))}.v3.ledger"] * 7
    assert other == f"{ledger_name(str(home / 'other'))}.v3.ledger"


def test_circuit_that_one_process_opens_is_open_in_another(state: Path) -> None:
    fail(CircuitBreaker("vendor", ONE, shared=True))
    program = (
        "from cb import *\n@CircuitBreaker('vendor', BreakerConfig(failure_threshold=1), shared=True)\n"
        "def fetch(): pass\ntry:\n    fetch()\nexcept CircuitOpenError as error:\n    print(error.name)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "vendor\n"


def test_pickled_breakers_have_one_ledger_in_another_process(state: Path) -> None:
    breakers = [pickle.dumps(CircuitBreaker(name, shared=True)) for name in "ab"]
    program = (
        "import pickle, sys\na, b = map(pickle.loads, eval(sys.argv[1]))\n"
        "assert a.ledger is b.ledger\nprint(a.ledger.path)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, repr(breakers)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout == f"{state / NAME}.v3.ledger\n"


def test_child_of_a_fork_shares_what_its_parent_opened(state: Path) -> None:
    breaker = CircuitBreaker("vendor", ONE, shared=True)
    breaker.call(int)
    pid = os.fork()
    if not pid:
        try:
            same = CircuitBreaker("vendor", ONE, shared=True).ledger is breaker.ledger
            fail(CircuitBreaker("vendor", ONE, shared=True))
            os._exit(0 if same else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    assert breaker.state is State.OPEN
    assert open_once(f"file://{breaker.ledger.path}", NAME) is breaker.ledger
