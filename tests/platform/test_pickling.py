"""Pickling of the exceptions of all packages, and of the objects in them."""

import copy
import importlib
import inspect
import json
import multiprocessing
import pickle
import pkgutil
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import pytest
import requests
from celery import Celery

import cb
import gateway
import marketdata
import portfolio
import servicekit
from cb import BreakerConfig, BulkheadFullError, CircuitBreaker, CircuitOpenError, ConfigError
from cb.http import BulkheadFullConnectionError, CircuitOpenConnectionError, ClientErrorResponse, ServiceUnavailable
from cb.pickling import PortableError, UnpicklableCause

#: an argument for each annotated type
ARGUMENTS: dict[str, Any] = {
    "str": "text",
    "int": 3,
    "float": 2.5,
    "float | None": 2.5,
    "bool": False,
    "object": ["a", 1],
    "Json": {"code": "no"},
    "Mapping[str, str] | None": {"Retry-After": "3"},
    "Mapping[str, Any]": {"limit": 3},
}


def defined() -> Iterator[type[Exception]]:
    """Yield every exception class that one of the packages defines."""
    for package in (cb, servicekit, gateway, marketdata, portfolio):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            # Their import has side effects, or needs a driver.
            if re.search(r"\.migrations|__main__|integrations\.gunicorn|django\.db\.mysql", found.name):
                continue
            for value in vars(importlib.import_module(found.name)).values():
                # The type, not isinstance: a lazy object of Django would look for the class that it stands for.
                if issubclass(type(value), type) and issubclass(value, Exception) and value.__module__ == found.name:
                    yield value


def made(cls: type[Exception]) -> Exception:
    """Return an exception with an argument for each parameter, except a request."""
    try:
        parameters = inspect.signature(cls, eval_str=False).parameters.values()
    except ValueError:  # like all exceptions: any arguments
        return cls("text")
    arguments = []
    for each in parameters:
        annotation = each.annotation if isinstance(each.annotation, str) else inspect.formatannotation(each.annotation)
        annotation = annotation.replace("collections.abc.", "").replace("typing.", "")
        if each.kind is each.VAR_KEYWORD or each.kind is each.KEYWORD_ONLY or "Request" in annotation:
            continue
        arguments.append("text" if each.annotation is each.empty else ARGUMENTS.get(annotation, "text"))
    return cls(*arguments)


ERRORS = sorted(set(defined()), key=lambda cls: (cls.__module__, cls.__name__))
celery = Celery("tests", broker="memory://", backend="cache+memory://").backend


def through_json(error: Exception) -> Exception:
    back: Exception = celery.exception_to_python(
        json.loads(json.dumps(celery.prepare_exception(error, serializer="json")))
    )
    return back


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def same(left: BaseException, right: BaseException) -> bool:
    def facts(error: BaseException) -> dict[str, Any]:
        return {name: value for name, value in vars(error).items() if name not in {"request", "_request", "__notes__"}}

    return type(left) is type(right) and str(left) == str(right) and facts(left) == facts(right)


@pytest.mark.parametrize("cls", ERRORS, ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
@pytest.mark.parametrize("travel", [pickled, copy.copy, copy.deepcopy, through_json])
def test_error_of_any_package_arrives_with_its_facts(
    cls: type[Exception], travel: Callable[[Exception], Exception]
) -> None:
    error = made(cls)
    assert same(error, travel(error))
    assert same(error, travel(travel(error)))


@pytest.mark.parametrize("cls", ERRORS, ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
@pytest.mark.parametrize("travel", [pickled, copy.copy, copy.deepcopy])
def test_error_of_any_package_arrives_with_notes_and_cause(
    cls: type[Exception], travel: Callable[[Exception], Exception]
) -> None:
    error = made(cls)
    error.add_note("in the nightly run")
    error.__cause__ = ServiceUnavailable("the cause", sent=False)
    error.__cause__.__cause__ = KeyError("the cause's cause")
    arrived = travel(error)
    assert arrived.__notes__ == ["in the nightly run"]
    assert isinstance(arrived.__cause__, ServiceUnavailable) and arrived.__cause__.sent is False
    assert isinstance(arrived.__cause__.__cause__, KeyError)


def test_search_finds_the_errors_of_all_packages() -> None:
    names = {cls.__name__ for cls in ERRORS}
    assert {
        "CircuitOpenError",
        "BulkheadFullConnectionError",
        "Problem",
        "DatabaseBusyError",
        "RiskLimitError",
    } <= names
    assert all(issubclass(cls, PortableError) for cls in ERRORS)


def test_fact_or_cause_that_cannot_be_pickled_arrives_as_text() -> None:
    error = ConfigError("failures", "be classes", lambda: None)
    error.__cause__ = Unpicklable(threading.Lock())
    arrived = pickled(error)
    assert "lambda" in str(arrived.value) and "lambda" in arrived.args[2]
    assert isinstance(arrived.__cause__, UnpicklableCause) and "Unpicklable" in str(arrived.__cause__)


def test_cause_that_unpickles_only_where_it_was_pickled_does_not_hang_a_pool() -> None:
    error = CircuitOpenError("d", 1.0)
    error.__cause__ = TwoArguments("one", "two")
    assert isinstance(pickled(error).__cause__, UnpicklableCause)


def test_causes_in_a_circle_and_in_a_long_chain_arrive() -> None:
    first, second = CircuitOpenError("first", 1.0), BulkheadFullError("second", 2)
    first.__cause__, second.__cause__ = second, first
    assert pickled(first).__cause__.__cause__.name == "first"
    chain: BaseException = KeyError("root")
    for number in range(40):
        outer = CircuitOpenError(str(number), 1.0)
        outer.__cause__ = chain
        chain = outer
    depth, seen = 0, pickled(chain)
    while seen := seen.__cause__:
        depth += 1
    assert depth == 40


def test_error_that_a_user_derives_with_other_arguments_arrives() -> None:
    error = Derived(7)
    for travel in (pickled, copy.copy, copy.deepcopy):
        arrived = travel(error)
        assert (type(arrived), arrived.number, arrived.name, arrived.retry_after) == (Derived, 7, "vendor", 3.0)


def test_error_in_a_group_arrives() -> None:
    arrived = pickled(
        ExceptionGroup("two", [ServiceUnavailable("why", sent=False), ClientErrorResponse(404, {"a": 1})])
    )
    assert arrived.exceptions[0].sent is False and arrived.exceptions[1].body == {"a": 1}


def refusal(body: Any, **options: Any) -> CircuitOpenConnectionError:
    request = requests.Request("POST", "http://127.0.0.1/", data=body, **options).prepare()
    return CircuitOpenConnectionError("d", 1.5, request)


@pytest.mark.parametrize("travel", [pickled, copy.deepcopy])
def test_refused_request_arrives_without_what_only_its_process_has(travel: Callable[[Any], Any], tmp_path: Any) -> None:
    file = tmp_path / "upload"
    file.write_bytes(b"content")
    with file.open("rb") as upload:
        for body in (upload, (piece for piece in [b"a"]), b"bytes"):
            arrived = travel(refusal(body, hooks={"response": lambda response: response}, headers={"X-Tenant": "7"}))
            assert (arrived.name, arrived.retry_after, arrived.response) == ("d", 1.5, None)
            assert (arrived.request.method, arrived.request.url) == ("POST", "http://127.0.0.1/")
            assert arrived.request.headers["X-Tenant"] == "7"
            assert arrived.request.body == (body if isinstance(body, bytes) else None)


def test_copy_of_a_rejection_keeps_the_same_request() -> None:
    error = refusal(piece for piece in [b"a"])
    assert copy.copy(error).request is error.request


def fails(kind: str) -> None:
    if kind == "open":
        raise CircuitOpenConnectionError("d", 1.5, requests.Request("GET", "http://127.0.0.1/").prepare())
    if kind == "full":
        raise BulkheadFullConnectionError("d", 3, requests.Request("GET", "http://127.0.0.1/").prepare())
    raise ServiceUnavailable("why", sent=False, retry_after=4.0) from Unpicklable(threading.Lock())


def test_error_leaves_a_pool_of_processes() -> None:
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(1) as pool, ProcessPoolExecutor(1, mp_context=spawn) as executor:
        for kind, cls in (("open", CircuitOpenConnectionError), ("full", BulkheadFullConnectionError), ("", None)):
            for wait in (
                partial(pool.apply_async(fails, (kind,)).get, timeout=30),
                partial(executor.submit(fails, kind).result, timeout=30),
            ):
                with pytest.raises(cls or ServiceUnavailable) as caught:
                    wait()
                if cls is None:
                    assert caught.value.sent is False and caught.value.retry_after == 4.0


class Unpicklable(Exception):
    """Holds an object that cannot be pickled."""


class TwoArguments(Exception):
    """Can be pickled, but not unpickled."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


class Derived(CircuitOpenError):
    def __init__(self, number: int) -> None:
        super().__init__("vendor", 3.0)
        self.number = number


@pytest.mark.parametrize(
    "value",
    [
        BreakerConfig(timeout=3),
        CircuitBreaker("d").snapshot(),
        CircuitBreaker("d").stats(),
        cb.StateChange("d", cb.State.CLOSED, cb.State.OPEN, 2, "because"),
        cb.Rejected("d", cb.State.OPEN, None),
        cb.HealthChanged("d", True, ""),
        cb.StateChange("d", cb.State.CLOSED, cb.State.OPEN, 2, "because", 1, 2.0),
        cb.State.METRICS_ONLY,
    ],
    ids=lambda value: type(value).__name__,
)
def test_record_arrives(value: object) -> None:
    assert pickled(value) == copy.deepcopy(value) == copy.copy(value) == value
