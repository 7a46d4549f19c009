"""The setting `CIRCUIT_BREAKERS`: its keys and their rules."""

import importlib.util
import os
import sys
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from cb.config import BreakerConfig
from cb.errors import ConfigError
from cb.events import Listener
from cb.integrations.operations.extension_state import ExtensionState
from cb.integrations.operations.panel import Panel
from cb.integrations.operations.settings import admin_token, is_public, open_ledger, parse_config, parse_configs
from cb.ledger.ledger import Ledger
from cb.registry import Registry

#: name of the setting
SETTING = "CIRCUIT_BREAKERS"
_KEYS = ("breakers", "defaults", "ledger", "listeners", "name", "panels", "public", "token")


def create_state(given: object, owner: object) -> ExtensionState:
    """Return the breakers that the setting describes. Raises ConfigError, which names the key.

    Args:
        given: Value of the setting.
        owner: The object that has the breakers.
    """
    if not isinstance(given, Mapping):
        raise ConfigError(SETTING, "be a mapping", given)
    for key in given:
        if key not in _KEYS:
            raise ConfigError(f"{SETTING}.{key}", f"be one of {', '.join(_KEYS)}", given[key])
    defaults = parse_config(_path("defaults"), given.get("defaults", {}), BreakerConfig())
    return ExtensionState(
        service=_name(given.get("name")),
        registry=Registry(
            ledger=_ledger(given.get("ledger")),
            defaults=defaults,
            overrides=parse_configs(_path("breakers"), given.get("breakers", {}), defaults),
            listeners=[_listener(each) for each in _list("listeners", given)],
        ),
        token=admin_token((_path("token"), given.get("token"))),
        public=is_public((_path("public"), given.get("public"))),
        panels=[_panel(each) for each in _list("panels", given)],
        owner=owner,
    )


def in_tests() -> bool:
    """Return True in a test run of Django: `manage.py test`, or pytest with pytest-django."""
    utils: Any = sys.modules.get("django.test.utils")
    # The other two are known before modules of the project are imported, the first is not.
    return (
        hasattr(getattr(utils, "_TestState", None), "saved_data")
        or sys.argv[1:2] == ["test"]
        or "pytest_django" in sys.modules
    )


def _path(key: str) -> str:
    return f"{SETTING}.{key}"


def _name(given: object) -> str:
    if given is None:
        return str(getattr(settings, "ROOT_URLCONF", "") or "django").partition(".")[0]
    if not isinstance(given, str) or not given:
        raise ConfigError(_path("name"), "be a name", given)
    return given


def _ledger(given: object) -> Ledger:
    if given is not None and not isinstance(given, str | Ledger):
        raise ConfigError(_path("ledger"), "be a Ledger or its URL, such as shm://shop", given)
    if in_tests():
        return Ledger.in_memory()
    if given:
        return open_ledger(given, _path("ledger"))
    from cb.ledger.opened import default_ledger  # not above: a project that names its ledger does not need it

    return default_ledger(_namespace())


def _namespace() -> Mapping[str, Any]:
    """Return globals of the project: of its settings, or, where those are in no module, of its routes."""
    module = sys.modules.get(
        str(getattr(settings, "SETTINGS_MODULE", None) or os.environ.get("DJANGO_SETTINGS_MODULE"))
    )
    if module is not None:
        return vars(module)
    try:
        spec = importlib.util.find_spec(str(getattr(settings, "ROOT_URLCONF", "")))
    except (ImportError, ValueError):
        spec = None
    # Without a file, the project is the working directory.
    return {"__file__": spec.origin, "__package__": spec.parent} if spec else {}


def _list(key: str, given: Mapping[str, Any]) -> list[Any]:
    value = given.get(key, ())
    if not isinstance(value, list | tuple):
        raise ConfigError(_path(key), "be a list", value)
    return list(value)


def _listener(given: object) -> Listener:
    found = given
    if isinstance(given, str):
        try:
            found = import_string(given)
        except ImportError as error:
            raise ConfigError(_path("listeners"), f"have functions or their dotted paths ({error})", given) from error
    if not callable(found):
        raise ConfigError(_path("listeners"), "have functions or their dotted paths", given)
    return found


def _panel(given: object) -> Panel:
    if not isinstance(given, Panel):
        raise ConfigError(_path("panels"), "have objects of the class Panel", given)
    return given
