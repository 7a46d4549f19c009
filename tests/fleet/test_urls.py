"""The constructor, URL and representation of `Fleet`."""

import copy
import logging
import pickle
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cb import CircuitError, ConfigError, Ledger
from cb.fleet import Fleet, FleetError
from tests.support.redis_servers import free_port
from tests.support.waiting import until


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://localhost",
        "redis+sentinel://localhost:26379",
        "redis+sentinel:///mymaster",
        "redis+sentinel://localhost:port/mymaster",
        "redis://localhost:port",
        "redis://localhost:99999",
        "redis+cluster://localhost:port",
        "redis+cluster://localhost:99999",
        "redis://localhost?socket_timeout=soon",
        "redis://localhost?no_such_option=1",
        "redis+sentinel://localhost:26379/mymaster?no_such_option=1",
    ],
)
def test_invalid_url_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError, match="url"):
        Fleet(url, Ledger.in_memory(), name="f")


@pytest.mark.parametrize(
    "interval", [0, 0.001, 60, float("nan"), True, "soon", "100ms", timedelta(0), timedelta(minutes=1)]
)
def test_invalid_interval_is_a_configuration_error(interval: Any) -> None:
    with pytest.raises(ConfigError, match="sync_interval"):
        Fleet("redis://localhost", Ledger.in_memory(), name="f", sync_interval=interval)


@pytest.mark.parametrize("interval", [10, 0.01, timedelta(milliseconds=10), timedelta(seconds=10)])
def test_interval_is_a_number_of_seconds_or_a_timedelta(interval: float | timedelta) -> None:
    Fleet("redis://localhost", Ledger.in_memory(), name="f", sync_interval=interval).close()


def test_fleet_leaves_at_the_end_of_its_with_block(tmp_path: Path) -> None:
    with Fleet(f"redis://alice:hunter2@127.0.0.1:{free_port()}", Ledger.in_file(tmp_path / "l"), name="f") as fleet:
        fleet.tick()
        assert "cb-fleet" in [thread.name for thread in threading.enumerate()]
        assert repr(fleet).startswith("<Fleet 'f' at redis://***@127.0.0.1:") and repr(fleet).endswith(", open>")
    assert "cb-fleet" not in [thread.name for thread in threading.enumerate()]
    assert repr(fleet).endswith(", closed>")


def test_fleet_error_has_its_reason_and_survives_pickle_and_copy() -> None:
    error = FleetError("connection refused")
    assert isinstance(error, CircuitError)
    for other in (error, pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (type(other), other.reason, str(other)) == (FleetError, "connection refused", "connection refused")


@pytest.mark.parametrize(
    "url",
    [
        "http://alice:hunter2@localhost",
        "redis://:hunter2@localhost:port",
        "redis://alice:hunter2:x@localhost:port",
        "redis://alice:hunter2/x@localhost",
        "redis://alice:hunter2#x@localhost",
        "redis://localhost:port?password=hunter2",
        "redis+sentinel://:hunter2@localhost:26379",
        "redis+sentinel://:hunter2@localhost:port/mymaster",
        "http://localhost?password=hunter2",
    ],
)
def test_refused_url_is_shown_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Fleet(url, Ledger.in_memory(), name="f")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("form", ["redis://alice:hunter2@{}", "redis://:hunter2@{}", "redis://{}?password=hunter2"])
def test_server_that_does_not_answer_is_named_without_its_password(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, form: str
) -> None:
    caplog.set_level(logging.WARNING)
    fleet = Fleet(form.format(f"127.0.0.1:{free_port()}"), Ledger.in_file(tmp_path / "l"), name="f")
    fleet.tick()
    until(lambda: "does not answer" in caplog.text, seconds=3)
    fleet.close()
    assert "hunter2" not in caplog.text and "127.0.0.1" in caplog.text
