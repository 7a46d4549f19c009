"""A real Prometheus scrapes the services and evaluates dashboard and alerts."""

import pytest

from tests.platform.conftest import Platform
from tests.platform.observability.conftest import BOARDS, Prometheus, alerts, panels
from tests.support.waiting import until


def test_services_are_scraped_without_error(prometheus: Prometheus, platform: Platform) -> None:
    targets = prometheus.ask("targets")["activeTargets"]
    assert {each["labels"]["job"]: each["lastError"] for each in targets} == dict.fromkeys(platform.ports, "")


@pytest.mark.parametrize("board", BOARDS, ids=lambda path: path.stem)
def test_every_panel_of_the_dashboard_has_data(prometheus: Prometheus, board: object) -> None:
    queries = {query for queries in panels(board).values() for query in queries}
    empty: set[str] = set()

    def answered() -> bool:
        empty.clear()
        empty.update(query for query in queries if not prometheus.query(query))
        return not empty

    assert len(queries) > 25
    try:
        until(answered, "all panels have data", seconds=20)
    finally:
        assert not empty


def test_open_circuit_is_exported_counted_and_alerted(prometheus: Prometheus, platform: Platform) -> None:
    until(lambda: prometheus.rules()["CircuitOpen"]["state"] == "firing", "CircuitOpen fires")
    (alert,) = prometheus.rules()["CircuitOpen"]["alerts"]
    assert {"job": "gateway", "name": "market-data", "severity": "page"}.items() <= alert["labels"].items()
    assert "instance" not in alert["labels"], "it is one alert, however many hosts there are"
    assert alert["annotations"]["summary"] == "gateway does not call market-data"
    assert "`cb explain market-data`" in alert["annotations"]["description"]


def test_every_alert_is_evaluated_and_does_not_fire_without_a_cause(prometheus: Prometheus) -> None:
    until(lambda: all(rule["health"] == "ok" for rule in prometheus.rules().values()), "all rules are evaluated")
    rules = prometheus.rules()
    assert rules.keys() == alerts().keys()
    assert not [rule["lastError"] for rule in rules.values() if rule.get("lastError")]
    loud = {name for name, rule in rules.items() if rule["state"] == "firing"}
    assert loud <= {"CircuitOpen", "FastBurn", "DependencyDown"}
