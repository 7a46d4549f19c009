"""Responses to rejected calls, for synchronous and asynchronous views, and for middleware."""

import pytest
from django.test import Client

from cb.integrations.django import breakers

from .conftest import ask_async, force_open


@pytest.mark.parametrize("path", ["/sync", "/async", "/below"])
@pytest.mark.parametrize("served", ["wsgi", "asgi"])
def test_open_circuit_is_answered_with_503_and_retry_after(path: str, served: str, client: Client) -> None:
    names = {"/below": "session-store"}
    ask = client.get if served == "wsgi" else ask_async
    assert ask(path).content == b"well"
    force_open(names.get(path, "vendor"))

    response = ask(path)

    assert (response.status_code, response["Retry-After"]) == (503, "60")
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["breaker"] == names.get(path, "vendor")


@pytest.mark.parametrize(("path", "seconds"), [("/full", "1"), ("/limited", "3")])
def test_full_bulkhead_and_rate_limit_are_answered_with_429(path: str, seconds: str, client: Client) -> None:
    response = client.get(path)
    assert (response.status_code, response["Retry-After"]) == (429, seconds)


@pytest.mark.parametrize("served", ["wsgi", "asgi"])
def test_other_exceptions_stay_as_they_are(served: str, client: Client) -> None:
    ask = client.get if served == "wsgi" else ask_async
    response = ask("/broken")
    assert (response.status_code, response["Content-Type"].partition(";")[0]) == (500, "text/html")


def test_id_of_a_request_is_that_of_its_header(client: Client) -> None:
    force_open("vendor")
    assert client.get("/sync", headers={"X-Request-ID": "abc-1"}).json()["request_id"] == "abc-1"


def test_session_goes_through_the_breakers_of_the_current_settings() -> None:
    session = breakers.session("vendor", timeout=1)
    force_open("vendor")
    with pytest.raises(OSError, match="circuit 'vendor' rejects calls"):  # an error of requests
        session.get("http://127.0.0.1:1/")
    session.close()
