"""Execution of docs/deployment.md, without users, services and a container engine, which need another machine."""

import stat
from pathlib import Path

import yaml

from servicekit import load_settings
from tests.docs.pages import Reader, blocks
from tests.support import ROOT

PAGE = ROOT / "docs/deployment.md"


def test_commands_and_settings_of_deployment_md_do_what_they_are_for(tmp_path: Path) -> None:
    behind_nginx, on_a_host, for_containers = blocks(PAGE)
    shipped = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    shipped["server"] |= yaml.safe_load(behind_nginx.text)["server"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(shipped))
    settings = load_settings(
        "gateway", environ={"CB_CONFIG": str(tmp_path / "config.yaml"), "CB_STATE_DIR": str(tmp_path)}
    )
    assert (settings.hosts, settings.proxies) == (("trading.example",), 1)

    host, containers = tmp_path / "host", tmp_path / "containers"
    host.mkdir()
    containers.mkdir()
    etc = {"/etc": f"{host}/etc", " -g trading": "", "config/": f"{ROOT}/config/"}
    reader = Reader(host, etc | {"useradd": "true useradd", "systemctl": "true systemctl"})
    (host / "etc/systemd/system").mkdir(parents=True)
    reader.follow(on_a_host)
    modes = {
        name: oct(stat.S_IMODE((host / "etc/trading" / name).stat().st_mode)) for name in ("config.yaml", "secrets.env")
    }
    assert modes == {"config.yaml": "0o640", "secrets.env": "0o600"}
    assert (host / "etc/systemd/system/trading@.service").is_file()

    reader = Reader(containers, {})
    reader.follow(for_containers)
    chosen = dict(line.split("=", 1) for line in (containers / ".env").read_text().splitlines())
    assert len(chosen["POSTGRES_PASSWORD"]) > 30
    environ = {
        "CB_CONFIG": str(tmp_path / "config.yaml"),
        "CB_STATE_DIR": str(tmp_path),
        "CB_API_KEYS__USER123": chosen["USER123_KEY_HASH"],
        **{f"CB_{name.upper()}_FILE": str(containers / "secrets" / name) for name in ("admin_token", "service_token")},
    }
    settings = load_settings("gateway", environ=environ)
    assert [*settings.api_keys.values()] == ["user123"]
    assert settings.admin_token
    assert settings.admin_token != settings.service_token
