"""Environments with the lowest or newest allowed dependencies: `python -m tests.packaging.versions newest`.

The lock files pin versions between these. The direct dependencies of all extras have their lowest or newest version;
pytest and other packages for the tests come from the environment that runs this.
"""

import configparser
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from packaging.requirements import Requirement

from tests.support import ROOT

#: by extra: tests that need it
TRIED = {
    "http": [
        f"tests/http/test_{name}.py" for name in ("adapter", "body", "client", "deadline", "pools", "session", "tls")
    ],
    "cli": ["tests/cli/test_mapped_ledgers.py"],
    "flask": ["tests/integrations/flask/test_extension.py"],
    "prometheus": ["tests/servicekit/test_metrics.py"],
    "redis": ["tests/fleet/test_urls.py"],
    "resilience": ["tests/resilience/test_retry.py", "tests/resilience/test_stale.py"],
    "sqlalchemy": ["tests/integrations/test_sqlalchemy.py"],
    "otel": ["tests/integrations/opentelemetry/test_adapter.py", "tests/integrations/opentelemetry/test_spans.py"],
    "platform": [
        "tests/platform/test_marketdata.py",
        "tests/servicekit/test_database.py::test_row_is_inserted_once_and_its_amount_is_exact",
    ],
}
#: not an extra, but its version must match the API's
SDK = "opentelemetry-sdk"


def allowed() -> dict[str, list[Requirement]]:
    """Return the requirements of each extra in setup.cfg."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"]
    return {extra: [Requirement(line) for line in extras[extra].split("\n") if line] for extra in extras}


def edge(name: str) -> list[str]:
    """Return the requirements of an edge: the `lowest` version of each dependency, or the `newest`."""
    extras = allowed()
    needed = [each for extra in TRIED for each in extras[extra]] + [each for each in extras["dev"] if each.name == SDK]
    if name == "newest":
        return sorted({str(each) for each in needed})
    return sorted({str(_lowest(each)) for each in needed})


def _lowest(requirement: Requirement) -> Requirement:
    bound = next(each for each in requirement.specifier if each.operator == ">=")
    lowest = Requirement(str(requirement))
    lowest.specifier = type(requirement.specifier)(f"=={bound.version}")
    return lowest


def environment(name: str, home: Path) -> Path:
    """Create the environment of an edge. Return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    python = home / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    uv = Path(sysconfig.get_path("scripts")) / "uv"
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *edge(name)], check=True)
    site = sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)})
    (Path(site) / "installed_here.pth").write_text(sysconfig.get_path("purelib") + "\n")  # comes second
    return python


def main() -> None:
    """Run the tests of all extras on one edge."""
    with tempfile.TemporaryDirectory() as home:
        python = environment(sys.argv[1], Path(home))
        tests = [test for extra in TRIED for test in TRIED[extra]]
        sys.exit(subprocess.run([python, "-m", "pytest", "-q", *tests], cwd=ROOT, check=False).returncode)


if __name__ == "__main__":
    main()
