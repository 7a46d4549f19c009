"""`cb demo`: the trading platform for once, on ports that are free and in a directory that goes away.

In a wheel the platform's directories lie in this one, in a checkout beside `cb`; from either its own launcher starts,
shows and ends it.
"""

import os
import shutil
import socket
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

_HERE = Path(__file__).resolve().parent
#: where the services, their launcher and their configuration are
PLATFORM = _HERE if (_HERE / "scripts").is_dir() else _HERE.parents[1]
#: where the services listen, if nobody else does
_PORTS = {"GATEWAY": 8080, "PORTFOLIO": 8081, "MARKET_DATA": 8082}
#: what may lead elsewhere
_NOT_OURS = ("CB_CONFIG", "CB_GUNICORN_CONF", "CB_STATE_DIR", "PYTHONSAFEPATH")


def demo(*, stay: bool = False, keep: bool = False, record: Path | None = None) -> int:
    """Play the walk-through, or stay until Ctrl-C. Return the exit code: 0 only if every phase behaved.

    This process serves no other purpose afterwards: it has moved. Raises ModuleNotFoundError without the extra `demo`.
    """
    verb = ["up" if stay else "demo", *(["--record", str(record.absolute())] if record else [])]
    run = Path(tempfile.mkdtemp(prefix="cb-demo-"))
    try:
        for name in _NOT_OURS:
            os.environ.pop(name, None)
        os.environ.update(_environment(run))
        os.chdir(PLATFORM)
        sys.path.insert(0, str(PLATFORM))
        from scripts.__main__ import main

        return main(verb)
    finally:
        if keep:
            print(f"Logs and databases are in {run}")
        else:
            shutil.rmtree(run, ignore_errors=True)


def _environment(run: Path) -> dict[str, str]:
    """Return what keeps this platform apart from those that run already. A port that the user has chosen stays."""
    ports = {f"CB_SERVICES__{name}__PORT": port for name, port in _PORTS.items()}
    with ExitStack() as held:  # together: no port is found twice
        free = {name: str(_free(port, held)) for name, port in ports.items() if name not in os.environ}
    databases = {
        f"CB_SERVICES__{name}__DATABASE": f"sqlite:///{run.as_posix()}/{name.lower()}.db"
        for name in ("GATEWAY", "PORTFOLIO")
    }
    return {"CB_RUN_DIR": str(run), **free, **databases}


def _free(port: int, held: ExitStack) -> int:
    """Return the port, another one if somebody has it. Nobody else gets it as long as it is held."""
    found = held.enter_context(socket.socket())
    if os.name == "posix":  # elsewhere this option would share the port with whoever has it
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(("127.0.0.1", port))
    except OSError:
        found.bind(("127.0.0.1", 0))
    number: int = found.getsockname()[1]
    return number
