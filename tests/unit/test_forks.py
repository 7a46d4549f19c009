"""What begins anew in a forked child, whatever becomes of others."""

import os

import pytest

from cb.background.fork import register_fork_reset

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX processes: run on Linux or macOS")


class Thing:
    """Counts how often it began anew, and fails if it is told so."""

    def __init__(self, error: BaseException | None = None, *, times: int = 9) -> None:
        self.renewed = 0
        self.error = error
        self.times = times
        register_fork_reset(self)

    def reset_after_fork(self) -> None:
        self.renewed += 1
        if self.error and self.renewed <= self.times:
            raise self.error


def test_all_things_begin_anew_in_the_child_and_none_in_the_parent() -> None:
    interrupted = [Thing(KeyboardInterrupt()), Thing(KeyboardInterrupt(), times=1)]
    things = [Thing(), Thing(ArithmeticError()), Thing()]

    child = os.fork()
    if not child:
        tries = [each.renewed for each in interrupted]
        os._exit([each.renewed for each in things] != [1] * 3 or tries != [3, 2])

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [each.renewed for each in (*things, *interrupted)] == [0] * 5


def test_thing_that_is_gone_does_not_begin_anew() -> None:
    seen = []
    gone = Thing()
    gone.reset_after_fork = lambda: seen.append(1)  # type: ignore[method-assign]  # to see it after it is gone
    del gone

    child = os.fork()
    if not child:
        os._exit(len(seen))

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
