"""The app that `uvicorn_workers` runs: each request is one call of a guarded coroutine, in whichever worker gets it."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from .async_peers import ASYNC_LIBRARIES
from .peers import Setting
from .uvicorn_workers import FAILS, HANGING, LIBRARY, READY, SETTING
from .worker_pool import ANSWERED, FAILED, HANGS, REJECTED

#: response of a worker that has a hanging call already
BUSY = "busy"

_given = json.loads(os.environ[SETTING])
_setting = Setting(Path(_given.pop("directory")), **_given)
_library = ASYNC_LIBRARIES[os.environ[LIBRARY]]
_fails = _setting.directory / FAILS
_hanging = _setting.directory / f"{HANGING}{os.getpid()}"
_seconds = [0.002]  # of the next call: as of a failed connection, so that calls of all processes overlap


async def _work(reached: list[bool]) -> None:
    reached.append(True)
    fails, seconds = _fails.exists(), _seconds[0]
    if seconds == HANGS:
        _hanging.touch()
    await asyncio.sleep(seconds)
    if fails:
        raise ConnectionError


_guarded = _library.breaker(_setting)(_work)


async def _attempt() -> tuple[str, bool]:
    """Return the outcome of a call, and if it reached the dependency."""
    reached: list[bool] = []
    try:
        await _guarded(reached)
    except _library.rejection:  # some raise it for the call that opens, too
        return REJECTED, bool(reached)
    except ConnectionError:
        return FAILED, True
    return ANSWERED, True


async def _hang() -> tuple[str, bool]:
    if _hanging.exists():
        return BUSY, False
    _seconds[0] = HANGS
    while (await _attempt())[0] == REJECTED:
        await asyncio.sleep(0.005)
    return ANSWERED, True


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer `/call` with the process id and what came of a call, and `/hang` never, or with BUSY."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
        return
    found = await (_hang() if scope["path"] == "/hang" else _attempt())
    body = json.dumps([os.getpid(), *found]).encode()
    headers = [(b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _live(
    receive: Callable[[], Awaitable[dict[str, Any]]], send: Callable[[dict[str, Any]], Awaitable[None]]
) -> None:
    await receive()
    (_setting.directory / f"{READY}{os.getpid()}").touch()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
