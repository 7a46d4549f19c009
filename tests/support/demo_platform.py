"""The platform as its launcher starts it, with ports and a directory of its own."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil

from tests.support import ROOT

SECONDS = 180  # reached only by a hang


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Platform:
    """A platform with ports and a directory of its own, in `home`."""

    def __init__(self, run: Path, home: Path = ROOT) -> None:
        self.run = run
        self.home = home
        self.ports = dict(zip(("GATEWAY", "PORTFOLIO", "MARKET_DATA"), free_ports(3), strict=True))
        self.variables = {"CB_RUN_DIR": str(run), "CB_CIRCUIT_BREAKER__TIMEOUT": "2s"}
        for name, port in self.ports.items():
            self.variables[f"CB_SERVICES__{name}__PORT"] = str(port)
        for name in ("GATEWAY", "PORTFOLIO"):
            self.variables[f"CB_SERVICES__{name}__DATABASE"] = f"sqlite:///{run}/{name}.db"

    def start(self, *command: str, terminal: int | None = None) -> "subprocess.Popen[str]":
        """Start a command in a session of its own, without input or on a terminal."""
        return subprocess.Popen(
            command,
            cwd=self.home,
            env=os.environ | self.variables,
            stdin=terminal or subprocess.DEVNULL,
            stdout=terminal or subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def launch(self, *arguments: str) -> tuple[int, str]:
        """Run the launcher; return its exit code and output."""
        process = self.start(sys.executable, "-m", "scripts", *arguments)
        printed, _ = process.communicate(timeout=SECONDS)
        return process.returncode, printed

    def processes(self) -> list[psutil.Process]:
        """Return the processes of this platform's services."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("CB_STARTED_AS", "").startswith(f"{self.run}/"):
                    found.append(process)
            except psutil.Error:
                continue
        return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]

    def master(self, service: str) -> psutil.Process:
        return psutil.Process(int((self.run / f"{service}.pid").read_text()))

    def assert_nothing_left(self) -> None:
        assert self.processes() == []
        assert not list(self.run.rglob("*.pid"))
        assert not list(self.run.rglob("*.ledger*"))
        assert not (self.run / "state").exists()
        for port in self.ports.values():
            socket.create_server(("127.0.0.1", port)).close()


def read_until(process: "subprocess.Popen[str]", wanted: str) -> str:
    """Return the output of a process up to a text, or all of it if the text does not occur."""
    assert process.stdout
    printed = ""
    for line in process.stdout:
        printed += line
        if wanted in line:
            break
    return printed
