"""The commands of `cb`, and their exit codes."""

import argparse
import os
import sys
from collections.abc import Callable

from cb.errors import ConfigError
from cb.event_log import circuits

from . import controlling, reading
from .arguments import CONTROLS, parse
from .completion import script
from .forgetting import forget
from .output import print_error


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code; `cb --help` lists the codes."""
    options = parse(arguments)
    try:
        with circuits.muted():
            code = _COMMANDS[options.command](options)
        sys.stdout.flush()  # here, where the closed pipe of a reader that has ended is caught
    except ConfigError as error:
        print_error(error)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes again at its exit
        return 0
    except KeyboardInterrupt:
        return 130
    return code


def _completion(options: argparse.Namespace) -> int:
    print(script(options.shell), end="")
    return 0


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "status": reading.status,
    "watch": reading.watch,
    "explain": reading.explain,
    "events": reading.events,
    **dict.fromkeys(CONTROLS, controlling.control),
    "configure": controlling.configure,
    "forget": forget,
    "completion": _completion,
    "__names": reading.names,
    "__ledgers": reading.ledgers,
}
