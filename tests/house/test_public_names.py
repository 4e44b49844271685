"""What users see: few names, each with its docstring."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import flowq
from tests.house.project import Module, modules

PUBLIC_NAMES_MAX = 20

Function = ast.FunctionDef | ast.AsyncFunctionDef


def test_the_public_root_is_small() -> None:
    """At most 20 names; exceptions live in flowq.errors."""
    assert len(flowq.__all__) <= PUBLIC_NAMES_MAX
    assert len(set(flowq.__all__)) == len(flowq.__all__)


def test_every_name_of_the_root_exists_and_is_documented() -> None:
    """`help(flowq.X)` says something for each."""
    bare = [name for name in flowq.__all__ if not (getattr(flowq, name).__doc__ or "").strip()]
    assert not bare


def test_every_module_says_what_it_is_for() -> None:
    """The header of a module: what it does, who calls it, the one surprising thing."""
    bare = [module.where for module in modules() if not ast.get_docstring(module.tree)]
    assert not bare


def test_every_public_class_function_and_method_has_its_docstring() -> None:
    """But overloads, stubs of protocols, and methods whose contract stands in the class they implement."""
    documented = {
        (node.name, method.name)
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
        for method in node.body
        if isinstance(method, Function) and (ast.get_docstring(method) or _is_stub(method))
    }
    bare = [f"{module.where}:{line} {name}" for module in modules() for name, line in _undocumented(module, documented)]
    assert not bare, "\n".join(bare)


def _undocumented(module: Module, documented: set[tuple[str, str]]) -> Iterator[tuple[str, int]]:
    for node in module.tree.body:
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node) and not (isinstance(node, Function) and _is_exempt(node)):
            yield node.name, node.lineno
        if isinstance(node, ast.ClassDef):
            bases = {_last_name(base) for base in node.bases}
            for method in node.body:
                if not isinstance(method, Function) or method.name.startswith("_") or _is_exempt(method):
                    continue
                is_inherited = any((base, method.name) in documented for base in bases)
                if not ast.get_docstring(method) and not is_inherited:
                    yield f"{node.name}.{method.name}", method.lineno


def _is_exempt(function: Function) -> bool:
    decorators = {_last_name(decorator) for decorator in function.decorator_list}
    return bool(decorators & {"overload", "setter", "deleter", "override"}) or _is_stub(function)


def _is_stub(function: Function) -> bool:
    match function.body:
        case [ast.Expr(ast.Constant(value=value))]:
            return value is ...
        case _:
            return False


def _last_name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(value=value) | ast.Call(func=value):
            return _last_name(value)
        case _:
            return ""
