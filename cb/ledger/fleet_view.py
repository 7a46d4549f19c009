"""The state of a fleet, as recorded in the ledger of one of its hosts."""

from collections.abc import Iterable
from dataclasses import dataclass

from . import layout as at
from .time_bounds import lease_active

_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class FleetView:
    """A host's connection to its fleet. It is read from the ledger: all processes of the host see the same."""

    #: True if the host has synchronized recently, so that the fleet controls the circuits that it opened
    connected: bool
    #: number of hosts in the fleet, including this one; 0 if the server cannot count them
    hosts: int
    #: seconds since the last synchronization, None before the first
    age: float | None
    #: names of the breakers for which the server gave no valid reply: this host decides about them alone
    unreachable: tuple[str, ...] = ()


def read_fleet_view(header: memoryview, heads: Iterable[tuple[str, memoryview]], now: int) -> FleetView | None:
    """Return the view at `now`, None if the host has never joined a fleet. `heads` are breakers' names and cells."""
    if not header[at.H_HOST]:
        return None
    last_sync = header[at.H_LAST_SYNC]
    return FleetView(
        connected=lease_active(header[at.H_FLEET_LEASE_UNTIL], now),
        hosts=header[at.H_HOSTS],
        age=max(now - last_sync, 0) / _SECOND if last_sync else None,
        unreachable=tuple(name for name, head in heads if head[at.FLEET_UNREACHABLE]),
    )
