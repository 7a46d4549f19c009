"""Fault injection: failures and delays of a service, set by operators for all workers at once."""

import json
import random
import secrets
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask
from marshmallow import Schema, post_load

from cb.clocks import sleep
from cb.integrations.flask import Panel, Problem, problem_response
from cb.pickling import PortableError

from .fields import Flag, Rate, Whole
from .openapi import ResponseSpec, operation
from .response_schemas import ResponseSchema
from .settings import Settings


class SimulatedError(PortableError):
    """An injected failure."""


class SimulatedTimeoutError(SimulatedError):
    """An injected response time that exceeds the caller's timeout."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """The faults that are injected into a service."""

    #: share of the calls that fail, from 0 to 1
    failure_rate: float = 0.0
    #: if False, every call fails
    is_healthy: bool = True
    #: milliseconds added to every call
    response_time_ms: int = 0


#: the panel of the live page
_SCRIPT = Path(__file__).parent / "page" / "simulators.js"
_RATE = {"description": "Share of failing calls."}
_HEALTHY = {"description": "If false, every call fails."}
_TIME = {"description": "Milliseconds added to every call."}


class SimulationSchema(Schema):
    # Omitted members are reset: the simulation is replaced, never merged.
    failure_rate = Rate(load_default=0.0, metadata=_RATE)
    is_healthy = Flag(load_default=True, metadata=_HEALTHY)
    response_time_ms = Whole(0, 60_000, load_default=0, metadata=_TIME)

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Simulation:
        return Simulation(**data)


class SimulatedSchema(ResponseSchema):
    """The simulated faults of a service."""

    failure_rate = Rate(required=True, metadata=_RATE)
    is_healthy = Flag(required=True, metadata=_HEALTHY)
    response_time_ms = Whole(0, 60_000, required=True, metadata=_TIME)


class Faults:
    """The simulation of one service, read and set at `{url_prefix}/simulate/failure`.

    It is stored in a file that each call reads, so that a change applies to all workers at once.
    """

    def __init__(
        self, app: Flask, name: str, url_prefix: str = "/api/v1", *, sleep: Callable[[float], object] = sleep
    ) -> None:
        settings: Settings = app.extensions["settings"]
        self._file = _directory(settings) / f"{name}.json"
        self._file.parent.mkdir(mode=0o700, exist_ok=True)
        self._sleep = sleep
        self._lock = threading.Lock()  # Windows cannot replace an open file; there is one process there
        bp = Blueprint(f"simulate-{name}", __name__, url_prefix=f"{url_prefix}/simulate")
        self._serve(bp, name)
        app.register_blueprint(bp)
        app.extensions["simulators"][name] = self
        #: path of its route
        self.path = f"{url_prefix}/simulate/failure"
        app.register_error_handler(SimulatedError, _answer)

    def _serve(self, bp: Blueprint, name: str) -> None:
        suffix = "".join(word.capitalize() for word in name.split("-"))
        responses = {200: ResponseSpec("The current simulation.", SimulatedSchema(), example=asdict(Simulation(0.8)))}

        @bp.get("/failure")
        @operation(f"readSimulation{suffix}", tag="simulation", access="operators", responses=responses)
        def show() -> Simulation:
            """Read the simulated faults of the service."""
            return self.read()

        @bp.post("/failure")
        @operation(
            f"simulateFailure{suffix}",
            tag="simulation",
            access="operators",
            body=SimulationSchema(),
            example={"failure_rate": 0.8},
            responses=responses,
        )
        def simulate(body: Simulation) -> Simulation:
            """Simulate failures and delays of the service, in all workers at once.

            Omitted members are reset: `{}` ends the simulation.
            """
            return self.set(body)

    def read(self) -> Simulation:
        """Return the current simulation."""
        try:
            with self._lock:
                text = self._file.read_text()
        except (FileNotFoundError, PermissionError):  # or it belongs to root, who started the workers as another user
            return Simulation()
        return Simulation(**json.loads(text))

    def set(self, simulation: Simulation) -> Simulation:
        """Replace the simulation, in all workers."""
        # Random, not the process id: containers that share the directory have the same ids.
        draft = self._file.with_suffix(f".{secrets.token_hex(8)}")
        with self._lock:
            draft.write_text(json.dumps(asdict(simulation)))
            draft.replace(self._file)
        return simulation

    def apply(self, timeout: float | None = None) -> None:
        """Wait for the simulated response time, then return or raise SimulatedError.

        A caller in the same process passes its `timeout` in seconds. If the response time is longer,
        SimulatedTimeoutError is raised after `timeout`, as a network client would time out.
        """
        simulation = self.read()
        delay = simulation.response_time_ms / 1000
        if timeout is not None and delay > timeout:
            self._sleep(timeout)
            raise SimulatedTimeoutError(f"simulated: no answer within {timeout:.3g} s")
        if delay:
            self._sleep(delay)
        if not simulation.is_healthy:
            raise SimulatedError("simulated: the service is not healthy")
        if random.random() < simulation.failure_rate:  # noqa: S311  # chance, not a secret
            raise SimulatedError(f"simulated: {simulation.failure_rate:.0%} of the calls fail")

    def check(self) -> dict[str, Any]:
        """Return the simulated health."""
        simulation = self.read()
        well = simulation == Simulation()
        return {
            "status": "DOWN" if not simulation.is_healthy else "UP" if well else "DEGRADED",
            "simulated": asdict(simulation),
        }


def init_app(app: Flask) -> None:
    """Add the panel of the simulated failures to an app's live page."""
    simulators: dict[str, Faults] = {}
    app.extensions["simulators"] = simulators

    def data() -> dict[str, Any]:
        return {name: {"path": each.path, **asdict(each.read())} for name, each in simulators.items()}

    app.extensions["circuit_breakers"].panels.append(Panel("simulators", _SCRIPT, data))


def remove_simulations(settings: Settings) -> None:
    """Remove the simulations of an earlier run of a service."""
    for file in _directory(settings).glob("*.json"):
        file.unlink(missing_ok=True)


def _directory(settings: Settings) -> Path:
    return settings.state_dir / f"{settings.name}.faults"


def _answer(failure: SimulatedError) -> Any:
    return problem_response(Problem(503, "simulated-failure", str(failure)))
