"""The environment of a run: the machine, and the versions of the measured packages."""

import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import cb

from .peers import LIBRARIES, OWN


def describe() -> dict[str, object]:
    """Return the environment of this run, as values for JSON."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {
            name: _version(name)
            for name in sorted(
                {each.package for each in LIBRARIES.values()} | {"aiobreaker", "nopanic", "redis", "uvicorn"}
            )
        },
    }


def _version(package: str) -> str:
    return cb.__version__ if package == OWN else version(package)  # ours runs from a checkout


def _cpu() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()
