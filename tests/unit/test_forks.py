"""Reset of objects in forked children, even if the reset of others fails."""

import os

import pytest

from cb.background.fork import register_fork_reset

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX processes: run on Linux or macOS")


class Resettable:
    """Counts its resets. It raises `error` at the first `times` of them."""

    def __init__(self, error: BaseException | None = None, *, times: int = 9) -> None:
        self.resets = 0
        self.error = error
        self.times = times
        register_fork_reset(self)

    def reset_after_fork(self) -> None:
        self.resets += 1
        if self.error and self.resets <= self.times:
            raise self.error


def test_all_objects_are_reset_in_the_child_and_none_in_the_parent() -> None:
    interrupted = [Resettable(KeyboardInterrupt()), Resettable(KeyboardInterrupt(), times=1)]
    objects = [Resettable(), Resettable(ArithmeticError()), Resettable()]

    child = os.fork()
    if not child:
        tries = [each.resets for each in interrupted]
        os._exit([each.resets for each in objects] != [1] * 3 or tries != [3, 2])

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [each.resets for each in (*objects, *interrupted)] == [0] * 5


def test_deleted_object_is_not_reset() -> None:
    seen = []
    gone = Resettable()
    gone.reset_after_fork = lambda: seen.append(1)  # type: ignore[method-assign]  # visible after it is deleted
    del gone

    child = os.fork()
    if not child:
        os._exit(len(seen))

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
