"""Containerfile and compose.yaml, as far as a machine without an engine can tell: what they name, and that it works."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from cb.web.tokens import hash_key
from tests.databases import PostgreSQL
from tests.fleet.servers import BINARIES, Server, free_port, until

from .conftest import ROOT

CONTAINERFILE = (ROOT / "Containerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = {"market-data": 8082, "portfolio": 8081, "gateway": 8080}
KEY = "a-key-of-user123"
COPIED = re.findall(r"^COPY (\w\S*) \S+$", CONTAINERFILE, re.MULTILINE)


def test_image_gets_what_is_there_and_nothing_else() -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(COPIED) == sorted(kept)
    assert not [name for name in COPIED if not (ROOT / name).exists()]
    assert "--require-hashes" in CONTAINERFILE
    assert CONTAINERFILE.index("USER trading") < CONTAINERFILE.index("CMD")


def test_containers_have_no_more_rights_than_they_need() -> None:
    for name in (*SERVICES, "valkey"):
        service = COMPOSE["services"][name]
        rights = (service["read_only"], service["cap_drop"], service["security_opt"])
        assert rights == (True, ["ALL"], ["no-new-privileges:true"]), name
    reached = {name: each["ports"] for name, each in COMPOSE["services"].items() if "ports" in each}
    assert reached == {"gateway": ["127.0.0.1:8080:8080"]}
    assert COMPOSE["networks"]["inside"]["internal"]


class Host:
    """What the containers are on: one machine, where each has a directory of its own and another port."""

    def __init__(self, home: Path, valkey: str, postgresql: PostgreSQL) -> None:
        self.ports = {name: free_port() for name in SERVICES}
        self._home = home
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ours = {
            "${USER123_KEY_HASH:?`python -m cb.web.keys user123` makes one}": hash_key(KEY),
            "redis://valkey:6379": valkey,
            "trading:${POSTGRES_PASSWORD}@postgres": f"postgres@127.0.0.1:{postgresql.port}",
            "/run/secrets": str(home / "secrets"),
            **{f"//{name}:{port}": f"//127.0.0.1:{self.ports[name]}" for name, port in SERVICES.items()},
            **{f"127.0.0.1:{port}": f"127.0.0.1:{self.ports[name]}" for name, port in SERVICES.items()},
        }
        (home / "secrets").mkdir()
        for token in COMPOSE["secrets"]:
            (home / "secrets" / token).write_text(f"{token}-of-a-test")
            (home / "secrets" / token).chmod(0o400)
        image = home / "image"
        image.mkdir()
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, image / name)
            else:
                shutil.copy(ROOT / name, image / name)

    def start(self, name: str) -> None:
        service = COMPOSE["services"][name]
        state = self._home / name
        state.mkdir(mode=0o700)
        environ = {key: self._here(value) for key, value in service["environment"].items()}
        environ |= {
            "CB_STATE_DIR": str(state),
            f"CB_SERVICES__{name.upper().replace('-', '_')}__PORT": str(self.ports[name]),
        }
        kept = {key: value for key, value in os.environ.items() if not key.startswith("CB_")}
        with (self._home / "log").open("ab") as log:
            process = subprocess.Popen(
                self._command(service["command"]), cwd=self._home / "image", env=kept | environ, stdout=log, stderr=log
            )
        self._processes.append(process)
        until(lambda: self._healthy(service["healthcheck"]["test"]), 30)

    def close(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(30)

    def _healthy(self, test: list[str]) -> bool:
        assert test[0] == "CMD"
        asked = subprocess.run(self._command(map(self._here, test[1:])), capture_output=True, check=False)
        assert self._processes[-1].poll() is None, (self._home / "log").read_text()
        return asked.returncode == 0

    def _here(self, text: str) -> str:
        for theirs, ours in self._ours.items():
            text = text.replace(theirs, ours)
        return text

    def _command(self, words: Any) -> list[str]:
        program, *arguments = words
        assert program == "python"
        return [sys.executable, *arguments]


@pytest.fixture
def host(tmp_path: Path, postgresql: PostgreSQL) -> Iterator[Host]:
    for name in ("gateway", "portfolio"):
        postgresql.create(name)
    with Server(BINARIES["valkey"], tmp_path / "valkey") as valkey:
        host = Host(tmp_path, valkey.url, postgresql)
        yield host
        host.close()
    for name in ("gateway", "portfolio"):
        postgresql.drop(name)


def test_services_become_healthy_and_trade_with_the_environment_and_the_files_of_the_containers(host: Host) -> None:
    for name in SERVICES:
        assert set(COMPOSE["services"][name]["depends_on"]) <= {*COMPOSE["services"]}
        host.start(name)
    order = {"userId": "user123", "symbol": "AAPL", "quantity": 1, "orderType": "BUY", "price": "150.00"}
    url = f"http://127.0.0.1:{host.ports['gateway']}/api/v1/trades"
    assert requests.post(url, json=order, timeout=10).status_code == 401
    answer = requests.post(url, json=order, headers={"Authorization": f"Bearer {KEY}"}, timeout=10)
    assert answer.status_code == 201, answer.text
