"""The arguments of the command `cb`."""

import argparse
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields

from cb import __version__
from cb.config import BreakerConfig, parse_duration
from cb.errors import ConfigError
from cb.ledger.names import check_author, check_reason
from cb.states import State

#: Commands of an operator, with the state that they put a circuit into.
CONTROLS = {
    "force-open": State.FORCED_OPEN,
    "disable": State.DISABLED,
    "metrics-only": State.METRICS_ONLY,
    "reset": State.CLOSED,
}
_HELP = {
    "force-open": "reject all calls (FORCED_OPEN)",
    "disable": "admit all calls without evaluating them (DISABLED)",
    "metrics-only": "admit and evaluate all calls, and only report when the circuit would open (METRICS_ONLY)",
    "reset": "close the circuit, with an empty window",
    "configure": "change thresholds in all processes; the window stays",
}
_SETTINGS = frozenset(field.name for field in fields(BreakerConfig))

_EPILOG = """\
The ledgers are the *.v3.ledger files in $CB_STATE_DIR. If that is not set, they are the files in $RUNTIME_DIRECTORY or
else in this user's directory of shared memory, and (on Linux) those that running processes of this user have open.

exit codes:
  0  all circuits admit calls; the command succeeded
  1  a circuit is OPEN, HALF_OPEN or FORCED_OPEN (status, explain)
  2  the arguments are invalid, or there is no breaker with that name
  3  there is no ledger, or a ledger cannot be used
"""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the parsed arguments. Exits with code 2 if they are invalid."""
    parser = argparse.ArgumentParser(
        prog="cb",
        description="Show and control the circuit breakers of this host.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    # `__names` has no help text and is not listed: only the shell's completion uses it.
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    ledgers = _ledger_options()
    output = argparse.ArgumentParser(add_help=False)
    output.add_argument("--json", action="store_true", help="print a JSON document")

    commands.add_parser("status", parents=[ledgers, output], help="list all breakers")
    commands.add_parser(
        "watch", parents=[ledgers], help="list all breakers, updated until Ctrl-C (needs the extra `cli`)"
    )
    explain = commands.add_parser("explain", parents=[ledgers, output], help="explain the state of a breaker")
    explain.add_argument("name", metavar="NAME")
    events = commands.add_parser("events", parents=[ledgers, output], help="list the latest changes of state")
    events.add_argument("name", metavar="NAME", nargs="?", help="only this breaker")
    events.add_argument(
        "--limit", type=_count, default=20, metavar="N", help="number of changes (default 20; a ledger keeps 200)"
    )
    for command in CONTROLS:
        control = commands.add_parser(command, parents=[ledgers, output, _control_options()], help=_HELP[command])
        if command != "reset":
            about = "end the state after this time, such as 15m; by default it lasts until reset"
            control.add_argument("--for", type=_seconds, dest="seconds", metavar="TIME", help=about)
    configure = commands.add_parser("configure", parents=[ledgers, output, _control_options()], help=_HELP["configure"])
    about = "a setting of BreakerConfig, such as timeout=60s, failure_threshold=20 or failure_rate_threshold=none"
    configure.set_defaults(reason=None)  # the log has the settings themselves
    configure.add_argument("settings", metavar="SETTING=VALUE", nargs="+", type=_setting, help=about)
    completion = commands.add_parser("completion", help="print a shell script that completes commands and names")
    completion.add_argument("shell", choices=("bash", "zsh"))
    names = commands.add_parser("__names", parents=[ledgers])
    names.add_argument("prefix", nargs="?", default="")
    return parser.parse_args(arguments)


def _ledger_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    about = "use only this ledger (may be repeated)"
    options.add_argument("--ledger", action="append", default=[], metavar="FILE|URL", help=about)
    return options


def _control_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("name", metavar="NAME")
    options.add_argument(
        "--reason", type=_line(check_reason), default="by hand", metavar="TEXT", help="reason, for the log"
    )
    options.add_argument(
        "--author", type=_line(check_author), metavar="TEXT", help="author, for the log (default: this user)"
    )
    options.add_argument("--host-only", action="store_true", help="do not affect the other hosts of the fleet")
    return options


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


def _setting(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError("must be SETTING=VALUE")
    if name not in _SETTINGS:
        raise argparse.ArgumentTypeError(f"{name} is not one of {', '.join(sorted(_SETTINGS))}")
    if value == "none":
        return name, None
    for number in (int, float):
        with suppress(ValueError):
            return name, number(value)
    return name, value


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= float(text) < math.inf:
        raise argparse.ArgumentTypeError("must be a whole number, at least 1")
    return int(text)
