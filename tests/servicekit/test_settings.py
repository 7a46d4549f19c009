from dataclasses import replace
from pathlib import Path

import pytest
from marshmallow import Schema
from marshmallow.fields import String

from servicekit import SettingsError, load_settings
from servicekit.fields import Duration


class ShopSettings(Schema):
    motto = String(load_default="buy")
    patience = Duration(load_default=1.0)


FILE = "services: {shop: {port: 8099}}\n"


def refusal(file: Path, text: str) -> SettingsError:
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings("shop", ShopSettings())
    assert str(caught.value).startswith(caught.value.file)
    return caught.value


@pytest.mark.parametrize(
    ("text", "key", "rule", "value"),
    [
        ("circuit_braker: {}", "circuit_braker", "be one of circuit_breaker, breakers", {}),
        ("circuit_breaker: {timout: 5s}", "circuit_breaker.timout", "be one of ", "5s"),
        ("circuit_breaker: {timeout: soon}", "circuit_breaker.timeout", "be a duration", "soon"),
        ("circuit_breaker: {max_requests: '5'}", "circuit_breaker.max_requests", "be a whole number", "5"),
        (
            "circuit_breaker: {failure_rate_threshold: .nan}",
            "circuit_breaker.failure_rate_threshold",
            "be a rate",
            None,
        ),
        (
            "circuit_breaker: {max_requests: 5, success_threshold: 6}",
            "circuit_breaker.success_threshold",
            "never close",
            6,
        ),
        (
            "circuit_breaker: {failure_threshold: , failure_rate_threshold: , slow_call_rate_threshold: }",
            "circuit_breaker.failure_threshold",
            "never trip",
            None,
        ),
        ("circuit_breaker: 5", "circuit_breaker", "be a section", 5),
        ("breakers: {risk: {timeout: -1}}", "breakers.risk.timeout", "be a duration", -1),
        ("breakers: {risk: 5}", "breakers.risk", "be a section", 5),
        ("breakers: {7: {}}", "breakers.7", "be a name", 7),
        (
            "state: {url: 'ftp://x'}",
            "state.url",
            "be memory://, file:///PATH, shm://NAME, or begin with one of redis://",
            "ftp://x",
        ),
        ("metrics: {per_breaker_names: 1}", "metrics.per_breaker_names", "be true or false", 1),
        ("server: {host: 0.0.0.0}", "server.host", "be of this host only without CB_ADMIN_TOKEN", "0.0.0.0"),
        ("server: {host: '::'}", "server.host", "be of this host only without CB_ADMIN_TOKEN", "::"),
        ("server: {host: example.org}", "server.host", "be an IP address or localhost", "example.org"),
        ("server: {hosts: [a, 'b:80']}", "server.hosts.1", "be a name or an address, without a port", None),
        ("server: {hosts: a}", "server.hosts", "be a list", "a"),
        ("server: {read_timeout: 1h}", "server.read_timeout", "be from 100ms to 5m", "1h"),
        ("circuit_breaker: {timeout: 2020-13-45}", "circuit_breaker.timeout", "be a duration", "2020-13-45"),
        (f"circuit_breaker: {{timeout: {'1' * 5000}}}", "circuit_breaker.timeout", "be a duration", "1" * 5000),
        (f"circuit_breaker: {{interval: {'1' * 400}}}", "circuit_breaker.interval", "be a duration", "1" * 400),
        (f"circuit_breaker: {{interval: 0x{'f' * 5000}}}", "circuit_breaker.interval", "be a duration", None),
        ("circuit_breaker: {max_requests: !!int x}", "circuit_breaker.max_requests", "be a whole number", "x"),
        ("server: {workers: 0}", "server.workers", "be a whole number from 1 to 63", 0),
        ("server: {treads: 1}", "server.treads", "not be present", 1),
        ("services: {shop: {}}", "services.shop.port", "be present", None),
        ("services: {shop: {port: 0}}", "services.shop.port", "be a whole number from 1 to 65535", 0),
        ("services: {shop: {port: 8099, moto: x}}", "services.shop.moto", "not be present", "x"),
        ("services: {shop: {port: 8099, motto: 5}}", "services.shop.motto", "be text", 5),
        ("services: {shop: {port: 8099, patience: 0}}", "services.shop.patience", "be a duration", 0),
    ],
)
def test_wrong_setting_is_refused_with_file_key_rule_and_value(
    config: Path, text: str, key: str, rule: str, value: object
) -> None:
    error = refusal(config, text + "\n" + ("" if text.startswith("services") else FILE))
    assert (error.file, error.key) == (str(config), key)
    assert rule in error.rule
    assert error.value == value or value is None
    assert str(error) == f"{config}: {key} must {error.rule}, got {error.value!r}"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "hold sections"),
        ("- 1", "hold sections"),
        ("a: [", "be valid YAML"),
        ("{a:" * 20_000, "be valid YAML"),
        ("state: {url: 'memory://', url: 'shm://'}", "be valid YAML"),
        ("state: !!python/object/apply:os.getcwd []", "be valid YAML"),
        ("state: {? [1, 2] : 3}", "be valid YAML"),
    ],
)
def test_file_that_holds_no_settings_is_refused(config: Path, text: str, rule: str) -> None:
    error = refusal(config, text)
    assert (error.key, error.rule) == ("", rule)


def test_missing_file_is_refused(config: Path) -> None:
    config.unlink()
    with pytest.raises(SettingsError, match=r"config\.yaml must be a readable file"):
        load_settings("shop")


def test_settings_of_other_services_are_left_alone(config: Path) -> None:
    config.write_text("services: {shop: {port: 8099}, other: {port: x, y: z}}")
    assert load_settings("shop", ShopSettings()).service == {"motto": "buy", "patience": 1.0}


PLATFORM = "services: {gateway: {port: 1}, portfolio: {port: 2}, market-data: {port: 3}"


@pytest.mark.parametrize(
    ("text", "key", "rule"),
    [
        (PLATFORM + ", risk: {}}", "services.risk", "be one of gateway, portfolio, market-data"),
        (PLATFORM + ", marketdata: {port: 4}}", "services.marketdata", "be one of gateway"),
        ("services: {market_data: {port: 3}}", "services.market_data", "be one of gateway"),
        (PLATFORM + "}\nbreakers: {market_data: {}}", "breakers.market_data", "be one of market-data"),
        (PLATFORM + "}\nbreakers: {marketdata: {timeout: 1s}}", "breakers.marketdata", "be one of market-data"),
    ],
)
@pytest.mark.parametrize("service", ["gateway", "portfolio", "market-data", "marketdata"])
def test_name_that_the_platform_does_not_have_is_refused(
    config: Path, service: str, text: str, key: str, rule: str
) -> None:
    config.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(service)
    assert (caught.value.file, caught.value.key) == (str(config), key)
    assert rule in caught.value.rule


def test_package_finds_its_section_whose_name_has_hyphens(config: Path) -> None:
    config.write_text("services: {corner-shop: {port: 8099}}")
    settings = load_settings("cornershop")
    assert (settings.name, settings.port, settings.state_url) == ("corner-shop", 8099, "shm://corner-shop")


def test_environment_changes_single_keys(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text(FILE + "breakers: {own-stock: {failure_threshold: 7}}")
    for name, value in {
        "CB_CIRCUIT_BREAKER__TIMEOUT": "500ms",
        "CB_BREAKERS__OWN_STOCK__TIMEOUT": "2s",
        "CB_BREAKERS__OWN_STOCK__FAILURE_RATE_THRESHOLD": "",
        "CB_METRICS__PER_BREAKER_NAMES": "false",
        "CB_SERVICES__SHOP__MOTTO": "sell",
        "CB_SERVER__THREADS": "3",
    }.items():
        monkeypatch.setenv(name, value)
    settings = load_settings("shop", ShopSettings())
    own = settings.breaker_overrides["own-stock"]
    assert (settings.breaker_defaults.timeout, own.timeout, own.failure_threshold) == (0.5, 2.0, 7)
    assert own.failure_rate_threshold is None
    assert (settings.per_breaker_names, settings.service["motto"], settings.threads) == (False, "sell", 3)


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("CB_CIRCUIT_BREAKER__TIMEOUT", "soon", ("circuit_breaker.timeout", "be a duration")),
        ("CB_CIRCUIT_BREAKER__TIMOUT", "5s", ("circuit_breaker.timout", "be one of")),
        ("CB_BREAKERS__OWN_STOK__TIMEOUT", "5s", ("breakers.own_stok.timeout", "name one of own-stock")),
        ("CB_BREAKER__TIMEOUT", "5s", ("breaker.timeout", "name a setting")),
        ("CB_BREAKERS__OWN_STOCK", "5s", ("breakers.own_stock", "name a setting")),
        ("CB_SERVER__HOST", "0.0.0.0", ("server.host", "be of this host only")),
        ("CB_CIRCUIT_BREAKER__TIMEOUT", "2020-13-45", ("circuit_breaker.timeout", "be a duration")),
        ("CB_CIRCUIT_BREAKER__TIMEOUT", "1" * 5000, ("circuit_breaker.timeout", "be a duration")),
        ("CB_STATE__URL", "{a:" * 20_000, ("state.url", "be memory://")),
        ("CB_SERVICES__SHOP__PORT", "eighty", ("services.shop.port", "be a whole number")),
        ("CB_STATE__URL", "[", ("state.url", "be memory://")),
    ],
)
def test_wrong_variable_is_refused_by_its_name(
    config: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: tuple[str, str]
) -> None:
    monkeypatch.setenv(variable, value)
    error = refusal(config, FILE + "breakers: {own-stock: {}}")
    assert (error.file, error.key, error.value) == (f"environment variable {variable}", expected[0], value)
    assert expected[1] in error.rule


def test_state_directory_that_others_may_write_is_refused(config: Path, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    with pytest.raises(SettingsError, match="only this user"):
        load_settings("shop")


def test_state_directory_is_made_for_this_user_alone(config: Path) -> None:
    assert load_settings("shop").state_dir.stat().st_mode & 0o777 == 0o700


def test_shipped_file_holds_the_defaults_of_the_code_and_asks_for_slow_calls(tmp_path: Path) -> None:
    file = Path(__file__).resolve().parents[2] / "config" / "config.yaml"
    settings = load_settings("market-data", environ={"CB_CONFIG": str(file), "CB_STATE_DIR": str(tmp_path)})
    assert settings.breaker_defaults == replace(type(settings.breaker_defaults)(), slow_call_rate_threshold=0.8)


def test_server_of_a_fleet_leaves_the_ledger_on_the_host_and_is_named_without_its_password(config: Path) -> None:
    config.chmod(0o600)
    config.write_text(FILE + "state: {url: 'redis://:secret@127.0.0.1:6379/0', sync_interval: 50ms}\n")
    settings = load_settings("shop", ShopSettings())
    assert (settings.state_url, settings.sync_interval) == ("shm://shop", 0.05)
    assert settings.fleet_url == "redis://:secret@127.0.0.1:6379/0"

    error = refusal(config, FILE + "state: {url: 'redis+sentinel://:secret@127.0.0.1:26379'}\n")
    assert (error.key, error.rule) == ("state.url", "be redis+sentinel://HOST:PORT,HOST:PORT/NAME")
    assert "secret" not in str(error)


def test_thresholds_that_are_said_later_have_those_give_way_that_were_said_before(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        FILE + "circuit_breaker: {max_requests: 5, success_threshold: 3, timeout: 30s, timeout_max: 5m}\n"
        "breakers: {slow: {timeout: 10m}, rare: {max_requests: 1}}\n"
    )
    environ = {"CB_CONFIG": str(file), "CB_STATE_DIR": str(tmp_path / "state"), "CB_BREAKERS__RARE__TIMEOUT": "20m"}
    settings = load_settings("shop", ShopSettings(), environ)
    slow, rare = settings.breaker_overrides["slow"], settings.breaker_overrides["rare"]
    assert (slow.timeout, slow.timeout_max, slow.success_threshold) == (600, 600, 3)
    assert (rare.max_requests, rare.success_threshold, rare.timeout, rare.timeout_max) == (1, 1, 1200, 1200)
    changed = load_settings("shop", ShopSettings(), environ | {"CB_CIRCUIT_BREAKER__SUCCESS_THRESHOLD": "7"})
    assert (changed.breaker_defaults.max_requests, changed.breaker_defaults.success_threshold) == (7, 7)
