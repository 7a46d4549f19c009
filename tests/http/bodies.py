"""Responses with a body, and a session that requests them."""

from collections.abc import Callable
from typing import Any

import requests

from cb import BreakerConfig, Registry
from cb.http import CircuitBreakerAdapter
from tests.support.misbehaving import Act, Server

LINES = b"line one\nline two\n" * 500


def send(body: bytes, *headers: str, claimed: int | None = None, chunked: bool = False) -> Act:
    """Return an act that sends a body, and cuts it off if more is `claimed`."""
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {claimed or len(body)}"
    head = "\r\n".join(["HTTP/1.1 200 OK", framing, *headers]).encode() + b"\r\n\r\n"
    data = b"%x\r\n%s\r\n" % (len(body), body) + (b"" if claimed else b"0\r\n\r\n") if chunked else body

    def act(connection: Any) -> None:
        connection.sendall(head + data)
        if claimed:
            connection.close()

    return act


class Asked:
    """A session with an adapter, and its breaker."""

    def __init__(self, server: Server, session: requests.Session) -> None:
        self._server, self._session = server, session
        self.use()

    def use(self, clock: Callable[[], int] | None = None, config: BreakerConfig | None = None, **options: Any) -> None:
        self.registry = Registry(defaults=config, **({"clock": clock} if clock else {}))
        self._session.mount("http://", CircuitBreakerAdapter(self.registry, "d", **options))
        self.breaker = self.registry.get("d")

    def get(self, act: Act | None = None, **options: Any) -> requests.Response:
        self._server.act = act or self._server.act
        return self._session.get(self._server.url, timeout=5, **({"stream": True} | options))

    @property
    def outcome(self) -> tuple[tuple[int, int, int], int]:
        """Return successes, failures, neutral outcomes and calls in flight."""
        seen = self.breaker.snapshot()
        return (seen.totals.successes, seen.totals.failures, seen.totals.neutral), seen.in_flight
