"""A reader of feeds under gevent: each worker has one thread and many greenlets."""

import math
import os

from cb import BreakerConfig, CircuitOpenError, Ledger, Registry  # guard
from cb.http import guarded_session  # guard

rules = BreakerConfig(failure_threshold=5, timeout=2, success_threshold=1)  # guard
registry = Registry(ledger=Ledger.open("shm://feeds"), defaults=rules)  # guard
feed = guarded_session(registry, "feed", timeout=2)  # guard


def app(environ, start_response):
    try:
        response = feed.get(os.environ["VENDOR_URL"])
    except CircuitOpenError as error:  # guard
        wait = str(max(math.ceil(error.retry_after or 60), 1))  # guard
        start_response("503 Service Unavailable", [("Retry-After", wait)])  # guard
        return [b"the feed is unavailable\n"]  # guard
    start_response("200 OK" if response.ok else "502 Bad Gateway", [("Content-Type", "text/plain")])
    return [response.content]
