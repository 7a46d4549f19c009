"""A fleet as one of its hosts sees it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FleetSight:
    """A fleet as its host sees it."""

    #: whether the fleet has been heard of lately, and so leads the circuits that it has opened
    leads: bool
    #: hosts in it, this one included; 0 if the server cannot tell
    hosts: int
    #: seconds since the last exchange, None before the first
    age: float | None
    #: names of the breakers about which the server has no sound answer: this host decides by itself there
    apart: tuple[str, ...] = ()
