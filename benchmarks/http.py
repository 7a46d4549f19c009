"""Cost of a breaker for an HTTP request: `session.get` on loopback, with the adapter and without it."""

import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from cb import Ledger, Registry
from cb.http import CircuitBreakerAdapter

from .result import Check, Result

ROUNDS, CALLS = 100, 50
APP = """
from flask import Flask

app = Flask(__name__)


@app.get("/")
def answer():
    return {}
"""


def adapter() -> Result:
    """Measure requests of one thread with keep-alive, with the two sessions in turns."""
    with tempfile.TemporaryDirectory() as directory, server(Path(directory)) as url:
        registry = Registry(ledger=Ledger.in_file(Path(directory) / "l"))
        rates: dict[str, list[float]] = {"requests": [], "with the adapter": []}
        for number in range(ROUNDS):
            # In alternating order, and with new connections in each round: the order, and the server's thread for a
            # connection, make a difference of 2 % and more.
            for name in sorted(rates, reverse=number % 2 == 1):
                with _session(None if name == "requests" else CircuitBreakerAdapter(registry)) as session:
                    session.get(url, timeout=5)
                    rates[name].append(_rate(session, url))
    # Neighbours in time are compared: other programs disturb both alike.
    ratio = statistics.median(ours / plain for plain, ours in zip(*rates.values(), strict=True))
    rows = {name: (statistics.median(values),) for name, values in rates.items()}
    check = Check("with the adapter / requests", ratio, 0.97, at_most=False)
    return Result("session.get on loopback", ("requests a second",), rows, [check])


def _session(adapter: CircuitBreakerAdapter | None) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    if adapter:
        session.mount("http://", adapter)
    return session


def _rate(session: requests.Session, url: str) -> float:
    begin = time.perf_counter()
    for _ in range(CALLS):
        session.get(url, timeout=5)
    return CALLS / (time.perf_counter() - begin)


@contextmanager
def server(directory: Path) -> Iterator[str]:
    """Run a Flask app under gunicorn, and yield its URL."""
    (directory / "app.py").write_text(APP)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = ("--no-control-socket", "-k", "gthread", "--threads", "4", "--keep-alive", "75", "-b", address)
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", *options, "app:app"], cwd=directory, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 10
        while not _answers(f"http://{address}/") and time.monotonic() < end:
            time.sleep(0.05)
        yield f"http://{address}/"
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.ConnectionError:
        return False
