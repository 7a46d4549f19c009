"""The arguments of the command `cb`."""

import argparse
import sys
from collections.abc import Sequence

from cb import __version__
from cb.states import State

from . import suggestions, values

#: Commands of an operator, with the state that they put a circuit into.
CONTROLS = {
    "force-open": State.FORCED_OPEN,
    "disable": State.DISABLED,
    "metrics-only": State.METRICS_ONLY,
    "reset": State.CLOSED,
}
#: Commands that shell completion alone uses: they are in no help, no error and no suggestion.
HIDDEN = ("__names", "__ledgers")
_HELP = {
    "force-open": "reject all calls (FORCED_OPEN)",
    "disable": "admit all calls without evaluating them (DISABLED)",
    "metrics-only": "admit and evaluate all calls, and only report when the circuit would open (METRICS_ONLY)",
    "reset": "close the circuit, with an empty window",
    "configure": "change thresholds in all processes; the window stays",
}
#: changes of state that `events` lists without --since and --limit
DEFAULT_LIMIT = 20

_EPILOG = """\
The ledgers are the *.v3.ledger files in $CB_STATE_DIR. If that is not set, they are the files in $RUNTIME_DIRECTORY or
else in this user's directory of shared memory, and (on Linux) those that running processes of this user have open.
A ledger that no live process has in use is retired: it is listed, and its circuits do not affect the exit code.

exit codes:
  0  all circuits of live ledgers admit calls; the command succeeded
  1  a circuit of a live ledger is OPEN, HALF_OPEN or FORCED_OPEN (status, explain)
  2  the arguments are invalid, there is no breaker with that name, or several ledgers have one
  3  there is no ledger, or a ledger cannot be used
"""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed arguments. Exits with code 2 if they are invalid."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(
        prog="cb",
        description="Show and control the circuit breakers of this host.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_readers(commands)
    _add_controls(commands)
    _add_others(commands)
    if given[:1] and given[0] in HIDDEN:
        return _hidden(given)
    if not given:
        parser.print_help(sys.stderr)
        parser.exit(2)
    word = next(iter(each for each in given if each != "--"), "")
    if word not in commands.choices and not word.startswith("-"):
        parser.exit(2, f"cb: {_no_command(word, given, list(commands.choices))}\n")
    options = parser.parse_args(given)
    options.given = given
    if options.command == "events":
        if options.name and options.only_name and options.name != options.only_name:
            parser.error(f"two names, {options.name!r} and {options.only_name!r}: give one")
        options.name = options.name or options.only_name
    return options


def _add_readers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    shared = [_ledger_options(), _output_options()]
    status = commands.add_parser("status", parents=shared, help="list all breakers, or those with one name")
    status.add_argument("name", metavar="NAME", nargs="?", help="only the breakers with this name, in more detail")
    commands.add_parser(
        "watch",
        parents=[_ledger_options()],
        help="list all breakers, updated until q or Ctrl-C (needs the extra `cli`)",
    )
    explain = commands.add_parser("explain", parents=shared, help="explain the state of a breaker")
    explain.add_argument("name", metavar="NAME")
    events = commands.add_parser("events", parents=shared, help="list the latest changes of state")
    events.add_argument("name", metavar="NAME", nargs="?", help="only this breaker")
    events.add_argument("--name", dest="only_name", metavar="NAME", help="the same")
    events.add_argument(
        "--since",
        type=values.moment,
        metavar="TIME",
        help="only changes since then: a span such as 1h or 3d, or a time such as '2026-12-01 03:04:05+01:00'",
    )
    about = f"number of changes (default {DEFAULT_LIMIT}, or all with --since; a ledger keeps 200)"
    events.add_argument("--limit", type=values.count, metavar="N", help=about)


def _add_controls(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    for command in CONTROLS:
        shared = [_ledger_options(), _output_options(), _control_options()]
        control = commands.add_parser(command, parents=shared, help=_HELP[command])
        if command != "reset":
            about = "end the state after this time, such as 15m, 1h30m or 3d; by default it lasts until reset"
            control.add_argument("--for", type=values.hold, dest="seconds", metavar="TIME", help=about)
    shared = [_ledger_options(), _output_options(), _control_options()]
    configure = commands.add_parser("configure", parents=shared, help=_HELP["configure"])
    about = "a setting of BreakerConfig, such as timeout=60s, failure_threshold=20 or failure_rate_threshold=none"
    configure.set_defaults(reason=None)  # the log has the settings themselves
    configure.add_argument("settings", metavar="SETTING=VALUE", nargs="+", type=values.setting, help=about)


def _add_others(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    forget = commands.add_parser(
        "forget", parents=[_output_options()], help="remove the files of a retired ledger, with all its breakers"
    )
    forget.add_argument("ledger", metavar="LEDGER", nargs="+", help=_LEDGER)
    completion = commands.add_parser("completion", help="print a shell script that completes commands and names")
    completion.add_argument("shell", choices=("bash", "zsh"))


def _hidden(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="cb", parents=[_ledger_options()], allow_abbrev=False)
    parser.add_argument("command")
    parser.add_argument("prefix", nargs="?", default="")
    options = parser.parse_args(given)
    options.given = given
    return options


_LEDGER = "a name in the column LEDGER of `cb status`, a FILE or a URL"


def _ledger_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    about = f"use only this ledger: {_LEDGER} (may be repeated)"
    options.add_argument("--ledger", action="append", default=[], metavar="LEDGER", help=about)
    return options


def _output_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--json", action="store_true", help="print a JSON document")
    return options


def _control_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("name", metavar="NAME")
    options.add_argument("--reason", type=values.reason, default="by hand", metavar="TEXT", help="reason, for the log")
    options.add_argument(
        "--author", type=values.author, metavar="TEXT", help="author, for the log (default: this user)"
    )
    options.add_argument("--host-only", action="store_true", help="do not affect the other hosts of the fleet")
    options.add_argument(
        "--all", action="store_true", dest="everywhere", help="every live ledger that has a breaker with this name"
    )
    return options


def _no_command(word: str, given: list[str], commands: list[str]) -> str:
    import shlex  # not above: only this error needs it

    meant = suggestions.command(word, commands)
    if meant is None:
        return f"there is no command {word!r}, only {', '.join(commands)}"
    rest = given[given.index(word) + 1 :]
    return f"there is no command {word!r}; did you mean: {shlex.join(['cb', meant, *rest])}"
