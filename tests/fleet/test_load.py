"""Load of a fleet on its server. docs/rules.md, rule 20."""

from pathlib import Path

import pytest

from cb import State
from tests.fleet.hosts import all_in, everyone, hosts, together
from tests.fleet.inside import end_traffic, fail, start_traffic, succeed
from tests.support.redis_servers import Server, always
from tests.support.waiting import until

pytestmark = pytest.mark.quiet


def test_commands_do_not_grow_with_the_number_of_calls(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 2) as made:
        calls, commands = [], []
        for pause in (0.1, 0.0):
            before = valkey.runs("evalsha")
            together(everyone(made), start_traffic, False, pause)
            assert always(lambda: all(host.state is State.CLOSED for host in made), 0.8)
            calls.append(sum(seen.reached for seen in together(everyone(made), end_traffic)))
            commands.append(valkey.runs("evalsha") - before)
        assert calls[0] < 50 and calls[1] > 5_000
        assert commands[1] < 1.5 * commands[0] + 5


def test_commands_stop_when_the_calls_do(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 2) as made:
        together(everyone(made), succeed, 10)
        until(lambda: all(host.traffic == 10 for host in made), seconds=3)
        before = valkey.runs("evalsha")
        assert always(lambda: all(host.state is State.CLOSED for host in made), 0.8)
        # One heartbeat a second from each host remains.
        assert valkey.runs("evalsha") - before <= 2 * 2


def test_every_key_in_the_server_expires(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 2) as made:
        together(everyone(made), start_traffic, True)
        made[0].configure(failure_threshold=50)
        until(lambda: int(valkey.stored("rounds") or 0) > 0, seconds=5)
        together(everyone(made), end_traffic)
        made[0].hold(State.DISABLED)
        all_in(State.DISABLED, made)
        made[0].reset()
        all_in(State.CLOSED, made)
        together(everyone(made), fail, 3)
        keys = list(valkey.client.scan_iter())
        assert {"cb:{f}:hosts", "cb:{f/d}:circuit", "cb:{f/d}:hosts", "cb:{f/d}:seen"} <= set(keys)
        assert not [key for key in keys if not 0 < valkey.client.ttl(key) < 86_400]
