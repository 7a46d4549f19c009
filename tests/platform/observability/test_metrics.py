"""The metrics of the services against the queries of alerts and dashboard."""

import re
import subprocess
from collections import defaultdict

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.platform.conftest import PACKAGES, Platform
from tests.platform.observability.conftest import BOARDS, PORTS, alerts, invent, panels, program

WORDS = {"and", "or", "unless", "on", "by"}
#: labels that Prometheus adds to every sample
TARGET = {"job": set(PORTS), "instance": set[str]()}
#: by metric and label, the values
Told = dict[str, dict[str, set[str]]]


def told(platform: Platform) -> Told:
    """Return the metrics of all services and the values of their labels."""
    found: Told = {"up": {}}
    for name in PACKAGES:
        for family in text_string_to_metric_families(platform.get(name, "/metrics").text):
            for sample in family.samples:
                labels = found.setdefault(sample.name, defaultdict(set))
                for label, value in sample.labels.items():
                    labels[label].add(value)
    return found


def selectors(query: str) -> list[tuple[str, str]]:
    """Return the metrics of a query, each with its label matchers."""
    bare = re.sub(r"\b(by|on)\s*\([^)]*\)|\[\w+\]", " ", query)
    found = re.findall(
        r"(?<![\w\"])([a-zA-Z_]\w*)\b(?!\s*\()(?:\{([^}]*)\})?", re.sub(r"(?<=[~=])\"[^\"]*\"", _mark, bare)
    )
    return [(name, braces) for name, braces in found if name not in WORDS]


def _mark(match: re.Match[str]) -> str:
    return match[0].replace("{", "").replace("}", "")


def unknown(query: str, known: Told) -> list[str]:
    """Return the metrics and labels of a query that no service exports."""
    missing, labels = [], set(TARGET)
    for metric, braces in selectors(query):
        if metric not in known:
            missing.append(metric)
            continue
        values = TARGET | known[metric]
        labels |= set(values)
        for label, how, value in re.findall(r'(\w+)\s*(=~|=)\s*"([^"]*)"', braces):
            if label not in values or (how == "=" and value not in values[label]):
                missing.append(f"{metric}{{{label}={value}}}")
            elif how == "=~" and value != ".*" and "." not in value and not set(value.split("|")) <= values[label]:
                missing.append(f"{metric}{{{label}=~{value}}}")
    for group in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", query):
        missing += [f"by {label}" for label in re.split(r",\s*", group) if label not in labels]
    return missing


QUERIES = {name: [rule["expr"]] for name, rule in alerts().items()}
QUERIES |= {f"{board.stem} {title}": queries for board in BOARDS for title, queries in panels(board).items()}


def test_alerts_and_dashboard_query_only_exported_metrics(platform: Platform) -> None:
    known = told(platform)
    missing = {name: [what for query in queries for what in unknown(query, known)] for name, queries in QUERIES.items()}
    assert not {name: found for name, found in missing.items() if found}


@pytest.mark.parametrize(
    ("query", "missing"),
    [
        ("sum(rate(circuit_breaker_request_total[5m]))", ["circuit_breaker_request_total"]),
        ('max by (job, nam) (circuit_breaker_state{state="OPEN"}) == 1', ["by nam"]),
        ('circuit_breaker_state{state="OPENED"}', ["circuit_breaker_state{state=OPENED}"]),
        ('circuit_breaker_state{stat="OPEN"} > 0', ["circuit_breaker_state{stat=OPEN}"]),
        ('up{job="bank"} == 0 unless on (job) gateway_trades', ["up{job=bank}", "gateway_trades"]),
        ('circuit_breaker_state{state=~"OPEN|HALF"}', ["circuit_breaker_state{state=~OPEN|HALF}"]),
        ("histogram_quantile(0.5, sum by (le) (rate(flask_http_request_duration_seconds_bucket[1m])))", []),
    ],
)
def test_query_of_an_unknown_metric_or_label_is_detected(platform: Platform, query: str, missing: list[str]) -> None:
    assert unknown(query, told(platform)) == missing


@pytest.mark.parametrize("service", PACKAGES)
def test_metrics_of_a_service_pass_promtool(platform: Platform, service: str) -> None:
    text = platform.get(service, "/metrics").text
    command = [program("promtool"), "check", "metrics"]
    ran = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_invalid_requests_of_clients_create_no_series(platform: Platform) -> None:
    def series() -> set[str]:
        texts = [platform.get(name, "/metrics").text for name in PACKAGES]
        return {line.rpartition(" ")[0] for text in texts for line in text.splitlines() if not line.startswith("#")}

    invent(platform)
    before = series()
    for _ in range(10):
        invent(platform)
    assert series() == before
