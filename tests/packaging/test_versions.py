"""The lowest and the newest allowed version of each dependency."""

import importlib.metadata
import json
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.packaging.versions import TRIED, allowed, edge, environment
from tests.support import ROOT

pytestmark = pytest.mark.quiet


def test_each_extra_has_tests() -> None:
    assert set(TRIED) == set(allowed()) - {"dev", "audit"}


def test_installed_versions_are_allowed_by_the_extras() -> None:
    needed = [each for extra in TRIED for each in allowed()[extra] if not each.marker or each.marker.evaluate()]
    assert not [str(each) for each in needed if importlib.metadata.version(each.name) not in each.specifier]


@pytest.mark.parametrize("name", ["lowest", pytest.param("newest", marks=pytest.mark.nightly)])
def test_extras_work_with_the_lowest_and_the_newest_allowed_versions(name: str, tmp_path: Path) -> None:
    python = environment(name, tmp_path / "venv")
    wanted = [Requirement(each) for each in edge(name)]
    program = "import importlib.metadata as m, json, sys; print(json.dumps([m.version(n) for n in sys.argv[1:]]))"
    found = subprocess.run(
        [python, "-c", program, *(each.name for each in wanted)], capture_output=True, text=True, check=True
    )
    assert all(version in each.specifier for version, each in zip(json.loads(found.stdout), wanted, strict=True))

    tests = [test for extra in TRIED for test in TRIED[extra]]
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
