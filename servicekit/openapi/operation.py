"""What a view takes and what it answers, said once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import update_wrapper
from inspect import getdoc
from typing import Any

from flask import Response
from marshmallow import Schema

from servicekit.access import require_operator
from servicekit.body import read_json
from servicekit.parameters import Fields, read_headers, read_path, read_query

View = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Link:
    """Where to go on from an answer: an operation, and its parameters as runtime expressions of OpenAPI."""

    #: its id
    operation: str
    #: by name
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ResponseSpec:
    """What an operation answers with one status."""

    #: when
    description: str
    #: of a JSON body; None: it is something else, and the view returns a Response
    schema: Schema | None = None
    #: media types
    types: tuple[str, ...] = ("application/json",)
    #: headers of this answer, with what they say; a JSON Schema is that of text
    headers: Mapping[str, str] = field(default_factory=dict)
    #: of a body
    example: Any = None
    #: where to go on, by name
    links: Mapping[str, Link] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationSpec:
    """What is agreed on for an operation."""

    #: in the document, and so in generated clients: it stays
    id: str
    tag: str
    #: its first line is the summary, the rest the description; empty: the docstring of the view
    about: str = ""
    #: by status; what a view returns without a status has the first
    responses: Mapping[int, ResponseSpec]
    #: by status, what each is for; those of reading a request are known already
    problems: Mapping[int, str] = field(default_factory=dict)
    #: whose token or key it needs where there are any: that of `operators`, which it asks for itself. For that of
    #: `services`, of `users`, or of operators where users have keys (`all-users`), a hook of the blueprint asks before
    #: anything else is done
    access: str = ""
    path: Fields = field(default_factory=dict)
    #: None: whatever the query says is left alone
    query: Fields | None = None
    headers: Fields = field(default_factory=dict)
    body: Schema | None = None
    #: of the body
    example: Any = None


class Operation:
    """A view with its terms: what it is called with has been read, what it returns is dumped."""

    __name__: str

    def __init__(self, view: View, terms: OperationSpec) -> None:
        update_wrapper(self, view)
        self.terms = terms
        self.about = terms.about or getdoc(view) or ""
        self._view = view

    def __call__(self, **path: str) -> Any:
        """Answer the running request. Raises Problem, and what the view raises."""
        return self._dump(self._view(**self._read(path)))

    def _read(self, path: Mapping[str, str]) -> dict[str, Any]:
        terms = self.terms
        if terms.access == "operators":
            require_operator()
        arguments = read_path(terms.path, path) | read_headers(terms.headers)
        if terms.query is not None:
            arguments |= read_query(terms.query)
        if terms.body is not None:
            arguments["body"] = read_json(terms.body)
        return arguments

    def _dump(self, returned: Any) -> Any:
        if isinstance(returned, Response):
            return returned
        value, status, *headers = (
            returned if isinstance(returned, tuple) else (returned, next(iter(self.terms.responses)))
        )
        schema = self.terms.responses[status].schema
        assert schema is not None, f"{self.terms.id} has no schema for {status}"
        return schema.dump(value), status, *headers


def operation(id: str, **terms: Any) -> Callable[[View], Operation]:  # noqa: A002  # its name in OpenAPI
    """Document a view, validate its input and serialize its output. The keywords are the fields of `OperationSpec`.

    The view receives path, query and header parameters by name, and `body`. It returns a value for the schema of its
    first response, or `(value, status)` or `(value, status, headers)`, or a finished Response.
    """
    agreed = OperationSpec(id=id, **terms)
    return lambda view: Operation(view, agreed)
