"""Errors as HTTP responses: `application/problem+json` (RFC 9457)."""

import json
from collections import ChainMap
from collections.abc import Mapping
from typing import Any

from cb.pickling import PortableError

#: media type
PROBLEM_TYPE = "application/problem+json"


class Problem(PortableError):  # the name of RFC 9457
    """An HTTP error response, raised by a view or by a function that it calls.

    Args:
        status: HTTP status code.
        code: Machine-readable code, such as "insufficient-funds".
        detail: One sentence for people.
        headers: Headers of the response.
        more: Further members of the body, as mappings.
        facts: Further members of the body, by keyword.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
        *more: Mapping[str, Any],
        **facts: Any,
    ) -> None:
        headers, facts = dict(headers or {}), dict(ChainMap(facts, *map(dict, more)))
        super().__init__(status, code, detail, headers, facts)
        #: HTTP status code
        self.status = status
        #: machine-readable code, such as "insufficient-funds"
        self.code = code
        #: one sentence for people
        self.detail = detail
        #: headers of the response
        self.headers = headers
        #: further members of the body
        self.facts = facts

    def text(self, request_id: str) -> str:
        """Return the body of the response to the request with this id, of the type `PROBLEM_TYPE`."""
        body = {
            "type": f"/problems/{self.code}",
            "title": self.code.replace("-", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id,
            **self.facts,
        }
        return json.dumps(body, default=str) + "\n"
