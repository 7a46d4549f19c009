"""The service kit of the platform: settings, health, metrics, OpenAPI, JSON validation, logs and fault injection."""

from cb.integrations.flask import Problem, problem_response, request_id
from cb.log import Log
from cb.pickling import PortableError

from . import fields
from .body import read_json
from .correlation import forwarded_headers
from .faults import Faults, SimulatedError, Simulation
from .health import HealthEndpoint
from .openapi import Link, ResponseSpec, operation
from .response_schemas import PassthroughSchema, ResponseSchema
from .server import serve
from .service import create_service
from .settings import Settings, load_settings
from .settings_file import SettingsError

__all__ = [
    "Faults",
    "HealthEndpoint",
    "Link",
    "Log",
    "PassthroughSchema",
    "PortableError",
    "Problem",
    "ResponseSchema",
    "ResponseSpec",
    "Settings",
    "SettingsError",
    "SimulatedError",
    "Simulation",
    "create_service",
    "fields",
    "forwarded_headers",
    "load_settings",
    "operation",
    "problem_response",
    "read_json",
    "request_id",
    "serve",
]
