"""What the extension has given an app: `app.extensions["circuit_breakers"]`."""

from dataclasses import dataclass, field

from flask import current_app

from cb.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionState:
    """The breakers of an app."""

    #: what the app calls itself in answers
    service: str
    registry: Registry
    #: what operators must show to steer; None where whoever is on this host may
    token: str | None = field(repr=False)
    #: the extension that this is of
    owner: object = field(repr=False)


def circuit_breakers() -> ExtensionState:
    """Return those of the running app."""
    found: ExtensionState = current_app.extensions["circuit_breakers"]
    return found
