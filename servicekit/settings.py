"""The settings of a service, checked once."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from marshmallow import Schema, ValidationError, validate
from marshmallow.fields import String

from cb.config import BreakerConfig
from cb.errors import ConfigError
from cb.ledger.paths import SHARED, state_directory

from .fields import Duration, Flag, Whole
from .names import BREAKERS, FRONT, SERVICES
from .server_settings import ServerSchema, is_loopback
from .settings_file import Key, SettingsError, Source
from .tokens import check_private, read_keys, read_token
from .validation_errors import violations


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a service needs to know."""

    #: the service's section in the file
    name: str
    #: which it was read from
    file: str
    #: the section `circuit_breaker`
    breaker_defaults: BreakerConfig
    #: the section `breakers`, by dependency, each with the defaults for what it does not say
    breaker_overrides: dict[str, BreakerConfig]
    #: for Ledger.open
    state_url: str
    #: for Fleet: the server that all hosts share; None where each host is alone
    fleet_url: str | None
    #: seconds between two exchanges with it
    sync_interval: float
    #: private directory for what lives no longer than the host: ledgers, simulations, metrics
    state_dir: Path
    #: whether metrics have the names with the breaker's name as suffix too
    per_breaker_names: bool
    #: what operators must show to steer breakers and to simulate failures; None where whoever is on this host may
    admin_token: str | None = field(default=None, repr=False)
    #: what the services show each other; None where whoever is on this host may do what they do
    service_token: str | None = field(default=None, repr=False)
    #: users by the hashes of their keys; empty where whoever reaches the gateway may act for any user
    api_keys: dict[str, str] = field(default_factory=dict, repr=False)
    #: address that it listens on
    host: str
    #: names that it answers to, beside `host` and those of the loopback
    hosts: tuple[str, ...]
    #: port that it listens on
    port: int
    #: processes
    workers: int
    #: requests at once in each of them
    threads: int
    #: seconds that a client has to send a request
    read_timeout: float
    #: seconds that a client has to take an answer
    write_timeout: float
    #: how many proxies before it are to be believed what they say of a client
    proxies: int
    #: requests of one client, such as "200/second"; None: as many as it likes
    rate_limit: str | None
    #: the service's section, as its schema loads it
    service: dict[str, Any]


def load_settings(name: str, schema: Schema | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings of a service, named as in the file or, without hyphens, as its package. Raises SettingsError.

    The file is $CB_CONFIG, else config/config.yaml. A variable such as CB_CIRCUIT_BREAKER__TIMEOUT or
    CB_SERVICES__MARKET_DATA__PORT changes one key. Without a schema the service's own section is taken as it is.
    """
    source = Source.read(environ.get("CB_CONFIG") or "config/config.yaml", environ)
    if source.secret:
        check_private(source.file, "it holds a password")
    defaults = _breaker(source, ("circuit_breaker",), BreakerConfig())
    state = _load(source, _State(), ("state",))
    remote = state["url"].startswith(_REMOTE)
    server = _load(source, ServerSchema(), ("server",))
    tokens = [read_token(each, environ) for each in _TOKENS]
    if not is_loopback(server["host"]) and None in tokens:
        raise source.error(("server", "host"), f"be of this host only without {' and '.join(_TOKENS)}", server["host"])
    keys = read_keys(source)
    if keys and tokens[0] is None:
        raise source.error(("api_keys",), f"stand beside {_TOKENS[0]}: operators may do what users may not", "none")
    known = (*source.section("services"), *SERVICES)
    name = next((each for each in known if name in (each, each.replace("-", ""))), name)
    if name == FRONT and not keys and not is_loopback(server["host"]):
        raise source.error(("api_keys",), "name the users where others than this host reach the gateway", {})
    if name in SERVICES:  # a service of others has neighbours that we do not know
        source.check_names("services", SERVICES)
        source.check_names("breakers", BREAKERS)
    own = ("services", name)
    port = _load(source, _Port(), own, only=("port",))["port"]
    leave_out = () if schema is None or "port" in schema.fields else ("port",)
    return Settings(
        name=name,
        file=source.file,
        breaker_defaults=defaults,
        breaker_overrides={each: _breaker(source, ("breakers", each), defaults) for each in source.section("breakers")},
        state_url=f"shm://{name}" if remote or state["url"] == "shm://" else state["url"],
        fleet_url=_fleet_url(source, state["url"]) if remote else None,
        sync_interval=state["sync_interval"],
        state_dir=_private_directory(environ),
        per_breaker_names=_load(source, _Metrics(), ("metrics",))["per_breaker_names"],
        admin_token=tokens[0],
        service_token=tokens[1],
        api_keys=keys,
        host=server["host"],
        hosts=tuple(server["hosts"]),
        port=port,
        workers=server["workers"],
        threads=server["threads"],
        read_timeout=server["read_timeout"],
        write_timeout=server["write_timeout"],
        proxies=server["proxies"],
        rate_limit=server["rate_limit"],
        service=_load(source, schema, own, leave_out=leave_out) if schema else dict(source.section(*own)),
    )


_TOKENS = ("CB_ADMIN_TOKEN", "CB_SERVICE_TOKEN")
_REMOTE = tuple(f"{scheme}://" for scheme in SHARED)


class _State(Schema):
    url = String(
        load_default="shm://",
        validate=validate.Regexp(
            rf"(memory://|file:///.+|shm://[A-Za-z0-9._-]*|({'|'.join(map(re.escape, _REMOTE))}).+)\Z",
            error=f"must be memory://, file:///PATH, shm://NAME, or begin with one of {', '.join(_REMOTE)}",
        ),
    )
    sync_interval = Duration(load_default=0.1)


def _fleet_url(source: Source, url: str) -> str:
    """Return the URL of a server that hosts share, if it is one. Raises SettingsError."""
    try:
        from cb.fleet import check
    except ModuleNotFoundError as error:
        rule = "be of a kind whose client is installed: pip install 'distributed-circuit-breaker[redis]'"
        raise source.error(("state", "url"), rule, url) from error
    try:
        check(url)
    except ConfigError as error:
        raise source.error(("state", "url"), error.rule, url) from error
    return url


class _Metrics(Schema):
    per_breaker_names = Flag(load_default=True)


class _Port(Schema):
    port = Whole(1, 65_535, required=True)


def _load(
    source: Source,
    schema: Schema,
    path: Key,
    *,
    only: tuple[str, ...] = (),
    leave_out: tuple[str, ...] = (),
) -> dict[str, Any]:
    section = source.section(*path)
    chosen = {key: value for key, value in section.items() if (key in only or not only) and key not in leave_out}
    try:
        loaded: dict[str, Any] = schema.load(chosen)
    except ValidationError as error:
        where, rule = next(violations(error.messages))
        value = section.get(str(where[0])) if where else section
        raise source.error((*path, *map(str, where)), rule.removeprefix("must "), value) from error
    return loaded


def _breaker(source: Source, path: Key, defaults: BreakerConfig) -> BreakerConfig:
    said = source.section(*path)
    changed = {key: value for key, value in said.items() if source.changed((*path, key))}
    written = {key: value for key, value in said.items() if key not in changed}
    try:
        return BreakerConfig.parse(changed, BreakerConfig.parse(written, defaults))
    except ConfigError as error:
        raise source.error((*path, error.field), error.rule, error.value) from error


def _private_directory(environ: Mapping[str, str]) -> Path:
    """Return the directory for state, made if there is none. Raises SettingsError unless it is ours alone to write."""
    path = state_directory(environ)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The link too: in a directory that all may write, somebody else may have put one here first.
        owners, mode = {path.lstat().st_uid, path.stat().st_uid}, path.stat().st_mode
    except OSError as error:
        raise SettingsError("environment variable CB_STATE_DIR", "", "be a directory", str(error)) from error
    if hasattr(os, "geteuid") and (owners != {os.geteuid()} or mode & 0o022):
        rule = "be a directory that only this user owns and writes"
        raise SettingsError("environment variable CB_STATE_DIR", "", rule, str(path))
    return path
