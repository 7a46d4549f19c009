"""The OpenAPI document, built from the routes of an app and the specifications of their operations."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin, resolver
from flask import Flask
from marshmallow import Schema
from marshmallow.fields import Field
from werkzeug.routing import Rule

from servicekit.breaker_operations import breaker_operations
from servicekit.fields import StrictField
from servicekit.parameters import Fields, wire_name
from servicekit.response_schemas import ResponseSchema

from .operation import Operation, OperationSpec, ResponseSpec
from .problems import COMMON, ProblemSchema, problem_responses, response

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_VARIABLE = re.compile(r"<(?:[^:<>]+:)?(\w+)>")
_ABOUT = """{about}

Errors are `application/problem+json` (RFC 9457); 500 is an error of the service itself. Clients may set `X-Request-ID`:
the response, the log and requests to other services have the same id. Unknown members of a request body are refused;
responses may get more members in later versions.
"""
_HEADERS: dict[str, dict[str, Any]] = {
    "RequestId": {
        "description": "The id of the request: the client's, if it is 1 to 64 letters, digits, `.`, `_` or `-`.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
    "RetryAfter": {
        "description": "Whole seconds after which a retry may succeed, if known.",
        "schema": {"type": "integer", "minimum": 1},
    },
}
_ALWAYS = {"X-Request-ID": {"$ref": "#/components/headers/RequestId"}}
#: descriptions of the bearer tokens, by the access that they give
_TOKENS = {
    "operators": "The token of the operators, `CB_ADMIN_TOKEN` of the service.",
    "services": "The token that services share, `CB_SERVICE_TOKEN`.",
    "users": "The key of the user that the request is about; its hash is in the `api_keys` of the settings.",
}


def _security_schemes(app: Flask) -> dict[str, str]:
    """Return the security scheme of each kind of access that needs a token in this app."""
    settings = app.extensions["settings"]
    found = {"operators": "operators"} if app.extensions["circuit_breakers"].token is not None else {}
    if settings.service_token is not None:
        found["services"] = "services"
    if settings.api_keys:
        found |= {"users": "users", "all-users": "operators"}
    return found


def operations(app: Flask) -> Iterator[tuple[Rule, str, Operation | None]]:
    """Yield all routes and methods of an app with their operations, None for undocumented views.

    HEAD and OPTIONS, which Flask adds everywhere, are not included.
    """
    elsewhere = breaker_operations(app)
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        view = app.view_functions[rule.endpoint]
        found = view if isinstance(view, Operation) else elsewhere.get(rule.endpoint)
        for method in sorted((rule.methods or set()).intersection(_METHODS)):
            yield rule, method, found


def build(app: Flask, title: str, about: str, version: str) -> dict[str, Any]:
    """Return the document of an app, with the tokens that this app requires, without undocumented views."""
    spec = _Document(title, about, version, _security_schemes(app))
    for rule, method, found in operations(app):
        if found is not None:
            spec.add(rule, method, found)
    return spec.spec.to_dict()


class _Document:
    """A document under construction."""

    def __init__(self, title: str, about: str, version: str, asked: Mapping[str, str]) -> None:
        plugin = MarshmallowPlugin(schema_name_resolver=_name)
        info = {"description": _ABOUT.format(about=about)}
        self.spec = APISpec(title, version, "3.1.0", plugins=[plugin], info=info, servers=[{"url": "/"}])
        assert plugin.converter is not None
        self._converter = plugin.converter
        self._converter.add_attribute_function(_describe)
        for name, header in _HEADERS.items():
            self.spec.components.header(name, header)
        self._asked = asked
        for name in sorted(set(asked.values())):
            self.spec.components.security_scheme(
                name, {"type": "http", "scheme": "bearer", "description": _TOKENS[name]}
            )
        self._problem = self._converter.resolve_nested_schema(ProblemSchema())
        for status, description in COMMON.items():
            self.spec.components.response(f"Problem{status}", response(status, description, self._problem, _ALWAYS))

    def add(self, rule: Rule, method: str, found: Operation) -> None:
        terms = found.terms
        summary, _, more = found.about.partition("\n")
        description: dict[str, Any] = {
            "operationId": terms.id,
            "tags": [terms.tag],
            "summary": summary.removesuffix("."),
            "description": more.strip(),
            "parameters": [
                *self._parameters("path", terms.path),
                *self._parameters("query", terms.query or {}),
                *self._parameters("header", terms.headers),
            ],
            "responses": self._responses(found),
        }
        if terms.body is not None:
            body = {"schema": self._converter.resolve_nested_schema(terms.body), **_example(terms.example)}
            description["requestBody"] = {"required": True, "content": {"application/json": body}}
        if terms.access in self._asked:
            description["security"] = [{self._asked[terms.access]: []}]
        description = {name: value for name, value in description.items() if value not in ("", [])}
        names = {name: wire_name(name, field) for name, field in terms.path.items()}
        path = _VARIABLE.sub(lambda variable: f"{{{names[variable[1]]}}}", rule.rule)
        self.spec.path(path, operations={method.lower(): description})

    def _parameters(self, where: str, fields: Fields) -> Iterator[dict[str, Any]]:
        for name, field in fields.items():
            schema = self._converter.field2property(field)
            if schema.get("default", ...) is None:  # the parameter may be omitted, and is never null
                del schema["default"]
            about = {"description": schema.pop("description")} if "description" in schema else {}
            required = where == "path" or field.required
            yield {"in": where, "name": wire_name(name, field), "required": required, **about, "schema": schema}

    def _responses(self, found: Operation) -> dict[str, Any]:
        responses = {status: self._answer(answer) for status, answer in found.terms.responses.items()}
        problems = {
            status: {"$ref": f"#/components/responses/Problem{status}"}
            if description == COMMON.get(status)
            else response(status, description, self._problem, _ALWAYS)
            for status, description in problem_responses(found.terms, self._refuses(found.terms)).items()
        }
        return {str(status): each for status, each in sorted((responses | problems).items())}

    def _refuses(self, terms: OperationSpec) -> bool:
        # If operators have no token, those of other hosts are refused.
        return terms.access == "operators" or terms.access in self._asked

    def _answer(self, answer: ResponseSpec) -> dict[str, Any]:
        own = {name: {"description": about, "schema": {"type": "string"}} for name, about in answer.headers.items()}
        links = {
            name: {"operationId": link.operation, "parameters": dict(link.parameters)}
            for name, link in answer.links.items()
        }
        schema = {"type": "string"} if answer.schema is None else self._converter.resolve_nested_schema(answer.schema)
        content = {each: {"schema": schema, **_example(answer.example)} for each in answer.types}
        return {
            "description": answer.description,
            "headers": _ALWAYS | own,
            **({"content": content} if content else {}),
            **({"links": links} if links else {}),
        }


def _name(schema: Any) -> str:
    return resolver(schema).strip("_")


def _example(example: Any) -> dict[str, Any]:
    return {} if example is None else {"example": example}


def _describe(_: Any, field: Field[Any], ret: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of a StrictField."""
    ret.pop("readOnly", None)  # a whole response is
    if not isinstance(field, StrictField):
        return {}
    root = field.root
    described = field.json_schema(in_response=isinstance(root, Schema) and isinstance(root, ResponseSchema))
    if field.allow_none and root is not None:
        return {"anyOf": [*described.get("anyOf", [described]), {"type": "null"}]}
    return described
