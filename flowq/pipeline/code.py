"""What of a stage's code counts for its cache: the text of its function, from `def` on."""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from flowq.errors import DefinitionError


@lru_cache(maxsize=1024)
def code_digest(fn: Callable[..., Any], stage: str, version: str) -> str:
    """The digest of a function's source text, its decorators left out: their options change nothing of what it computes.

    Where there is no source, as in an archive of compiled modules, the version has to say it all: the digest is empty.

    Raises:
        DefinitionError: there is no source, and no version.
    """
    text = _source(inspect.unwrap(fn))
    if text is None:
        if version:
            return ""
        raise DefinitionError(
            f"stage {stage!r} has a cache, but the source of its function can't be read",
            'say which version its code is: @stage(cache=…, version="1")',
        )
    try:
        begins = next(
            node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ).lineno
        text = "\n".join(text.splitlines()[begins - 1 :])
    except (SyntaxError, StopIteration):  # a part of an expression: its whole text counts
        pass
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _source(fn: Callable[..., Any]) -> str | None:
    """A function's source text; None: it can't be read. Text that came in by `exec` has the name of any other such text."""
    if getattr(getattr(fn, "__code__", None), "co_filename", "") in ("<string>", "<stdin>"):
        return None
    try:
        return textwrap.dedent(inspect.getsource(fn))
    except (OSError, TypeError):
        return None
