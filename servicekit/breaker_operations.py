"""OpenAPI operations of views that are not the services' own: those of `cb.integrations.flask`, and `/metrics`."""

from collections.abc import Mapping
from typing import Any

from flask import Flask
from marshmallow import Schema
from marshmallow.fields import Boolean, Dict, Field, List, Nested, String

from cb.integrations.flask.operator import MAX_EVENTS, MAX_NUMBER, MAX_REASON, REASON
from cb.integrations.flask.page import page_files
from cb.integrations.flask.static_files import MEDIA_TYPES

from .breaker_schemas import ChangeSchema, EventSchema, EventsSchema, StatusSchema
from .faults import SimulatedSchema
from .fields import Digits, Duration, Flag, StrictField
from .health import ComponentSchema
from .openapi import Operation, ResponseSpec, operation


class _Reason(StrictField[str]):
    """A line of text."""

    def json_schema(self, *, in_response: bool) -> dict[str, Any]:  # noqa: ARG002  # the same in both
        return {"type": "string", "pattern": f"^{REASON.pattern}$", "minLength": 1, "maxLength": MAX_REASON}


class CommandSchema(Schema):
    reason = _Reason(required=True, metadata={"description": "Why, for the log.", "examples": ["the bank migrates"]})
    host_only = Flag(load_default=False, metadata={"description": "Whether the rest of the fleet is left as it is."})


class HoldSchema(CommandSchema):
    expires_in = Duration(
        load_default=None,
        metadata={"description": "A number of seconds, or such as 30s, 500ms, 2m, 1h. Then the circuit is reset."},
    )


class SimulatorSchema(SimulatedSchema):
    """A service that can be made to fail, and where."""

    path = String(required=True)


class DataSchema(StatusSchema):
    """The status, and what else is known. A service adds what it shows."""

    health = Dict(String(), Nested(ComponentSchema), required=True)
    events = List(Nested(EventSchema), required=True)
    simulators = Dict(String(), Nested(SimulatorSchema), required=True)
    operator = Boolean(required=True, metadata={"description": "Whether the page may steer without a token."})
    trades = Dict(metadata={"description": "Of the gateway: how its trades stand."})


_ROUTES = "circuit_breakers"
_NAME: dict[str, Field[Any]] = {"name": String(required=True, metadata={"minLength": 1, "examples": ["market-data"]})}
_ANY_NAME = "For names with slashes, which proxies merge or decode in a path: a query goes through them unchanged."
_AUTHOR = String(data_key="X-Operator", load_default="api", metadata={"description": "Who, for the log."})
_BUSY = {503: "`ledger-busy`: the state that all workers share is locked by a process that does not go on."}
_GONE = _BUSY | {404: "There is nothing of that name."}
#: description, schema and example of the body, by the verb of the operation
_ACTIONS: dict[str, tuple[str, Schema, dict[str, str]]] = {
    "forceOpen": ("Refuse all calls", HoldSchema(), {"reason": "the bank migrates", "expires_in": "10m"}),
    "disable": (
        "Let all calls through and count none",
        HoldSchema(),
        {"reason": "the bank migrates", "expires_in": "10m"},
    ),
    "metricsOnly": (
        "Let all calls through and count them",
        HoldSchema(),
        {"reason": "the bank migrates", "expires_in": "10m"},
    ),
    "reset": ("Close a circuit and count anew", CommandSchema(), {"reason": "the bank is back"}),
}


def breaker_operations(app: Flask) -> Mapping[str, Operation]:
    """Return the operations by the endpoints of an app."""
    panels = app.extensions["circuit_breakers"].panels
    page = f"{_ROUTES}.dashboard"
    return {
        "prometheus_metrics": _described(
            "readMetrics",
            "Read the metrics.\n\nThose of HTTP, of the breakers and of the service itself, for all workers of the "
            "host. `name[]`, as often as it is\ngiven, chooses some of them.",
            tag="service",
            responses={
                200: ResponseSpec(
                    "All metrics, in the form that `Accept` asks for.",
                    types=("text/plain", "application/openmetrics-text"),
                )
            },
        ),
        f"{_ROUTES}.circuit-breaker.status": _described(
            "readStatus",
            "Tell how the breakers are, the same from any worker.",
            tag="circuit breakers",
            responses={200: ResponseSpec("All breakers by name.", StatusSchema())},
        ),
        f"{page}.page": _described(
            "showDashboard",
            "Show the live page.",
            tag="dashboard",
            responses={200: ResponseSpec("The page.", types=("text/html",))},
        ),
        f"{page}.file": _described(
            "readDashboardFile",
            "Read a file that the live page needs.",
            tag="dashboard",
            path={"name": String(metadata={"enum": list(page_files(panels))})},
            responses={200: ResponseSpec("The file.", types=MEDIA_TYPES)},
        ),
        f"{page}.data": _described(
            "readDashboardData",
            "Read what the live page shows.\n\nThe status of the breakers, what else is known without asking anybody, "
            "and what the service adds, such as `trades`.",
            tag="dashboard",
            responses={200: ResponseSpec("What is so now.", DataSchema())},
        ),
        f"{_ROUTES}.operator.events": _described(
            "listEvents",
            "List the latest changes of state, oldest first.",
            tag="circuit breakers",
            access="operators",
            query={
                "since": Digits(0, MAX_NUMBER, load_default=0, metadata={"description": "Those after this number."}),
                "limit": Digits(0, MAX_EVENTS, load_default=MAX_EVENTS, metadata={"description": "At most so many."}),
            },
            responses={200: ResponseSpec("Changes of state.", EventsSchema())},
        ),
        **{name: each for verb in _ACTIONS for name, each in _commands(verb)},
    }


def _commands(verb: str) -> list[tuple[str, Operation]]:
    about, body, example = _ACTIONS[verb]
    about = f"{about}, in all workers of the host at once."
    terms: dict[str, Any] = {
        "tag": "circuit breakers",
        "access": "operators",
        "headers": {"author": _AUTHOR},
        "body": body,
        "example": example,
        "responses": {200: ResponseSpec("What that has changed.", ChangeSchema())},
    }
    by_path = _described(f"{verb}Breaker", about, path=_NAME, problems=_BUSY, **terms)
    by_query = _described(f"{verb}NamedBreaker", f"{about}\n\n{_ANY_NAME}", query=_NAME, problems=_GONE, **terms)
    return [(f"{_ROUTES}.operator.{each.terms.id}", each) for each in (by_path, by_query)]


def _described(id: str, about: str, **terms: Any) -> Operation:  # noqa: A002  # its name in OpenAPI
    """Describe an operation whose view is elsewhere."""

    def view() -> None: ...

    return operation(id, about=about, **terms)(view)
