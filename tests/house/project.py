"""The project as the house rules see it: its files, modules and syntax trees, each read once."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "flowq"
SCRIPTS = PACKAGE / "store" / "scripts"


class Module(NamedTuple):
    """One Python file of the package."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def where(self) -> str:
        """Its path from the project's root, for messages."""
        return self.path.relative_to(ROOT).as_posix()


@cache
def modules() -> tuple[Module, ...]:
    """All modules of the package, by name."""
    return tuple(_module(path) for path in sorted(PACKAGE.rglob("*.py")))


def _module(path: Path) -> Module:
    parts = path.relative_to(ROOT).with_suffix("").parts
    text = path.read_text("utf-8")
    return Module(".".join(parts[:-1] if parts[-1] == "__init__" else parts), path, text, ast.parse(text, str(path)))


@cache
def scripts() -> tuple[Path, ...]:
    """All Lua files of the store."""
    return tuple(sorted(SCRIPTS.rglob("*.lua")))


@cache
def documents() -> tuple[Path, ...]:
    """All Markdown files that people read."""
    return tuple(path for path in project_files() if path.suffix == ".md")


@cache
def project_files() -> tuple[Path, ...]:
    """All files that belong to the project: tracked, or new and not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    paths = (ROOT / name.decode() for name in listed.stdout.split(b"\0") if name)
    return tuple(sorted(path for path in paths if path.is_file()))


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every module a tree imports, with the line: at the top, inside functions, for typing, or by name at run time."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((alias.name, node.lineno) for alias in names)
            case ast.ImportFrom(module=str(module)):
                yield module, node.lineno
            case ast.Call(func=ast.Name("__import__") | ast.Attribute(attr="import_module"), args=[ast.Constant(str(name)), *_]):
                yield name, node.lineno
            case _:
                pass


def dotted(prefix: str, name: str) -> bool:
    """Whether `name` is `prefix` or lies inside it."""
    return name == prefix or name.startswith(prefix + ".")
