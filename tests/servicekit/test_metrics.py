import random
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from cb import BreakerConfig, Bulkhead, BulkheadFullError, Ledger, Registry
from cb.health_probes import HealthProbes
from cb.integrations.prometheus import BreakerCollector
from servicekit import Simulation
from tests.support import shop


def samples(client: FlaskClient, query: str = "") -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return the value of each sample, by name and labels."""
    families = text_string_to_metric_families(client.get("/metrics" + query).text)
    found = [
        (sample.name, frozenset(sample.labels.items()), sample.value) for each in families for sample in each.samples
    ]
    assert len({(name, labels) for name, labels, _ in found}) == len(found)
    return {(name, labels): value for name, labels, value in found}


@pytest.fixture
def tripped(app: Flask) -> FlaskClient:
    """Return the client of a shop whose stock succeeded once, failed three times and was then left alone twice."""
    client = app.test_client()
    client.get("/api/v1/stock/pen")
    app.extensions["faults"].set(Simulation(is_healthy=False))
    for _ in range(5):
        client.get("/api/v1/stock/pen")
    return client


def test_metrics_have_the_names_and_values_of_the_breakers(tripped: FlaskClient) -> None:
    found = samples(tripped)

    def value(name: str, **labels: str) -> float:
        return found[f"circuit_breaker_{name}", frozenset({"name": "own-stock", **labels}.items())]

    assert value("requests_total", outcome="success") == 1
    assert value("requests_total", outcome="failure") == 3
    assert value("failures_total") == 3
    assert value("rejected_total") == 2
    assert value("state_changes_total", **{"from": "CLOSED", "to": "OPEN"}) == 1
    assert value("state_changes_total", **{"from": "OPEN", "to": "HALF_OPEN"}) == 0
    assert [value("state", state=state) for state in ("CLOSED", "OPEN", "HALF_OPEN")] == [0, 1, 0]
    assert value("in_flight") == 0
    assert value("failure_rate_threshold") == 0.6
    assert value("request_duration_seconds_count") == 4
    assert value("request_duration_seconds_bucket", le="+Inf") == 4


def test_metrics_of_a_bulkhead_are_its_limit_and_the_calls_that_it_refused(app: Flask) -> None:
    bulkhead = Bulkhead(app.extensions["circuit_breakers"].registry.get("own-stock"), 1)
    full, limit = "circuit_breaker_bulkhead_full_total", "circuit_breaker_bulkhead_limit"
    name = frozenset({("name", "own-stock")})
    with bulkhead, pytest.raises(BulkheadFullError):
        bulkhead.call(int)
    found = samples(app.test_client())
    assert (found[full, name], found[limit, name]) == (1, 1)


def test_metrics_have_the_names_of_the_seed_too(tripped: FlaskClient) -> None:
    found = samples(tripped)
    values = {
        name: found[f"circuit_breaker_{name}_own_stock", frozenset()]
        for name in ("requests_total", "failures_total", "state_changes_total", "state")
    }
    assert values == {"requests_total": 4, "failures_total": 3, "state_changes_total": 1, "state": 1}
    assert found["circuit_breaker_request_duration_seconds_own_stock_count", frozenset()] == 4
    text = tripped.get("/metrics").text
    assert "# TYPE circuit_breaker_requests_total_own_stock untyped" in text
    assert "# HELP circuit_breaker_requests_total_own_stock " in text


def test_names_of_the_seed_can_be_switched_off(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CB_METRICS__PER_BREAKER_NAMES", "false")
    assert not [name for name, _ in samples(shop.create_app().test_client()) if name.endswith("own_stock")]


def test_metrics_can_be_selected_by_name(tripped: FlaskClient) -> None:
    assert {name for name, _ in samples(tripped, "?name[]=circuit_breaker_in_flight")} == {"circuit_breaker_in_flight"}
    assert samples(tripped, "?name[]=nothing") == {}


def test_metrics_are_valid_openmetrics(tripped: FlaskClient) -> None:
    answer = tripped.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.mimetype == "application/openmetrics-text"
    families = parse_openmetrics(answer.text)  # type: ignore[no-untyped-call]  # it has no types
    assert {"circuit_breaker_requests", "flask_http_request"} <= {each.name for each in families}


@pytest.mark.parametrize("wish", ["version=abc; escaping=zzz", "version=abc", "version=1.x"])
def test_metrics_in_a_version_that_is_none_are_plain_text(tripped: FlaskClient, wish: str) -> None:
    answer = tripped.get("/metrics", headers={"Accept": f"application/openmetrics-text; {wish}"})
    assert (answer.status_code, answer.mimetype) == (200, "text/plain")


def test_no_series_has_a_time_of_creation(tripped: FlaskClient) -> None:
    assert not [name for name, _ in samples(tripped) if name.endswith("_created")]


def test_number_of_series_does_not_grow_with_unknown_paths_and_methods(client: FlaskClient) -> None:
    def invent() -> None:
        client.get(f"/{random.random()}")
        client.get(f"/api/v1/stock/{random.randrange(10**9)}")
        client.open("/api/v1/orders", method=f"M{random.randrange(10**9)}")
        client.post(f"/api/v1/circuit-breaker/{random.randrange(10**9)}/reset", json={"reason": "there is none"})

    invent()
    before = len(samples(client))
    for _ in range(100):
        invent()
    assert len(samples(client)) == before


def test_breakers_whose_names_a_metric_cannot_tell_apart_are_one_series_of_the_seed() -> None:
    breakers = Registry()
    for name in ("a-b", "a_b", "ä b"):
        breakers.get(name)
    registry = CollectorRegistry()
    registry.register(BreakerCollector(breakers, per_breaker_names=True))
    names = [sample.name for each in registry.collect() for sample in each.samples if not sample.labels]
    assert len(names) == len(set(names))
    assert "circuit_breaker_requests_total_a_b" in names


@pytest.mark.parametrize("openmetrics", [False, True], ids=["plain", "openmetrics"])
def test_text_of_the_breakers_equals_that_of_prometheus_client(openmetrics: bool) -> None:
    breakers = Registry(overrides={"rateless": BreakerConfig(failure_rate_threshold=None)})
    for name in ('a"b', "a\\b", "ä\\nb", "rateless"):
        breakers.get(name).call(int)
    HealthProbes(breakers.get("rateless")).note(None, took=0.1, valid=15)
    breakers.get("rateless").control.disable(reason="a change that no arrow has", author="test")
    collector = BreakerCollector(breakers, per_breaker_names=True)
    registry = CollectorRegistry()
    registry.register(collector)
    encode, _ = choose_encoder("application/openmetrics-text" if openmetrics else "")
    theirs, ours = (
        [line for line in text.splitlines() if "health_check_age" not in line]
        for text in (encode(registry).decode(), collector.text(openmetrics=openmetrics) + "# EOF\n" * openmetrics)
    )
    assert ours == theirs
    assert not [line for line in ours if "failure_rate_threshold{" in line and "rateless" in line]


def test_ledger_that_cannot_be_shared_shows_in_the_metrics(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = ("circuit_breaker_ledger_degraded", frozenset[tuple[str, str]]())
    assert samples(shop.create_app().test_client())[name] == 0
    monkeypatch.setenv("CB_STATE__URL", "file:///proc/no/ledger")
    assert samples(shop.create_app().test_client())[name] == 1


def test_scraping_changes_nothing(tripped: FlaskClient) -> None:
    def breakers() -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        return {key: value for key, value in samples(tripped).items() if key[0].startswith("circuit_breaker")}

    assert breakers() == breakers()


def test_health_is_a_metric_of_those_that_are_checked(app: Flask) -> None:
    client = app.test_client()
    stock = app.extensions["circuit_breakers"].registry.get("own-stock")
    key = frozenset({"name": "own-stock"}.items())
    ages, values = [], []
    for error, valid in ((None, 15), (OSError(), 15), (None, 0)):
        found = samples(client)
        ages.append(("circuit_breaker_health_check_age_seconds", key) in found)
        values.append(found.get(("circuit_breaker_health", key)))
        HealthProbes(stock).note(error, took=0.1, valid=valid)
    found = samples(client)
    ages.append(("circuit_breaker_health_check_age_seconds", key) in found)
    values.append(found.get(("circuit_breaker_health", key)))
    assert (ages, values) == ([False, True, True, True], [None, 1, 0, None])


def test_names_that_are_also_ends_of_metrics_make_no_metric_twice() -> None:
    registry = Registry()
    for name in ("changes", "count", "sum", "total", "bucket", "x"):
        registry.get(name).call(abs, -1)
    for openmetrics, parse in ((False, text_string_to_metric_families), (True, parse_openmetrics)):
        text = BreakerCollector(registry, per_breaker_names=True).text(openmetrics=openmetrics)
        found = [family.name for family in parse(text + "# EOF\n" * openmetrics)]
        assert len(set(found)) == len(found)
        assert "circuit_breaker_state_x" in found


def test_breakers_of_another_process_are_in_the_metrics(tmp_path: Path) -> None:
    mine, others = (Registry(ledger=Ledger.in_file(tmp_path / "ledger")) for _ in range(2))
    mine.get("stock").call(abs, -1)
    others.get("late").call(abs, -1)
    assert [each.name for each in mine.snapshots()] == ["late", "stock"]
    assert [each.totals.successes for each in mine.stats()] == [1, 1]
    assert 'circuit_breaker_requests_total{name="late",outcome="success"} 1.0' in BreakerCollector(mine).text()
    assert "circuit_breaker_requests_total_late 1.0" in BreakerCollector(mine, per_breaker_names=True).text()
