"""What users install: the wheel, in an empty environment."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
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


def run(command: Sequence[str | Path], **environ: str) -> str:
    done = subprocess.run(
        command, cwd="/", env=os.environ | environ, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of what git has, so that nothing which lies about gets in."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in files.split("\0")[:-1]:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", built, source])
    (found,) = built.iterdir()
    return found


@pytest.fixture(scope="module")
def empty(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel, and nothing else, into an environment of its own. Return its programs' directory."""
    venv = tmp_path_factory.mktemp("venv")
    run([sys.executable, "-m", "venv", "--without-pip", venv])
    programs = venv / ("Scripts" if os.name == "nt" else "bin")
    pip = [sys.executable, "-m", "pip", "--python", programs / "python", "install", "--quiet", "--no-index"]
    run([*pip, "--no-deps", wheel])
    return programs


def test_wheel_has_the_library_with_its_data_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"cb", "distributed_circuit_breaker"}
    for needed in ("py.typed", "fleet/exchange.lua", "web/page/page.html", "web/page/page.js", "web/page/page.css"):
        assert f"cb/{needed}" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    tracked = subprocess.run(["git", "ls-files", "cb"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {name for name in names if name.startswith("cb/")} == set(tracked.split())


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
