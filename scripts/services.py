"""The three services: names, ports, logs and pid files."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import requests

from servicekit import Settings, load_settings

ROOT = Path(__file__).resolve().parent.parent
#: pids and logs; CB_RUN_DIR names another directory for a second platform beside the first
RUN = ROOT / os.environ.get("CB_RUN_DIR", "run")
#: state of one run of the platform: ledgers, simulated failures, metrics
STATE = RUN / "state"


@dataclass(frozen=True)
class Service:
    """A service of the platform. Its settings are read on first use, so that stopping it needs none."""

    name: str
    module: str

    @cached_property
    def settings(self) -> Settings:
        return load_settings(self.name, environ=os.environ | {"CB_STATE_DIR": str(STATE)})

    @property
    def port(self) -> int:
        return self.settings.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def variable(self) -> str:
        """The name as part of an environment variable."""
        return self.name.upper().replace("-", "_")

    @property
    def port_variable(self) -> str:
        """The environment variable that sets the port."""
        return f"CB_SERVICES__{self.variable}__PORT"

    def environment(self) -> dict[str, str]:
        """Return the variables to add for the service: the gateway gets the URLs of services on other ports."""
        variables = {"CB_STATE_DIR": str(STATE)}
        if self.name == "gateway":
            for other in SERVICES[:-1]:
                url = f"CB_SERVICES__GATEWAY__{other.variable}_URL"
                if other.port_variable in os.environ and url not in os.environ:
                    variables[url] = other.url
        return variables

    @property
    def log(self) -> Path:
        return RUN / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        return RUN / f"{self.name}.pid"

    def healthy(self) -> bool:
        """Return True if the service responds and is healthy."""
        session = requests.Session()
        session.trust_env = False  # no proxy for this machine
        try:
            response = session.get(f"{self.url}/api/v1/health", timeout=5)
            return response.ok and self.name in response.json()["service"]
        except (requests.RequestException, LookupError, TypeError):  # no service, or another one, listens there
            return False


#: dependencies first
SERVICES = (Service("market-data", "marketdata"), Service("portfolio", "portfolio"), Service("gateway", "gateway"))
