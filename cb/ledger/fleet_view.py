"""The state of a fleet, as recorded on one of its hosts."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FleetView:
    """A host's connection to its fleet. Read from the ledger: any process of the host sees the same."""

    #: True if the host has synchronized recently, so that the fleet controls the circuits that it opened
    connected: bool
    #: number of hosts in the fleet, including this one; 0 if the server cannot count them
    hosts: int
    #: seconds since the last synchronization, None before the first
    age: float | None
    #: names of the breakers for which the server gave no valid reply: this host decides about them alone
    unreachable: tuple[str, ...] = ()
