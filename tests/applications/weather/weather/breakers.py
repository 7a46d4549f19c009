"""The breakers, as docs/integrations.md has them for Django: all of this is the guard."""

import math

from django.http import JsonResponse

from cb import BreakerConfig, BulkheadFullError, CircuitOpenError, Ledger, Registry
from cb.http import guarded_session

rules = BreakerConfig(failure_threshold=5, timeout=2, success_threshold=1)
registry = Registry(ledger=Ledger.open("shm://weather"), defaults=rules)
api = guarded_session(registry, "forecast", timeout=2)


class Refusals:
    """Middleware: 503 while a circuit is open, 429 while too many calls are running."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        return self.get_response(request)

    def process_exception(self, request, exception):
        if not isinstance(exception, (CircuitOpenError, BulkheadFullError)):
            return None
        status = 503 if isinstance(exception, CircuitOpenError) else 429
        wait = 60 if exception.retry_after is None else max(math.ceil(exception.retry_after), 1)
        return JsonResponse({"detail": str(exception)}, status=status, headers={"Retry-After": str(wait)})
