"""nginx with the configuration of docs/deployment.md, if it is installed."""

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.platform.security.clients import connect, dripping, idle
from tests.support import ROOT
from tests.support.misbehaving import Server
from tests.support.shop_service import Service
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx (apt-get install nginx-light)")

NAME = {"Host": "trading.example"}
MAIN = """
daemon off; pid {0}/pid; error_log {0}/error.log; events {{}}
http {{
    access_log off; include {0}/site.conf;
    client_body_temp_path {0}/b; proxy_temp_path {0}/p;
    fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;
}}
"""


class Nginx:
    """config/nginx.conf with another port and another upstream."""

    def __init__(self, directory: Path, behind: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            here = f"127.0.0.1:{probe.getsockname()[1]}"
        self.url = f"http://{here}"
        site = (ROOT / "config/nginx.conf").read_text()
        site, count = re.subn(r"listen 80\b", f"listen {here}", site)
        assert count == 2
        (directory / "site.conf").write_text(site.replace("127.0.0.1:8080", behind.removeprefix("http://")))
        (directory / "main.conf").write_text(MAIN.format(directory))
        command = ["nginx", "-p", str(directory), "-c", str(directory / "main.conf")]
        checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
        assert "warn" not in checked.stderr
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        until(self._up)

    def _up(self) -> bool:
        try:
            connect(self.url).close()
        except ConnectionRefusedError:
            return False
        return True

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture
def nginx(tmp_path: Path, server: Server) -> Iterator[Nginx]:
    nginx = Nginx(tmp_path, server.url)
    yield nginx
    nginx.stop()


@pytest.mark.parametrize("kind", ["headers", "body", "chunks"])
def test_slow_clients_never_reach_the_service(nginx: Nginx, server: Server, kind: str) -> None:
    with dripping(nginx.url, kind, 20), idle(nginx.url, 20):
        assert requests.get(f"{nginx.url}/api/v1/trades/1", headers=NAME, timeout=5).ok
    assert (server.connections, len(server.requests)) == (1, 1)


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/metrics", "/dashboard", "/dashboard/data", "/api/v1/health", "/api/v1/health/ready"),
        *("/api/v1/simulate/failure", "/api/v1/risk/simulate/failure", "/api/v1/circuit-breaker/status"),
        *(
            "/api/v1/circuit-breaker/risk/force-open",
            "/api/v1/trades/../simulate/failure",
            "/api/v1/portfolio/a/positions",
        ),
        *(
            "/api/v1/trades/%2e%2e/simulate/failure",
            "//api/v1/simulate/failure",
            "/api/v1/trades/x/../../simulate/failure",
        ),
        *("/api/v1/audit/trades", "/api/v1/audit/verify", "/API/V1/SIMULATE/FAILURE"),
        # Without the dots these paths would be allowed, but the service would receive them unchanged.
        *("/api/v1/circuit-breaker/../trades/force-open", "/api/v1/circuit-breaker/./../trades/force-open"),
        *("/api/v1/circuit-breaker/%2e%2e/trades/force-open", "/api/v1/circuit-breaker/..//trades/force-open?a=b"),
        *("/api/v1/simulate//..//trades", "//api/v1/trades", "/api/v1/trade%73"),
    ],
)
def test_internal_paths_are_404(nginx: Nginx, server: Server, path: str) -> None:
    with requests.Session() as session:
        request = requests.Request("POST", nginx.url, headers=NAME, data="{}").prepare()
        request.url = nginx.url + path  # unchanged, with the dots
        answer = session.send(request, timeout=5)
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, "application/problem+json")
    assert answer.json()["status"] == 404
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Server"] == "nginx"
    assert server.requests == []


def test_query_may_contain_characters_refused_in_a_path(nginx: Nginx, server: Server) -> None:
    path = "/api/v1/trades?after=a%2Fb//../c"
    assert requests.get(nginx.url + path, headers=NAME, timeout=5).ok
    (request,) = server.requests
    assert request.startswith(f"GET {path} HTTP/1.1\r\n")


def test_client_address_comes_from_nginx_and_not_from_the_client(nginx: Nginx, server: Server) -> None:
    told = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Host": "evil", "Forwarded": "for=6.6.6.6", "X-Operator": "root"}
    requests.get(f"{nginx.url}/api/v1/trades", headers={**NAME, **told}, timeout=5)
    (request,) = server.requests
    assert "\r\nX-Forwarded-For: 127.0.0.1\r\n" in request
    assert "\r\nHost: trading.example\r\n" in request
    assert not re.search(r"6\.6\.6\.6|evil|root", request)


def test_other_host_names_and_large_bodies_do_not_reach_the_service(nginx: Nginx, server: Server) -> None:
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{nginx.url}/api/v1/trades", timeout=5)
    answer = requests.post(f"{nginx.url}/api/v1/trades", data=b" " * 70_000, headers=NAME, timeout=5)
    assert (answer.status_code, answer.json()["status"]) == (413, 413)
    assert server.requests == []


def test_flood_of_a_client_is_429(nginx: Nginx) -> None:
    path = f"GET /api/v1/trades HTTP/1.1\r\nHost: {NAME['Host']}\r\n\r\n".encode()
    with connect(nginx.url) as connection:
        connection.settimeout(1)
        connection.sendall(path * 900)
        seen = b""
        while b" 429 " not in seen:
            seen += connection.recv(65536)


def test_gateway_responds_through_nginx(config: Path, tmp_path: Path) -> None:
    service = Service(tmp_path / "log", CB_SERVER__HOSTS="[trading.example]")
    nginx = Nginx(tmp_path, service.url)
    try:
        service.wait_until_up()
        answers = [requests.get(f"{nginx.url}/api/v1/health/live", headers=NAME, timeout=5) for _ in range(50)]
        assert {answer.status_code for answer in answers} == {200}
    finally:
        nginx.stop()
        service.stop()
