"""The OpenAPI 3.1 document of a service, at `/openapi.json` and as a page at `/docs`.

`operation` decorates a view: it validates the request, serializes the returned value and documents both, so that the
validating schema is the documented one.
"""

from .operation import Link, Operation, ResponseSpec, operation

__all__ = ["Link", "Operation", "ResponseSpec", "operation"]
