"""What the command line understands."""

import argparse
import math
from collections.abc import Callable

from cb import __version__
from cb.config import parse_duration
from cb.errors import ConfigError
from cb.ledger.names import check_author, check_reason
from cb.states import State

#: states that an operator holds a circuit in, by command
HOLDS = {"open": State.FORCED_OPEN, "disable": State.DISABLED, "shadow": State.METRICS_ONLY}
RESETS = ("close", "reset")

_EPILOG = """\
The ledgers are all *.v3.ledger files in $CB_STATE_DIR. Where that is not set, they are those in $RUNTIME_DIRECTORY,
else in this user's directory of shared memory, and (on Linux) those that this user's running processes use elsewhere.

exit codes:
  0  every circuit admits calls; what was asked for is done
  1  a circuit is OPEN, HALF_OPEN or FORCED_OPEN (status, explain)
  2  the command makes no sense, or there is no breaker of that name
  3  there is no ledger, or one that cannot be used
"""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return what is asked for. Exits with 2 where it makes no sense."""
    parser = argparse.ArgumentParser(
        prog="cb",
        description="Look at the circuit breakers of this host, and steer them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    # The list of commands is written by hand, because `__names` is for the shell only.
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    where = _where()
    output = argparse.ArgumentParser(add_help=False)
    output.add_argument("--json", action="store_true", help="print one JSON document")

    commands.add_parser("status", parents=[where, output], help="list all breakers")
    commands.add_parser("watch", parents=[where], help="the same, live, until Ctrl-C (needs the extra `cli`)")
    explain = commands.add_parser("explain", parents=[where, output], help="why a breaker is in its state")
    explain.add_argument("name", metavar="NAME")
    events = commands.add_parser("events", parents=[where, output], help="list the latest transitions")
    events.add_argument("name", metavar="NAME", nargs="?", help="of this breaker only")
    events.add_argument("--limit", type=_count, default=20, metavar="N", help="how many (20; a ledger holds 200)")
    for command, state in HOLDS.items():
        hold = commands.add_parser(command, parents=[where, output, _order()], help=f"hold a circuit {state}")
        hold.add_argument("--for", type=_seconds, dest="seconds", metavar="TIME", help="such as 15m; else until reset")
    for command in RESETS:
        commands.add_parser(command, parents=[where, output, _order()], help="close a circuit, with an empty window")
    completion = commands.add_parser("completion", help="print a script that completes commands and names")
    completion.add_argument("shell", choices=("bash", "zsh"))
    names = commands.add_parser("__names", parents=[where])
    names.add_argument("prefix", nargs="?", default="")
    return parser.parse_args(arguments)


def _where() -> argparse.ArgumentParser:
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument(
        "--ledger", action="append", default=[], metavar="FILE|URL", help="only this one (may be given several times)"
    )
    return where


def _order() -> argparse.ArgumentParser:
    order = argparse.ArgumentParser(add_help=False)
    order.add_argument("name", metavar="NAME")
    order.add_argument("--reason", type=_line(check_reason), default="by hand", metavar="TEXT", help="why, for the log")
    order.add_argument("--author", type=_line(check_author), metavar="TEXT", help="who, for the log (this user)")
    order.add_argument("--host-only", action="store_true", help="not on the other hosts of the fleet")
    return order


def _line(check: Callable[[str], None]) -> Callable[[str], str]:
    def line(text: str) -> str:
        try:
            check(text)
        except ConfigError as error:
            raise argparse.ArgumentTypeError(f"must {error.rule}") from error
        return text

    return line


def _seconds(text: str) -> float:
    try:
        seconds = parse_duration(float(text) if text.isdecimal() else text, "TIME")
    except ConfigError as error:
        raise argparse.ArgumentTypeError(f"must {error.rule}") from error
    if not 0 < seconds <= 30 * 86_400:
        raise argparse.ArgumentTypeError("must be above 0 and at most 30 days")
    return seconds


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= float(text) < math.inf:
        raise argparse.ArgumentTypeError("must be a whole number, at least 1")
    return int(text)
