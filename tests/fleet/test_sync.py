"""Single synchronizations, of hosts that leave, disagree, return, or restore the server."""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace

import pytest

from cb import CircuitBreaker, CircuitOpenError, State
from cb.ledger import layout as at
from tests.fleet.by_hand import CONFIG, Host, opened, pause
from tests.support.redis_servers import Server


@pytest.fixture
def make(server: Server) -> Callable[..., Host]:
    return lambda **settings: Host(server, replace(CONFIG, **settings))


def test_host_that_leaves_has_no_vote_after_the_window(make: Callable[..., Host], server: Server) -> None:
    stays, leaves = make(interval=0.5), make(interval=0.5)
    for host in (stays, leaves):
        host.succeed()
        host.sync()
    assert server.stored("traffic") == "2"
    pause(0.6)
    stays.succeed()
    stays.sync()
    assert server.stored("traffic") == "1"
    assert stays.breaker.snapshot().source == "process"


def test_host_decides_alone_about_a_breaker_without_a_reply_and_others_are_not_affected(
    make: Callable[..., Host], server: Server
) -> None:
    host, other = make(), make()
    opened(host, other)
    fine = CircuitBreaker("fine", CONFIG, ledger=host.ledger)
    fine.call(int)
    server.client.delete("cb:{f/d}:circuit")
    server.client.set("cb:{f/d}:circuit", "of another program")
    host.sync()
    assert host.breaker.snapshot().source == "process"
    assert server.stored("traffic", "fine") == "1"
    pause(0.15)
    assert not host.refused()
    assert host.state is State.CLOSED


def test_counts_of_hosts_with_different_windows_are_added(make: Callable[..., Host]) -> None:
    hosts = [make(interval=60, minimum_requests=8), make(interval=30, minimum_requests=8)]
    for _ in range(4):
        for host in hosts:
            host.fail()
            host.sync()
    hosts[0].sync()
    assert [host.breaker.snapshot().source for host in hosts] == ["fleet", "fleet"]


def test_failures_before_the_first_synchronization_count(make: Callable[..., Host]) -> None:
    hosts = [make(), make()]
    for host in hosts:
        host.fail(3)
    for host in (*hosts, hosts[0]):
        host.sync()
    assert {host.breaker.snapshot().source for host in hosts} == {"fleet"}


def test_unused_permit_is_given_to_a_host_with_calls(make: Callable[..., Host]) -> None:
    idle, busy = make(max_requests=1), make(max_requests=1)
    opened(idle, busy)
    pause(0.15)
    assert idle.refused()
    idle.sync()
    assert busy.sync().refused()
    pause(1.1)
    for _ in range(6):
        pause(0.02)  # a call requests a permit no more often
        if not busy.refused():
            break
        busy.sync()
        idle.sync()
    busy.sync()
    idle.sync()
    assert (idle.state, busy.state) == (State.CLOSED, State.CLOSED)


def test_running_probes_are_not_granted_again_after_the_server_was_restarted_empty(
    make: Callable[..., Host], server: Server
) -> None:
    one, two = make(), make()
    opened(one, two)
    pause(0.15)
    with ExitStack() as probes:
        while one.breaker.snapshot().in_flight < 2:
            with suppress(CircuitOpenError):
                probes.callback(one.breaker.begin().succeed)
            one.sync()
            pause(0.02)
        server.client.flushall()
        two.sync()
        one.sync()
        assert two.refused()
        two.sync()
        assert two.refused()
    assert two.state is State.OPEN


def test_operators_state_survives_a_server_restarted_empty_in_any_order_of_hosts(
    make: Callable[..., Host], server: Server
) -> None:
    held, exempt = make(), make()
    held.sync()
    exempt.sync()
    held.breaker.control.force_open(reason="test")
    held.sync()
    exempt.sync()
    exempt.breaker.control.metrics_only(reason="test", host_only=True)
    server.client.flushall()
    for host in (exempt, held, exempt):
        host.sync()
    assert held.state is State.FORCED_OPEN
    assert server.stored("state") == "FORCED_OPEN"


def test_operators_state_sent_twice_does_not_undo_a_later_one(make: Callable[..., Host]) -> None:
    one, two = make(), make()
    one.sync()
    two.sync()
    one.breaker.control.force_open(reason="test")
    one.sync()
    two.sync()
    two.breaker.control.reset(reason="test")
    two.sync()
    # The reply to the first was lost: the next agent finds the state unpublished.
    head = one.ledger.core.record("d", 1).head
    head[at.PUBLISH] = at.generation_of(head[at.WORD])
    one.sync()
    two.sync()
    assert (one.state, two.state) == (State.CLOSED, State.CLOSED)


def test_thresholds_that_a_server_has_lost_are_sent_again(make: Callable[..., Host], server: Server) -> None:
    one = make()
    one.sync()
    one.breaker.control.configure(max_requests=9)
    one.sync()
    server.client.flushall()
    one.sync()
    one.sync()
    assert make().sync().sync().breaker.config.max_requests == 9


def test_server_whose_clock_went_back_does_not_extend_the_open_time(make: Callable[..., Host], server: Server) -> None:
    one, two = make(), make()
    opened(one, two)
    server.client.hincrby("cb:{f/d}:circuit", "until", 3_600_000)
    pause(0.15)
    assert one.refused()
    pause(0.15)
    one.sync()
    pause(0.15)
    one.refused()
    one.sync()
    assert not one.refused()


def test_host_that_joins_later_waits_no_longer_than_the_others(make: Callable[..., Host]) -> None:
    one, two, late = (make(timeout=5, timeout_max=5, half_open_max_duration=5) for _ in range(3))
    opened(one, two)
    pause(0.4)
    late.sync()
    assert (late.breaker.snapshot().retry_after or 9) < 4.7

    early, other, later = (make(half_open_max_duration=5) for _ in range(3))
    for host in (early, other, later):
        host.breaker = CircuitBreaker("e", host.breaker.config, ledger=host.ledger)
    for host in (early, other):
        host.fail(2)
        host.sync("e")
    early.sync("e")
    assert early.breaker.snapshot().source == "fleet"
    pause(0.15)
    assert early.refused()
    early.sync("e")
    assert early.state is State.HALF_OPEN
    pause(0.4)
    later.sync("e")
    assert later.state is State.HALF_OPEN
    assert (later.breaker.snapshot().retry_after or 9) < 4.7
