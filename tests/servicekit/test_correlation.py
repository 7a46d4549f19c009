import re

import pytest
from flask import Flask
from flask.testing import FlaskClient

from servicekit import forwarded_headers

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def relay(app: Flask) -> FlaskClient:
    """Return a client of a service that responds with the headers it would forward."""
    app.get("/relay")(forwarded_headers)
    return app.test_client()


def test_well_formed_request_id_is_taken_over_and_passed_on(relay: FlaskClient) -> None:
    answer = relay.get("/relay", headers={"X-Request-ID": "a.B-c_1"})
    assert answer.headers["X-Request-ID"] == "a.B-c_1"
    assert answer.json == {"X-Request-ID": "a.B-c_1"}


@pytest.mark.parametrize("received", [None, "", "a b", "a" * 65, "a\t", "ä"])
def test_any_other_request_id_is_replaced(relay: FlaskClient, received: str | None) -> None:
    answer = relay.get("/relay", headers={} if received is None else {"X-Request-ID": received})
    assert re.fullmatch("[0-9a-f]{16}", answer.headers["X-Request-ID"])
    assert answer.json == {"X-Request-ID": answer.headers["X-Request-ID"]}


def test_traceparent_is_passed_on_with_a_span_of_our_own(relay: FlaskClient) -> None:
    answer = relay.get("/relay", headers={"traceparent": TRACE})
    assert answer.json is not None
    passed = answer.json["traceparent"]
    assert passed != TRACE
    assert re.fullmatch("00-4bf92f3577b34da6a3ce929d0e0e4736-[0-9a-f]{16}-01", passed)


@pytest.mark.parametrize("received", ["", "00-0-0-0", TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32)])
def test_malformed_traceparent_is_not_passed_on(relay: FlaskClient, received: str) -> None:
    answer = relay.get("/relay", headers={"traceparent": received})
    assert answer.json is not None
    assert "traceparent" not in answer.json


def test_tracestate_is_passed_on_with_its_traceparent_only(relay: FlaskClient) -> None:
    state = "vendor=00f067aa0ba902b7,other=t61rcWkgMzE"
    together = relay.get("/relay", headers={"traceparent": TRACE, "tracestate": state})
    alone = relay.get("/relay", headers={"tracestate": state})
    assert together.json is not None and together.json["tracestate"] == state
    assert alone.json is not None and "tracestate" not in alone.json


@pytest.mark.parametrize("received", ["", "a" * 513, "vendor=ä"])
def test_malformed_tracestate_is_not_passed_on(relay: FlaskClient, received: str) -> None:
    answer = relay.get("/relay", headers={"traceparent": TRACE, "tracestate": received})
    assert answer.json is not None
    assert set(answer.json) == {"X-Request-ID", "traceparent"}


def test_call_outside_of_a_request_has_an_id_of_its_own() -> None:
    assert set(forwarded_headers()) == {"X-Request-ID"}
