"""The wheel in an environment of its own: the core and the command alone, and with the extra `demo` the platform."""

import os
import signal
import socket
import subprocess
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from tests.packaging.conftest import SECONDS, Built, install, run

#: the core on a ledger of its own, and all that Python has loaded for it
PROGRAM = """
import sys
from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, Ledger

breaker = CircuitBreaker("stock", BreakerConfig(failure_threshold=1), ledger=Ledger.in_file(sys.argv[1]))
try:
    breaker.call(divmod, 1, 0)
except ZeroDivisionError:
    pass
try:
    breaker.call(abs, -1)
except CircuitOpenError as error:
    print(error.name)
print(*sorted({name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names - {"__main__"}))
"""


@pytest.fixture(scope="module")
def empty(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the programs of an environment that has the wheel and nothing else."""
    return install(built.wheel, tmp_path_factory.mktemp("empty"))


@pytest.fixture(scope="module")
def complete(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the programs of an environment that also has what the extra `demo` brings: what is installed here."""
    venv = tmp_path_factory.mktemp("complete")
    programs = install(built.wheel, venv)
    site = sysconfig.get_path("purelib", vars={"base": str(venv), "platbase": str(venv)})
    (Path(site) / "installed_here.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return programs


class Visitor:
    """Somebody in an empty directory, who has never seen the checkout, where others have taken the usual ports."""

    def __init__(self, programs: Path, home: Path) -> None:
        self.programs = programs
        self.home, self.temporary = home / "home", home / "temporary"
        self.home.mkdir()
        self.temporary.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CB_", "PYTHON"))}
        self.environ = kept | {"TMPDIR": str(self.temporary), "CB_CIRCUIT_BREAKER__TIMEOUT": "2s"}

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [self.programs / "cb", *arguments],
            cwd=self.home,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def processes(self) -> list[psutil.Process]:
        """Return what runs from the environment's own interpreter."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("TMPDIR") == str(self.temporary):
                    found.append(process)
        return found

    def assert_nothing_left(self) -> None:
        assert self.processes() == []
        assert [*self.home.iterdir(), *self.temporary.iterdir()] == []


@pytest.fixture
def visitor(complete: Path, tmp_path: Path) -> Iterator[Visitor]:
    with ExitStack() as held:
        for port in (8080, 8081, 8082):
            with suppress(OSError):  # somebody has it already
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
        visitor = Visitor(complete, tmp_path)
        yield visitor
        for process in visitor.processes():
            process.kill()


def read_until(process: "subprocess.Popen[str]", wanted: str) -> str:
    """Return the lines that a process prints up to a text. Ends it where the text does not come."""
    assert process.stdout
    limit = threading.Timer(SECONDS, process.kill)
    limit.start()
    printed = ""
    while wanted not in printed:
        line = process.stdout.readline()
        assert line, printed
        printed += line
    limit.cancel()
    return printed


def test_core_of_the_wheel_works_alone_and_loads_the_standard_library_only(empty: Path, tmp_path: Path) -> None:
    refused, loaded = run([empty / "python", "-c", PROGRAM, tmp_path / "ledger"]).splitlines()
    assert (refused, loaded) == ("stock", "cb")


def test_command_of_the_wheel_works_alone(empty: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [empty / "cb", "status"],
        env=os.environ | {"CB_STATE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"cb: no ledger in {tmp_path}")


def test_demo_without_its_extra_says_which_one_is_missing(empty: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [empty / "cb", "demo"],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(": pip install 'distributed-circuit-breaker[demo]'\n")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_demo_plays_four_phases_from_an_installation_and_leaves_nothing(visitor: Visitor) -> None:
    process = visitor.start("demo")
    printed, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, printed
    assert "4 of 4 phases behaved" in printed
    assert "127.0.0.1:8080/" not in printed, "somebody else has that port"
    visitor.assert_nothing_left()


def test_demo_that_stays_runs_from_the_installation_until_interrupted_and_keeps_what_it_is_told_to(
    visitor: Visitor,
) -> None:
    process = visitor.start("demo", "--stay", "--keep")
    printed = read_until(process, "/dashboard")
    # Not from the checkout: of that, nothing is imported.
    services = [each for each in visitor.processes() if "gunicorn" in " ".join(each.cmdline())]
    assert {Path(each.cwd()).parts[-2:] for each in services} == {("cb", "demo")}
    assert all(str(visitor.programs.parent) in each.cwd() for each in services)

    os.killpg(process.pid, signal.SIGINT)
    printed += process.communicate(timeout=SECONDS)[0]

    assert process.returncode == 0, printed
    (kept,) = visitor.temporary.iterdir()
    assert printed.endswith(f"Logs and databases are in {kept}\n")
    assert {"gateway.db", "portfolio.db", "gateway.log", "market-data.log"} < {path.name for path in kept.iterdir()}
    assert not list(kept.rglob("*.ledger*"))
    assert visitor.processes() == []
