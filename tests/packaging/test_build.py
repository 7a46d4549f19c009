"""Errors of `scripts/build.sh`."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT

pytestmark = pytest.mark.skipif(os.name != "posix", reason="start-demo.bat has a way of its own")


def test_old_python_is_refused_with_the_required_version(tmp_path: Path) -> None:
    old = tmp_path / "python"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2" && exit\nexit 1\n')
    old.chmod(0o755)

    ran = subprocess.run(
        ["./start-demo.sh"],
        cwd=ROOT,
        env=os.environ | {"PYTHON": str(old), "CB_VENV": str(tmp_path / "venv")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 1
    assert "Python 3.11 or later is needed" in ran.stderr
    assert "Python 3.9.2" in ran.stderr
