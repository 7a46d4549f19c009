"""Opening of the fleet, and of a host alone. docs/rules.md, rule 16."""

from dataclasses import replace
from pathlib import Path
from socket import gethostname

import pytest

from cb import State
from tests.fleet.hosts import CONFIG, all_in, everyone, hosts, together
from tests.fleet.inside import crawl, explain, fail, reasons, succeed
from tests.support.redis_servers import Server, always
from tests.support.waiting import until

pytestmark = pytest.mark.quiet

STREAK = replace(CONFIG, failure_threshold=10, failure_rate_threshold=None)
SLOW = replace(CONFIG, slow_call_duration=0.001, slow_call_rate_threshold=0.5, failure_rate_threshold=None)


def test_failing_host_opens_alone_and_the_others_stay_closed(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 3) as (sick, *others):
        for host in others:
            host.call(succeed, 5)
        until(lambda: valkey.stored("traffic") == "2", seconds=3)
        assert sick.call(fail, 12) == 10
        until(lambda: sick.reported_failures == 10, seconds=3)
        assert always(lambda: all(host.state is State.CLOSED for host in others), 0.3)
        assert sick.state is State.OPEN and not sick.fleet_controlled


def test_only_host_with_traffic_is_a_sufficient_witness(server: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [server.url] * 2) as (busy, idle):
        assert busy.call(fail, 10) == 10
        all_in(State.OPEN, [idle])
        assert "10 of 10 calls failed, on 1 host" in idle.call(explain)


def test_four_hosts_below_the_threshold_open_together_in_every_worker(server: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [server.url] * 4, processes=2) as made:
        workers = everyone(made)
        assert [host.call(fail, 9) for host in made[:1]] == [9]
        assert together(workers[2::2], fail, 2) == [2, 2, 2]
        all_in(State.OPEN, made)
        assert [worker.call(succeed, 1) for worker in workers] == [0] * 8
        reason = made[3].call(reasons)[-1]
        assert made[3].fleet_controlled and reason.startswith("fleet: ")
        assert reason.endswith(f" (by host {gethostname()})")


def test_hosts_with_nine_failures_each_open_together(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 4) as made:
        reached = together(everyone(made), fail, 9)
        all_in(State.OPEN, made)
        assert sum(reached) <= 36 and together(everyone(made), fail, 1) == [0] * 4


def test_fleet_below_the_minimum_of_calls_stays_closed(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 3) as made:
        together(everyone(made), fail, 3)
        until(lambda: all(host.reported_failures == 3 for host in made), seconds=3)
        assert always(lambda: all(host.state is State.CLOSED for host in made), 0.3)


def test_failures_of_two_hosts_below_the_rate_of_the_fleet_open_no_circuit(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 3) as (well, *sick):
        well.call(succeed, 30)
        until(lambda: valkey.stored("traffic") == "1", seconds=3)
        for host in sick:
            host.call(fail, 9)
        until(lambda: all(host.reported_failures == 9 for host in sick), seconds=3)
        assert always(lambda: all(host.state is State.CLOSED for host in (well, *sick)), 0.3)


def test_consecutive_failures_of_all_hosts_open_the_fleet(server: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [server.url] * 3, config=STREAK) as made:
        assert together(everyone(made), fail, 3) == [3] * 3
        until(lambda: all(host.reported_failures == 3 for host in made), seconds=3)
        made[0].call(fail, 1)
        all_in(State.OPEN, made)
        assert "10 consecutive failures, on 3 hosts" in made[1].call(explain)


def test_success_of_one_host_ends_the_streak_of_the_fleet(server: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [server.url] * 3, config=STREAK) as made:
        together(everyone(made), fail, 3)
        until(lambda: all(host.reported_failures == 3 for host in made), seconds=3)
        made[2].call(succeed, 1)
        until(lambda: server.stored("streak") == "0", seconds=3)
        together(everyone(made)[:2], fail, 3)
        until(lambda: all(host.reported_failures == 6 for host in made[:2]), seconds=3)
        assert always(lambda: all(host.state is State.CLOSED for host in made), 0.3)


def test_consecutive_failures_of_one_host_open_that_host_only(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 2, config=STREAK) as (sick, well):
        well.call(succeed, 3)
        until(lambda: valkey.stored("traffic") == "1", seconds=3)
        sick.call(fail, 12)
        until(lambda: sick.reported_failures == 10, seconds=3)
        assert always(lambda: well.state is State.CLOSED, 0.3)
        assert sick.state is State.OPEN


def test_slow_calls_of_two_hosts_open_the_fleet(server: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [server.url] * 2, config=SLOW) as made:
        together(everyone(made), crawl, 6)
        all_in(State.OPEN, made)
        assert "were slow, on 2 hosts" in made[0].call(explain)
