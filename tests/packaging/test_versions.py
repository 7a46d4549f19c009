"""The lowest and the newest allowed version of each dependency."""

import importlib.metadata
import re
import subprocess
import sysconfig
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.support import ROOT
from tests.support.versions import (
    BESIDE,
    PAGE,
    PLATFORM,
    TRIED,
    allowed,
    command,
    edge,
    environment,
    installed,
    library,
    lowest_of,
    trial,
)

pytestmark = pytest.mark.quiet
LIBRARY = set(TRIED) - {PLATFORM}
#: a short choice for each run of the checks
SHORT = [
    "tests/http/test_body.py::test_body_that_is_cut_off_is_a_failure",
    "tests/http/test_hostile.py::test_decompression_bomb_costs_little_memory",
    *TRIED["prometheus"],
    "tests/integrations/test_sqlalchemy.py::test_use_of_a_connection_is_a_call_from_checkout_to_checkin",
    "tests/fleet/test_urls.py",
    "tests/resilience/test_retry.py",
]


def try_edge(name: str, needed: list[Requirement], beside: list[str], tests: list[str], home: Path) -> None:
    python = environment([*edge(name, needed), *beside], home)
    wanted = [Requirement(each) for each in edge(name, needed)]
    found = installed(python, [each.name for each in wanted])
    assert not [str(each) for each in wanted if found[each.name] not in each.specifier]

    done = subprocess.run(command(python, name, tests), cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_each_extra_has_tests() -> None:
    assert set(TRIED) == set(allowed()) - {"dev", "audit"}


def test_installed_versions_are_allowed_by_the_extras() -> None:
    needed = [each for extra in TRIED for each in allowed()[extra] if not each.marker or each.marker.evaluate()]
    assert not [str(each) for each in needed if importlib.metadata.version(each.name) not in each.specifier]


def test_page_lists_the_lowest_allowed_and_a_tried_newest_version_of_each_dependency() -> None:
    rows = re.findall(r"^\| (\S+) \| (\S+) \| (\S+) \| (\S+) \| `(.*)` \|$", PAGE.read_text(), re.MULTILINE)
    shown = {(extra, name, Version(lowest), text) for extra, name, lowest, _, text in rows}
    assert shown == {
        (extra, each.name, Version(lowest_of(each)), str(each.specifier))
        for extra in LIBRARY
        for each in allowed()[extra]
    }
    newest = {name: version for _, name, _, version, _ in rows}
    assert not [str(each) for each in library() if newest[each.name] not in each.specifier]


def test_library_works_with_the_lowest_versions_in_short(tmp_path: Path) -> None:
    try_edge("lowest", library(), BESIDE["lowest"], SHORT, tmp_path / "venv")


def test_pins_of_an_application_of_2023_are_kept_beside_all_extras(tmp_path: Path) -> None:
    pins = (ROOT / "tests/applications/microblog/requirements.txt").read_text()
    wanted = tmp_path / "requirements.txt"
    wanted.write_text("\n".join([pins, *map(str, library())]))
    uv = Path(sysconfig.get_path("scripts")) / "uv"
    command = [uv, "pip", "compile", "--quiet", "--no-annotate", "--no-header", wanted]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    pinned = {line.lower().replace("_", "-") for line in pins.splitlines() if "==" in line}
    assert pinned <= {line.replace("_", "-") for line in done.stdout.splitlines()}


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["lowest", "newest"])
def test_extras_of_the_library_work_with_the_lowest_and_the_newest_versions(name: str, tmp_path: Path) -> None:
    try_edge(name, library(), BESIDE[name], trial(LIBRARY), tmp_path / "venv")


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["lowest", "newest"])
def test_platform_works_with_the_lowest_and_the_newest_versions(name: str, tmp_path: Path) -> None:
    try_edge(name, allowed()[PLATFORM], [], trial({PLATFORM}), tmp_path / "venv")
