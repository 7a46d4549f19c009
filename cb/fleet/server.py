"""The agent's connection to the server of its fleet: one Redis or Valkey server, sentinels, or a cluster."""

import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from redis.cluster import RedisCluster
from redis.exceptions import MovedError, NoScriptError, RedisClusterException, RedisError, ResponseError

from cb.clocks import monotonic
from cb.log import Log

from .connection import FleetError, connect
from .messages import Reply, Report

log = Log(__name__)

#: Milliseconds after its last heartbeat for which a host counts as part of the fleet.
HOST_TTL_MS = 5_000
#: Messages read at once: as many as a ledger has breakers.
MAX_MESSAGES = 1_024
#: Longest name of a breaker in the ledger, in bytes of UTF-8.
_MAX_NAME_BYTES = 128
#: Seconds without a subscription after it failed or delivered too many messages.
RESUBSCRIBE_SECONDS = 1.0
#: Seconds without such a failure after which the next one is logged.
_QUIET_SECONDS = 60.0
_HERE = Path(__file__).parent
_Call = tuple[list[str], list[Any]]


class Server:
    """A connection to the server. Not thread-safe, and not usable after a fork.

    An invalid reply to one of several calls is returned as a FleetError in its place. FleetError is raised if the
    server does not reply at all.

    Args:
        url: URL of the server, as in `Fleet`.
        fleet: Name of the fleet.
    """

    def __init__(self, url: str, fleet: str) -> None:
        self._client = connect(url)
        self._cluster = isinstance(self._client, RedisCluster)
        self._sync, self._heartbeat = _Script("sync"), _Script("heartbeat")
        self._fleet = fleet
        self._channel = f"cb:{fleet}:changes"
        self._subscription: Any = None
        self._unsubscribed_until = float("-inf")
        self._failures = 0  # recent failures of the subscription

    def __repr__(self) -> str:
        return f"<Server of fleet {self._fleet!r}, {'subscribed' if self._subscription else 'not subscribed'}>"

    def sync(self, host: str, reports: Sequence[tuple[str, Report]]) -> list[Reply | FleetError]:
        """Send reports by name of the breaker, and return the replies. An error of one affects no other."""
        calls: list[_Call] = []
        for name, report in reports:
            prefix = f"cb:{{{self._fleet}/{name}}}:"
            document = report.as_dict() | {"host": host, "name": name, "channel": self._channel}
            keys = [prefix + part for part in ("circuit", "hosts", "seen", "leases")]
            calls.append((keys, [json.dumps(document)]))
        return [_reply(result) for result in self._run(self._sync, calls)]

    def heartbeat(self, host: str, ttl: int = HOST_TTL_MS) -> int | FleetError:
        """Count the host as part of the fleet for `ttl` milliseconds; 0 removes it. Return the number of hosts."""
        (count,) = self._run(self._heartbeat, [([f"cb:{{{self._fleet}}}:hosts"], [host, ttl])])
        if isinstance(count, int) and 0 <= count < 2**31:
            return count
        return _fault(count)

    def changed(self, seconds: float) -> set[str] | None:
        """Wait for changes by other hosts, up to `seconds`. Return the names of the changed breakers.

        None stands for all breakers: messages may have been missed.
        """
        if self._subscription is None and monotonic() < self._unsubscribed_until:
            threading.Event().wait(seconds)
            return set()
        with _errors():
            try:
                if self._subscription is not None:
                    return self._read(seconds)
                self._subscription = self._client.pubsub(ignore_subscribe_messages=True)
                self._subscription.subscribe(self._channel)
            # The subscription may be forbidden or interrupted, or its cluster node may be down: reports still work.
            except (RedisError, RedisClusterException, OSError) as error:
                self._unsubscribe()  # messages that are still buffered are dropped
                self._pause_subscription(error)
        return None

    def _read(self, seconds: float) -> set[str]:
        names: set[str] = set()
        for _ in range(MAX_MESSAGES):
            message = self._subscription.get_message(timeout=0.0 if names else seconds)
            if not message:
                return names
            data = message["data"]
            if isinstance(data, str | bytes) and len(data) <= _MAX_NAME_BYTES:
                names.add(data if isinstance(data, str) else data.decode(errors="replace"))
        raise ResponseError(f"more than {MAX_MESSAGES} messages at once")

    def close(self) -> None:
        """Close the connections."""
        self._unsubscribe()
        with suppress(RedisError, RedisClusterException, OSError):
            self._client.close()

    def _pause_subscription(self, fault: Exception) -> None:
        now = monotonic()
        self._failures = self._failures + 1 if now - self._unsubscribed_until < _QUIET_SECONDS else 1
        self._unsubscribed_until = now + RESUBSCRIBE_SECONDS
        # A single lost connection may be that of a server which is down: the agent reports that.
        if self._failures == (1 if self._cluster or isinstance(fault, ResponseError) else 2):
            log.error("fleet %s receives no notifications from %s: %s", self._fleet, self._channel, fault)

    def _unsubscribe(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with suppress(RedisError, RedisClusterException, OSError):
                subscription.close()

    def _run(self, script: "_Script", calls: list[_Call]) -> list[Any]:
        """Run a script once for each call. Return the results, each with its exception in place of a value."""
        with _errors():
            results = self._run_on_nodes(script, calls) if self._cluster else script.run(self._client, calls)
            if len(results) != len(calls):
                raise FleetError(f"{len(results)} replies to {len(calls)} calls")
            return results

    def _run_on_nodes(self, script: "_Script", calls: list[_Call]) -> list[Any]:
        """Run a script on each node of a cluster. A node or slot that is down affects only its own breakers."""
        # The cluster client of redis-py would block on a slot that is down, and with it all breakers.
        results: list[Any] = [None] * len(calls)
        nodes: dict[str, Any] = {}  # by name: in some versions of redis-py, nodes cannot be keys
        by_node: dict[str, list[int]] = defaultdict(list)
        for number, (keys, _) in enumerate(calls):
            try:
                node = self._client.get_node_from_key(keys[0])
            except RedisClusterException as error:  # the slot belongs to no node
                results[number] = error
            else:
                nodes[node.name] = node
                by_node[node.name].append(number)
        for name, numbers in by_node.items():
            try:
                client = self._client.get_redis_connection(nodes[name])
                found = script.run(client, [calls[number] for number in numbers])
            except (RedisError, OSError) as error:
                found = [error] * len(numbers)
            for number, result in zip(numbers, found, strict=True):
                results[number] = result
        if any(_misplaced(result) for result in results):
            with suppress(RedisError, RedisClusterException, OSError):
                self._client.nodes_manager.initialize()  # reload the slots: the next synchronization uses them
        return results


class _Script:
    """A Lua script. The server may evict it at any time."""

    def __init__(self, name: str) -> None:
        self._text = (_HERE / f"{name}.lua").read_text()
        self._digest = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    def run(self, client: Any, calls: list[_Call]) -> list[Any]:
        """Return the result of each call, or its ResponseError."""
        results = _pipelined(client, "EVALSHA", self._digest, calls)
        # EVAL with the whole text is the last resort, for a server that evicts scripts at once: it is long, and may be
        # forbidden.
        for command, script in (("EVALSHA", self._digest), ("EVAL", self._text)):
            missed = [number for number, result in enumerate(results) if isinstance(result, NoScriptError)]
            if not missed:
                break
            if command == "EVALSHA":
                with suppress(ResponseError):
                    client.script_load(self._text)
            again = _pipelined(client, command, script, [calls[number] for number in missed])
            for number, result in zip(missed, again, strict=True):
                results[number] = result
        return results


def _pipelined(client: Any, command: str, script: str, calls: list[_Call]) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    for keys, args in calls:
        pipeline.execute_command(command, script, len(keys), *keys, *args)
    results: list[Any] = pipeline.execute(raise_on_error=False)
    return results


def _misplaced(result: Any) -> bool:
    """Return True if the result shows that another node holds the key."""
    return isinstance(result, Exception) and (isinstance(result, MovedError) or not isinstance(result, ResponseError))


def _reply(result: Any) -> Reply | FleetError:
    try:
        return Reply.parse(result) if not isinstance(result, Exception) else _fault(result)
    except ValueError as error:
        return FleetError(f"invalid reply: {error}")


def _fault(result: Any) -> FleetError:
    return FleetError(str(result) if isinstance(result, Exception) else f"invalid reply: {result!r:.80}")


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except FleetError:
        raise
    except Exception as error:  # a server of another kind may make the client fail in any way
        raise FleetError(str(error) or repr(error)) from error
