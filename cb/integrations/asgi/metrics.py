"""`GET /metrics`: the breakers of the host, and what the workers share through $PROMETHEUS_MULTIPROC_DIR."""

from contextlib import suppress

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from cb.integrations.operations.request import Request
from cb.integrations.operations.responses import Response
from cb.integrations.prometheus import BreakerCollector
from cb.registry import Registry


class Metrics:
    """The metrics of an app.

    Args:
        breakers: Breakers of the app.
    """

    def __init__(self, breakers: Registry) -> None:
        self._breakers = BreakerCollector(breakers)

    def __repr__(self) -> str:
        return f"<Metrics of {self._breakers!r}>"

    def show(self, request: Request, *_: object) -> Response:
        """Return the response to a request, in the format that it accepts."""
        shared = CollectorRegistry()
        with suppress(ValueError):  # there is no such directory
            MultiProcessCollector(shared)  # type: ignore[no-untyped-call]  # it has no types
        try:
            encode, content_type = choose_encoder(request.headers.get("Accept") or "")
        except (TypeError, ValueError):  # an invalid version
            encode, content_type = choose_encoder("")
        openmetrics = content_type.startswith("application/openmetrics-text")
        # The end of OpenMetrics comes last.
        body = self._breakers.text(openmetrics=openmetrics).encode() + encode(shared)
        return Response(200, {"Content-Type": content_type, "Content-Length": str(len(body))}, body)
