"""Metrics of a Flask app with any version of prometheus_client, without the service kit."""

from flask import Flask

from cb.integrations.flask import CircuitBreakers


def test_metrics_show_requests_and_breakers_without_times_of_creation_and_can_be_restricted() -> None:
    app = Flask("shop")
    app.config["TESTING"] = True
    CircuitBreakers(app, metrics=True).registry.get("vendor")
    client = app.test_client()
    client.get("/missing")

    text = client.get("/metrics").text
    assert 'flask_http_request_total{method="GET",status="404"} 1.0' in text
    assert 'circuit_breaker_state{name="vendor",state="CLOSED"} 1.0' in text
    assert "_created" not in text

    asked = {"name[]": ["circuit_breaker_state", "flask_http_request_total"]}
    restricted = client.get("/metrics", query_string=asked).text
    names = {line.partition("{")[0] for line in restricted.splitlines() if line and not line.startswith("#")}
    assert names == {"circuit_breaker_state", "flask_http_request_total"}
