"""The launcher scripts, run with ports and a directory of their own."""

import os
import pty
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import needs_chromium
from tests.support.demo_platform import SECONDS, Platform, read_until
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="start-demo.bat is the way there; it shares the launcher")


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    platform = Platform(tmp_path / "run")
    yield platform
    platform.launch("stop")


def play(platform: Platform, *arguments: str) -> str:
    """Play the walk-through without a terminal or input, and return its output."""
    process = platform.start("sh", "-c", 'exec ./start-demo.sh --demo "$@" <&-', "sh", *arguments)
    printed, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, printed
    assert "4 of 4 phases passed" in printed
    assert f"Watch it live: http://127.0.0.1:{platform.ports['GATEWAY']}/dashboard" in printed
    for title in ("normal operation", "failures accumulate", "open, failing fast", "recovery"):
        assert title in printed
    platform.assert_nothing_left()
    return printed


def test_walkthrough_on_waitress_plays_four_phases_and_leaves_nothing(platform: Platform) -> None:
    platform.variables["CB_SERVER"] = "waitress"  # it runs on Windows
    play(platform)


@pytest.mark.nightly  # docs/platform.md is played on gunicorn in every run, without pictures
@needs_chromium
def test_walkthrough_on_gunicorn_leaves_four_pictures_and_nothing_else(platform: Platform, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    printed = play(platform, "--record", str(pictures))
    taken = ["1-normal-operation", "2-failures-accumulate", "3-open-failing-fast", "4-recovery"]
    assert sorted(path.stem for path in pictures.iterdir()) == taken
    assert all(path.read_bytes().startswith(b"\x89PNG") and str(path) in printed for path in pictures.iterdir())


def test_started_platform_stays_until_interrupted_and_leaves_nothing(platform: Platform) -> None:
    process = platform.start("./start-demo.sh")
    printed = read_until(process, "until you press Ctrl-C")
    assert (
        len({service for service in ("gateway", "portfolio", "market-data") if platform.master(service).is_running()})
        == 3
    )

    os.killpg(process.pid, signal.SIGINT)
    printed += process.communicate(timeout=SECONDS)[0]

    assert process.returncode == 0, printed
    platform.assert_nothing_left()


@pytest.mark.parametrize(
    "signals", [(signal.SIGTERM,), (signal.SIGTERM, signal.SIGINT), (signal.SIGHUP, signal.SIGTERM)]
)
def test_interruption_while_starting_leaves_nothing(platform: Platform, signals: tuple[signal.Signals, ...]) -> None:
    process = platform.start(sys.executable, "-m", "scripts", "start")
    until(lambda: list(platform.run.glob("*.pid")))

    for number in signals:
        os.killpg(process.pid, number)
    process.communicate(timeout=SECONDS)

    assert process.returncode == 130
    platform.assert_nothing_left()


def test_terminal_offers_the_walkthrough_and_accepts_no(platform: Platform) -> None:
    ours, theirs = pty.openpty()
    process = platform.start(sys.executable, "-m", "scripts", "up", terminal=theirs)
    os.close(theirs)
    with os.fdopen(ours, "r+b", buffering=0) as terminal:
        shown = b""
        while b"[Y/n]" not in shown:
            shown += terminal.read(1000)
        terminal.write(b"n\n")
        while b"Ctrl-C" not in shown:
            shown += terminal.read(1000)
        os.killpg(process.pid, signal.SIGHUP)  # the terminal is closed

        assert process.wait(SECONDS) == 0
    platform.assert_nothing_left()


def test_port_in_use_is_reported_with_its_process_and_nothing_starts(platform: Platform) -> None:
    with socket.create_server(("127.0.0.1", platform.ports["PORTFOLIO"])):
        code, printed = platform.launch("start")

    assert code == 1
    assert f"Port {platform.ports['PORTFOLIO']}, which portfolio needs, is in use by process {os.getpid()} (" in printed
    assert "export CB_SERVICES__PORTFOLIO__PORT=" in printed
    platform.assert_nothing_left()


def test_failed_start_shows_the_log_and_leaves_nothing(platform: Platform) -> None:
    platform.run.mkdir()
    (platform.run / "PORTFOLIO.db").write_text("not a database at all\n" * 100)

    code, printed = platform.launch("start")

    assert code == 1
    assert "portfolio ended immediately" in printed
    assert "must be a database that can be opened" in printed
    platform.assert_nothing_left()


def test_two_services_on_one_port_are_refused(platform: Platform) -> None:
    platform.variables["CB_SERVICES__GATEWAY__PORT"] = str(platform.ports["MARKET_DATA"])

    code, printed = platform.launch("start")

    assert code == 1
    assert "Each service needs a port of its own" in printed
    platform.assert_nothing_left()


def test_broken_setting_is_named_before_anything_starts(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CB_CIRCUIT_BREAKER__MAX_REQUESTS", "none")

    code, printed = platform.launch("start")

    assert code == 1
    assert "CB_CIRCUIT_BREAKER__MAX_REQUESTS" in printed
    assert "Traceback" not in printed
    platform.assert_nothing_left()


def test_running_platform_is_found_again_and_stopped_even_if_a_service_was_killed(platform: Platform) -> None:
    assert platform.launch("start")[0] == 0
    platform.master("portfolio").kill()
    # A pid file with the pid of an unrelated process, as after a reboot.
    (platform.run / "market-data.pid").write_text(f"{os.getpid()}\n")

    again, printed = platform.launch("start")
    stopped, _ = platform.launch("stop")

    assert again == 0, printed
    assert printed.count("started") == 2
    assert printed.count("is running already") == 1
    assert stopped == 0
    platform.assert_nothing_left()
