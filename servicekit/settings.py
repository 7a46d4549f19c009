"""The settings of a service, validated at its start."""

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
from .server_settings import ServerSchema, is_loopback
from .settings_file import Key, SettingsError, Source
from .tokens import check_private, read_api_keys, read_token
from .validation_errors import violations

#: the services of the platform
SERVICES = ("gateway", "portfolio", "market-data")
#: the service that users call
FRONT = "gateway"
#: breakers of the platform; `database` is each service's own, the others are the gateway's
BREAKERS = ("market-data", "portfolio", "risk", "notification", "audit", "database")
#: threads of a service that no dependency may occupy, so that health and status are answered
SPARE_THREADS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a service."""

    #: the service's section in the file
    name: str
    #: path of the file
    file: str
    #: the section `circuit_breaker`
    breaker_defaults: BreakerConfig
    #: the section `breakers`, by dependency, completed by the defaults
    breaker_overrides: dict[str, BreakerConfig]
    #: URL for Ledger.open
    state_url: str
    #: URL of the server that all hosts share, for Fleet; None without a fleet
    fleet_url: str | None
    #: seconds between two synchronizations with it
    sync_interval: float
    #: private directory for data of this boot: ledgers, simulations, metrics
    state_dir: Path
    #: True for additional metrics with the breaker's name as suffix
    per_breaker_names: bool
    #: token of the operators; None if requests from this host need none
    admin_token: str | None = field(default=None, repr=False)
    #: token that the services share; None if requests from this host need none
    service_token: str | None = field(default=None, repr=False)
    #: users by the hashes of their keys; empty if users need none
    api_keys: dict[str, str] = field(default_factory=dict, repr=False)
    #: address to listen on
    host: str
    #: accepted names in `Host`, in addition to `host` and the names of the loopback
    hosts: tuple[str, ...]
    #: port to listen on
    port: int
    #: number of processes
    workers: int
    #: threads per process
    threads: int
    #: seconds for a client to send a request
    read_timeout: float
    #: seconds for a client to take a response
    write_timeout: float
    #: number of trusted proxies
    proxies: int
    #: requests of one client, such as "200/second"; None without a limit
    rate_limit: str | None
    #: the service's own section, as its schema loads it
    service: dict[str, Any]

    def bulkhead_limits(self, *names: str) -> dict[str, int]:
        """Return the limit of each bulkhead: the setting NAME_limit, or an equal share of the remaining threads.

        The threads of all workers are shared. Raises SettingsError if the limits together leave too few.
        """
        threads = self.workers * self.threads
        keys = {name: f"{name.replace('-', '_')}_limit" for name in names}
        chosen = {name: limit for name, key in keys.items() if (limit := self.service[key]) is not None}
        others = len(names) - len(chosen)
        if chosen and sum(chosen.values()) + others > threads - SPARE_THREADS:
            key = keys[max(chosen, key=lambda name: chosen[name])]
            product = f"{threads} threads (server.workers x server.threads)"
            rule = f"leave {SPARE_THREADS} of {product} beside all limits together"
            raise SettingsError(self.file, f"services.{self.name}.{key}", rule, self.service[key])
        share = (threads - SPARE_THREADS - sum(chosen.values())) // max(others, 1)
        return {name: chosen.get(name, max(share, 1)) for name in names}


def load_settings(name: str, schema: Schema | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Load the settings of a service, named as in the file or, without hyphens, as its package. Raises SettingsError.

    The file is $CB_CONFIG, by default config/config.yaml. A variable such as CB_CIRCUIT_BREAKER__TIMEOUT or
    CB_SERVICES__MARKET_DATA__PORT overrides one key. Without a schema the service's own section is not validated.
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
    keys = read_api_keys(source)
    if keys and tokens[0] is None:
        raise source.error(("api_keys",), f"stand beside {_TOKENS[0]}: operators may do what users may not", "none")
    known = (*source.section("services"), *SERVICES)
    name = next((each for each in known if name in (each, each.replace("-", ""))), name)
    if name == FRONT and not keys and not is_loopback(server["host"]):
        raise source.error(("api_keys",), "name the users where others than this host reach the gateway", {})
    if name in SERVICES:  # other services may have neighbours of any name
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
    """Return the URL of the server that hosts share. Raises SettingsError."""
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
    """Return the directory for state, created if missing. Raises SettingsError if other users may write to it."""
    path = state_directory(environ)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The link too: in a directory that all users may write to, another user may have placed one here.
        owners, mode = {path.lstat().st_uid, path.stat().st_uid}, path.stat().st_mode
    except OSError as error:
        raise SettingsError("environment variable CB_STATE_DIR", "", "be a directory", str(error)) from error
    if hasattr(os, "geteuid") and (owners != {os.geteuid()} or mode & 0o022):
        rule = "be a directory that only this user owns and writes"
        raise SettingsError("environment variable CB_STATE_DIR", "", rule, str(path))
    return path
