"""The server that the hosts of a fleet have in common: Redis or Valkey, one, with sentinels, or a cluster."""

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

#: milliseconds for which a host counts as one of the fleet after it was heard of
LIVES = 5_000
#: messages that are read at once: more than all breakers of a ledger change their state at the same time
MESSAGES = 1_024
#: bytes of a breaker's name, as UTF-8, that the ledger holds at most
_NAME = 128
#: seconds without news after there were too many, or the server refused them
REST = 1.0
_SAID = 60.0  # seconds without trouble after which the next is logged
_HERE = Path(__file__).parent
_Call = tuple[list[str], list[Any]]


class Server:
    """A connection to it. Not thread safe, and of no use after a fork.

    Whatever is wrong with the answer to one call is a FleetError in its place; FleetError is raised if there are none.
    """

    def __init__(self, url: str, fleet: str) -> None:
        self._client = connect(url)
        self._cluster = isinstance(self._client, RedisCluster)
        self._sync, self._hello = _Script("sync"), _Script("hello")
        self._fleet = fleet
        self._channel = f"cb:{fleet}:changes"
        self._subscription: Any = None
        self._deaf_until = float("-inf")
        self._troubles = 0  # with news, of late

    def sync(self, host: str, reports: Sequence[tuple[str, Report]]) -> list[Reply | FleetError]:
        """Exchange reports for replies, by breaker's name; what is wrong with one hinders no other."""
        calls: list[_Call] = []
        for name, report in reports:
            slot = f"cb:{{{self._fleet}/{name}}}:"
            told = report.told() | {"host": host, "name": name, "channel": self._channel}
            keys = [slot + part for part in ("circuit", "hosts", "seen", "leases")]
            calls.append((keys, [json.dumps(told)]))
        return [_reply(answer) for answer in self._run(self._sync, calls)]

    def hello(self, host: str, lives: int = LIVES) -> int | FleetError:
        """Say that the host lives, or with 0 that it leaves. Return how many do."""
        (count,) = self._run(self._hello, [([f"cb:{{{self._fleet}}}:hosts"], [host, lives])])
        if isinstance(count, int) and 0 <= count < 2**31:
            return count
        return _fault(count)

    def changed(self, seconds: float) -> set[str] | None:
        """Wait that long for other hosts' changes. Return the names of the breakers.

        None means any: there were more messages than can be read, or nobody has listened for a while.
        """
        if self._subscription is None and monotonic() < self._deaf_until:
            threading.Event().wait(seconds)
            return set()
        with _errors():
            try:
                if self._subscription is not None:
                    return self._read(seconds)
                self._subscription = self._client.pubsub(ignore_subscribe_messages=True)
                self._subscription.subscribe(self._channel)
            # They may be forbidden, cut off, or come from a node of a cluster that is away: the fleet goes on without.
            except (RedisError, RedisClusterException, OSError) as error:
                self._unsubscribe()  # what waits there is not read either
                self._rest(error)
        return None

    def _read(self, seconds: float) -> set[str]:
        names: set[str] = set()
        for _ in range(MESSAGES):
            message = self._subscription.get_message(timeout=0.0 if names else seconds)
            if not message:
                return names
            data = message["data"]
            if isinstance(data, str | bytes) and len(data) <= _NAME:
                names.add(data if isinstance(data, str) else data.decode(errors="replace"))
        raise ResponseError(f"more than {MESSAGES} messages at once")

    def close(self) -> None:
        """Give the connections up."""
        self._unsubscribe()
        with suppress(RedisError, RedisClusterException, OSError):
            self._client.close()

    def _rest(self, fault: Exception) -> None:
        now = monotonic()
        self._troubles = self._troubles + 1 if now - self._deaf_until < _SAID else 1
        self._deaf_until = now + REST
        # A connection that is lost may be that of a server which is away: that is said elsewhere.
        if self._troubles == (1 if self._cluster or isinstance(fault, ResponseError) else 2):
            log.error("fleet %s goes on without news from %s: %s", self._fleet, self._channel, fault)

    def _unsubscribe(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with suppress(RedisError, RedisClusterException, OSError):
                subscription.close()

    def _run(self, script: "_Script", calls: list[_Call]) -> list[Any]:
        """Return what a script answers to each call, or the exception that it ends in."""
        with _errors():
            answers = self._run_on_nodes(script, calls) if self._cluster else script.run(self._client, calls)
            if len(answers) != len(calls):
                raise FleetError(f"{len(answers)} answers to {len(calls)} questions")
            return answers

    def _run_on_nodes(self, script: "_Script", calls: list[_Call]) -> list[Any]:
        """Run a script on each node of a cluster. A node or slot that is away takes only its breakers along."""
        # Not by the client of redis-py for clusters, which waits for a slot to come back, and with it for one breaker.
        answers: list[Any] = [None] * len(calls)
        by_node: dict[Any, list[int]] = defaultdict(list)
        for number, (keys, _) in enumerate(calls):
            try:
                by_node[self._client.get_node_from_key(keys[0])].append(number)
            except RedisClusterException as error:  # the slot belongs to no node
                answers[number] = error
        for node, numbers in by_node.items():
            try:
                client = self._client.get_redis_connection(node)
                found = script.run(client, [calls[number] for number in numbers])
            except (RedisError, OSError) as error:
                found = [error] * len(numbers)
            for number, answer in zip(numbers, found, strict=True):
                answers[number] = answer
        if any(_misplaced(answer) for answer in answers):
            with suppress(RedisError, RedisClusterException, OSError):
                self._client.nodes_manager.initialize()  # learns which node has what; the next exchange goes there
        return answers


class _Script:
    """A Lua script, which the server may forget at any time."""

    def __init__(self, name: str) -> None:
        self._text = (_HERE / f"{name}.lua").read_text()
        self._digest = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    def run(self, client: Any, calls: list[_Call]) -> list[Any]:
        """Return the answer to each call, or the ResponseError."""
        answers = _pipelined(client, "EVALSHA", self._digest, calls)
        # The text itself only where a server forgets faster than it is told: it is long, and may be forbidden.
        for command, script in (("EVALSHA", self._digest), ("EVAL", self._text)):
            missed = [number for number, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
            if not missed:
                break
            if command == "EVALSHA":
                with suppress(ResponseError):
                    client.script_load(self._text)
            again = _pipelined(client, command, script, [calls[number] for number in missed])
            for number, answer in zip(missed, again, strict=True):
                answers[number] = answer
        return answers


def _pipelined(client: Any, command: str, script: str, calls: list[_Call]) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    for keys, args in calls:
        pipeline.execute_command(command, script, len(keys), *keys, *args)
    answers: list[Any] = pipeline.execute(raise_on_error=False)
    return answers


def _misplaced(answer: Any) -> bool:
    """Return whether the answer shows that another node must be asked."""
    return isinstance(answer, Exception) and (isinstance(answer, MovedError) or not isinstance(answer, ResponseError))


def _reply(answer: Any) -> Reply | FleetError:
    try:
        return Reply.parse(answer) if not isinstance(answer, Exception) else _fault(answer)
    except ValueError as error:
        return FleetError(f"it makes no sense: {error}")


def _fault(answer: Any) -> FleetError:
    return FleetError(str(answer) if isinstance(answer, Exception) else f"it makes no sense: {answer!r:.80}")


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except FleetError:
        raise
    except Exception as error:  # what is no Redis may have the client fail in any way
        raise FleetError(str(error) or repr(error)) from error
