"""Probes of a fleet. docs/rules.md, rule 17."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from cb import State
from tests.fleet.hosts import CONFIG, Host, all_in, everyone, hosts, together
from tests.fleet.inside import end_traffic, explain, hang, heal, start_traffic, succeed, wait
from tests.support.redis_servers import Server
from tests.support.waiting import until

pytestmark = pytest.mark.quiet

ONE = replace(CONFIG, max_requests=1, success_threshold=1)


def open_for(seconds: float, made: list[Host]) -> None:
    """Force the fleet open for some seconds; probes follow."""
    made[0].hold(State.FORCED_OPEN, duration=seconds)
    all_in(State.FORCED_OPEN, made)


def test_round_never_has_more_probes_on_all_hosts_than_allowed(server: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [server.url] * 3, processes=2, config=replace(CONFIG, timeout=0.1)) as made:
        workers = everyone(made)
        together(workers, start_traffic, True, 0.002, 0.02)
        until(lambda: int(server.stored("rounds") or 0) >= 5, seconds=10)
        seen = together(workers, end_traffic)
        probes = sum((each.probes for each in seen), Counter[int]())
        assert len(probes) >= 5
        assert max(probes.values()) <= CONFIG.max_requests
        assert not [each.alone for each in seen if each.alone]


def test_circuit_closes_on_all_hosts_once_the_dependency_recovers(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 3, processes=2) as made:
        workers = everyone(made)
        together(workers, start_traffic, True, 0.005)
        all_in(State.OPEN, made)
        together(workers, heal)
        all_in(State.CLOSED, made, 5)
        assert all(" succeeded" in host.call(explain) or not host.fleet_controlled for host in made)
        assert not [each.strange for each in together(workers, end_traffic) if each.strange]
        assert together(workers, succeed, 1) == [1] * 6


def test_host_killed_while_it_holds_the_only_permit_fails_the_round(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 3, processes=2, config=ONE) as made:
        lost, *others = made
        open_for(0.3, made)
        lost.workers[1].send(hang)
        until(lambda: lost.holds_a_permit, seconds=5)
        lost.kill()
        together(everyone(others), start_traffic, False, 0.005)
        all_in(State.OPEN, others, 6)
        assert "fleet: 1 of 1 probe failed" in others[0].call(explain)
        all_in(State.CLOSED, others, 3)
        together(everyone(others), end_traffic)


def test_worker_killed_while_it_holds_the_only_permit_fails_the_round(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 2, processes=2, config=ONE) as made:
        open_for(0.3, made)
        (agent,) = made[0].agents
        (prober,) = [worker for worker in made[0].workers if worker is not agent]
        prober.send(hang)
        until(lambda: made[0].holds_a_permit, seconds=5)
        prober.kill()
        all_in(State.OPEN, made, 2)


def test_round_without_a_verdict_opens_the_fleet_again(valkey: Server, tmp_path: Path) -> None:
    config = replace(CONFIG, half_open_max_duration=0.5, probe_timeout=20)
    with hosts(tmp_path, [valkey.url] * 2, processes=2, config=config) as made:
        open_for(0.3, made)
        made[0].workers[1].send(hang)
        until(lambda: made[0].holds_a_permit, seconds=5)
        all_in(State.OPEN, made, 3)
        assert "no verdict in 0.5 s" in made[1].call(explain)


def test_open_time_grows_with_the_failed_rounds_of_the_whole_fleet(valkey: Server, tmp_path: Path) -> None:
    config = replace(CONFIG, timeout=0.1, timeout_multiplier=3, timeout_max=60, minimum_requests=4)
    with hosts(tmp_path, [valkey.url] * 2, config=config) as made:
        together(everyone(made), start_traffic, True, 0.002)
        until(lambda: int(valkey.stored("rounds") or 0) == 3, seconds=10)
        together(everyone(made), end_traffic)
        all_in(State.OPEN, made)
        assert all(2 < host.call(wait) < 2.8 for host in made)
