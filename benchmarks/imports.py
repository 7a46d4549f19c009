"""Import times: `python -m benchmarks.imports` compares ours with Flask's and interlock's, and fails above a limit.

Each import runs in a process of its own, with its bytecode cached, in turns; the median of 20 is reported. User and
system time of the process are measured, so that other load on the machine counts little.
"""

import os
import subprocess
import sys
import tempfile
from statistics import median

_ROUNDS = 20
#: module, the module that it is compared with, and the largest ratio of their times
_LIMITS = (("cb.integrations.flask", "flask", 1.3), ("cb", "interlock", 1.0))
_PROGRAM = """
import time
before = time.process_time()
import {module}
print(time.process_time() - before)
"""


def measure(modules: list[str], rounds: int = _ROUNDS) -> dict[str, float]:
    """Return the median CPU seconds of the import of each module."""
    times: dict[str, list[float]] = {module: [] for module in modules}
    with tempfile.TemporaryDirectory() as cache:
        environ = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        environ["PYTHONPYCACHEPREFIX"] = cache
        for turn in range(rounds + 1):
            for module in modules:
                command = [sys.executable, "-c", _PROGRAM.format(module=module)]
                ran = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
                if turn:  # the first one compiles
                    times[module].append(float(ran.stdout))
    return {module: median(each) for module, each in times.items()}


def main() -> int:
    """Print a table. Return 1 if a limit is exceeded."""
    took = measure([module for ours, theirs, _ in _LIMITS for module in (ours, theirs)])
    exceeded = False
    for ours, theirs, limit in _LIMITS:
        ratio = took[ours] / took[theirs]
        exceeded |= ratio > limit
        verdict = "ok" if ratio <= limit else "too long"
        print(
            f"import {ours} {took[ours] * 1000:.1f} ms, import {theirs} {took[theirs] * 1000:.1f} ms: "
            f"{ratio:.2f} times, at most {limit:g}: {verdict}"
        )
    return int(exceeded)


if __name__ == "__main__":
    sys.exit(main())
