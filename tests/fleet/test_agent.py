"""Election of a host's agent, and its replacement. docs/rules.md, rule 13."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from cb import State
from cb.testing import workers
from tests.fleet.hosts import CONFIG, Host, all_in, hosts, together
from tests.fleet.inside import agents, begin, call_on, fork, is_agent, join_again, leave, make
from tests.support.redis_servers import Server
from tests.support.waiting import until

pytestmark = pytest.mark.quiet


def test_one_worker_of_each_host_is_its_agent(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 2, processes=3) as made:
        assert [len(host.agents) for host in made] == [1, 1]
        until(lambda: [host.size for host in made] == [2, 2], seconds=3)


def test_worker_takes_over_within_two_seconds_when_the_agent_is_killed(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 2, processes=2) as (first, other):
        (agent,) = first.agents
        agent.kill()
        first.workers.remove(agent)
        until(lambda: first.agents == first.workers, seconds=2)
        last_sync = first.last_sync
        until(lambda: first.last_sync > last_sync, seconds=2)
        other.hold(State.FORCED_OPEN)
        all_in(State.FORCED_OPEN, [first])


def test_suspended_agent_delays_no_call_and_follows_the_fleet_later(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 2, processes=2) as (first, other):
        (agent,) = first.agents
        (witness,) = [worker for worker in first.workers if worker is not agent]
        agent.stop()
        assert witness.call(call_on, 0.5) < 0.1
        agent.resume()
        other.hold(State.FORCED_OPEN)
        all_in(State.FORCED_OPEN, [first])


def test_fleet_made_before_the_fork_has_one_agent_in_all_processes(valkey: Server, tmp_path: Path) -> None:
    make(tmp_path / "forked", valkey.url, "f", CONFIG)
    with workers(2, "fork") as children, hosts(tmp_path, [valkey.url]) as (other,):
        together(children, begin)
        host = Host(tmp_path / "forked", children)
        until(lambda: host.known, seconds=5)
        assert (
            len(host.agents) + is_agent() == 1
        )  # it is this process if its watchdog has been started by an earlier test
        other.hold(State.FORCED_OPEN)
        all_in(State.FORCED_OPEN, [host])


def test_forked_child_takes_over_when_the_agent_is_killed(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 2) as (first, other):
        child = first.call(fork)
        try:
            first.kill()
            last_sync = first.last_sync
            until(lambda: first.last_sync > last_sync, seconds=2)
            other.hold(State.FORCED_OPEN)
            all_in(State.FORCED_OPEN, [first])
        finally:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def test_closed_membership_ends_its_thread_and_another_worker_takes_over(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 2, processes=2) as (first, other):
        (agent,) = first.agents
        (heir,) = [worker for worker in first.workers if worker is not agent]
        assert agent.call(leave)
        until(lambda: heir.call(is_agent), seconds=2)
        until(lambda: first.size == 2 and other.size == 2, seconds=3)
        assert heir.call(leave)
        until(lambda: other.size == 1, seconds=3)
        other.hold(State.FORCED_OPEN)
        assert first.state is State.CLOSED


def test_process_with_two_memberships_of_a_ledger_has_one_agent(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url]) as (host,):
        host.call(join_again, valkey.url)
        assert host.call(agents) == 1
