"""Sizes as smells: what is larger says here why it stays whole."""

from __future__ import annotations

import ast

from tests.house.project import ROOT, modules, scripts

FILE_LINES_MAX = 300
FUNCTION_LINES_MAX = 40
SCRIPT_LINES_MAX = 80

LARGE_FILES = {
    "flowq/settings.py": "every setting, and how it is read, is found in one place",
    "flowq/engine/producer.py": "the class that users read first; half of it is docstrings and overloads",
    "flowq/errors.py": "the tree of all exceptions: one look tells what to catch",
}
LARGE_FUNCTIONS: dict[str, str] = {}
LARGE_SCRIPTS: dict[str, str] = {}


def test_files_are_small_or_say_why_not() -> None:
    """300 lines: what a reader holds in mind at once."""
    sizes = {module.where: len(module.text.splitlines()) for module in modules()}
    assert {where: size for where, size in sizes.items() if size > FILE_LINES_MAX and where not in LARGE_FILES} == {}


def test_functions_are_small_or_say_why_not() -> None:
    """40 lines of code; the docstring is not counted, so that nobody shortens it."""
    sizes = {
        f"{module.where}:{node.name}": _code_lines(node)
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {where: size for where, size in sizes.items() if size > FUNCTION_LINES_MAX and where not in LARGE_FUNCTIONS} == {}


def test_scripts_are_small_or_say_why_not() -> None:
    """80 lines of Lua, the contract included."""
    sizes = {path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines()) for path in scripts()}
    assert {where: size for where, size in sizes.items() if size > SCRIPT_LINES_MAX and where not in LARGE_SCRIPTS} == {}


def test_every_exception_to_the_sizes_is_still_needed() -> None:
    """An entry that outlived its reason would hide the next one."""
    sizes = {module.where: len(module.text.splitlines()) for module in modules()}
    assert [where for where in LARGE_FILES if sizes.get(where, 0) <= FILE_LINES_MAX] == []


def _code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    has_docstring = ast.get_docstring(node) is not None
    first = node.body[1] if has_docstring and len(node.body) > 1 else node.body[0]
    return (node.end_lineno or 0) - first.lineno + 1
