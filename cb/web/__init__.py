"""What every service has: settings, health, metrics, a contract, JSON in and problems out. Needs the extra `web`."""

from . import fields
from .answers import Answered, Document
from .body import read_json
from .correlation import forwarded_headers, request_id
from .extension import CircuitBreakers
from .faults import Faults, SimulatedFailure, Simulation
from .health import Health
from .limits import limits
from .openapi import Answer, Link, operation
from .problems import Problem
from .serve import serve
from .service import create_service
from .settings import Settings, load_settings
from .sources import SettingsError

__all__ = [
    "Answer",
    "Answered",
    "CircuitBreakers",
    "Document",
    "Faults",
    "Health",
    "Link",
    "Problem",
    "Settings",
    "SettingsError",
    "SimulatedFailure",
    "Simulation",
    "create_service",
    "fields",
    "forwarded_headers",
    "limits",
    "load_settings",
    "operation",
    "read_json",
    "request_id",
    "serve",
]
