"""The public surface: few methods, a repr for each class, and all types of a door exported by it."""

import importlib
import inspect
import sys
import types
import typing
from collections.abc import Iterator
from typing import Any

import pytest

import cb
from cb import CircuitBreaker, Ledger

#: Public doors of the library.
DOORS = (
    *("cb", "cb.fleet", "cb.http", "cb.resilience", "cb.testing"),
    *(
        "cb.integrations.asgi",
        "cb.integrations.celery",
        "cb.integrations.django",
        "cb.integrations.flask",
        "cb.integrations.opentelemetry",
        "cb.integrations.prometheus",
        "cb.integrations.redis",
        "cb.integrations.sqlalchemy",
    ),
)


def exported(door: str) -> dict[str, Any]:
    """Return the public names of a door. A module without `__all__` exports those that it defines."""
    module = importlib.import_module(door)
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == door
    ]
    return {name: getattr(module, name) for name in names}


#: Classes of `cb` that only the library creates: their constructors are not public.
CREATED_BY_THE_LIBRARY = {"BreakerControl", "Call", "CallGuard", "Ledger"}
#: Methods that other modules of the library call.
INTERNAL = {"Call.occupy"}


def public(cls: type) -> set[str]:
    """Return the names of a class, and of its bases, that do not begin with an underscore."""
    return {name for base in cls.__mro__[:-1] for name in vars(base) if not name.startswith("_")}


def methods(cls: type) -> set[str]:
    """Return the public names of a class that are neither properties nor attributes."""
    return {name for name in public(cls) if callable(getattr(cls, name))}


def callables(value: Any) -> Iterator[Any]:
    """Yield an exported function, or the public methods and properties of an exported class of ours."""
    if inspect.isfunction(value):
        yield value
    if not inspect.isclass(value):
        return
    for name, member in vars(value).items():
        if name.startswith("_") and name not in {"__init__", "__call__", "__enter__", "__exit__"}:
            continue
        if (name == "__init__" and value.__name__ in CREATED_BY_THE_LIBRARY) or f"{value.__name__}.{name}" in INTERNAL:
            continue
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if inspect.isfunction(function):
            yield function


def named(hint: Any) -> Iterator[type]:
    """Yield the classes of the library in an annotation."""
    if isinstance(hint, type) and not typing.get_args(hint):
        if hint.__module__.split(".")[0] == "cb" and not getattr(hint, "_is_protocol", False):
            yield hint  # any object of the shape of a protocol serves
        return
    for part in (typing.get_origin(hint), *typing.get_args(hint)):
        if isinstance(part, list):
            yield from (found for each in part for found in named(each))
        elif part is not None and part is not types.UnionType:
            yield from named(part)


def test_breaker_has_at_most_14_public_names() -> None:
    assert len(public(CircuitBreaker)) <= 14, sorted(public(CircuitBreaker))


def test_ledger_has_at_most_10_public_methods() -> None:
    assert len(methods(Ledger)) <= 10, sorted(methods(Ledger))


@pytest.mark.parametrize("door", DOORS)
def test_every_public_class_has_a_repr(door: str) -> None:
    classes = [value for value in exported(door).values() if inspect.isclass(value)]
    # An observer without state has nothing to show.
    plain = [cls for cls in classes if cls.__repr__ is object.__repr__ and cls.__init__ is not object.__init__]
    plain = [cls for cls in plain if not getattr(cls, "_is_protocol", False)]
    assert not [f"{cls.__module__}.{cls.__qualname__}" for cls in plain]


@pytest.mark.parametrize("door", DOORS)
def test_types_that_a_door_takes_and_returns_are_exported_by_it_or_by_cb(door: str) -> None:
    names = exported(door)
    known = {id(value) for value in (exported("cb") | names).values()}
    missing = set()
    for name, value in names.items():
        if getattr(value, "__module__", "").split(".")[0] != "cb":
            continue
        for function in callables(value):
            module = importlib.import_module(function.__module__)
            hints = typing.get_type_hints(function, {**sys.modules, **vars(cb), **vars(module), **names})
            missing |= {
                f"{name}.{function.__name__}: {cls.__name__}"
                for hint in hints.values()
                for cls in named(hint)
                if id(cls) not in known
            }
    assert not missing, "\n".join(sorted(missing))
