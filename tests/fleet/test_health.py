"""Health checks as probes of a fleet: one host probes by health checks, another by calls. docs/rules.md, rule 17."""

from dataclasses import replace

import pytest

from cb import State
from cb.health_probes import HealthProbes
from cb.ledger import layout as at
from tests.fleet.by_hand import CONFIG, Host, opened, pause
from tests.support.redis_servers import Server

pytestmark = pytest.mark.quiet


def checked(host: Host) -> bool:
    """Run a successful health check if the host has a permit, and request one otherwise."""
    pause(0.02)  # after a rejection, the next request for a permit is a moment later
    ran = HealthProbes(host.breaker).run(int)
    host.sync()
    return ran


def test_checks_of_one_host_and_calls_of_another_share_the_permits_of_a_round(valkey: Server) -> None:
    config = replace(CONFIG, success_threshold=2)
    monitored, other = Host(valkey, config), Host(valkey, config)
    opened(monitored, other)
    pause(0.12)
    HealthProbes(monitored.breaker).reserve(60)

    assert monitored.refused()
    assert not monitored.ledger.core.record("d", 0).head[at.PROBE_REQUESTED], "a call must not request a permit"
    monitored.sync()
    assert monitored.state is State.OPEN

    assert not checked(monitored), "it requests a permit"
    assert monitored.state is State.HALF_OPEN
    assert checked(monitored)
    other.sync()
    assert other.refused(), "it requests a permit"
    other.sync()
    assert monitored.refused() and not checked(monitored), "the other host has the second permit"
    pause(0.02)
    other.succeed()
    other.sync()
    monitored.sync()
    assert (monitored.state, other.state) == (State.CLOSED, State.CLOSED)
