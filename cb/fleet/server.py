"""The server that the hosts of a fleet have in common: Redis or Valkey, one, with sentinels, or a cluster."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis.cluster import RedisCluster
from redis.exceptions import NoScriptError, RedisClusterException, RedisError, ResponseError

from .connection import FleetError, connect
from .messages import Report, View

#: milliseconds for which a host counts as one of the fleet after it was heard of
LIVES = 5_000
_HERE = Path(__file__).parent


class Server:
    """A connection to it. Not thread safe, and of no use after a fork."""

    def __init__(self, url: str, fleet: str) -> None:
        self._client = connect(url)
        self._cluster = isinstance(self._client, RedisCluster)
        self._scripts = {name: _Script(self._client, name) for name in ("exchange", "hello")}
        self._fleet = fleet
        self._channel = f"cb:{fleet}:changes"
        self._subscription: Any = None

    def exchange(self, host: str, reports: Sequence[tuple[str, Report]]) -> list[View | FleetError]:
        """Exchange reports for views, by breaker's name, in one pipeline; what is wrong with one hinders no other.

        Raises FleetError if the server does not answer.
        """
        calls = []
        for name, report in reports:
            slot = f"cb:{{{self._fleet}/{name}}}:"
            told = report.told() | {"host": host, "name": name, "channel": self._channel}
            keys = [slot + part for part in ("circuit", "hosts", "seen", "leases")]
            calls.append((keys, [json.dumps(told)]))
        with _errors():
            answers = self._scripts["exchange"].run(calls, pipelined=not self._cluster)
        return [_view(answer) for answer in answers]

    def hello(self, host: str, lives: int = LIVES) -> int:
        """Say that the host lives, or with 0 that it leaves. Return how many do. Raises FleetError."""
        with _errors():
            (count,) = self._scripts["hello"].run([([f"cb:{{{self._fleet}}}:hosts"], [host, lives])], pipelined=False)
        if isinstance(count, ResponseError):
            raise FleetError(str(count)) from count
        return int(count)

    def changed(self, seconds: float) -> set[str]:
        """Wait that long for other hosts' changes. Return the names of the breakers. Raises FleetError."""
        names: set[str] = set()
        with _errors():
            if self._subscription is None:
                self._subscription = self._client.pubsub(ignore_subscribe_messages=True)
                self._subscription.subscribe(self._channel)
            while message := self._subscription.get_message(timeout=0.0 if names else seconds):
                data = message["data"]
                names.add(data if isinstance(data, str) else data.decode(errors="replace"))
        return names

    def close(self) -> None:
        """Give the connections up."""
        for part in (self._subscription, self._client):
            if part is not None:
                part.close()
        self._subscription = None


class _Script:
    """A Lua script, which the server may forget at any time."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._text = (_HERE / f"{name}.lua").read_text()
        self._digest = ""

    def run(self, calls: Sequence[tuple[list[str], list[Any]]], *, pipelined: bool) -> list[Any]:
        """Return the answer to each call, or the ResponseError."""
        if not self._digest:
            self._digest = self._client.script_load(self._text)
        answers = self._run(calls, pipelined=pipelined)
        if any(isinstance(answer, NoScriptError) for answer in answers):
            self._digest = self._client.script_load(self._text)
            answers = self._run(calls, pipelined=pipelined)
        return answers

    def _run(self, calls: Sequence[tuple[list[str], list[Any]]], *, pipelined: bool) -> list[Any]:
        if not pipelined:
            return [self._call(keys, args) for keys, args in calls]
        pipeline = self._client.pipeline(transaction=False)
        for keys, args in calls:
            pipeline.evalsha(self._digest, len(keys), *keys, *args)
        answers: list[Any] = pipeline.execute(raise_on_error=False)
        return answers

    def _call(self, keys: list[str], args: list[Any]) -> Any:
        try:
            return self._client.evalsha(self._digest, len(keys), *keys, *args)
        except ResponseError as error:
            return error


def _view(answer: Any) -> View | FleetError:
    if isinstance(answer, RedisError):
        return FleetError(str(answer))
    return View(**json.loads(answer))


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except (RedisError, RedisClusterException, OSError, ValueError) as error:
        raise FleetError(str(error)) from error
