"""What the live page polls, as a schema."""

from marshmallow import fields

from servicekit.breaker_schemas import EventSchema, StatusSchema
from servicekit.faults import SimulatedSchema
from servicekit.health import ComponentSchema


class SimulatorSchema(SimulatedSchema):
    """A service that can be made to fail, and where."""

    path = fields.String(required=True)


class DataSchema(StatusSchema):
    """The status, and what else is known. A service adds what it shows."""

    health = fields.Dict(fields.String(), fields.Nested(ComponentSchema), required=True)
    events = fields.List(fields.Nested(EventSchema), required=True)
    simulators = fields.Dict(fields.String(), fields.Nested(SimulatorSchema), required=True)
    operator = fields.Boolean(required=True, metadata={"description": "Whether the page may steer without a token."})
    trades = fields.Dict(metadata={"description": "Of the gateway: how its trades stand."})
