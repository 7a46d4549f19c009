"""A server that keeps losing data, and hosts with different clocks and thresholds."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from cb import CircuitOpenError, State
from tests.fleet.by_hand import CONFIG, KEYS, Clock, Host, closes, in_fleet, opened, pair, pause
from tests.fleet.test_damage import DAY, soon, stored
from tests.support.redis_servers import Server


@pytest.mark.parametrize("lost", ["everything", "leases", "circuit"])
def test_hosts_close_a_circuit_alone_when_the_server_keeps_losing_its_rounds(
    lost: str, emptied: Server, caplog: pytest.LogCaptureFixture
) -> None:
    hosts, _ = pair(emptied, clock := Clock(), max_requests=6, success_threshold=5, half_open_max_duration=5)
    opened(*hosts)
    lose = emptied.client.flushall if lost == "everything" else lambda: emptied.client.delete(KEYS[lost])
    assert closes(emptied, hosts, clock, lose)
    lost_rounds = "the fleet has no valid reply for breaker d: the server has repeatedly lost the round of probes"
    assert 1 <= caplog.text.count(lost_rounds) <= len(hosts)


def test_fleet_starts_a_lost_round_again(emptied: Server) -> None:
    hosts, _ = pair(emptied, clock := Clock(), max_requests=6, success_threshold=5, half_open_max_duration=5)
    opened(*hosts)
    for _ in range(4):
        with suppress(CircuitOpenError):
            hosts[0].succeed()
        clock.advance(0.05)
        pause(0.05)
        hosts[0].sync()
    assert hosts[0].state is State.HALF_OPEN
    emptied.client.flushall()
    assert closes(emptied, hosts, clock, lambda: None)
    assert not any(host.unreachable for host in hosts)


def test_breaker_follows_its_fleet_again_when_the_server_keeps_its_rounds(emptied: Server) -> None:
    hosts, _ = pair(emptied, clock := Clock(), max_requests=6, success_threshold=5, half_open_max_duration=5)
    opened(*hosts)
    assert closes(emptied, hosts, clock, emptied.client.flushall)
    clock.advance(61)
    hosts[0].breaker.control.force_open(reason="test")
    for host in (*hosts, *hosts):
        host.sync()
    assert [host.state for host in hosts] == [State.FORCED_OPEN] * 2


def test_permit_is_not_granted_again_when_the_server_has_lost_its_lease(emptied: Server) -> None:
    hosts, _ = pair(emptied, clock := Clock())
    opened(*hosts)
    clock.advance(0.2)
    one, other = hosts
    pause(0.11)  # by the server's clock too
    with one.breaker.guard() if not one.refused() else _admitted(one):
        emptied.client.delete(KEYS["leases"])
        assert other.sync().refused()
        other.sync()
        assert other.refused()


@contextmanager
def _admitted(host: Host) -> Iterator[None]:
    host.sync()
    with host.breaker.guard():
        yield


@pytest.mark.parametrize("state", [State.OPEN, State.HALF_OPEN])
def test_state_lasts_no_longer_than_the_thresholds_of_a_host_allow(state: State, emptied: Server) -> None:
    hosts, _ = pair(emptied, timeout=0.1, timeout_max=2)
    stored(state=state.value, generation=70, until=soon() + DAY, duration=DAY)(emptied.raw)
    for host in hosts:
        host.sync()
    assert all(host.state is state for host in hosts)
    assert all((host.breaker.snapshot().retry_after or 0) <= 31 for host in hosts)
    if state is State.OPEN:
        assert all((host.breaker.snapshot().retry_after or 0) < 3.1 for host in hosts)


def test_hosts_with_different_thresholds_open_and_close_together(emptied: Server) -> None:
    clock = Clock()
    short = replace(CONFIG, interval=1, timeout=0.1, timeout_max=0.1, max_requests=1, half_open_max_duration=0.5)
    long = replace(CONFIG, interval=60, timeout=60, timeout_max=600, max_requests=9, success_threshold=2)
    hosts = [Host(emptied, config, clock) for config in (short, long)]
    opened(*hosts)
    assert closes(emptied, hosts, clock, lambda: None)


def test_host_whose_clock_jumps_ahead_connects_again(emptied: Server) -> None:
    hosts, fine = pair(emptied, clock := Clock())
    opened(*hosts)
    clock.advance(86_400)
    assert not any(host.connected for host in hosts)
    for host in (*hosts, *hosts):
        host.agent.run_once()
        host.sync("fine")
    assert all(host.connected for host in hosts)
    in_fleet(hosts, fine)
