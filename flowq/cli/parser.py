"""The parser. Commands are known here by name and one line; the options of a command are defined beside its code.

argparse, because a short command pays for its imports: 23 ms against 89 ms for the next best, measured on the machine
that this was written on.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import re
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
    "cancel": "cancel a flow, or many by a filter",
    "retry": "run again what failed in a flow, or in many by a filter",
    "pause": "begin nothing new of a queue, a pipeline or a flow",
    "resume": "go on with what was paused",
    "signal": "tell a flow what it waits for, such as an approval",
    "queues": "what waits and runs in each queue, and who serves it",
    "workers": "the processes that work now",
    "top": "queues and workers, live",
    "schedule": "run pipelines again and again: by cron or at intervals",
    "dead": "failed flows by what made them fail",
    "check": "what a release would strand of the flows in flight",
    "prune": "remove flows that have ended",
    "result": "wait for a flow and print its result",
    "artifact": "download what a stage made",
    "logs": "what the stages of a flow have logged",
    "limits": "show, set and remove limits that all workers keep to",
    "tenants": "show tenants' weights, and set them",
    "usage": "what stages used up, by day, pipeline and tenant",
    "doctor": "check server, storage and workers; each finding with its fix",
    "bench": "measure flowq on your server, in a namespace of its own that is removed afterwards",
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

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # No option begins with a digit: `-1s` is a value, so that whoever reads it says what it may be.
        self._negative_number_matcher = re.compile(r"-\.?\d")

    def error(self, message: str) -> NoReturn:
        otherwise = f"see `{self.prog} --help`"
        if missing := re.fullmatch(r"the following arguments are required: (.*)", message):
            chosen = next((action.choices for action in self._actions if action.dest == missing[1] and action.choices), None)
            needed = f"an {missing[1]}" if chosen else missing[1]
            raise UsageError(f"`{self.prog}` needs {needed}", f"one of: {', '.join(chosen)}" if chosen else otherwise)
        if bare := re.fullmatch(r"argument (\S+): expected .*argument", message):
            raise UsageError(f"{bare[1]} needs a value", otherwise)
        if number := re.fullmatch(r"argument (\S+): invalid int value: (.*)", message):
            raise UsageError(f"{number[1]} is {number[2]}", "expected a whole number")
        if choice := re.fullmatch(r"argument (\S+): invalid choice: '(.*)' \(choose from (.*)\)", message):
            from flowq.cli.filters import STATES

            known = re.findall(r"[\w-]+", choice[3])
            listed = f"one of: {', '.join(known)}"
            # A state that this command has no use for is no misspelt one.
            raise UsageError(
                f"{choice[1]} is {choice[2]!r}", listed if choice[2] in STATES else nearest(choice[2], known, listed)
            )
        raise UsageError(message, otherwise)


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
    asked = _asked(parser, words)
    if asked is not None and asked not in COMMANDS:
        raise UsageError(f"unknown command {asked!r}", nearest(asked, COMMANDS, "see `flowq --help`"))
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=_sentence(summary), **_STYLE)
        if name == asked:
            # Only this one's module is loaded: all of them would cost more than the work of most.
            _module(name).configure(command)
            _add_common(command)
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        known = [option for some in (parser, *commands.choices.values()) for option in some._option_string_actions]
        otherwise = f"see `flowq {asked} --help`" if asked else "see `flowq --help`"
        raise UsageError(f"unknown argument {unknown[0]!r}", _nearest_option(unknown[0], known, otherwise))
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


def _nearest_option(word: str, known: Sequence[str], otherwise: str) -> str:
    """Dashes alone make no two options alike, and a plain word or a letter is no misspelt option."""
    if not word.startswith("--"):
        return otherwise
    close = difflib.get_close_matches(word[2:].partition("=")[0], [option[2:] for option in known], 1)
    return f"did you mean '--{close[0]}'?" if close else otherwise


def _asked(parser: argparse.ArgumentParser, words: Sequence[str]) -> str | None:
    """The command's name: the first word that is neither an option nor the value of one."""
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            return word
        option = parser._option_string_actions.get(word)
        if option is not None and option.nargs is None:
            next(rest, None)
    return None


def _sentence(summary: str) -> str:
    return summary[0].upper() + summary[1:] + "."


def _epilog() -> str:
    return _EXAMPLES + "\n".join(f"  {code:>3}  {meaning}" for code, meaning in exits.MEANING.items())
