"""Containerfile and compose.yaml, as far as they can be tested without a container engine."""

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

from servicekit.tokens import hash_key
from tests.packaging import confined
from tests.support import ROOT
from tests.support.databases import PostgreSQL
from tests.support.redis_servers import BINARIES, Server, free_port
from tests.support.waiting import until

CONTAINERFILE = (ROOT / "Containerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = {"market-data": 8082, "portfolio": 8081, "gateway": 8080}
KEY = "a-key-of-user123"
#: the mounted directories of a container
PLACES = ("/run/trading", "/run/secrets")
COPIED = re.findall(r"^COPY (\w\S*) \S+$", CONTAINERFILE, re.MULTILINE)


def test_image_copies_exactly_the_files_of_the_build_context() -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(COPIED) == sorted(kept)
    assert not [name for name in COPIED if not (ROOT / name).exists()]
    assert "--require-hashes" in CONTAINERFILE
    assert CONTAINERFILE.index("USER ") < CONTAINERFILE.index("CMD")


def test_user_id_is_the_same_in_the_image_in_the_containers_and_for_the_secrets() -> None:
    ids = f"{confined.USER}:{confined.USER}"
    assert f"\nUSER {ids}\n" in CONTAINERFILE
    assert re.findall(r"--[ug]id (\d+)", CONTAINERFILE) == ids.split(":")
    for name in SERVICES:
        assert COMPOSE["services"][name]["tmpfs"] == ["/run/trading:mode=0700,uid={},gid={}".format(*ids.split(":"))]
    assert f"chgrp {confined.USER}, " in (ROOT / "docs/deployment.md").read_text()


def test_containers_have_no_more_rights_than_they_need() -> None:
    for name in (*SERVICES, "valkey"):
        service = COMPOSE["services"][name]
        rights = (service["read_only"], service["cap_drop"], service["security_opt"])
        assert rights == (True, ["ALL"], ["no-new-privileges:true"]), name
    reached = {name: each["ports"] for name, each in COMPOSE["services"].items() if "ports" in each}
    assert reached == {"gateway": ["127.0.0.1:8080:8080"]}
    assert COMPOSE["networks"]["inside"]["internal"]


class Host:
    """The containers, simulated on one machine: each has directories and a port of its own.

    If this user can create mount namespaces, a service runs unprivileged with a read-only image and a tmpfs; otherwise
    it is an ordinary process.
    """

    def __init__(self, home: Path, valkey: str, postgresql: PostgreSQL) -> None:
        self.ports = {name: free_port() for name in SERVICES}
        self._home = home
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ours = {
            "${USER123_KEY_HASH:?`python -m servicekit.api_keys user123` creates one}": hash_key(KEY),
            "redis://valkey:6379": valkey,
            "trading:${POSTGRES_PASSWORD}@postgres": f"postgres@127.0.0.1:{postgresql.port}",
            **{f"//{name}:{port}": f"//127.0.0.1:{self.ports[name]}" for name, port in SERVICES.items()},
            **{f"127.0.0.1:{port}": f"127.0.0.1:{self.ports[name]}" for name, port in SERVICES.items()},
        }
        if not confined.possible():
            self._ours["/run/secrets"] = f"{home}/gateway/run/secrets"
        self._image = home / "image"
        self._image.mkdir()
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, self._image / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, self._image / name)

    def start(self, name: str) -> None:
        service = COMPOSE["services"][name]
        log, container = self._home / f"{name}.log", self._container(name)
        environ = {key: self._here(value) for key, value in service["environment"].items()}
        environ |= {
            "CB_STATE_DIR": "/run/trading",
            "PYTHONDONTWRITEBYTECODE": "1",
            f"CB_SERVICES__{name.upper().replace('-', '_')}__PORT": str(self.ports[name]),
        }
        words = [self._here(word) for word in service["command"]]
        if confined.possible():
            process = confined.start(words, image=self._image, bound=container, places=PLACES, environ=environ, log=log)
        else:
            environ["CB_STATE_DIR"] = f"{container}/run/trading"
            kept = {key: value for key, value in os.environ.items() if not key.startswith("CB_")}
            with log.open("wb") as stream:
                process = subprocess.Popen(
                    self._command(words), cwd=self._image, env=kept | environ, stdout=stream, stderr=stream
                )
        self._processes[name] = process

    def until_healthy(self, name: str) -> None:
        until(lambda: self._healthy(name), seconds=30)

    def _container(self, name: str) -> Path:
        """Create the mounts of a container: an empty tmpfs, and the secrets as documented."""
        container = self._home / name
        for place in PLACES:
            (container / place[1:]).mkdir(parents=True)
        state, secrets = (container / place[1:] for place in PLACES)
        state.chmod(0o700)
        for token in COMPOSE["services"][name]["secrets"]:
            (secrets / token).write_text(f"{token}-of-a-test")
            (secrets / token).chmod(0o440)
            if confined.possible():
                os.chown(secrets / token, 0, confined.USER)
        if confined.possible():
            os.chown(state, confined.USER, confined.USER)
        return container

    def files(self) -> set[Path]:
        """Return the files of the image."""
        return {*self._image.rglob("*")}

    def close(self) -> None:
        for process in self._processes.values():
            process.terminate()
        assert {name: process.wait(30) for name, process in self._processes.items()} == dict.fromkeys(SERVICES, 0)

    def _healthy(self, name: str) -> bool:
        kind, *words = COMPOSE["services"][name]["healthcheck"]["test"]
        assert kind == "CMD"
        asked = subprocess.run(self._command(map(self._here, words)), capture_output=True, check=False)
        assert self._processes[name].poll() is None, (self._home / f"{name}.log").read_text()
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


def test_services_in_simulated_containers_become_healthy_and_trade(host: Host) -> None:
    image = host.files()
    for name in SERVICES:
        assert set(COMPOSE["services"][name]["depends_on"]) <= {*COMPOSE["services"]}
        host.start(name)
    for name in SERVICES:
        host.until_healthy(name)
    order = {"userId": "user123", "symbol": "AAPL", "quantity": 1, "orderType": "BUY", "price": "150.00"}
    url = f"http://127.0.0.1:{host.ports['gateway']}/api/v1/trades"
    as_nginx_has_it = {"Host": "trading.example", "X-Forwarded-For": "192.0.2.1"}
    assert requests.post(url, json=order, headers=as_nginx_has_it, timeout=10).status_code == 401
    headers = {"Authorization": f"Bearer {KEY}"} | as_nginx_has_it
    answer = requests.post(url, json=order, headers=headers, timeout=10)
    assert answer.status_code == 201, answer.text
    assert host.files() == image, "a service writes to its file system, which is read-only"
