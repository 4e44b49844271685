"""The tests themselves: named as sentences, waiting for events and not for time, sharing servers politely."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from tests.house.project import ROOT

TESTS = ROOT / "tests"
NAME_WORDS_MIN = 4  # `test` included
# Who pauses between two looks at what announces nothing: a process in /proc, a port, a file. Tests use `in_the_end` of these.
LOOKS_AGAIN = {TESTS / "engine" / "waiting.py", TESTS / "engine" / "work.py", TESTS / "servers.py", TESTS / "clusters.py"}


def test_names_are_sentences() -> None:
    """`test_a_failed_child_leaves_its_parents_blocked` says what broke; `test_fail` does not."""
    short = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}"
        for path, tree in _trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if node.name.startswith("test_") and len(node.name.split("_")) < NAME_WORDS_MIN
    ]
    assert not short, "\n".join(short)


def test_tests_wait_for_events_and_not_for_time() -> None:
    """Only tests/faults may sleep: a sleep is too short on a slow machine and too long on a fast one."""
    sleeps = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
        for path, tree in _trees()
        if not path.is_relative_to(TESTS / "faults") and path not in LOOKS_AGAIN
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _called(node) == "sleep" and not _is_turn(node) and not _is_suspension(node)
    ]
    assert not sleeps, "\n".join(sleeps)


def test_nobody_empties_a_server() -> None:
    """Tests share one; each has a namespace of its own."""
    words = {"FLUSH" + "ALL", "FLUSH" + "DB"}
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, tree in _trees()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.upper() in words)
        or (isinstance(node, ast.Attribute) and node.attr.upper() in words)
    ]
    assert not found


@cache
def _trees() -> list[tuple[Path, ast.Module]]:
    paths = sorted(path for path in TESTS.rglob("*.py") if "typing" not in path.parts)
    return [(path, ast.parse(path.read_text("utf-8"), str(path))) for path in paths]


def _called(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def _is_turn(call: ast.Call) -> bool:
    """`asyncio.sleep(0)` lets others have their turn."""
    match call.args:
        case [ast.Constant(value=0)]:
            return True
        case _:
            return False


def _is_suspension(call: ast.Call) -> bool:
    """`context().sleep(…)` is what such a test is about."""
    match call.func:
        case ast.Attribute(value=ast.Call(func=ast.Name(id="context"))):
            return True
        case _:
            return False
