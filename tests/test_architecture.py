"""Rules for the shape of the code, checked on its source and on the effects of an import."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.sources import tree

#: rooms of the library that need an extra; all others are its core
OUTER = {"__main__", "cli", "fleet", "http", "integrations", "resilience"}
#: folders of the platform and of what surrounds it
PROGRAMS = ("servicekit", "gateway", "portfolio", "marketdata", "scripts", "benchmarks")
#: where the cell of a circuit's state is written, and why
STATE_WRITERS = {
    "machine._enter": "the state machine",
    "core._initialize_locked": "a new record begins CLOSED",
    "record.retire": "a record of this process that its breakers have left admits the calls that still come",
    "thresholds.write": "the version beside the state, which it keeps",
}
#: modules of the core that look at a clock of their own, and why
CLOCKS = {
    "cb.admission": "a task waits for a lock no longer than that, also where the clock that it was given stands still",
    "cb.bulkhead": "a wait must end, also where the clock that it was given stands still",
    "cb.ledger.host_counters": "tries a lock again that another process would not give back, in real time",
    "cb.ledger.ledger": "gives its core the time that its public methods do not take",
    "cb.ledger.locks": "waits for another process, in real time",
    "cb.ledger.file": "tells whether a file's times are of this clock",
    "cb.state.retry_after": "a header may give a date",
    "cb.background.watchdog": "measures how long its own looking takes",
}
#: modules that take a lock by hand, and why
TAKEN = {"cb.background.fork": "waits no longer than some seconds: a thread of the parent may have had it at the fork"}
#: modules that have to do with the loggers of the standard library themselves, and why
LOGGERS = {"cb.log": "is what logs", "servicekit.logs": "sets up where lines go"}
#: tests that may let time pass, and why
SLEEPERS = {
    "tests/processes/test_ledger_in_use.py": "lets the watch of another process look",
    "tests/processes/test_unannounced_forks.py": "has calls that take so long that they are not quick",
    "tests/processes/test_uwsgi.py": "asks uWSGI until it answers",
    "tests/proofs/turmoil.py": "disturbs at random moments: they are what it tries",
}
#: tests that use mocks, and why
MOCKS = {"tests/unit/test_async.py": "guards a mock, as users do in their tests"}

FILES = [path for folder in ("cb", *PROGRAMS, "config", "tests") for path in sorted((ROOT / folder).rglob("*.py"))]


def files_of(folder: str) -> list[Path]:
    return [path for path in FILES if path.relative_to(ROOT).parts[0] == folder]


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


CORE = [path for path in files_of("cb") if not OUTER & {*module(path).split(".")[1:2]}]


def functions_with(path: Path, wanted: str) -> set[str]:
    """Return the functions of a file in whose source a pattern occurs."""
    functions = (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef))
    return {f"{path.stem}.{node.name}" for node in functions if re.search(wanted, ast.unparse(node))}


def python(program: str, *options: str) -> str:
    """Run a program in a fresh interpreter, in the root of the project."""
    ran = subprocess.run(
        [sys.executable, *options, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_core_works_without_any_installed_package() -> None:
    modules = ", ".join(module(path) for path in CORE)
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {modules}; print(cb.CircuitBreaker('d').call(abs, -1))"
    )
    assert python(program, "-I", "-S") == "1"


def test_import_contract_of_the_core_names_all_of_it() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (core,) = (contract for contract in contracts if contract["name"].startswith("The core of the library"))
    assert set(core["source_modules"]) == {".".join(module(path).split(".")[:2]) for path in CORE} - {"cb"}


def test_library_has_no_word_of_the_platform() -> None:
    # The element <symbol> of SVG is none.
    wanted = re.compile(
        r"trad(e|ing|able)|portfolio|market|(?<![</])symbol|quantit|stock|currenc|\bprice|\bbuy|\bsell|exposure|gateway",
        re.IGNORECASE,
    )
    files = [path for path in (ROOT / "cb").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if wanted.search(line)
    ]
    assert len(files) > 80
    assert not found, "\n".join(found)


@pytest.mark.parametrize("service", ["gateway", "portfolio", "marketdata", "config"])
def test_service_imports_the_library_through_its_public_modules(service: str) -> None:
    nodes = [node for path in files_of(service) for node in ast.walk(tree(path))]
    names = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    names |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    public = re.compile(r"cb(\.(http|fleet|resilience|testing|integrations\.\w+))?")
    assert not [name for name in names if name.split(".")[0] == "cb" and not public.fullmatch(name)]


def test_files_stay_short_enough_to_hold_in_the_head() -> None:
    long = {str(path): lines for path in FILES if (lines := len(path.read_text().splitlines())) > 450}
    assert not long


def test_modules_are_named_for_what_they_are_about() -> None:
    vague = [path for path in FILES if path.stem in {"base", "common", "helpers", "misc", "tools", "utils"}]
    assert not [path for path in vague if "integrations/django/db" not in path.as_posix()]  # Django imports ENGINE.base


def test_core_takes_the_time_from_its_clock_only() -> None:
    wanted = r"\b(time\.(time|time_ns)|(time\.)?(monotonic|perf_counter)\w*|wall(_ns)?)\(|datetime\.(now|utcnow)\("
    assert {module(path) for path in CORE if re.search(wanted, ast.unparse(tree(path)))} == {"cb.clocks", *CLOCKS}


def test_core_reads_the_environment_for_the_place_of_ledgers_alone() -> None:
    reads = {path.name for path in CORE if re.search(r"\bos\.(environ|getenv)\b", ast.unparse(tree(path)))}
    assert reads == {"paths.py", "testing.py"}


def test_state_of_a_circuit_is_written_by_the_state_machine_only() -> None:
    writers = {name for path in CORE for name in functions_with(path, r"\[(at\.|layout\.)?WORD\] = ")}
    assert writers == set(STATE_WRITERS)


def test_shared_cells_are_written_whole() -> None:
    # struct.pack_into shows readers a zero first.
    assert not [str(path) for path in CORE if "pack_into" in ast.unparse(tree(path))]


def test_lines_are_logged_in_a_way_that_no_handler_can_fail() -> None:
    loggers = {path for folder in ("cb", *PROGRAMS) for path in files_of(folder) if module(path) not in LOGGERS}
    found = [path for path in loggers if re.search(r"= logging\.getLogger|\.logger\.", path.read_text())]
    assert not found, "cb.log.Log"


def test_no_lock_is_left_to_an_exception_that_comes_between_its_two_calls() -> None:
    taken = re.compile(r"(lock|mutex|semaphore|OPENING)\w*\.(acquire|release)\(", re.IGNORECASE)
    found = {
        module(path) for folder in ("cb", *PROGRAMS) for path in files_of(folder) if taken.search(path.read_text())
    }
    assert found == set(TAKEN), "`with`, or a Slot"


def test_tests_wait_for_something_and_never_just_wait() -> None:
    # A task that awaits lets others run, as `until` does.
    asleep = {
        str(path.relative_to(ROOT)) for path in files_of("tests") if "sleep" in {*called(path, outside_of=ast.Await)}
    }
    assert asleep == set(SLEEPERS)


def called(path: Path, outside_of: type[ast.AST] = ast.Pass) -> Iterator[str]:
    left: list[ast.AST] = [tree(path)]
    while left:
        node = left.pop()
        if not isinstance(node, outside_of):
            left += ast.iter_child_nodes(node)
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func).rpartition(".")[2]


def test_tests_replace_no_code_of_ours_by_mocks() -> None:
    mocks = re.compile(r"^\s*(from|import) unittest\b", re.MULTILINE)
    assert [str(path.relative_to(ROOT)) for path in files_of("tests") if mocks.search(path.read_text())] == [*MOCKS]


def test_silenced_findings_say_why() -> None:
    silent = re.compile(r"#\s*(noqa(: *[A-Z0-9, ]+)?|type: *ignore(\[[\w, -]+\])?)(?P<reason>.*)")
    bare = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in FILES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (match := silent.search(line)) and path != Path(__file__) and not re.search(r"[a-z]{2}", match["reason"])
    ]
    assert not bare


@pytest.mark.parametrize("service", ["gateway", "portfolio", "marketdata"])
def test_import_of_a_service_has_no_effect(service: str) -> None:
    program = f"""
import os, sys, threading
before = set(os.listdir())
import {service}
print(threading.active_count(), set(os.listdir()) - before, "prometheus_client" in sys.modules)
"""
    # gunicorn's conf imports it, before it has said where the workers share their metrics.
    assert python(program, "-B") == "1 set() False"


def test_everything_imports_where_fork_and_fcntl_are_missing() -> None:
    python("""
import os, sys
sys.modules["fcntl"] = sys.modules["gunicorn"] = None
for name in ("fork", "register_at_fork", "getuid", "geteuid", "posix_fallocate", "O_NOFOLLOW", "O_CLOEXEC"):
    delattr(os, name)
import cb, cb.cli, cb.http, cb.integrations.asgi
import cb.integrations.prometheus, cb.resilience, cb.integrations.sqlalchemy, cb.integrations.redis
import servicekit
import gateway, marketdata, portfolio, scripts.processes, scripts.walkthrough
assert cb.CircuitBreaker("d", ledger=cb.Ledger.open("shm://d")).call(abs, -1) == 1
assert cb.Ledger.open("shm://e").degraded
""")


def test_lock_files_pin_everything_by_hash_and_name_no_host() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        entries = re.split(r"\n(?=[a-z])", text)[1:]
        assert len(entries) > 20
        assert all("==" in entry.splitlines()[0] and "--hash=sha256:" in entry for entry in entries)
        assert "://" not in text


def test_platform_runs_in_tests_on_the_versions_that_users_get() -> None:
    pins = [
        set(re.findall(r"^([a-z0-9-]+==[^ ]+)", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements.lock", "requirements-dev.lock")
    ]
    assert pins[0] < pins[1]


def test_changelog_has_a_place_for_what_comes_next() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()


def test_batch_file_is_what_windows_can_read() -> None:
    content = (ROOT / "start-demo.bat").read_bytes()
    assert content.isascii()
    assert content.count(b"\r\n") == content.count(b"\n")
