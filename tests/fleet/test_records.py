"""Damaged records of a ledger, and unusual names, affect one breaker of one host."""

import pytest

from cb import CircuitBreaker, State
from cb.ledger import layout as at
from tests.fleet.by_hand import CONFIG, Clock, in_fleet, pair
from tests.support.redis_servers import Server

#: Invalid numbers in a cell of a record.
CELLS = [
    *[(cell, value) for cell in (at.FLEET, at.FLEET_THRESHOLDS, at.PUBLISH_THRESHOLDS) for value in (7, -1, 2**62)],
    *[(cell, value) for cell in (at.REPORTED, at.PERMITS, at.UNTIL) for value in (-(2**62), 2**62)],
    (at.SLICE, 0),
    (at.WORD, 7),
    (at.WORD, -1),
    (at.CONFIG, 0),
    (at.STREAK, 2**62),
]


@pytest.mark.parametrize(("cell", "value"), CELLS)
def test_damaged_record_affects_one_breaker_of_one_host(cell: int, value: int, emptied: Server) -> None:
    hosts, fine = pair(emptied)
    hosts[0].ledger.core.record("d", 1).head[cell] = value
    for host in (*hosts, *hosts):
        host.sync("fine")
    in_fleet(hosts, fine)
    assert hosts[1].unreachable == ()
    assert hosts[1].state is State.CLOSED and not hosts[1].refused()


@pytest.mark.parametrize("cell", [at.FLEET, at.FLEET_THRESHOLDS, at.REPORTED])
@pytest.mark.parametrize("value", [7, -1, 2**62])
def test_host_with_damaged_cells_of_the_fleet_joins_it_again(cell: int, value: int, emptied: Server) -> None:
    hosts, _ = pair(emptied, clock := Clock())
    hosts[0].ledger.core.record("d", 1).head[cell] = value
    hosts[0].sync()
    clock.advance(1.05)
    hosts[1].breaker.control.force_open(reason="test")
    for host in (hosts[1], *hosts):
        host.sync()
    assert hosts[0].state is State.FORCED_OPEN and not hosts[0].unreachable


@pytest.mark.parametrize(
    "name", ["a}b{c", "{}", "ä/ö é", "名前", "%s %(x)d", "a:b*?[x]", '"\\', "-- '", "é" * 64, "circuit"]
)
def test_breaker_with_any_name_opens_with_its_fleet(name: str, emptied: Server) -> None:
    hosts, fine = pair(emptied)
    odd = [CircuitBreaker(name, CONFIG, ledger=host.ledger, clock=host.clock) for host in hosts]
    for host, breaker in zip(hosts, odd, strict=True):
        breaker.call(int)
        host.sync(name)
    in_fleet(hosts, odd)
    in_fleet(hosts, fine)
