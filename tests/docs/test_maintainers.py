"""The pages for maintainers: their files, names and verbs exist, and the hooks are accepted."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

PAGES = ("ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", *(f"docs/{page.name}" for page in ROOT.glob("docs/*.md")))
MAKEFILE = (ROOT / "Makefile").read_text()
VERBS = {verb for verbs in re.findall(r"^([a-z][a-z -]*):", MAKEFILE, re.MULTILINE) for verb in verbs.split()}

ANSWERS = re.findall(r"^\| .+\? \| `(\S+)` \| `(\w+)` \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_verbs_that_a_page_names_are_in_the_makefile(page: str) -> None:
    named = set(re.findall(r"`make ([a-z-]+)", (ROOT / page).read_text()))
    assert named <= VERBS


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_files_that_a_page_names_are_there(page: str) -> None:
    missing, folder = [], ROOT
    for name in re.findall(r"`([\w./-]+(?:\.(?:py|lua|lock)|/))`", (ROOT / page).read_text()):
        if "/" in name:
            folder = (ROOT / name).parent if not name.endswith("/") else ROOT / name
        if not (ROOT / name).exists() and not (folder / Path(name).name).exists():
            missing.append(name)
    assert not missing


@pytest.mark.parametrize(("file", "name"), ANSWERS, ids=[name for _, name in ANSWERS])
def test_answer_for_newcomers_is_a_file_with_the_name(file: str, name: str) -> None:
    assert re.search(rf"^ *(?:def|class) {name}\b", (ROOT / file).read_text(), re.MULTILINE)


def test_newcomers_find_answers_to_25_questions() -> None:
    assert len(set(ANSWERS)) == 25


def test_each_decision_is_in_the_list() -> None:
    folder = ROOT / "docs/decisions"
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text())
    assert listed == sorted(path.name for path in folder.glob("0*.md"))


def test_hooks_before_a_commit_are_accepted_and_do_what_ci_does() -> None:
    config = ROOT / ".pre-commit-config.yaml"
    command = [sys.executable, "-m", "pre_commit", "validate-config", str(config)]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stderr == ""
    assert re.findall(r"entry: (.*)", config.read_text()) == ["make lint"]
