"""The wheel in an environment of its own: the core and the command work without any other package."""

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.packaging.conftest import Built, install, run

#: opens a circuit in a ledger file, then prints the rejected name and all loaded packages beyond the standard library
PROGRAM = """
import sys
from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, Ledger

breaker = CircuitBreaker("stock", BreakerConfig(failure_threshold=1), ledger=Ledger.in_file(sys.argv[1]))
try:
    breaker.call(divmod, 1, 0)
except ZeroDivisionError:
    pass
try:
    breaker.call(abs, -1)
except CircuitOpenError as error:
    print(error.name)
print(*sorted({name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names - {"__main__"}))
"""


@pytest.fixture(scope="module")
def empty(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the programs' directory of an environment that has only the wheel."""
    return install(built.wheel, tmp_path_factory.mktemp("empty"))


def test_core_of_the_wheel_works_alone_and_loads_only_the_standard_library(empty: Path, tmp_path: Path) -> None:
    rejected, loaded = run([empty / "python", "-c", PROGRAM, tmp_path / "ledger"]).splitlines()
    assert (rejected, loaded) == ("stock", "cb")


#: prints for each line of imports the package that is missing and the end of the message
EXTRAS_PROGRAM = """
import sys
for line in sys.argv[1:]:
    try:
        exec(line)
    except ModuleNotFoundError as error:
        print(error.name, error.__cause__.name == error.name, str(error).rpartition(": ")[2])
"""
NEEDS = {
    "from cb.http import guarded_session": ("requests", "http"),
    "import cb.http; cb.http.DeadlineAdapter": ("requests", "http"),
    "from cb.http import CircuitBreakerTransport": ("httpx", "httpx"),
    "from cb.http import AsyncCircuitBreakerTransport": ("httpx", "httpx"),
    "from cb.http import circuit_breaker_middleware": ("aiohttp", "aiohttp"),
    "from cb.integrations.flask import CircuitBreakers": ("flask", "flask"),
    "import cb.integrations.flask.current": ("flask", "flask"),
    "from cb.integrations.django import breakers": ("django", "django"),
    "from cb.integrations.celery import BreakerTask": ("billiard", "celery"),
    "import cb.integrations.prometheus": ("prometheus_client", "prometheus"),
    "from cb.integrations.sqlalchemy import guard_engine": ("sqlalchemy", "sqlalchemy"),
    "from cb.integrations.redis import guard_redis": ("redis", "redis"),
    "import cb.integrations.opentelemetry": ("opentelemetry", "otel"),
    "from cb.fleet import Fleet": ("redis", "redis"),
    "from cb.resilience import RateLimit": ("limits", "resilience"),
    "import cb.resilience; cb.resilience.retrying": ("tenacity", "resilience"),
    "from cb.resilience import open_store; open_store('redis://127.0.0.1')": ("redis", "redis"),
}


def test_import_without_its_package_names_the_extra_to_install(empty: Path) -> None:
    printed = run([empty / "python", "-c", EXTRAS_PROGRAM, *NEEDS]).splitlines()
    assert printed == [
        f"{package} True pip install 'distributed-circuit-breaker[{extra}]'" for package, extra in NEEDS.values()
    ]


#: serves the status of a breaker of a Flask app, then prints the packages of this project that were loaded
FLASK_PROGRAM = """
import sys
from flask import Flask
from cb.integrations.flask import CircuitBreakers

app = Flask("stock")
CircuitBreakers(app).registry.get("vendor")
with app.test_client() as client:
    print(*client.get("/circuit-breakers/status").json["breakers"])
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"cb", "servicekit", "gateway", "marshmallow"}))
"""


def test_flask_extension_of_the_wheel_needs_only_flask(built: Built, tmp_path: Path) -> None:
    programs = install(built.wheel, tmp_path / "venv")
    site = sysconfig.get_path("purelib", vars={"base": str(tmp_path / "venv"), "platbase": str(tmp_path / "venv")})
    (Path(site) / "installed_here.pth").write_text(sysconfig.get_path("purelib") + "\n")
    names, loaded = run([programs / "python", "-c", FLASK_PROGRAM], CB_STATE_DIR=str(tmp_path)).splitlines()
    assert (names, loaded) == ("vendor", "cb")


def test_command_of_the_wheel_works_alone(empty: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [empty / "cb", "status"],
        env=os.environ | {"CB_STATE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"cb: no ledger in {tmp_path}")
