"""Who calls a script is said in its first lines and in the scripts' README: both name the function that does."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.house.project import SCRIPTS, dotted, modules, scripts

ENTRIES = {path.stem: path.read_text("utf-8") for path in scripts() if path.read_text("utf-8").startswith("#!lua")}
README = (SCRIPTS / "README.md").read_text("utf-8")


@pytest.mark.parametrize("name", ENTRIES)
def test_the_caller_that_a_script_names_calls_it(name: str) -> None:
    """`Store.renew`, or `put_items in maps.py`: a function of flowq.store that has the script's name in it."""
    named = _caller(name)
    callers = [
        caller
        for caller, node in _functions()
        if any(isinstance(one, ast.Constant) and one.value == name for one in ast.walk(node))
    ]
    assert named in callers, f"{name}.lua says {named!r}, it is in {callers}"


@pytest.mark.parametrize("name", ENTRIES)
def test_the_readme_names_the_same_caller(name: str) -> None:
    """One row for each."""
    named = " in ".join(f"`{part}`" for part in _caller(name).split(" in "))
    assert f"| `{name}` | {named} |" in README


def _caller(script: str) -> str:
    found = re.search(r"^-- Called by +(\w+ in \w+\.py|\w+\.\w+) ", ENTRIES[script] + " ", flags=re.MULTILINE)
    assert found is not None, script
    return found[1]


def _functions() -> Iterator[tuple[str, ast.AST]]:
    """All functions and methods of flowq.store, as scripts name them."""
    for module in modules():
        if dotted("flowq.store", module.name):
            for node in module.tree.body:
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield f"{node.name} in {module.path.name}", node
                elif isinstance(node, ast.ClassDef):
                    for part in node.body:
                        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
                            yield f"{node.name}.{part.name}", part
