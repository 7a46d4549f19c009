"""The contract, tried on real workers: requests made of the documents, and every answer held against them."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.platform.conftest import PACKAGES, Platform
from tests.support import ROOT

TOKEN = "token-of-operators-and-services"
_CONFIG = Path(__file__).with_name("schemathesis.toml")
#: requests for each operation of the services that want no tokens: all else is as in those that do
_WITHOUT_TOKENS = ("--max-examples", "100")
#: operations after which a service does not do what it did before: by themselves, when all others are through
_DISTURBING = "(^simulateFailure|Breaker$)"


@contextmanager
def services(*, tokens: bool = True) -> Iterator[Platform]:
    """Yield the services with two workers each, which want tokens, or none as in the demo."""
    with TemporaryDirectory() as name:
        platform = Platform(
            Path(name), **(dict.fromkeys(("CB_ADMIN_TOKEN", "CB_SERVICE_TOKEN"), TOKEN) if tokens else {})
        )
        try:
            platform.start()
            yield platform
        finally:
            platform.stop()


def run(platform: Platform, service: str, *options: str) -> tuple[int, str]:
    """Try the operations of a service, those that disturb it last. Return an exit code and the output."""
    code, said = _run(platform, service, *options, "--exclude-operation-id-regex", _DISTURBING)
    unlinked = () if "--phases" in options else ("--phases", "examples,coverage,fuzzing")
    again, more = _run(platform, service, *options, *unlinked, "--include-operation-id-regex", _DISTURBING)
    _heal(platform, service)
    return code or again, said + more


def _heal(platform: Platform, service: str) -> None:
    """Undo the simulations and operator's actions in a service."""
    breakers = platform.get(service, "/api/v1/circuit-breaker/status").json()["breakers"]
    simulators = platform.get(service, "/dashboard/data").json()["simulators"].values()
    told = {each["path"]: {} for each in simulators}
    told |= {f"/api/v1/circuit-breaker/{name}/reset": {"reason": "tried"} for name in breakers}
    for path, body in told.items():
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert platform.request("POST", service, path, json=body, headers=headers).status_code == 200


def _run(platform: Platform, service: str, *options: str) -> tuple[int, str]:
    wants_token = "securitySchemes" in platform.get(service, "/openapi.json").json()["components"]
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(_CONFIG), "run"),
        f"http://127.0.0.1:{platform.ports[service]}/openapi.json",
        *("--checks", "all", "--no-color", "--warnings", "off"),
        *(("--header", f"Authorization: Bearer {TOKEN}") if wants_token else ()),
        *options,
    ]
    environ = os.environ | {"SCHEMATHESIS_HOOKS": "tests.proofs.contract.hooks", "PYTHONPATH": str(ROOT)}
    # It keeps what it has found where it runs: that ends with the services.
    ran = subprocess.run(command, cwd=platform.directory, env=environ, capture_output=True, text=True, check=False)
    return ran.returncode, ran.stdout + ran.stderr


def main(*options: str) -> int:
    """Try all services, with tokens and without, at the same time. Return an exit code."""
    with ThreadPoolExecutor(2) as pool:
        return max(pool.map(partial(_try_all, options), (True, False)))


def _try_all(options: Sequence[str], tokens: bool) -> int:
    worst = 0
    with services(tokens=tokens) as platform:
        for service in PACKAGES:
            code, said = run(platform, service, *options, *(() if tokens else _WITHOUT_TOKENS))
            print(said, flush=True)  # noqa: T201  # it reports to a person
            worst = worst or code
    return worst
