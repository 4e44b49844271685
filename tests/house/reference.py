"""The tables of docs/reference, made from the code: `make docs` writes them, test_reference.py refuses stale ones.

In a page, a table stands between `<!-- made from the code: NAME -->` and `<!-- end -->`; the prose around it is written.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

from flowq import errors
from flowq.cli import exits
from flowq.cli.parser import COMMANDS
from flowq.model import event, snapshot, states
from flowq.settings import KeepSettings, Settings, WorkerSettings
from flowq.store import keys
from tests.house.project import ROOT
from tests.house.semantics import rendered

PAGES = ROOT / "docs" / "reference"
# Code → why a stage does not run; the codes themselves are listed by `Reason`.
REASONS = {
    "children": "it waits for children",
    "child_failed": "a child, or one of the child's children, has failed or was cancelled, while the rest of the flow goes on",
    "flow_ended": "a child, or one of the child's children, has failed or was cancelled, and so has its flow",
    "no_worker": "no worker serves its queue, or none of these knows it in its version",
    "busy": "it waits for a free slot",
    "back_off": "its next attempt begins later",
    "scheduled": "it, or its flow, begins later",
    "paused": "its queue, its pipeline or its flow is paused",
    "suspect": "its process died, maybe of it; it waits for a process in which it can run alone",
    "items": "a map waits for its items",
    "at_once": "an item waits because no more of its map may run at once",
    "queue_limit": "its queue is at its limit",
    "tenant_limit": "its flow's tenant is at its limit",
    "no_room": "no worker has what it needs",
    "room_used": "workers have what it needs, but others use it",
    "signal": "it waits for a signal",
    "sleep": "it sleeps",
    "spawned": "it waits for flows that it spawned",
    "cache_pending": "another stage computes the same; it waits for its result",
    "debounced": "its flow begins when no other was added under its key for a while",
    "other_flow": "its flow waits until another of its key has ended",
    "rate_limited": "it waits for a named limit, in its slot, so that its state is `running`",
}
_PLACE = re.compile(r"(<!-- made from the code: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", flags=re.DOTALL)


def refreshed(text: str) -> str:
    """The page's text with every table made anew."""
    return _PLACE.sub(lambda place: f"{place[1]}\n{TABLES[place['name']]().rstrip()}\n\n{place[3]}", text)


def places(text: str) -> list[str]:
    """The names of the tables that a page holds."""
    return [place["name"] for place in _PLACE.finditer(text)]


def transitions() -> str:
    """The state machine of stages, verb by verb."""
    rows = ([f"`{verb}`", _words(sorted(origin)), f"`{target}`"] for verb, (origin, target) in states.TRANSITIONS.items())
    return _table(("verb", "from", "to"), rows)


def state_diagram() -> str:
    """The same as a picture."""
    drawn = [
        f"    {source} --> {target} : {verb}"
        for verb, (origin, target) in states.TRANSITIONS.items()
        for source in sorted(origin)
    ]
    ends = [f"    {state} --> [*]" for state in sorted(states.FINAL)]
    begins = [f"    [*] --> {state} : add" for state in ("blocked", "ready")]
    return "\n".join(["```mermaid", "stateDiagram-v2", *begins, *drawn, *ends, "```"])


def exit_codes() -> str:
    """Codes and what they mean."""
    return _table(("code", "meaning"), ([f"`{code}`", meaning] for code, meaning in exits.MEANING.items()))


def error_tree() -> str:
    """The tree in the docstring of flowq.errors."""
    tree = re.search(r"\n( +FlowqError\n.*?)\n\n", inspect.getdoc(errors) or "", flags=re.DOTALL)
    assert tree, "flowq.errors has lost its tree"
    return f"```text\n{textwrap.dedent(tree[1])}\n```"


def error_codes() -> str:
    """Every error with its stable code and the exit code of a command that it ends."""
    found = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.FlowqError)]
    words = re.findall(r"\w+", error_tree())
    by_place = sorted(found, key=lambda kind: words.index(kind.__name__))
    return _table(("error", "code", "exit", "when"), (_error_row(kind) for kind in by_place))


def _error_row(kind: type[errors.FlowqError]) -> list[str]:
    made = kind.__new__(kind)
    return [f"`{kind.__name__}`", f"`{made.code}`", f"`{exits.code_of(made)}`", _first_line(kind)]


def settings() -> str:
    """What a client needs to know."""
    return _settings_table(Settings, "")


def worker_settings() -> str:
    """How a worker runs."""
    return _settings_table(WorkerSettings, "worker.")


def keep_settings() -> str:
    """What is kept of flows that have ended."""
    return _settings_table(KeepSettings, "keep.")


def _settings_table(kind: Any, prefix: str) -> str:
    meaning = _attributes(kind)
    defaults = Settings().shown()
    rows: list[list[str]] = []
    for field in kind.__struct_fields__:
        name = prefix + field.removesuffix("_ms")
        if name in defaults:
            default = f"`{defaults[name]}`" if defaults[name] else "none"
            rows.append([f"`{name}`", f"`FLOWQ_{name.replace('.', '_').upper()}`", default, meaning[field]])
    return _table(("in the file", "in the environment", "default", "meaning"), rows)


def event_fields() -> str:
    """What an event says."""
    return _table(("field", "meaning"), ([f"`{name}`", text] for name, text in _attributes(event.Event).items()))


def gap_fields() -> str:
    """What stands in for events that can't be told any more."""
    return _table(("field", "meaning"), ([f"`{name}`", text] for name, text in _attributes(event.Gap).items()))


def verbs() -> str:
    """All verbs of events."""
    return _words(get_args(event.Verb)) + "."


def permanent_keys() -> str:
    """Keys without a time to live."""
    rows = ([f"`{{namespace}}:{word}`" if word == "meta" else f"`{{namespace:partition}}{word}…`" if word.endswith(":")
             else f"`{{namespace:partition}}{word}`", why] for word, why in keys.PERMANENT.items())  # fmt: skip
    return _table(("key", "what it holds, and what bounds it"), rows)


def command_list() -> str:
    """All commands."""
    return _table(("command", "does"), ([f"[`flowq {name}`](#flowq-{name})", summary] for name, summary in COMMANDS.items()))


def command_options() -> str:
    """The arguments and options of each command."""
    return "\n\n".join(_command(name, summary) for name, summary in COMMANDS.items())


def reasons() -> str:
    """The codes of reasons."""
    (listed,) = re.findall(r" code: (.*?)\.\n", inspect.getdoc(snapshot.Reason) or "", flags=re.DOTALL)
    return _table(("code", "meaning"), ([f"`{code}`", REASONS[code]] for code in re.findall(r"`(\w+)`", listed)))


def semantics() -> str:
    """What flowq does, row by row."""
    return rendered()


def _command(name: str, summary: str) -> str:
    parser = argparse.ArgumentParser(prog=f"flowq {name}")
    importlib.import_module(f"flowq.cli.commands.{name}").configure(parser)
    rows = [[_spelled(action), action.help or ""] for action in parser._actions if action.dest != "help"]
    shown = [row for row in rows if row[1] != argparse.SUPPRESS]
    table = "\n\n" + _table(("argument", "meaning"), shown) if shown else ""
    return f"### flowq {name}\n\n{summary[0].upper()}{summary[1:]}.{table}"


def _spelled(action: argparse.Action) -> str:
    metavar = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
    value = metavar if isinstance(metavar, str) else " ".join(metavar)
    if action.choices is not None and action.metavar is None:
        value = "{" + ",".join(str(choice) for choice in action.choices) + "}"
    if not action.option_strings:
        return f"`{value}`" + (" …" if action.nargs in ("+", "*") else "")
    spelled = ", ".join(f"`{option}`" for option in action.option_strings)
    return spelled if action.nargs == 0 else f"{spelled} `{value}`"


def _attributes(kind: type) -> dict[str, str]:
    """Name → meaning, from the `Attributes:` of a docstring."""
    section = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2]
    entries = re.split(r"^    (?=\w+: )", section, flags=re.MULTILINE)[1:]
    pairs = (" ".join(entry.split()).partition(": ") for entry in entries)
    return {name: meaning.removesuffix(".") for name, _, meaning in pairs}


def _first_line(kind: type) -> str:
    return (inspect.getdoc(kind) or "").splitlines()[0]


def _words(words: Iterable[str]) -> str:
    return " ".join(f"`{word}`" for word in words)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


TABLES: dict[str, Callable[[], str]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        transitions, state_diagram, exit_codes, error_tree, error_codes, settings, worker_settings,
        keep_settings, event_fields, gap_fields, verbs, permanent_keys, command_list, command_options, reasons, semantics,
    )
}  # fmt: skip


def main() -> None:
    """Writes all pages anew."""
    for page in sorted(PAGES.glob("*.md")):
        _write_if_changed(page, refreshed(page.read_text("utf-8")))


def _write_if_changed(page: Path, text: str) -> None:
    if page.read_text("utf-8") != text:
        page.write_text(text, "utf-8")
        print(f"{page.relative_to(ROOT)} made anew")


if __name__ == "__main__":
    main()
