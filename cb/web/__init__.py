"""What every service has: settings, health, metrics, JSON in and problems out. Needs the extra `web`."""

from . import fields
from .body import read_json
from .correlation import forwarded_headers, request_id
from .extension import CircuitBreakers
from .faults import Faults, SimulatedFailure, Simulation
from .health import Health
from .ids import check_id, check_symbol
from .limits import limits
from .problems import Problem
from .serve import serve
from .service import create_service
from .settings import Settings, load_settings
from .sources import SettingsError

__all__ = [
    "CircuitBreakers",
    "Faults",
    "Health",
    "Problem",
    "Settings",
    "SettingsError",
    "SimulatedFailure",
    "Simulation",
    "check_id",
    "check_symbol",
    "create_service",
    "fields",
    "forwarded_headers",
    "limits",
    "load_settings",
    "read_json",
    "request_id",
    "serve",
]
