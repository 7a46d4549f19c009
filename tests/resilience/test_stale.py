"""The stale cache: fresh values, stale values, and invalid parameters."""

import json
from pathlib import Path
from typing import Any

import pytest

from cb import CircuitOpenError, ConfigError
from cb.resilience import CachedValue, StaleCache, open_store
from cb.resilience.stores import FileStore, MemoryStore, Store
from cb.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(clock: FakeClock) -> Store:
    return MemoryStore(clock=clock)


def fail(error: Exception) -> Any:
    raise error


def cache(store: Store, clock: FakeClock, **settings: Any) -> StaleCache[Any]:
    return StaleCache("c", store, **({"max_stale_age": 60} | settings), clock=clock)


def test_value_that_was_fetched_is_neither_stale_nor_aged(store: Store, clock: FakeClock) -> None:
    assert cache(store, clock).call("k", lambda: 1) == CachedValue(1, None, stale=False)


def test_arguments_reach_the_function_that_fetches(store: Store, clock: FakeClock) -> None:
    assert cache(store, clock).call("k", divmod, 7, 2).value == (3, 1)


@pytest.mark.parametrize("error", [CircuitOpenError("d", 1.0), ConnectionResetError(), TimeoutError()])
def test_failed_call_returns_the_last_value_marked_stale(store: Store, clock: FakeClock, error: Exception) -> None:
    it = cache(store, clock)
    it.call("k", lambda: {"a": [1]})
    clock.advance(5)
    assert it.call("k", fail, error) == CachedValue({"a": [1]}, 5.0, stale=True)


@pytest.mark.parametrize("error", [KeyError("no such thing"), FileNotFoundError(), ValueError()])
def test_other_error_reaches_the_caller(store: Store, clock: FakeClock, error: Exception) -> None:
    it = cache(store, clock)
    it.call("k", lambda: 1)
    with pytest.raises(type(error)):
        it.call("k", fail, error)


def test_predicate_selects_the_errors_that_a_value_replaces(store: Store, clock: FakeClock) -> None:
    it = cache(store, clock, errors=lambda error: "away" in str(error))
    it.call("k", lambda: 1)
    assert it.call("k", fail, ValueError("away")).stale
    with pytest.raises(ValueError, match="unknown"):
        it.call("k", fail, ValueError("unknown"))


def test_interruption_is_never_replaced(store: Store, clock: FakeClock) -> None:
    def interrupt() -> int:
        raise KeyboardInterrupt

    it = cache(store, clock, errors=BaseException)
    it.call("k", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        it.call("k", interrupt)


def test_key_without_a_value_raises_the_error_of_the_call(store: Store, clock: FakeClock) -> None:
    it = cache(store, clock)
    it.call("k", lambda: 1)
    with pytest.raises(TimeoutError):
        it.call("other", fail, TimeoutError())


def test_value_is_usable_until_max_stale_age_inclusive(store: Store, clock: FakeClock) -> None:
    it = cache(store, clock)
    it.call("k", lambda: 1)
    clock.advance(60)
    assert it.call("k", fail, TimeoutError()).age == 60
    clock.now += 1
    with pytest.raises(TimeoutError):
        it.call("k", fail, TimeoutError())


def test_value_younger_than_max_age_saves_the_call(store: Store, clock: FakeClock) -> None:
    it = cache(store, clock, max_age=10)
    it.call("k", lambda: 1)
    clock.advance(10)
    assert it.call("k", fail, AssertionError()) == CachedValue(1, 10.0, stale=False)
    clock.advance(1)
    assert it.call("k", lambda: 2) == CachedValue(2, None, stale=False)


def test_default_max_age_calls_each_time(store: Store, clock: FakeClock) -> None:
    it = cache(store, clock)
    assert [it.call("k", lambda n=n: n).value for n in range(3)] == [0, 1, 2]


def test_age_counts_from_the_request(store: Store, clock: FakeClock) -> None:
    it = cache(store, clock)
    it.call("k", lambda: clock.advance(7))
    assert it.call("k", fail, TimeoutError()).age == 7


def test_slow_response_does_not_replace_that_of_a_later_request(store: Store, clock: FakeClock) -> None:
    it = cache(store, clock)

    def slow() -> str:
        clock.advance(1)
        it.call("k", lambda: "newer")
        clock.advance(1)
        return "older"

    assert it.call("k", slow).value == "older"
    assert it.call("k", fail, TimeoutError()).value == "newer"


def test_caches_of_one_store_do_not_mix(store: Store, clock: FakeClock) -> None:
    one, other = (StaleCache[int](name, store, max_stale_age=60, clock=clock) for name in ("one", "other"))
    one.call("k", lambda: 1)
    with pytest.raises(TimeoutError):
        other.call("k", fail, TimeoutError())


def test_value_that_is_too_large_is_returned_and_not_stored(store: Store, clock: FakeClock) -> None:
    it = cache(store, clock, max_bytes=10)
    assert it.call("k", lambda: "x" * 8).value == "x" * 8  # and two quotation marks
    assert it.call("k", lambda: "y" * 9).value == "y" * 9
    assert it.call("k", fail, TimeoutError()).value == "x" * 8


def test_value_of_a_key_that_is_too_large_is_returned_and_not_stored(store: Store, clock: FakeClock) -> None:
    it = cache(store, clock, max_bytes=10)
    assert it.call("k" * 11, lambda: 1).value == 1
    with pytest.raises(TimeoutError):
        it.call("k" * 11, fail, TimeoutError())


@pytest.mark.parametrize("url", ["memory://", "file://{}"])
def test_key_with_a_lone_surrogate_is_accepted(url: str, tmp_path: Path, clock: FakeClock) -> None:
    it = cache(open_store(url.format(tmp_path / "c")), clock)
    for number, key in enumerate(["\ud800", "%ED%A0%80", "\\ud800", ""]):
        it.call(key, lambda number=number: number)
        assert it.call(key, fail, TimeoutError()).value == number
    assert it.call("\ud800", fail, TimeoutError()).value == 0


def test_name_of_a_cache_may_begin_like_a_key_of_another(store: Store, clock: FakeClock) -> None:
    StaleCache[int]("a/b", store, max_stale_age=60, clock=clock).call("c", lambda: 1)
    with pytest.raises(TimeoutError):
        StaleCache[int]("a", store, max_stale_age=60, clock=clock).call("b/c", fail, TimeoutError())


def test_dump_that_returns_no_bytes_disables_the_cache(store: Store, clock: FakeClock) -> None:
    assert cache(store, clock, dump=bool).call("k", lambda: 1).value == 1


def test_value_that_cannot_be_serialized_is_returned_and_logged(
    store: Store, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    it, thing = cache(store, clock), object()
    assert it.call("k", lambda: thing).value is thing
    assert "the value of 'k' cannot be stored" in caplog.text


def test_value_that_cannot_be_loaded_is_a_missing_value(
    store: Store, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    cache(store, clock).call("k", lambda: {"old": 1})
    it = cache(store, clock, load=lambda data: json.loads(data)["new"])
    with pytest.raises(TimeoutError):
        it.call("k", fail, TimeoutError())
    assert "cannot be read: KeyError('new')" in caplog.text


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"max_stale_age": 0}, "max_stale_age"),
        ({"max_stale_age": 90_000}, "max_stale_age"),
        ({"max_stale_age": 5, "max_age": 6}, "max_age"),
        ({"max_stale_age": 5, "max_age": -1}, "max_age"),
        ({"max_stale_age": 5, "errors": ["TimeoutError"]}, "errors"),
    ],
)
def test_invalid_parameter_is_a_config_error(store: Store, settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as refused:
        StaleCache("c", store, **settings)
    assert refused.value.field == field


@pytest.mark.parametrize("url", ["", "memory", "file://", "file://relative", "http://x", "redis:", "redis+cluster://x"])
def test_unknown_store_url_is_a_config_error(url: str) -> None:
    with pytest.raises(ConfigError, match="url must be memory://"):
        open_store(url)


def test_invalid_redis_url_is_a_config_error_without_its_password() -> None:
    with pytest.raises(ConfigError) as refused:
        open_store("redis://me:secret@host:port/0")
    assert "secret" not in str(refused.value) and refused.value.__cause__ is None


@pytest.mark.parametrize("query", ["no_such_option=1", "password=hidden@secret&db=x"])
def test_unknown_option_of_a_redis_url_is_a_config_error(query: str) -> None:
    with pytest.raises(ConfigError) as refused:
        open_store(f"redis://host/0?{query}")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("entries", [0, -1, 1.5])
def test_store_without_room_is_a_config_error(entries: Any) -> None:
    with pytest.raises(ConfigError, match="entries must be a whole number"):
        open_store("memory://", max_entries=entries)


def test_opening_a_store_touches_nothing(tmp_path: Path) -> None:
    assert isinstance(open_store(f"file://{tmp_path / 'c'}"), FileStore)
    open_store("redis://127.0.0.1:1/0")
    assert not list(tmp_path.iterdir())
