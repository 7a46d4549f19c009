"""The distributions, built once per test run from the files in git."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from cb.ledger.locks import FileLock
from tests.support import ROOT

SECONDS = 120  # reached only by a hang
#: makes the builds reproducible
TIME = {"SOURCE_DATE_EPOCH": "1700000000"}


def run(command: Sequence[str | Path], cwd: Path = Path("/"), **environ: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | environ, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tracked(*places: str) -> list[str]:
    """Return the files in git, all or those below some paths."""
    listed = subprocess.run(["git", "ls-files", "-z", *places], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0")[:-1] if (ROOT / name).is_file()]


@dataclass(frozen=True, slots=True)
class Built:
    """The sdist, the wheel built from it, and the wheel built from the checkout."""

    sdist: Path
    wheel: Path
    direct: Path


def build(home: Path) -> None:
    """Build from a copy, so that untracked files of the checkout are left out."""
    source = home / "source"
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    # Installed once, not for each build.
    backend = home / "backend"
    needed = tomllib.loads((source / "pyproject.toml").read_text())["build-system"]["requires"]
    run([sys.executable, "-m", "pip", "install", "--quiet", "--target", backend, *needed])
    command = [sys.executable, "-m", "build", "--no-isolation"]
    run([*command, "--outdir", home / "dist", source], PYTHONPATH=str(backend), **TIME)
    run([*command, "--wheel", "--outdir", home / "direct", source], PYTHONPATH=str(backend), **TIME)
    (home / "done").touch()


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "built"
    home.mkdir(exist_ok=True)
    FileLock(str(home / "lock")).run(lambda: (home / "done").exists() or build(home), SECONDS)
    (sdist,), (wheel,), (direct,) = (home.glob(kind) for kind in ("dist/*.tar.gz", "dist/*.whl", "direct/*.whl"))
    return Built(sdist, wheel, direct)


def install(wheel: Path, venv: Path) -> Path:
    """Install only the wheel into a new environment. Return the directory of its programs."""
    run([sys.executable, "-m", "venv", "--without-pip", venv])
    programs = venv / ("Scripts" if os.name == "nt" else "bin")
    pip = [sys.executable, "-m", "pip", "--python", programs / "python", "install", "--quiet", "--no-index"]
    run([*pip, "--no-deps", wheel])
    return programs
