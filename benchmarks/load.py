"""Throughput of the platform: orders and reads of 8 clients, through gateway and portfolio on this machine.

`python -m benchmarks.load [seconds]` starts the three services with two workers each, on SQLite files with
`synchronous=FULL`, and lets wrk place orders, each with its own idempotency key, and then read. Needs wrk, and strace
for the share of fsync, which is measured in a separate run because a traced process is slower.
"""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
import requests
from rich.console import Console

from .result import Check, Result
from .table import show

CLIENTS, SECONDS = 8, 20
#: Services that the gateway needs, with their packages.
BEHIND = {"portfolio": "portfolio", "market-data": "marketdata"}
READS = (
    "/api/v1/trades/{trade}",
    "/api/v1/trades?userId=reader&limit=20",
    "/api/v1/portfolio/reader",
    "/api/v1/market-data/AAPL",
    "/api/v1/notifications/reader",
    "/api/v1/audit/trades?limit=20",
)
ORDERS = """
local run, number, threads = tostring(os.time()), 0, 0
function setup(thread) threads = threads + 1; thread:set("me", threads) end
function request()
  number = number + 1
  -- Sell what was bought 99 orders earlier: the connections of a thread run concurrently.
  local sells = number > 100 and number % 2 == 0
  local side, bought = sells and "SELL" or "BUY", sells and number - 99 or number
  local user = string.format("load-%s-%d-%d", run, me, bought % 100)
  local body = string.format(
    '{"userId": "%s", "symbol": "AAPL", "quantity": 1, "orderType": "%s", "price": "150.00"}', user, side)
  local key = string.format("%s-%d-%d", run, me, number)
  return wrk.format("POST", "/api/v1/trades", {["Content-Type"] = "application/json", ["Idempotency-Key"] = key}, body)
end
"""


class Measured(NamedTuple):
    """The results of wrk."""

    per_second: float
    #: milliseconds
    p50: float
    p99: float
    #: responses other than 2xx and 3xx, and failed connections
    bad: int


def main(seconds: int = SECONDS) -> int:
    """Measure, print a table, and return the exit code."""
    Path("run").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="run") as directory, running(Path(directory)) as url:
        script = Path(directory) / "orders.lua"
        script.write_text(ORDERS)
        order = {"userId": "reader", "symbol": "AAPL", "quantity": 1, "orderType": "BUY", "price": "150.00"}
        trade = requests.post(f"{url}/api/v1/trades", json=order, timeout=10).json()["tradeId"]
        measured = {"POST /api/v1/trades": wrk(f"{url}/", seconds, script)}
        for path in READS:
            measured[f"GET {path}"] = wrk(url + path.format(trade=trade), max(seconds // 4, 3))
        share = _share_of_fsync(url, script, max(seconds // 4, 3))
    posted, *read = measured.values()
    checks = [
        Check("orders a second", posted.per_second, 150, at_most=False),
        Check("p99 of an order in ms", posted.p99, 150),
        Check("failed responses", sum(each.bad for each in measured.values()), 0),
        Check("slowest read / orders", min(each.per_second for each in read) / posted.per_second, 3, at_most=False),
    ]
    rows = {name: (each.per_second, each.p50, each.p99, float(each.bad)) for name, each in measured.items()}
    columns = ("requests a second", "p50 ms", "p99 ms", "failed")
    console = Console(width=120)
    show(Result(f"{CLIENTS} clients, 2 workers each, SQLite FULL, {seconds} s", columns, rows, checks), console)
    console.print(f"share of the time of the gateway's workers spent in fsync: {share}")
    return 0 if all(check.met for check in checks) else 1


def wrk(url: str, seconds: int, script: Path | None = None) -> Measured:
    """Let CLIENTS request a URL, or place the orders of a script, for that time."""
    options = ["-t2", f"-c{CLIENTS}", f"-d{seconds}s", "--latency", "--timeout", "10s"]
    command = ["wrk", *options, *(["-s", str(script)] if script else []), url]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    bad = re.findall(r"(?:Non-2xx or 3xx responses:|connect|read|write|timeout) (\d+)", text)
    rate = float(_only(r"Requests/sec:\s+([\d.]+)", text))
    return Measured(rate, _latency("50%", text), _latency("99%", text), sum(map(int, bad)))


def _latency(share: str, text: str) -> float:
    number, unit = re.findall(rf"\s{share}\s+([\d.]+)(us|ms|s)\b", text)[0]
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def _only(pattern: str, text: str) -> str:
    found: str = re.findall(pattern, text)[0]
    return found


def _share_of_fsync(url: str, script: Path, seconds: int) -> str:
    """Return the share of time that a worker of the gateway waits for the disk, measured by strace."""
    gateway = [each for each in psutil.Process().children(recursive=True) if "gateway:create_app()" in each.cmdline()]
    workers = [each.pid for each in gateway if each.parent() in gateway]
    command = ["strace", "-f", "-c", "-w", "-e", "trace=fsync,fdatasync", *(f"-p{pid}" for pid in workers)]
    try:
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    except FileNotFoundError:
        return "not measured: strace is not installed"
    time.sleep(0.5)
    measured = wrk(f"{url}/", seconds, script)
    tracer.terminate()
    rows = re.findall(r"([\d.]+)\s+\d+\s+(\d+)\s+(?:\d+\s+)?(fsync|fdatasync)$", tracer.communicate()[1], re.MULTILINE)
    if not rows:
        return "not measured: strace may not trace"
    spent, calls = sum(float(row[0]) for row in rows), sum(int(row[1]) for row in rows)
    each, rate = f"{spent / calls * 1000:.2f} ms", f"{measured.per_second:.0f} orders a second"
    return f"{spent / seconds:.0%} of one thread, in {calls} calls of {each} at {rate}"


class Served(NamedTuple):
    """A running service."""

    url: str
    #: process id of its gunicorn
    pid: int


@contextmanager
def running(directory: Path) -> Iterator[str]:
    """Run the three services with their own ports, state and databases. Yields the URL of the gateway."""
    with platform(directory, {"gateway": ("gateway",)}) as gateways:
        yield gateways["gateway"].url


@contextmanager
def platform(directory: Path, gateways: Mapping[str, Sequence[str]]) -> Iterator[dict[str, Served]]:
    """Run portfolio, market data and several gateways: for each, the module that serves it and its arguments."""
    ports = dict(zip((*BEHIND, *gateways), _free_ports(len(BEHIND) + len(gateways)), strict=True))
    urls = {f"CB_SERVICES__GATEWAY__{_key(name)}_URL": f"http://127.0.0.1:{ports[name]}" for name in BEHIND}
    with ExitStack() as stack:
        log = stack.enter_context((directory / "log").open("wb"))

        def serve(name: str, service: str, *module: str) -> int:
            """Start a service. Return its process id."""
            place = directory.absolute() / name.replace(" ", "-")
            place.mkdir()
            key = f"CB_SERVICES__{_key(service)}"
            own = {f"{key}__PORT": str(ports[name]), "CB_STATE_DIR": str(place)}
            if service != "market-data":
                own[f"{key}__DATABASE"] = f"sqlite:///{place}/{service}.db"
            command = [sys.executable, "-m", *module]
            process = subprocess.Popen(command, env=os.environ | urls | own, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            return process.pid

        for name, package in BEHIND.items():
            serve(name, name, package)
        pids = {name: serve(name, "gateway", *module) for name, module in gateways.items()}
        end = time.monotonic() + 30
        while not all(_ready(port) for port in ports.values()):
            if time.monotonic() > end:
                sys.exit((directory / "log").read_text())
            time.sleep(0.1)
        yield {name: Served(f"http://127.0.0.1:{ports[name]}", pid) for name, pid in pids.items()}


def _key(name: str) -> str:
    return name.upper().replace("-", "_")


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def _ready(port: int) -> bool:
    try:
        status = requests.get(f"http://127.0.0.1:{port}/api/v1/circuit-breaker/status", timeout=5).json()
    except requests.ConnectionError:
        return False
    return bool(status["workers"] == 2)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:2])))
