"""The whole platform on a public address, with all tokens and keys."""

from pathlib import Path

import pytest

from tests.platform.conftest import Platform
from tests.platform.security.test_api_keys import ADMIN, CONFIG, KEYS, ORDER, SERVICE, hash_key, shows
from tests.support import ROOT


def test_platform_on_a_public_address_works_with_keys_and_tokens_and_logs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.yaml").write_text((ROOT / "config/config.yaml").read_text().replace("api_keys: {}", CONFIG))
    settings = {"CB_SERVER__HOST": "0.0.0.0", "CB_ADMIN_TOKEN": ADMIN, "CB_SERVICE_TOKEN": SERVICE}
    for name, value in {**settings, "CB_CONFIG": str(tmp_path / "config.yaml")}.items():
        monkeypatch.setenv(name, value)
    tmp_path.chmod(0o700)
    platform = Platform(tmp_path)
    try:
        platform.start()
        for shown, status in (("alice", 201), ("bob", 404), ("wrong", 401), (ADMIN, 401), (SERVICE, 401)):
            placed = platform.request("POST", "gateway", "/api/v1/trades", json=ORDER, headers=shows(shown))
            assert placed.status_code == status
        holdings = platform.request("GET", "gateway", "/api/v1/portfolio/alice", headers=shows("alice")).json()
        assert holdings["positions"] == [{"symbol": "AAPL", "quantity": 1}]
        for shown, status in (("alice", 401), (ADMIN, 401), (SERVICE, 200)):
            seen = platform.request("GET", "portfolio", "/api/v1/portfolio/alice", headers=shows(shown))
            assert seen.status_code == status
        assert platform.get("market-data", "/api/v1/prices/AAPL").status_code == 401
    finally:
        platform.stop()
    for service in ("gateway", "portfolio", "market-data"):
        log = platform.log(service).read_text()
        assert "Traceback" not in log
        secrets = [ADMIN, SERVICE, *KEYS.values(), *map(hash_key, KEYS.values())]
        assert not [each for each in secrets if each in log]
