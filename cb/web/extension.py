"""What the library is to a Flask app: its breakers, in `app.extensions["circuit_breakers"]`."""

from dataclasses import dataclass

from flask import current_app

from cb.registry import Registry


@dataclass(frozen=True, slots=True)
class CircuitBreakers:
    """The breakers of a service."""

    #: what the service calls itself in answers
    service: str
    #: its breakers
    registry: Registry


def circuit_breakers() -> CircuitBreakers:
    """Return those of the running app."""
    found: CircuitBreakers = current_app.extensions["circuit_breakers"]
    return found
