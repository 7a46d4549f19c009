"""Servers that are more than one: behind sentinels, and a cluster."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cb import State

from .hosts import all_in, everyone, hosts, together
from .inside import fail
from .servers import BINARIES, Server, free_port, until

VALKEY = BINARIES["valkey"]
#: a replica is ready at once
QUICK = ("--repl-diskless-sync-delay", "0")


@contextmanager
def sentinel(directory: Path) -> Iterator[tuple[Server, Server, str]]:
    """Run a master, its replica, and a sentinel that watches them. Yield the two and the fleet's URL."""
    with ExitStack() as stack:
        master = stack.enter_context(Server(VALKEY, directory / "master", *QUICK))
        of = ("--replicaof", "127.0.0.1", str(master.port))
        replica = stack.enter_context(Server(VALKEY, directory / "replica", *QUICK, *of))
        until(lambda: replica.client.info("replication")["master_link_status"] == "up", 10)
        settings = directory / "sentinel.conf"
        settings.write_text(
            f"sentinel monitor m 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds m 300\nsentinel failover-timeout m 2000\n"
        )
        watcher = stack.enter_context(Server(VALKEY, directory / "sentinel", "--sentinel", config=settings))
        until(lambda: watcher.client.sentinel_slaves("m"), 15)
        # The second sentinel does not exist: one of them is enough.
        yield master, replica, f"redis+sentinel://127.0.0.1:{watcher.port},127.0.0.1:{free_port()}/m"


@contextmanager
def cluster(directory: Path) -> Iterator[str]:
    """Run three nodes that share the slots. Yield the fleet's URL."""
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
        until(lambda: all(node.client.cluster("INFO")["cluster_state"] == "ok" for node in nodes), 15)
        yield f"redis+cluster://127.0.0.1:{nodes[1].port}"


def test_fleet_behind_a_sentinel_opens_together_and_goes_on_with_the_replica(tmp_path: Path) -> None:
    with sentinel(tmp_path) as (master, replica, url), hosts(tmp_path, [url] * 2) as made:
        together(everyone(made), fail, 6)
        all_in(State.OPEN, made)
        made[0].hold(State.DISABLED)
        all_in(State.DISABLED, made)
        master.kill()
        until(lambda: replica.client.info("replication")["role"] == "master", 15)
        made[1].reset()
        all_in(State.CLOSED, made, 10)


def test_fleet_on_a_cluster_opens_together(tmp_path: Path) -> None:
    with cluster(tmp_path) as url, hosts(tmp_path, [url] * 2) as made:
        together(everyone(made), fail, 6)
        all_in(State.OPEN, made)
        made[0].hold(State.DISABLED)
        all_in(State.DISABLED, made)
