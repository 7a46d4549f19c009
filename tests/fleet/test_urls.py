"""Where a fleet's server is: what `Fleet` takes, and what it never shows."""

import logging
from pathlib import Path

import pytest

from cb import ConfigError, Ledger
from cb.fleet import Fleet
from tests.fleet.servers import free_port, until


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
def test_url_that_no_server_can_have_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError, match="url"):
        Fleet(url, Ledger.in_memory(), name="f")


@pytest.mark.parametrize("interval", [0, 0.001, 60, "soon"])
def test_interval_out_of_bounds_is_a_configuration_error(interval: float | str) -> None:
    with pytest.raises(ConfigError, match="sync_interval"):
        Fleet("redis://localhost", Ledger.in_memory(), name="f", sync_interval=interval)


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
    until(lambda: "does not answer" in caplog.text, 3)
    fleet.close()
    assert "hunter2" not in caplog.text and "127.0.0.1" in caplog.text
