"""Environments with the lowest or newest allowed dependencies: `python -m tests.support.versions newest`.

The lock files pin versions between these. The direct dependencies of all extras have their lowest or newest version;
pytest and other packages for the tests come from the environment that runs this. `table` writes docs/versions.md.
"""

import configparser
import json
import platform
import re
import subprocess
import sys
import sysconfig
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from packaging.requirements import Requirement

from tests.support import ROOT

PAGE = ROOT / "docs/versions.md"
EDGES = ("lowest", "newest")
#: extra of the services, which need later versions than the library
PLATFORM = "platform"
#: by extra: tests that need it
TRIED = {
    "http": ["tests/http"],
    "httpx": ["tests/http/test_clients.py", "tests/http/test_httpx.py"],
    "aiohttp": ["tests/http/test_clients.py", "tests/http/test_aiohttp.py"],
    "cli": ["tests/cli/test_mapped_ledgers.py", "tests/cli/test_reading.py"],
    "asgi": ["tests/integrations/asgi/test_extension.py"],
    "flask": [
        f"tests/integrations/flask/test_{name}.py"
        for name in ("alone", "extension", "own_routes", "readers", "names_behind_proxies")
    ],
    "prometheus": ["tests/integrations/flask/test_metrics.py"],
    "redis": [
        *("tests/fleet/test_urls.py", "tests/fleet/test_topologies.py", "tests/fleet/test_sync.py"),
        "tests/integrations/redis",
    ],
    "resilience": ["tests/resilience"],
    "django": ["tests/integrations/django"],
    "celery": ["tests/integrations/test_celery.py"],
    "sqlalchemy": [f"tests/integrations/test_sqlalchemy{name}.py" for name in ("", "_async", "_server")],
    "otel": ["tests/integrations/opentelemetry/test_adapter.py", "tests/integrations/opentelemetry/test_spans.py"],
    PLATFORM: [
        "tests/platform/test_marketdata.py",
        "tests/servicekit/test_metrics.py",
        "tests/servicekit/test_database.py::test_row_is_inserted_once_and_its_amount_is_exact",
    ],
}
#: not of an extra, but their versions must fit those of the extras
BESIDE = {"lowest": ["opentelemetry-sdk==1.21", "Werkzeug==2.3.3"], "newest": ["opentelemetry-sdk"]}
#: tests that the lowest versions fail, by words of their names; each tests what that version itself lacks
UNLIKE = {
    "read1 or cannot_be_decompressed": "urllib3 1.26: HTTPResponse has no `read1`",
    "raw_behaves_as_without": "urllib3 1.26: HTTPResponse has no `json`",
    "closed_half_read": "urllib3 1.26: HTTPResponse has no `shutdown`",
    "caller_error_during_a_read": "urllib3 1.26: decoded and undecoded reads may be mixed",
    "equivalent_urls": "urllib3 1.26: URLs of UNIX sockets are in lower case",
    "tls_version_of_an_adapter or options_of_an_adapter or context_of_an_adapter or certificate_in_the_context": (
        "urllib3 1.26: a context that checks host names accepts no IP address, and pools have no TLS versions"
    ),
    "pool_of_a_subclass": "requests 2.31: adapters have no `get_connection_with_tls_context`",
    "authority_of_one_request or without_verification": "requests 2.31: `verify` of a connection's first request stays",
    "sqlalchemy_async": "SQLAlchemy 1.4.0: it has no aiosqlite",
    "sqlalchemy_server": "SQLAlchemy 1.4: it has no psycopg 3",
    "in_a_forked_child": "SQLAlchemy before 1.4.33: `dispose` has no `close`",
    "histogram_of_the_conventions": "opentelemetry-api before 1.30: a histogram takes neither bounds nor a context",
    "file_weighs_the_previous": "limits 4: `clear` forgets only fixed windows",
}


def allowed() -> dict[str, list[Requirement]]:
    """Return the requirements of each extra in setup.cfg."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"]
    return {extra: [Requirement(line) for line in extras[extra].split("\n") if line] for extra in extras}


def library() -> list[Requirement]:
    """Return the requirements of the library."""
    extras = allowed()
    return [each for extra in TRIED if extra != PLATFORM for each in extras[extra]]


def edge(name: str, needed: list[Requirement]) -> list[str]:
    """Return requirements for the `lowest` version of each dependency, or the `newest`."""
    return sorted({str(each if name == "newest" else _lowest(each)) for each in needed})


def lowest_of(requirement: Requirement) -> str:
    """Return the lowest allowed version."""
    return next(each.version for each in requirement.specifier if each.operator == ">=")


def _lowest(requirement: Requirement) -> Requirement:
    lowest = Requirement(str(requirement))
    lowest.specifier = type(requirement.specifier)(f"=={lowest_of(requirement)}")
    return lowest


def environment(requirements: list[str], home: Path) -> Path:
    """Create an environment. Return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    python = home / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    uv = Path(sysconfig.get_path("scripts")) / "uv"
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *requirements], check=True)
    site = sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)})
    (Path(site) / "installed_here.pth").write_text(sysconfig.get_path("purelib") + "\n")  # comes second
    return python


def installed(python: Path, names: list[str]) -> dict[str, str]:
    """Return the versions of packages in an environment."""
    program = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    done = subprocess.run([python, "-c", program, *names], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def command(python: Path, name: str, tests: list[str]) -> list[str | Path]:
    """Return the command that runs tests on an edge."""
    chosen = ["-k", " and ".join(f"not ({words})" for words in UNLIKE)] if name == "lowest" else []
    # What old packages warn of is not ours to mend.
    quiet = ["-W", "ignore::ImportWarning", "-W", "ignore::DeprecationWarning"] if name == "lowest" else []
    return [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *quiet, *chosen, *tests]


def trial(extras: set[str]) -> list[str]:
    """Return the tests of extras."""
    return [test for extra in TRIED if extra in extras for test in TRIED[extra]]


def write_table(lowest: dict[str, str], newest: dict[str, str]) -> None:
    """Write what was tried into docs/versions.md."""
    rows = [
        f"| {extra} | {each.name} | {lowest[each.name]} | {newest[each.name]} | `{each.specifier}` |"
        for extra in TRIED
        if extra != PLATFORM
        for each in allowed()[extra]
    ]
    head = ["| Extra | Package | Lowest | Newest | Allowed |", "| --- | --- | --- | --- | --- |"]
    when = f"Tried on {datetime.now(UTC).date()} with Python {platform.python_version()}, by `make versions`."
    table = "\n".join([when, "", *head, *rows])
    marked = r"(?s)(<!-- versions: .*? -->\n).*?(<!-- /versions -->)"
    PAGE.write_text(re.sub(marked, lambda found: found[1] + table + "\n" + found[2], PAGE.read_text()))


def main(names: list[str]) -> int:
    """Run the tests of the library on edges; after both have passed, write the table."""
    found, needed = {}, library()
    for name in names or EDGES:
        with tempfile.TemporaryDirectory() as home:
            python = environment([*edge(name, needed), *BESIDE[name]], Path(home))
            tests = trial(set(TRIED) - {PLATFORM})
            if code := subprocess.run(command(python, name, tests), cwd=ROOT, check=False).returncode:
                return code
            found[name] = installed(python, [each.name for each in needed])
    if len(found) == len(EDGES):
        write_table(found["lowest"], found["newest"])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
