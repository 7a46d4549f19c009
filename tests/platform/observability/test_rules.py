"""The files for Prometheus, checked by promtool; each alert has cases in which it fires and does not."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.platform.observability.conftest import BOARDS, COMMANDS, CONFIG, PORTS, alerts, panels, program

CASES = yaml.safe_load((CONFIG / "alerts_test.yml").read_text())["tests"]
TEXT = (CONFIG.parent / "docs/operations.md").read_text()
RUNBOOK = (CONFIG.parent / "docs/night.md").read_text()
SHIPPED = yaml.safe_load((CONFIG / "config.yaml").read_text())


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("promtool ")])
def test_configuration_files_pass_promtool(command: str) -> None:
    asked = [program("promtool"), *command.split()[1:]]
    ran = subprocess.run(asked, cwd=CONFIG.parent, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "SUCCESS" in ran.stdout


def evaluations(alert: str) -> list[list[dict[str, Any]]]:
    """Return the expected samples of each evaluation of an alert's cases."""
    cases = [case for case in CASES if case["name"].startswith(f"{alert},")]
    return [each["exp_samples"] for case in cases for each in case["promql_expr_test"]]


@pytest.mark.parametrize("alert", alerts())
def test_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(alert: str) -> None:
    expected = evaluations(alert)
    assert [] in expected
    fires = [sample["labels"] for samples in expected for sample in samples]
    assert fires and all(f'alertname="{alert}"' in labels for labels in fires)


@pytest.mark.parametrize("alert", alerts())
def test_alert_has_a_severity_and_an_action(alert: str) -> None:
    rule = alerts()[alert]
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    assert re.search(r"`(cb|make) |http://|/api/v1/|[Tt]he log |Its log ", rule["annotations"]["description"])
    if "name" in rule["expr"].partition("by (")[2].partition(")")[0]:
        assert "{{ $labels.name }}" in rule["annotations"]["summary"], "an alert must name its breaker"


def test_every_alert_has_its_section_in_the_runbook_and_every_section_its_alert() -> None:
    sections = re.findall(r"^### (\w+)$(.*?)(?=^##|\Z)", RUNBOOK, re.MULTILINE | re.DOTALL)
    named = {name: f"docs/night.md#{name.lower()}" for name, _ in sections}
    assert named == {name: rule["annotations"]["runbook"] for name, rule in alerts().items()}
    for name, text in sections:
        told = set(re.findall(r"\*(means|look|do|over)\*", text.lower()))
        assert told == {"means", "look", "do", "over"}, name


def test_commands_recommended_by_alerts_exist() -> None:
    from cb.cli.arguments import CONTROLS

    said = " ".join(rule["annotations"]["description"] for rule in alerts().values())
    assert set(re.findall(r"`cb ([\w-]+)", said)) <= {"status", "watch", "explain", "events", *CONTROLS, "reset"}
    targets = re.findall(r"^([a-z -]+):", (CONFIG.parent / "Makefile").read_text(), re.MULTILINE)
    verbs = {f"make {verb}" for verb in " ".join(targets).split()}
    assert {verb.replace("{{ $labels.job }}", "portfolio") for verb in re.findall(r"`(make [^`]+)`", said)} <= verbs


def test_every_service_is_scraped_at_its_port() -> None:
    config = yaml.safe_load((CONFIG / "prometheus.yml").read_text())
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    assert {name: [f"127.0.0.1:{section['port']}"] for name, section in SHIPPED["services"].items()} == targets
    assert {name: section["port"] for name, section in SHIPPED["services"].items()} == PORTS


@pytest.mark.parametrize("board", BOARDS, ids=lambda path: path.stem)
def test_dashboard_can_be_imported_and_its_panels_have_places_of_their_own(board: Path) -> None:
    text = board.read_text()
    dashboard = json.loads(text)
    assert text == json.dumps(dashboard, indent=2) + "\n"
    assert {each["name"] for each in dashboard["templating"]["list"]} == {"datasource", "instance", "name"}
    assert all(query for query in panels(board).values())
    ids, taken = set(), set()
    for panel in dashboard["panels"]:
        assert panel["id"] not in ids
        ids.add(panel["id"])
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken and all(x < 24 for x, _ in cells), panel["title"]
        taken |= cells
        sources = [panel.get("datasource"), *(target["datasource"] for target in panel.get("targets", []))]
        assert all(source in (None, {"type": "prometheus", "uid": "${datasource}"}) for source in sources)


def test_page_lists_every_alert_with_its_severity_and_all_promtool_checks() -> None:
    table = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| .+ \| (page|ticket) \|$", TEXT, re.MULTILINE)
    told = {name: severity for names, severity in table for name in re.findall(r"\w+", names)}
    assert told == {name: rule["labels"]["severity"] for name, rule in alerts().items()}
    assert {command.split()[1] + " " + command.split()[2] for command in COMMANDS if "promtool" in command} == {
        *("check rules", "check config", "test rules")
    }
