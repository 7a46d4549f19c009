"""Schemas of the JSON form of breakers: `Snapshot.as_dict()`, `StateChange.as_dict()`, `Transition.as_dict()`."""

from dataclasses import fields as fields_of
from typing import Any

from marshmallow import fields

from cb import State
from cb.config import BreakerConfig

from .fields import Rate
from .response_schemas import PassthroughSchema

STATES = [state.value for state in State]


def count(**options: Any) -> fields.Integer:
    """Return the field of a count."""
    return fields.Integer(required=True, metadata={"minimum": 0, **options})


def moment(**options: Any) -> fields.String:
    """Return the field of a time in ISO 8601."""
    return fields.String(required=True, metadata={"format": "date-time"}, **options)


def state() -> fields.String:
    """Return the field of a circuit's state."""
    return fields.String(required=True, metadata={"enum": STATES})


def number(*, required: bool = True, **options: Any) -> fields.Float:
    """Return the field of a non-negative number."""
    return fields.Float(required=required, metadata={"minimum": 0}, **options)


class WindowSchema(PassthroughSchema):
    """The calls in the statistical window."""

    seconds = number()
    requests = count()
    failures = count()
    slow = count()
    failure_rate = Rate(required=True)
    slow_call_rate = Rate(required=True)


class TotalsSchema(PassthroughSchema):
    """Calls since the ledger was created."""

    requests = count()
    successes = count()
    failures = count()
    slow = count()
    rejected = count(description="Rejected by the circuit.")
    full = count(description="Rejected by the bulkhead.")
    neutral = count(description="Counted as neither success nor failure.")
    late = count(description="Ended after a state change of the circuit.")


class LatencySchema(PassthroughSchema):
    """Durations of calls in milliseconds; null without calls."""

    p50 = number(allow_none=True)
    p95 = number(allow_none=True)
    p99 = number(allow_none=True)


class LastFailureSchema(PassthroughSchema):
    at = moment()
    type = fields.String(
        required=True,
        metadata={
            "description": "Class of the exception, or `result`, `call_timeout`, `probe_timeout`, `slow_probe` or "
            "`worker_ended` for a failure without one."
        },
    )
    status = fields.Integer(
        required=True, allow_none=True, metadata={"description": "HTTP status that the exception carries."}
    )
    message = fields.String(
        required=True,
        metadata={"description": "First line of the exception's message, without credentials; truncated."},
    )
    worker = fields.String(
        required=True, metadata={"description": "Process id of the worker, after its name if it has one."}
    )


#: the thresholds by name
ConfigSchema = PassthroughSchema.from_dict(
    {
        name: fields.String(required=True, metadata={"enum": ["CLOSED", "METRICS_ONLY", "DISABLED", "FORCED_OPEN"]})
        if name == "initial_state"
        else number(allow_none=True)
        for name in [each.name for each in fields_of(BreakerConfig)]
    },
    name="ConfigSchema",
)


class BreakerSchema(PassthroughSchema):
    """A breaker as all workers of the host share it."""

    state = state()
    source = fields.String(
        required=True,
        metadata={"enum": ["fleet", "host", "process"], "description": "Scope that controls the state."},
    )
    generation = count(description="Number of the current stay in a state.")
    since = moment()
    retry_after_seconds = number(allow_none=True)
    window = fields.Nested(WindowSchema, required=True)
    totals = fields.Nested(TotalsSchema, required=True)
    consecutive_failures = count()
    in_flight = count()
    limit = fields.Integer(required=True, allow_none=True, metadata={"description": "Limit of concurrent calls."})
    latency_ms = fields.Nested(LatencySchema, required=True)
    last_failure = fields.Nested(LastFailureSchema, required=True, allow_none=True)
    config = fields.Nested(ConfigSchema, required=True)
    why = fields.String(required=True, metadata={"description": "Explanation of the state."})


class FleetSchema(PassthroughSchema):
    """The hosts that share these breakers."""

    connected = fields.Boolean(required=True, metadata={"description": "True if this host is in sync with the fleet."})
    hosts = count()
    last_exchange_seconds = number(allow_none=True)
    apart = fields.List(
        fields.String(),
        required=True,
        metadata={"description": "Breakers without a valid reply of the server: the host decides alone."},
    )


class StatusSchema(PassthroughSchema):
    """The breakers of a service."""

    service = fields.String(required=True)
    scope = fields.String(required=True, metadata={"enum": ["fleet", "host", "process"]})
    workers = count()
    programs = fields.List(
        fields.String(),
        required=True,
        metadata={"description": "The programs of these workers, by project: more than one share the ledger."},
    )
    fleet = fields.Nested(FleetSchema)
    degraded = fields.String(
        metadata={"description": "Reason why breakers are not shared or counted as configured; absent otherwise."}
    )
    time = moment()
    breakers = fields.Dict(fields.String(), fields.Nested(BreakerSchema), required=True)


class ChangeSchema(PassthroughSchema):
    """A state change of a circuit, or none if it was in that state already."""

    name = fields.String(required=True)
    before = fields.String(required=True, data_key="from", metadata={"enum": STATES})
    after = fields.String(required=True, data_key="to", metadata={"enum": STATES})
    generation = count()
    reason = fields.String(required=True)


class EventSchema(ChangeSchema):
    """An entry of the host's log of state changes."""

    number = count()
    at = moment()


class EventsSchema(PassthroughSchema):
    events = fields.List(fields.Nested(EventSchema), required=True)
