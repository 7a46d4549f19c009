"""Several servers: behind sentinels, and in a cluster."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from cb import CircuitBreaker, State
from tests.fleet.by_hand import CONFIG, Clock, Host, pause
from tests.fleet.hosts import all_in, everyone, hosts, together
from tests.fleet.inside import fail
from tests.support.redis_servers import BINARIES, Server, free_port
from tests.support.waiting import until

pytestmark = pytest.mark.quiet

VALKEY = BINARIES["valkey"]
#: Options that make a replica ready at once.
QUICK = ("--repl-diskless-sync-delay", "0")


@contextmanager
def sentinel(directory: Path) -> Iterator[tuple[Server, Server, str]]:
    """Run a master, its replica and a sentinel. Yield the two servers and the URL of the fleet."""
    with ExitStack() as stack:
        master = stack.enter_context(Server(VALKEY, directory / "master", *QUICK))
        of = ("--replicaof", "127.0.0.1", str(master.port))
        replica = stack.enter_context(Server(VALKEY, directory / "replica", *QUICK, *of))
        until(lambda: replica.client.info("replication")["master_link_status"] == "up", seconds=10)
        settings = directory / "sentinel.conf"
        settings.write_text(
            f"sentinel monitor m 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds m 300\nsentinel failover-timeout m 2000\n"
        )
        watcher = stack.enter_context(Server(VALKEY, directory / "sentinel", "--sentinel", config=settings))
        until(lambda: watcher.client.sentinel_slaves("m"), seconds=15)
        # The second sentinel does not exist: one is enough.
        yield master, replica, f"redis+sentinel://127.0.0.1:{watcher.port},127.0.0.1:{free_port()}/m"


@contextmanager
def cluster(directory: Path) -> Iterator[list[Server]]:
    """Run three nodes that share the slots. The URL of any node is a URL of the cluster."""
    with ExitStack() as stack:
        nodes = []
        for number in range(3):
            options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
            nodes.append(stack.enter_context(Server(VALKEY, directory / f"node-{number}", *options)))
        bounds = [0, 5461, 10923, 16384]
        bus = int(nodes[0].client.config_get("cluster-port")["cluster-port"])
        for number, node in enumerate(nodes):
            node.client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            node.client.execute_command("CLUSTER ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
            node.client.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port, bus)
        until(lambda: all(node.client.cluster("INFO")["cluster_state"] == "ok" for node in nodes), seconds=15)
        for node in nodes:
            node.url = f"redis+cluster://127.0.0.1:{node.port}"
        yield nodes


def test_fleet_behind_a_sentinel_opens_together_and_continues_with_the_replica(tmp_path: Path) -> None:
    with sentinel(tmp_path) as (master, replica, url), hosts(tmp_path, [url] * 2) as made:
        together(everyone(made), fail, 6)
        all_in(State.OPEN, made)
        made[0].hold(State.DISABLED)
        all_in(State.DISABLED, made)
        master.kill()
        until(lambda: replica.client.info("replication")["role"] == "master", seconds=15)
        made[1].reset()
        all_in(State.CLOSED, made, 10)


def test_fleet_on_a_cluster_opens_together(tmp_path: Path) -> None:
    with cluster(tmp_path) as nodes, hosts(tmp_path, [nodes[1].url] * 2) as made:
        together(everyone(made), fail, 6)
        all_in(State.OPEN, made)
        made[0].hold(State.DISABLED)
        all_in(State.DISABLED, made)


class MovingSlot:
    """A slot of a cluster that moves from one node to another."""

    def __init__(self, nodes: list[Server], key: str) -> None:
        self._number = nodes[0].client.cluster("KEYSLOT", key)
        self._from = node_of(nodes, key)
        self._nodes = nodes
        self._ids = [node.client.execute_command("CLUSTER MYID") for node in nodes]
        self._to = (self._from + 1) % 3

    def _set(self, node: int, *arguments: str) -> None:
        self._nodes[node].client.execute_command("CLUSTER SETSLOT", self._number, *arguments)

    def begin(self) -> None:
        self._set(self._to, "IMPORTING", self._ids[self._from])
        self._set(self._from, "MIGRATING", self._ids[self._to])

    def finish(self) -> None:
        """Delete the keys, and assign the slot to the other node."""
        client = self._nodes[self._from].client
        for key in client.execute_command("CLUSTER GETKEYSINSLOT", self._number, 100):
            client.delete(key)
        for node in (self._to, self._from, 3 - self._to - self._from):
            self._set(node, "NODE", self._ids[self._to])


def test_hosts_decide_alone_about_breakers_in_a_moving_slot_until_it_has_moved(
    tmp_path: Path,
) -> None:
    with cluster(tmp_path) as nodes:
        clock = Clock()
        made = [Host(nodes[1], clock=clock) for _ in range(2)]
        fine = [CircuitBreaker("fine", CONFIG, ledger=host.ledger, clock=clock) for host in made]
        for host, breaker in zip(made, fine, strict=True):
            host.succeed()
            breaker.call(int)
            host.agent.run_once()
        slot = MovingSlot(nodes, "cb:{f/d}:circuit")
        slot.begin()
        begin = clock()
        for host in made:
            host.succeed()
            host.sync("fine")
        assert clock() - begin < 1e9
        assert all(host.unreachable == ("d",) and host.connected for host in made)
        fine[0].control.force_open(reason="test")
        for host in made:
            host.sync("fine")
        assert fine[1].state is State.FORCED_OPEN
        slot.finish()
        for _ in range(2):  # the first one gets the new location
            clock.advance(1.05)
            for host in made:
                host.sync()
        assert not any(host.unreachable for host in made)


def test_moving_slot_of_the_hosts_key_does_not_affect_breakers(tmp_path: Path) -> None:
    with cluster(tmp_path) as nodes:
        made = [Host(nodes[1]) for _ in range(2)]
        for node in nodes:
            node.client.config_set("cluster-allow-reads-when-down", "no")
        MovingSlot(nodes, "cb:{f}:hosts").begin()
        for host in (*made, *made):
            host.succeed()
            host.agent.run_once()
        assert all(host.connected for host in made)
        made[0].breaker.control.force_open(reason="test")
        for host in made:
            host.sync()
        assert made[1].state is State.FORCED_OPEN


def test_hosts_decide_alone_about_breakers_on_a_dead_node(tmp_path: Path) -> None:
    with cluster(tmp_path) as nodes:
        for node in nodes:
            node.client.config_set("cluster-require-full-coverage", "no")
            node.client.config_set("cluster-node-timeout", 60_000)
        names: dict[int, str] = {}
        for number in range(100):  # a name on each node
            names.setdefault(node_of(nodes, f"cb:{{f/{number}}}:circuit"), str(number))
        dead = node_of(nodes, "cb:f:changes")  # the node of the channel as well
        there = (dead + 1) % 3
        made = [Host(nodes[there], clock=(clock := Clock())) for _ in range(2)]
        breakers = [CircuitBreaker(name, CONFIG, ledger=host.ledger) for host in made for name in names.values()]
        turns(made, clock)
        nodes[dead].kill()
        begin = time.monotonic()
        turns(made, clock)
        assert time.monotonic() - begin < 5
        assert all(names[dead] in host.unreachable and names[there] not in host.unreachable for host in made)
        one, other = (breaker for breaker in breakers if breaker.name == names[there])
        one.control.force_open(reason="test")
        pause(1)  # without notifications, each breaker is reported once a second
        turns(made, clock)
        assert other.state is State.FORCED_OPEN
        assert all(host.connected for host in made)


def node_of(nodes: list[Server], key: str) -> int:
    slot = nodes[0].client.cluster("KEYSLOT", key)
    return next(index for index, bound in enumerate((5461, 10923, 16384)) if slot < bound)


def turns(made: list[Host], clock: Clock) -> None:
    """Run the agents of the hosts as in three seconds."""
    for _ in range(3):
        clock.advance(1.05)
        for host in made:
            host.agent.run_once()
