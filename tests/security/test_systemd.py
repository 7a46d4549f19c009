"""The systemd unit of docs/deployment.md, as systemd reads it. To start it would need a machine that systemd runs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.web.conftest import ROOT

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (apt-get install systemd)"
)

UNIT = (ROOT / "config/trading@.service").read_text()
PACKAGES = re.findall(r"trading@(\w+)", UNIT.splitlines()[0])
#: the program, and the directory, that only a host set up by docs/deployment.md has
HERE = {"/opt/trading/.venv/bin/python": sys.executable, "WorkingDirectory=/opt/trading": f"WorkingDirectory={ROOT}"}


def analyze(directory: Path, unit: str, *command: str) -> subprocess.CompletedProcess[str]:
    for theirs, ours in HERE.items():
        unit = unit.replace(theirs, ours)
    file = directory / "trading@gateway.service"
    file.write_text(unit)
    return subprocess.run(["systemd-analyze", *command, str(file)], capture_output=True, text=True, check=False)


def test_systemd_understands_each_line_of_the_unit(tmp_path: Path) -> None:
    found = analyze(tmp_path, UNIT, "verify", "--man=no")
    assert (found.returncode, found.stderr) == (0, "")
    assert "ProtectNobody" in analyze(tmp_path, UNIT + "[Service]\nProtectNobody=yes\n", "verify", "--man=no").stderr


def test_unit_leaves_a_service_little_to_do_beside_its_work(tmp_path: Path) -> None:
    found = analyze(tmp_path, UNIT, "security", "--offline=true", "--no-pager", "--threshold=25")
    assert found.returncode == 0, found.stdout  # an exposure of 2.5 of 10 at the most


def test_unit_runs_the_packages_that_there_are() -> None:
    assert sorted(PACKAGES) == ["gateway", "marketdata", "portfolio"]
    assert all((ROOT / package / "__main__.py").is_file() for package in PACKAGES)
