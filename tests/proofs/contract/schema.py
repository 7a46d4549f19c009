"""Answers, held against a document."""

import copy
from typing import Any

import jsonschema_rs
import requests


class Contract:
    """A document, and how it is if answers may have no member that it does not name."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._closed = _close(copy.deepcopy(document))

    def operations(self) -> dict[str, dict[str, Any]]:
        """Return all operations by their id."""
        return {each["operationId"]: each for path in self.document["paths"].values() for each in path.values()}

    def validator(self, schema: dict[str, Any], *, closed: bool = False) -> Any:
        """Return a validator of a schema of the document."""
        document = self._closed if closed else self.document
        return jsonschema_rs.validator_for({**schema, "components": document["components"]})

    def response(self, operation: str, status: int) -> dict[str, Any]:
        """Return the document's description of a response."""
        found: dict[str, Any] = self.operations()[operation]["responses"][str(status)]
        if "$ref" in found:
            return dict(self.document["components"]["responses"][found["$ref"].rpartition("/")[2]])
        return found

    def check(self, operation: str, answer: requests.Response) -> None:
        """Check that a response has the documented content and nothing else. Raises the difference."""
        told = self.response(operation, answer.status_code)
        schema = told["content"][answer.headers["Content-Type"].partition(";")[0]]["schema"]
        if "json" in answer.headers["Content-Type"]:
            self.validator(_close(copy.deepcopy(schema)), closed=True).validate(answer.json())
        assert set(told["headers"]) >= {"X-Request-ID"}


def _close(node: Any) -> Any:
    if isinstance(node, dict):
        if "properties" in node:
            node.setdefault("additionalProperties", False)
        for inner in node.values():
            _close(inner)
    elif isinstance(node, list):
        for inner in node:
            _close(inner)
    return node
