"""The stale cache: when it fetches, when it answers with what it kept, and what it refuses."""

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
def test_failed_fetch_is_answered_with_the_value_of_earlier_marked_stale(
    store: Store, clock: FakeClock, error: Exception
) -> None:
    it = cache(store, clock)
    it.call("k", lambda: {"a": [1]})
    clock.advance(5)
    assert it.call("k", fail, error) == CachedValue({"a": [1]}, 5.0, stale=True)


@pytest.mark.parametrize("error", [KeyError("no such thing"), FileNotFoundError(), ValueError()])
def test_error_that_is_an_answer_reaches_the_caller(store: Store, clock: FakeClock, error: Exception) -> None:
    it = cache(store, clock)
    it.call("k", lambda: 1)
    with pytest.raises(type(error)):
        it.call("k", fail, error)


def test_user_says_which_errors_a_kept_value_may_stand_in_for(store: Store, clock: FakeClock) -> None:
    it = cache(store, clock, errors=lambda error: "away" in str(error))
    it.call("k", lambda: 1)
    assert it.call("k", fail, ValueError("away")).stale
    with pytest.raises(ValueError, match="unknown"):
        it.call("k", fail, ValueError("unknown"))


def test_interruption_is_never_answered(store: Store, clock: FakeClock) -> None:
    def interrupt() -> int:
        raise KeyboardInterrupt

    it = cache(store, clock, errors=BaseException)
    it.call("k", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        it.call("k", interrupt)


def test_key_that_was_never_fetched_fails_as_its_fetch_does(store: Store, clock: FakeClock) -> None:
    it = cache(store, clock)
    it.call("k", lambda: 1)
    with pytest.raises(TimeoutError):
        it.call("other", fail, TimeoutError())


def test_value_is_usable_to_its_last_moment_and_then_no_more(store: Store, clock: FakeClock) -> None:
    it = cache(store, clock)
    it.call("k", lambda: 1)
    clock.advance(60)
    assert it.call("k", fail, TimeoutError()).age == 60
    clock.now += 1
    with pytest.raises(TimeoutError):
        it.call("k", fail, TimeoutError())


def test_fresh_value_saves_the_fetch_and_is_not_stale(store: Store, clock: FakeClock) -> None:
    it = cache(store, clock, max_age=10)
    it.call("k", lambda: 1)
    clock.advance(10)
    assert it.call("k", fail, AssertionError()) == CachedValue(1, 10.0, stale=False)
    clock.advance(1)
    assert it.call("k", lambda: 2) == CachedValue(2, None, stale=False)


def test_by_default_every_read_fetches(store: Store, clock: FakeClock) -> None:
    it = cache(store, clock)
    assert [it.call("k", lambda n=n: n).value for n in range(3)] == [0, 1, 2]


def test_age_counts_from_the_question_not_from_the_answer(store: Store, clock: FakeClock) -> None:
    it = cache(store, clock)
    it.call("k", lambda: clock.advance(7))
    assert it.call("k", fail, TimeoutError()).age == 7


def test_slow_answer_does_not_replace_that_to_a_later_question(store: Store, clock: FakeClock) -> None:
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


def test_value_that_is_too_large_is_answered_and_not_kept(store: Store, clock: FakeClock) -> None:
    it = cache(store, clock, max_bytes=10)
    assert it.call("k", lambda: "x" * 8).value == "x" * 8  # and two quotes
    assert it.call("k", lambda: "y" * 9).value == "y" * 9
    assert it.call("k", fail, TimeoutError()).value == "x" * 8


def test_key_that_is_too_large_is_answered_and_not_kept(store: Store, clock: FakeClock) -> None:
    it = cache(store, clock, max_bytes=10)
    assert it.call("k" * 11, lambda: 1).value == 1
    with pytest.raises(TimeoutError):
        it.call("k" * 11, fail, TimeoutError())


@pytest.mark.parametrize("url", ["memory://", "file://{}"])
def test_key_that_is_no_unicode_is_as_good_as_any(url: str, tmp_path: Path, clock: FakeClock) -> None:
    it = cache(open_store(url.format(tmp_path / "c")), clock)
    for number, key in enumerate(["\ud800", "%ED%A0%80", "\\ud800", ""]):
        it.call(key, lambda number=number: number)
        assert it.call(key, fail, TimeoutError()).value == number
    assert it.call("\ud800", fail, TimeoutError()).value == 0


def test_name_of_a_cache_may_begin_like_a_key_of_another(store: Store, clock: FakeClock) -> None:
    StaleCache[int]("a/b", store, max_stale_age=60, clock=clock).call("c", lambda: 1)
    with pytest.raises(TimeoutError):
        StaleCache[int]("a", store, max_stale_age=60, clock=clock).call("b/c", fail, TimeoutError())


def test_dump_that_returns_no_bytes_costs_the_cache(store: Store, clock: FakeClock) -> None:
    assert cache(store, clock, dump=bool).call("k", lambda: 1).value == 1


def test_value_that_cannot_be_dumped_is_answered_and_told(
    store: Store, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    it, thing = cache(store, clock), object()
    assert it.call("k", lambda: thing).value is thing
    assert "the value of 'k' cannot be stored" in caplog.text


def test_value_that_another_release_kept_in_another_form_is_not_there(
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
def test_setting_that_makes_no_sense_is_refused(store: Store, settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as refused:
        StaleCache("c", store, **settings)
    assert refused.value.field == field


@pytest.mark.parametrize("url", ["", "memory", "file://", "file://relative", "http://x", "redis:", "redis+cluster://x"])
def test_url_of_no_store_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="url must be memory://"):
        open_store(url)


def test_url_that_redis_cannot_take_is_refused_without_its_password() -> None:
    with pytest.raises(ConfigError) as refused:
        open_store("redis://me:secret@host:port/0")
    assert "secret" not in str(refused.value) and refused.value.__cause__ is None


@pytest.mark.parametrize("query", ["no_such_option=1", "password=hidden@secret&db=x"])
def test_url_with_an_option_that_redis_does_not_have_is_refused(query: str) -> None:
    with pytest.raises(ConfigError) as refused:
        open_store(f"redis://host/0?{query}")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("entries", [0, -1, 1.5])
def test_store_without_room_is_refused(entries: Any) -> None:
    with pytest.raises(ConfigError, match="entries must be a whole number"):
        open_store("memory://", max_entries=entries)


def test_opening_a_store_touches_nothing(tmp_path: Path) -> None:
    assert isinstance(open_store(f"file://{tmp_path / 'c'}"), FileStore)
    open_store("redis://127.0.0.1:1/0")
    assert not list(tmp_path.iterdir())
