"""Default breaker names of an adapter, and URLs without one."""

import io
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidURL
from urllib3 import HTTPResponse

from cb import Registry
from cb.http import CircuitBreakerAdapter, origin


def request_to(url: Any) -> requests.PreparedRequest:
    """Return a request whose URL requests has not validated."""
    request = requests.PreparedRequest()
    request.method, request.url, request.headers, request.body = (
        "GET",
        url,
        requests.structures.CaseInsensitiveDict(),
        None,
    )
    return request


@pytest.mark.parametrize(
    "url",
    [
        *(None, "", "/relative/path", "foo", "mailto:x@y.z", "file:///etc/hosts", "http://", "http:///x", "http://?q"),
        *("http://#f", "http://:80/", "http://[::1", "http://[zz]/", "http://h:99999/", "http://h:x/", "http://h:-1/"),
        *("http://user@/", "http://user:secret@:80/", "http://./", "http://a..b/", f"http://{'a' * 64}/", "://None"),
        *("data:,x", "//", "http://h:\uff18\uff10x/", "http://a b/"),
    ],
)
@pytest.mark.parametrize("name", [None, "d", lambda request: request.url])
def test_url_without_a_host_is_an_invalid_url_and_creates_no_breaker(url: Any, name: Any) -> None:
    registry = Registry()
    with pytest.raises(InvalidURL):
        CircuitBreakerAdapter(registry, name).send(request_to(url))
    assert list(registry.snapshots()) == []


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://example.com", "http://example.com:80"),
        ("HTTPS://EXAMPLE.COM/x?y#z", "https://example.com:443"),
        ("https://example.com:443/", "https://example.com:443"),
        ("https://example.com:/", "https://example.com:443"),
        ("https://example.com./", "https://example.com:443"),
        ("http://example.com:8080", "http://example.com:8080"),
        ("http://example.com:0/", "http://example.com:0"),
        ("http://user:secret@example.com/", "http://example.com:80"),
        ("http://us@er:sec@ret@example.com/", "http://example.com:80"),
        ("http://127.0.0.1:5000/", "http://127.0.0.1:5000"),
        ("http://[::1]:5000/", "http://[::1]:5000"),
        ("http://[0:0:0:0:0:0:0:1]:5000/", "http://[::1]:5000"),
        ("http://[2001:DB8::00A]/", "http://[2001:db8::a]:80"),
        ("http://[fe80::1%25eth0]/", "http://[fe80::1%25eth0]:80"),
        ("http://b\u00fccher.example/", "http://xn--bcher-kva.example:80"),
        ("http://XN--BCHER-KVA.example/", "http://xn--bcher-kva.example:80"),
        ("//example.com/x", "http://example.com:80"),
        (f"http+unix://%2Frun%2F{'x' * 70}/info", f"http+unix://%2Frun%2F{'x' * 70}"),
    ],
)
def test_equivalent_urls_have_the_same_breaker_name(url: str, name: str) -> None:
    assert origin(request_to(url)) == name
    assert "secret" not in name


class Lying:
    """A test double that reports another class, as mocks with a `spec` do."""

    __class__ = HTTPResponse  # type: ignore[assignment]  # the subject


@pytest.mark.parametrize(
    "raw",
    [
        None,
        io.BytesIO(b"{}"),
        object(),
        HTTPResponse(io.BytesIO(b"{}"), preload_content=False),
        HTTPResponse(),
        Lying(),
    ],
)
@pytest.mark.parametrize("status", [200, 503])
def test_response_of_a_test_double_counts_at_once(monkeypatch: pytest.MonkeyPatch, raw: Any, status: int) -> None:
    def double(*_: Any, **__: Any) -> requests.Response:
        response = requests.Response()
        response.status_code, response.raw, response._content = status, raw, b"{}"  # noqa: SLF001 - as test doubles do
        return response

    monkeypatch.setattr(HTTPAdapter, "send", double)
    registry = Registry()
    session = requests.Session()
    session.mount("http://", CircuitBreakerAdapter(registry, "d", limit=1))
    for _ in range(3):
        assert session.get("http://vendor.test/").json() == {}
    seen = registry.get("d").snapshot()
    assert (seen.totals.successes, seen.totals.failures, seen.in_flight) == ((3, 0, 0) if status == 200 else (0, 3, 0))
