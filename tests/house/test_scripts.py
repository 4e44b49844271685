"""Keys are spelled in one place, and every Lua file opens with its contract."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowq.store import keys
from tests.house.project import SCRIPTS, dotted, modules, scripts

KEYS_MODULE = "flowq.store.keys"
# Who finds the servers, tries rights, calls scripts, and listens. What they send is tried before scripts are, or has no effect.
LINKS = tuple(f"flowq.store.{name}" for name in ("connection", "listener", "nodes", "script_caller", "topology"))
# `:f:` and its like, as keys.py has them; one of these in a literal elsewhere is a key spelled twice.
WORDS = sorted({value for value in vars(keys).values() if isinstance(value, str) and value.startswith(":")})
SCRIPT_FILES = [pytest.param(path, id=path.relative_to(SCRIPTS).as_posix()) for path in scripts()]


def test_keys_are_spelled_in_one_module() -> None:
    """No other Python file holds a key's word, or a format that builds a hash tag."""
    found = [
        f"{module.where}:{line}: {text!r}"
        for module in modules()
        if module.name != KEYS_MODULE
        for line, text in _literals(module.tree)
        if text in WORDS or any(text.startswith((word, "}" + word)) for word in WORDS if word.endswith(":"))
    ]
    assert not found, "\n".join(found)


def test_no_two_kinds_of_keys_have_one_name() -> None:
    """Both are keys of one partition: they would take each other for damaged."""
    assert len(set(keys._TAGGED.values())) == len(keys._TAGGED)


@pytest.mark.parametrize("path", SCRIPT_FILES)
def test_a_script_spells_no_key(path: Path) -> None:
    """It gets the words as locals from the loader (`flowq.store.keys.lua_constants`)."""
    code = "\n".join(line.split("--")[0] for line in path.read_text("utf-8").splitlines())
    spelled = [literal for literal in re.findall(r"""["'](:[^"']*)["']""", code) if literal in WORDS or literal.strip(":")]
    assert not spelled


@pytest.mark.parametrize("path", SCRIPT_FILES)
def test_a_script_opens_with_its_contract(path: Path) -> None:
    """What it does; an entry script also who calls it, what it takes, what it answers."""
    lines = path.read_text("utf-8").splitlines()
    is_entry = lines[0].startswith("#!lua")
    header = "\n".join(line for line in lines[is_entry:] if line.startswith("--"))
    code_begins = next(number for number, line in enumerate(lines[is_entry:]) if not line.startswith("--"))
    assert code_begins > 0, "the contract comes first"
    assert re.match(rf"-- {re.escape(path.stem)}: \S", header)
    for word in ("Called by", "KEYS", "ARGV", "Replies") if is_entry else ():
        assert re.search(rf"^--.*\b{word}\b", header, flags=re.MULTILINE), f"no {word!r}"


@pytest.mark.parametrize("path", SCRIPT_FILES)
def test_a_script_parses_no_payload(path: Path) -> None:
    """cjson turns [] into {} and corrupts 17-digit numbers; payloads pass through as opaque bytes."""
    assert "cjson" not in path.read_text("utf-8")


def test_the_trial_calls_every_command_that_scripts_and_python_send() -> None:
    """What it leaves out is found missing half-way through a script, and half a transition stays (trial.lua)."""
    tried = set(re.findall(r"\{'([A-Z]+)'", (SCRIPTS / "trial.lua").read_text("utf-8")))
    sent = {verb for path in scripts() for verb in re.findall(r"(?:redis\.p?call|shared)\('(\w+)'", path.read_text("utf-8"))}
    sent |= {
        verb
        for module in modules()
        if dotted("flowq.store", module.name) and module.name not in LINKS
        for verb in _commands(module.tree)
    }
    # Every client asks for the first two before all else, and they have no effect; only `flowq bench` scans.
    assert sent - {"INFO", "CONFIG", "SCAN"} == tried


def test_every_script_is_listed_in_their_readme() -> None:
    """The tables in scripts/README.md are how a reader finds a transition; none that is gone stands there."""
    rows = re.findall(r"^\| (`[^|]+`) \| ", (SCRIPTS / "README.md").read_text("utf-8"), flags=re.MULTILINE)
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted(path.stem for path in scripts())


def test_the_fragments_that_an_entry_needs_exist_and_each_is_needed() -> None:
    """`-- Needs` names files; a fragment that no entry needs is dead."""
    texts = {path.stem: path.read_text("utf-8") for path in scripts()}
    needs = [line for text in texts.values() for line in re.findall(r"^-- Needs +(.+)$", text, flags=re.MULTILINE)]
    fragments = {name for name, text in texts.items() if not text.startswith("#!lua")}
    assert {name for line in needs for name in line.split()} == fragments


def _commands(tree: ast.Module) -> Iterator[str]:
    """The words of the server's language with which a call of `command`, or a tuple for `commands`, begins."""
    for node in ast.walk(tree):
        match node:
            case (
                ast.Tuple(elts=[ast.Constant(str(verb)), *_])
                | ast.Call(
                    func=ast.Attribute(attr="command" | "_command") | ast.Name("command"),
                    args=[ast.Constant(str(verb)), *_],
                )
            ) if verb.isalpha() and verb.isupper():
                yield verb
            case _:
                pass


def _literals(tree: ast.Module) -> list[tuple[int, str]]:
    """Line and text of all strings but docstrings, which may explain a key."""
    docstrings: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstrings |= {id(part.value) for part in node.body[:1] if isinstance(part, ast.Expr)}
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docstrings)
    return [(node.lineno, node.value) for node in constants if isinstance(node.value, str)]
