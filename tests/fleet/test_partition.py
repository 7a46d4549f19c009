"""A host that a proxy separates from the server. docs/rules.md, rules 16 and 18."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cb import State
from tests.fleet.hosts import Host, all_in, hosts, together
from tests.fleet.inside import end_traffic, fail, heal, reasons, start_traffic, succeed
from tests.fleet.proxy import Mode, Proxy
from tests.support.redis_servers import Server, always
from tests.support.waiting import until

pytestmark = pytest.mark.quiet


@contextmanager
def partitioned(server: Server, directory: Path) -> Iterator[tuple[Proxy, list[Host]]]:
    """Run three hosts. The first one connects through a proxy."""
    with Proxy(server.port) as proxy, hosts(directory, [proxy.url, server.url, server.url]) as made:
        yield proxy, made


@pytest.mark.parametrize("mode", ["cut", "hang"])
def test_separated_host_opens_and_recovers_alone_and_its_return_changes_no_other(
    valkey: Server, tmp_path: Path, mode: Mode
) -> None:
    with partitioned(valkey, tmp_path) as (proxy, (alone, *others)):
        together([host.workers[0] for host in others], start_traffic, False, 0.005)
        until(lambda: valkey.stored("traffic") == "2", seconds=3)
        proxy.set(mode)
        alone.call(start_traffic, True)
        all_in(State.OPEN, [alone])
        assert all(host.state is State.CLOSED for host in others)
        proxy.set("pass")
        last_sync = alone.last_sync
        until(lambda: alone.last_sync > last_sync, seconds=5)
        assert always(lambda: all(host.state is State.CLOSED for host in others), 0.3)
        alone.call(heal)
        all_in(State.CLOSED, [alone], 4)
        for host in (alone, *others):
            seen = host.call(end_traffic)
            assert not seen.strange and seen.slowest < 0.1
        assert [reason for host in others for reason in host.call(reasons)] == []


def test_host_that_missed_an_opening_opens_on_its_return(valkey: Server, tmp_path: Path) -> None:
    with partitioned(valkey, tmp_path) as (proxy, (alone, *others)):
        proxy.set("cut")
        alone.call(succeed, 5)
        others[0].hold(State.FORCED_OPEN)
        all_in(State.FORCED_OPEN, others)
        assert alone.state is State.CLOSED
        proxy.set("pass")
        all_in(State.FORCED_OPEN, [alone], 5)
        assert all(host.state is State.FORCED_OPEN for host in others)


def test_host_that_missed_a_recovery_closes_on_its_return(valkey: Server, tmp_path: Path) -> None:
    with partitioned(valkey, tmp_path) as (proxy, (alone, *others)):
        together([host.workers[0] for host in (alone, *others)], fail, 9)
        all_in(State.OPEN, [alone, *others])
        proxy.set("hang")
        together([host.workers[0] for host in others], start_traffic, False, 0.005)
        all_in(State.CLOSED, others, 5)
        closed = [len(host.call(reasons)) for host in others]
        proxy.set("pass")
        all_in(State.CLOSED, [alone], 5)
        assert [len(host.call(reasons)) for host in others] == closed
        together([host.workers[0] for host in others], end_traffic)


def test_failures_before_a_reset_do_not_count_when_a_host_returns(valkey: Server, tmp_path: Path) -> None:
    with partitioned(valkey, tmp_path) as (proxy, (alone, *others)):
        proxy.set("cut")
        alone.call(fail, 9)
        others[0].hold(State.FORCED_OPEN)
        all_in(State.FORCED_OPEN, others)
        others[0].reset()  # the dependency has recovered: earlier counts must not matter
        all_in(State.CLOSED, others)
        others[1].call(fail, 1)
        proxy.set("pass")
        known = others[0].known
        until(lambda: alone.known == known, seconds=5)
        assert always(lambda: all(host.state is State.CLOSED for host in (alone, *others)), 0.3)


def test_calls_of_a_returned_host_count_again(valkey: Server, tmp_path: Path) -> None:
    with partitioned(valkey, tmp_path) as (proxy, (alone, *others)):
        proxy.set("hang")
        assert always(lambda: alone.state is State.CLOSED, 0.3)
        proxy.set("pass")
        last_sync = alone.last_sync
        until(lambda: alone.last_sync > last_sync, seconds=5)
        assert together([host.workers[0] for host in (alone, others[0])], fail, 9) == [9, 9]
        all_in(State.OPEN, [alone, *others])
