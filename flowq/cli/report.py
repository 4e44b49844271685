"""How errors reach people and programs: one message on stderr, never a traceback but with `--debug`."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Sequence
from typing import Final

from flowq.cli import exits
from flowq.cli.render.clean import clean
from flowq.errors import FlowqError, InvalidValue
from flowq.errors.duration import AS_PYTHON_HAS_IT

# What Python calls otherwise than the command line does.
_OPTIONS: Final = {"overrides": "--set", "from_stage": "--from", "expires": "--show-url"}
_UNENCODABLE: Final = "flowq.escaped"


def steady_streams() -> None:
    """Makes stdout and stderr unable to raise for what a character set lacks, or for being closed."""
    codecs.register_error(_UNENCODABLE, _escaped)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # `flowq … >&-`
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  lives as long as the process
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_UNENCODABLE)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """What a character set lacks, as JSON writes it: Python's own escapes would make JSON on stdout unreadable."""
    from flowq.cli.documents import json_escapes

    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json_escapes(error.object[error.start : error.end]), error.end


def quiet_closed_stdout() -> int:
    """Lets Python's own flush at exit succeed after the reader of stdout has gone."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
    return exits.OK


def note(message: str) -> None:
    """A message for people, on stderr, beside the data on stdout."""
    print(clean(message), file=sys.stderr)


def report(error: BaseException, words: Sequence[str]) -> int:
    """Shows an error the way the command line asked for and returns its exit code."""
    code = exits.code_of(error)
    if "--debug" in words:
        import traceback

        traceback.print_exception(error, file=sys.stderr)
        return code
    if _wants_json(words):
        from flowq.cli.documents import json_text

        print(json_text({"error": _document(error, words)}, pretty=False), file=sys.stderr)
    else:
        problem, remedy = _parts(error, words)
        note(f"flowq: {problem}")
        if remedy:
            note(f"  → {remedy}" if _can_show("→") else f"  -> {remedy}")
    return code


def _document(error: BaseException, words: Sequence[str]) -> dict[str, str]:
    problem, remedy = _parts(error, words)
    name = error.code if isinstance(error, FlowqError) else "interrupted" if isinstance(error, KeyboardInterrupt) else "internal"
    return {"code": name, "message": problem, "hint": remedy}


def _parts(error: BaseException, words: Sequence[str]) -> tuple[str, str]:
    if isinstance(error, InvalidValue):
        problem = error.problem.replace(error.field, _option(error.field, words), 1)
        remedy = error.remedy.replace("from_stage", "--from")
        return problem, remedy.replace(AS_PYTHON_HAS_IT, "a duration such as 90s, 5m or 2h")
    if isinstance(error, FlowqError):
        return error.problem, error.remedy
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", ""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}", ""
    return f"{type(error).__name__}: {error}", "this is a fault in flowq or in your module: `--debug` shows where"


def _option(field: str, words: Sequence[str]) -> str:
    """A field as it was typed: the option, where one of its name was given."""
    option = _OPTIONS.get(field) or f"--{field.rpartition('.')[2].replace('_', '-')}"
    return option if any(word.partition("=")[0] == option for word in words) else field


def _wants_json(words: Sequence[str]) -> bool:
    """Whether JSON was asked for. Read from the bare words, because the parser itself may be what failed."""
    joined = " ".join(words)
    return "--json" in words or any(
        f"{option}{kind}" in joined for option in ("-o ", "-o", "--output ", "--output=") for kind in ("json", "jsonl")
    )


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stderr.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
