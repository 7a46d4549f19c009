"""Passwords and tokens: unreadable for other users, and absent from messages."""

import stat
from pathlib import Path

import pytest
import requests

from servicekit import SettingsError, load_settings
from tests.support import ROOT
from tests.support.shop_service import Service

SHOP = "services: {shop: {port: 8099}}\n"
HOLDING = [
    "state: {url: 'redis://:hunter2@cache/0'}",
    "state: {url: 'redis://user:hunter2@cache/0'}",
    "state: {url: 'redis://cache/0?password=hunter2'}",
    "state: {url: 'rediss://cache/0?ssl_keyfile=/k&ssl_password=hunter2'}",
    "services: {shop: {port: 8099, database: 'mysql://db/shop?passwd=hunter2'}}",
    "services: {shop: {port: 8099, database: 'mssql://db/shop?PWD=hunter2'}}",
    "services: {shop: {port: 8099, database: 'postgresql+psycopg://shop:hunter2@db/shop'}}",
]


def loaded(config: Path, text: str, mode: int) -> None:
    config.write_text(text if "services" in text else f"{text}\n{SHOP}")
    config.chmod(mode)
    load_settings("shop")


@pytest.mark.parametrize("text", HOLDING)
@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o666])
def test_readable_file_with_a_password_is_refused(config: Path, text: str, mode: int) -> None:
    with pytest.raises(SettingsError) as caught:
        loaded(config, text, mode)
    assert str(caught.value).startswith(
        f"{config} must be out of others' reach (chmod o= {config}): it holds a password"
    )
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", HOLDING)
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400])
def test_private_file_with_a_password_is_accepted(config: Path, text: str, mode: int) -> None:
    loaded(config, text, mode)


def test_file_without_a_password_may_be_read_by_all(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CB_STATE__URL", "redis://:hunter2@cache/0")  # the environment is private to the user
    loaded(config, "state: {url: 'redis://cache/0'}  # or redis://:hunter2@cache", 0o644)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CB_STATE__URL", "redis://h:99999/0?password=hunter2"),
        ("CB_STATE__URL", "rediss://h:99999/0?ssl_keyfile=/k&ssl_password=hunter2&db=1"),
        ("CB_STATE__URL__0", "redis://u:hunter2@h/0"),
        ("CB_STATE__PASSWORD", "hunter2"),
        ("CB_ADMIN__TOKEN", "hunter2-hunter2-hunter2"),
    ],
)
def test_error_of_a_refused_variable_has_no_password(
    config: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        loaded(config, "", 0o600)
    assert str(caught.value).startswith(f"environment variable {variable}: ")
    assert "hunter2" not in str(caught.value)
    assert "***" in str(caught.value)


def test_error_of_a_driver_has_no_password() -> None:
    error = SettingsError(
        "f", "k", "be a database (cannot open x://u:hunter2@h, nor y://h?password=hunter2)", "sqlite://"
    )
    assert str(error) == "f: k must be a database (cannot open x://***@h, nor y://h?password=***, got 'sqlite://'"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("state:\n  url: 'redis://:hunter2@h/0\n", 3),
        ("state:\n  url: redis://:hunter2: x\n", 2),
        ("state:\n  url: *hunter2\n", 2),
        ("state:\n  url: !hunter2 x\n", 2),
        ("state:\n  url: &hunter2'x y\n", 2),
    ],
)
def test_yaml_error_has_line_and_column_without_the_text(config: Path, text: str, line: int) -> None:
    config.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings("shop")
    assert str(caught.value).startswith(f"{config} must be valid YAML, got ")
    assert f"line {line}, column " in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_token_file_must_be_private(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("correct-horse-battery\n")
    environ = {"CB_CONFIG": str(config), "CB_STATE_DIR": str(tmp_path / "s"), "CB_ADMIN_TOKEN_FILE": str(file)}
    file.chmod(0o400)
    assert load_settings("shop", environ=environ).admin_token == "correct-horse-battery"
    file.chmod(0o644)
    with pytest.raises(SettingsError, match="it holds a token"):
        load_settings("shop", environ=environ)
    for wrong, rule in ((tmp_path / "none", "name a readable file"), (tmp_path, "out of others' reach|readable file")):
        with pytest.raises(SettingsError, match=rule):
            load_settings("shop", environ=environ | {"CB_ADMIN_TOKEN_FILE": str(wrong)})
    file.chmod(0o400)
    with pytest.raises(SettingsError, match="be absent beside CB_ADMIN_TOKEN_FILE"):
        load_settings("shop", environ=environ | {"CB_ADMIN_TOKEN": "correct-horse-battery"})


def modes(directory: Path) -> dict[str, str]:
    """Return the modes of a directory and everything below it."""
    found = [directory, *directory.rglob("*")]
    return {str(path.relative_to(directory)): stat.filemode(path.lstat().st_mode)[1:] for path in found}


@pytest.mark.parametrize("package", ["gateway", "portfolio", "marketdata"])
@pytest.mark.parametrize("server", ["gunicorn", "waitress"])
def test_files_of_a_service_are_private(config: Path, tmp_path: Path, package: str, server: str) -> None:
    config.write_text((ROOT / "config/config.yaml").read_text())
    names = {"gateway": "GATEWAY", "portfolio": "PORTFOLIO", "marketdata": "MARKET_DATA"}
    own = {
        "CB_SERVER": server,
        "CB_STATE_DIR": str(tmp_path / "written" / "state"),
        "CB_SERVICES__GATEWAY__DATABASE": f"sqlite:///{tmp_path}/written/data/gateway.db",
        "CB_SERVICES__PORTFOLIO__DATABASE": f"sqlite:///{tmp_path}/written/data/portfolio.db",
    }
    service = Service(
        tmp_path / "log",
        ("-c", f"import os; os.umask(0); from servicekit import serve; serve({package!r})"),
        names[package],
        **own,
    )
    try:
        service.wait_until_up()
        requests.post(f"{service.url}/api/v1/simulate/failure", json={"failure_rate": 0}, timeout=5)
        requests.post(f"{service.url}/api/v1/risk/simulate/failure", json={"failure_rate": 0}, timeout=5)
        requests.get(f"{service.url}/metrics", timeout=5)
        found = modes(tmp_path / "written")
    finally:
        service.stop()
    assert len(found) > 5
    assert any(name.endswith(".db") for name in found) or package == "marketdata"
    open_to_others = {name: mode for name, mode in found.items() if not mode.endswith("------")}
    assert not open_to_others
