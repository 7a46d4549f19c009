"""OpenAPI operations of views that are not the services' own: those of `cb.integrations.flask`, and `/metrics`."""

from collections.abc import Mapping
from typing import Any

from flask import Flask
from marshmallow import Schema
from marshmallow.fields import Boolean, Dict, Field, List, Nested, String

from cb.integrations.operations.commands import MAX_EVENTS, MAX_NUMBER, MAX_REASON, REASON
from cb.integrations.operations.page import page_files
from cb.integrations.operations.static_files import MEDIA_TYPES

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
    reason = _Reason(required=True, metadata={"description": "Reason, for the log.", "examples": ["the bank migrates"]})
    host_only = Flag(load_default=False, metadata={"description": "True to leave other hosts unchanged."})


class HoldSchema(CommandSchema):
    expires_in = Duration(
        load_default=None,
        metadata={"description": "Seconds, or text such as 30s, 500ms, 2m, 1h. Afterwards the circuit is reset."},
    )


class SimulatorSchema(SimulatedSchema):
    """The simulation of a service, and the path of its route."""

    path = String(required=True)


class DataSchema(StatusSchema):
    """The data of the live page: the status, health, events, and the panels of the service."""

    health = Dict(String(), Nested(ComponentSchema), required=True)
    events = List(Nested(EventSchema), required=True)
    simulators = Dict(String(), Nested(SimulatorSchema), required=True)
    operator = Boolean(required=True, metadata={"description": "True if this request may control breakers."})
    trades = Dict(metadata={"description": "Statistics of the gateway's trades."})


_ROUTES = "circuit_breakers"
_NAME: dict[str, Field[Any]] = {"name": String(required=True, metadata={"minLength": 1, "examples": ["market-data"]})}
_ANY_NAME = "For names with slashes, which proxies merge or decode in a path but not in a query."
_AUTHOR = String(data_key="X-Operator", load_default="api", metadata={"description": "Author, for the log."})
_BUSY = {503: "`ledger-busy`: the shared state is locked by a process that is stopped."}
_GONE = _BUSY | {404: "There is nothing of that name."}
#: description, schema and example of the body, by the verb of the operation
_ACTIONS: dict[str, tuple[str, Schema, dict[str, str]]] = {
    "forceOpen": ("Reject all calls", HoldSchema(), {"reason": "the bank migrates", "expires_in": "10m"}),
    "disable": (
        "Admit all calls and count none",
        HoldSchema(),
        {"reason": "the bank migrates", "expires_in": "10m"},
    ),
    "metricsOnly": (
        "Admit and count all calls",
        HoldSchema(),
        {"reason": "the bank migrates", "expires_in": "10m"},
    ),
    "reset": ("Close a circuit, with an empty window", CommandSchema(), {"reason": "the bank is back"}),
}


def breaker_operations(app: Flask) -> Mapping[str, Operation]:
    """Return the operations by the endpoints of an app."""
    panels = app.extensions["circuit_breakers"].panels
    page = f"{_ROUTES}.dashboard"
    return {
        "prometheus_metrics": _described(
            "readMetrics",
            "Read the metrics.\n\nOf HTTP, of the breakers and of the service, for all workers of the host. `name[]`, "
            "which may be repeated, selects metrics by name.",
            tag="service",
            responses={
                200: ResponseSpec(
                    "All metrics, in the format of `Accept`.",
                    types=("text/plain", "application/openmetrics-text"),
                )
            },
        ),
        f"{_ROUTES}.circuit-breaker.status": _described(
            "readStatus",
            "Read the state of all breakers, the same from any worker.",
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
            "Read a file of the live page.",
            tag="dashboard",
            path={"name": String(metadata={"enum": list(page_files(panels))})},
            responses={200: ResponseSpec("The file.", types=MEDIA_TYPES)},
        ),
        f"{page}.data": _described(
            "readDashboardData",
            "Read the data of the live page.\n\nThe status of the breakers, the health of dependencies, events, and "
            "the data of panels, such as `trades`.",
            tag="dashboard",
            responses={200: ResponseSpec("The current data.", DataSchema())},
        ),
        f"{_ROUTES}.operator.events": _described(
            "listEvents",
            "List the latest state changes, oldest first.",
            tag="circuit breakers",
            access="operators",
            query={
                "since": Digits(
                    0, MAX_NUMBER, load_default=0, metadata={"description": "Number after which to start."}
                ),
                "limit": Digits(0, MAX_EVENTS, load_default=MAX_EVENTS, metadata={"description": "Entries at most."}),
            },
            responses={200: ResponseSpec("State changes.", EventsSchema())},
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
        "responses": {200: ResponseSpec("The state change.", ChangeSchema())},
    }
    by_path = _described(f"{verb}Breaker", about, path=_NAME, problems=_BUSY, **terms)
    by_query = _described(f"{verb}NamedBreaker", f"{about}\n\n{_ANY_NAME}", query=_NAME, problems=_GONE, **terms)
    return [(f"{_ROUTES}.operator.{each.terms.id}", each) for each in (by_path, by_query)]


def _described(id: str, about: str, **terms: Any) -> Operation:  # noqa: A002  # its name in OpenAPI
    """Describe an operation whose view is elsewhere."""

    def view() -> None: ...

    return operation(id, about=about, **terms)(view)
