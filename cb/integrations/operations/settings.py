"""Settings of the extensions: checks that name the setting."""

import os
import re
from collections.abc import Mapping
from typing import Any

from cb.config import BreakerConfig
from cb.errors import ConfigError
from cb.ledger.ledger import Ledger

from .tokens import check_token, read_token

#: prefix of the operators' routes
DEFAULT_PREFIX = "/circuit-breakers"
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*/?", re.ASCII)


def check_path(field: str, path: object) -> None:
    """Check a path for routes. Raises ConfigError."""
    if not (isinstance(path, str) and _PATH.fullmatch(path)):
        raise ConfigError(field, f"be a path such as {DEFAULT_PREFIX}", path)


def admin_token(*given: tuple[str, object]) -> str | None:
    """Return the operators' token: the first of these settings that is not None, else that of the environment.

    Raises ConfigError.

    Args:
        given: Names and values of settings.
    """
    for field, token in given:
        if token is not None:
            return check_token(field, token)
    return read_token("CB_ADMIN_TOKEN", os.environ)


def is_public(*given: tuple[str, object]) -> bool:
    """Return the first of these settings that is not None, else False. Raises ConfigError.

    Args:
        given: Names and values of settings.
    """
    for field, public in given:
        if public is not None:
            if not isinstance(public, bool):
                raise ConfigError(field, "be True or False", public)
            return public
    return False


def open_ledger(ledger: Ledger | str, field: str = "CB_LEDGER") -> Ledger:
    """Return a ledger, opened if it is a URL. Raises ConfigError."""
    if isinstance(ledger, Ledger):
        return ledger
    try:
        return Ledger.open(ledger)
    except ConfigError as error:
        raise ConfigError(field, error.rule, error.value) from error


def parse_config(field: str, given: object, defaults: BreakerConfig) -> BreakerConfig:
    """Return the thresholds of a mapping. Raises ConfigError."""
    settings = _mapping(field, given)
    try:
        return BreakerConfig.parse(settings, defaults)
    except ConfigError as error:
        raise ConfigError(f"{field}.{error.field}", error.rule, error.value) from error


def parse_configs(field: str, given: object, defaults: BreakerConfig) -> dict[str, BreakerConfig]:
    """Return the thresholds of a mapping of each name to a mapping. Raises ConfigError."""
    return {name: parse_config(f"{field}.{name}", each, defaults) for name, each in _mapping(field, given).items()}


def _mapping(field: str, given: object) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise ConfigError(field, "be a mapping", given)
    return given
