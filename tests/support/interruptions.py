"""Exceptions of signal handlers and of other threads, raised at a chosen point of the library."""

import dis
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import cb

#: finalizers, perhaps of an earlier test: Python itself catches their exceptions
UNSAFE = {"__del__"}
LIBRARY = str(Path(cb.__file__).parent)


class Interruption(BaseException):
    pass


@cache
def points(code: CodeType) -> frozenset[int]:
    """Return the offsets before which an exception has the effect of one that CPython raises for a signal handler.

    CPython raises it within the instruction before. If a handler ends between the two, a trace function cannot do the
    same.
    """
    bytecode = dis.Bytecode(code)

    def handlers(offset: int) -> list[int]:
        return [entry.target for entry in bytecode.exception_entries if entry.start <= offset < entry.end]

    found, before = set(), None
    for instruction in bytecode:
        if instruction.opname == "JUMP_BACKWARD" or (
            before
            and before.opname.startswith(("CALL", "RESUME"))
            and handlers(before.offset) == handlers(instruction.offset)
        ):
            found.add(instruction.offset)
        before = instruction
    return frozenset(found)


def _raise() -> None:
    raise Interruption


def interrupted(work: Callable[[], object], number: int, handler: Callable[[], object] = _raise) -> bool:
    """Run work, and a handler at the point with that number. Return False if there are fewer points."""
    left = number

    def trace(frame: FrameType, _: str, __: Any) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(LIBRARY) or code.co_name in UNSAFE:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        offsets = points(code)  # once for each frame: to look code up takes as long as to run it

        def step(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal left
            if event == "opcode" and frame.f_lasti in offsets:
                left -= 1
                if left == 0:
                    sys.settrace(None)
                    handler()
            return step

        return step

    sys.settrace(trace)
    try:
        work()
    except Interruption:
        pass
    finally:
        sys.settrace(None)
    return left <= 0
