"""Whether a dependency says that it can serve."""

from collections.abc import Callable

from cb.http import HTTPClient
from gateway.trading.errors import Unavailable

#: seconds for the whole answer
TIMEOUT = 1.0


def readiness(name: str, client: HTTPClient) -> Callable[[], None]:
    """Return a check that raises Unavailable or ClientError unless all that the service itself needs is well.

    Of the three questions that a service answers, this is the one that says whether its circuit may close: that it
    lives is not enough, and how its own dependencies are is for their callers.
    """

    def check() -> None:
        status = client.get_json_unguarded("/api/v1/health/ready", TIMEOUT).get("status")
        if status != "UP":
            raise Unavailable(name, f"is {status}")

    return check
