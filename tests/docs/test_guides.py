"""Tables and inline commands of the guides."""

import re
import shlex

import pytest

from cb import BreakerConfig
from cb.cli.arguments import parse
from tests.support import ROOT

GUIDES = ("thresholds", "shadow", "workers", "hosts", "fallbacks", "night", "comparison", "migration")
PAGES = {name: (ROOT / f"docs/{name}.md").read_text() for name in GUIDES}
COMMANDS = sorted({command for text in PAGES.values() for command in re.findall(r"`(cb [a-z][^`]*)`", text)})
ROWS = re.findall(r"^\| ([^|]+) \| ((?:`\w+=\w[\w.]*` ?)+)\|", PAGES["thresholds"], re.MULTILINE)


@pytest.mark.parametrize("values", [values for _, values in ROWS], ids=[kind for kind, _ in ROWS])
def test_start_values_of_a_dependency_are_a_configuration(values: str) -> None:
    settings = dict(re.findall(r"`(\w+)=([\w.]+)`", values))
    numbers = {key: None if value == "None" else float(value) for key, value in settings.items()}
    whole = {key: int(value) if value and value.is_integer() else value for key, value in numbers.items()}
    BreakerConfig.parse(whole)


def test_six_kinds_of_dependencies_have_start_values() -> None:
    assert len(ROWS) == 6


@pytest.mark.parametrize("command", COMMANDS)
def test_command_in_the_text_of_a_guide_exists(command: str) -> None:
    program, *arguments = shlex.split(command)
    assert program == "cb"
    if arguments[0] in ("force-open", "reset", "metrics-only", "disable", "explain") and len(arguments) == 1:
        arguments.append("NAME")
    parse(arguments)
