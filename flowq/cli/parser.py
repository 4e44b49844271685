"""The parser. Commands are known here by name and one line; the options of a command are defined beside its code.

argparse, because a short command pays for its imports: 23 ms against 89 ms for the next best, measured on the machine
that this was written on.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from flowq.cli import exits
from flowq.cli.usage import UsageError, nearest

COMMANDS: Final = {
    "dev": "embedded servers and a worker that reloads, in one process tree",
    "worker": "run stages",
    "submit": "start a flow and print its id",
    "inspect": "show a flow: tree, waterfall, why it waits, what failed",
    "watch": "follow a flow live until it ends",
    "list": "find flows",
    "cancel": "cancel a flow",
    "retry": "run again what failed in a flow",
    "signal": "tell a flow what it waits for, such as an approval",
    "result": "wait for a flow and print its result",
    "artifact": "download what a stage made",
    "limits": "show, set and remove limits that all workers keep to",
    "tenants": "show tenants' weights, and set them",
    "doctor": "check server, storage and workers; each finding with its fix",
    "config": "show every setting and where it came from",
    "version": "show versions",
}

_EXAMPLES: Final = """\
examples:
  flowq dev my_pipelines.py
  flowq submit my_pipelines.py:short_video -i url=https://example.org/clip.mp4 --follow
  flowq inspect latest

exit codes:
"""


class _Parser(argparse.ArgumentParser):
    """argparse, with errors raised instead of printed, so that they come out in one form whatever went wrong."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see `{self.prog} --help`")


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The arguments of one command.

    Raises:
        UsageError: they make no sense; says what to do instead.
        SystemExit: `--help` or `--version` was asked for and shown.
    """
    parser = _Parser(prog="flowq", description="Flows of stages on Redis or Valkey.", epilog=_epilog(), **_STYLE)
    _add_common(parser)
    parser.add_argument("--version", action="store_true", help="show versions")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=_Parser)
    asked = next((word for word in words if word in COMMANDS), None)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=_sentence(summary), **_STYLE)
        if name == asked:
            # Only this one's module is loaded: fifteen of them would cost more than the work of most.
            _module(name).configure(command)
            _add_common(command)
    _refuse_unknown_command(words)
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        options = [option for known in (parser, *commands.choices.values()) for option in known._option_string_actions]
        raise UsageError(f"unknown argument {unknown[0]!r}", nearest(unknown[0], options, f"see `flowq {asked or ''} --help`"))
    if arguments.version:
        arguments.command = "version"
    if arguments.command is None:
        parser.print_help()
        raise SystemExit(exits.USAGE)
    return arguments


def run_command(arguments: argparse.Namespace) -> int:
    """Runs the command that was parsed and returns its exit code."""
    return _module(arguments.command).run(arguments)


_STYLE: Final[dict[str, Any]] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}


def _add_common(parser: argparse.ArgumentParser) -> None:
    """Options that every command has, before or behind its name."""
    unset: Any = argparse.SUPPRESS
    common = parser.add_argument_group("everywhere")
    common.add_argument("-u", "--url", default=unset, help="server, such as redis://host:6379 (FLOWQ_URL)")
    common.add_argument("-n", "--namespace", default=unset, help="separates applications on one server (FLOWQ_NAMESPACE)")
    common.add_argument(
        "--artifacts", default=unset, metavar="LOCATION", help="s3://bucket/prefix or file:/dir (FLOWQ_ARTIFACTS)"
    )
    common.add_argument("-o", "--output", default=unset, metavar="FORMAT", help="text, json or jsonl; `inspect` has more")
    common.add_argument("--json", dest="output", action="store_const", const="json", default=unset, help="the same as -o json")
    common.add_argument("--color", choices=("auto", "always", "never"), default=unset, help="default: auto; NO_COLOR is honoured")
    common.add_argument("--debug", action="store_true", default=unset, help="show tracebacks")


def _module(name: str) -> Any:
    return importlib.import_module(f"flowq.cli.commands.{name}")


def _refuse_unknown_command(words: Sequence[str]) -> None:
    first = words[0] if words else ""
    if first and not first.startswith("-") and first not in COMMANDS:
        raise UsageError(f"unknown command {first!r}", nearest(first, COMMANDS, "see `flowq --help`"))


def _sentence(summary: str) -> str:
    return summary[0].upper() + summary[1:] + "."


def _epilog() -> str:
    return _EXAMPLES + "\n".join(f"  {code:>3}  {meaning}" for code, meaning in exits.MEANING.items())
