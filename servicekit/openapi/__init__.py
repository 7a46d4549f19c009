"""The contract of a service, OpenAPI 3.1: at `/openapi.json`, and for people at `/docs`.

A view wears its part of it: `operation` reads what a request must have, dumps what the view returns, and says both in
the document. So what is checked and what is written down are the same schema.
"""

from .operation import Link, Operation, ResponseSpec, operation

__all__ = ["Link", "Operation", "ResponseSpec", "operation"]
