"""Which stages a pipeline's body can call, found without running it, so that a worker knows what to serve.

Follows names: globals, enclosing variables, attributes of modules, containers of stages, helper functions. Finds rather
too much than too little; what a body computes (`getattr(module, name)`) it can't see.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, cast

from flowq.errors import StageNameTaken
from flowq.pipeline.registry import find_stage
from flowq.pipeline.stage import AnyStage, Stage

# Larger tables are data, not a choice of stages.
_CONTAINER_ITEMS_MAX = 1_000
# What these packages define can't lead to a project's stages, unless the body is at home in one (the built-in sample, a
# project's own `code.py`).
_FOREIGN = frozenset(sys.stdlib_module_names) | {"flowq", "msgspec"}


def stages_reached_from(fn: Callable[..., Any]) -> tuple[AnyStage, ...]:
    """All stages that the function, and the helpers it calls, name; a declared one with its code if this process has it.

    Raises:
        StageNameTaken: two different functions of one stage name are among them.
    """
    module = inspect.unwrap(fn).__module__ or ""
    home = module.rpartition(".")[0] or module
    found: dict[str, AnyStage] = {}
    seen: set[int] = set()
    pending: list[Any] = [fn]
    while pending:
        thing = pending.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if _is(thing, Stage):
            _add(found, cast("AnyStage", thing))
            if thing.is_async and not thing.is_declared:  # it may spawn others
                pending.append(thing.fn)
        else:
            pending.extend(_named_by(thing, home))
    return tuple(sorted(found.values(), key=lambda reached: reached.name))


def _is(thing: Any, kind: Any) -> bool:
    # Asks the type: proxies of frameworks (a request, an app) raise when isinstance() looks at them.
    return issubclass(type(thing), kind)


def _add(found: dict[str, AnyStage], reached: AnyStage) -> None:
    if reached.is_declared:
        reached = find_stage(reached.name) or reached
    known = found.get(reached.name)
    if known is not None and known.fn is not reached.fn and not reached.is_declared and not known.is_declared:
        raise StageNameTaken(reached.name, known.signature.where, reached.signature.where)
    if known is None or known.is_declared:
        found[reached.name] = reached


def _is_foreign(module: str, home: str) -> bool:
    return module.partition(".")[0] in _FOREIGN and not f"{module}.".startswith(f"{home}.")


def _named_by(thing: Any, home: str) -> Iterable[Any]:
    """What a thing found in a body leads to."""
    if _is(thing, FunctionType):
        return _named_by_function(thing, home)
    if _is(thing, MethodType):
        return [thing.__func__]
    if getattr(cast("object", type(thing)), "is_pipeline", False):
        return [thing.fn]
    if _is(thing, functools.partial):
        partial = cast("functools.partial[Any]", thing)
        return [partial.func, *partial.args, *partial.keywords.values()]
    if _is(thing, dict):
        return list(cast("dict[Any, Any]", thing).values())[:_CONTAINER_ITEMS_MAX]
    if _is(thing, list | tuple | set | frozenset):
        return list(cast("Iterable[Any]", thing))[:_CONTAINER_ITEMS_MAX]
    return ()


def _named_by_function(function: FunctionType, home: str) -> Iterator[Any]:
    function = cast("FunctionType", inspect.unwrap(function))
    if _is_foreign(function.__module__ or "", home):
        return
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a variable that is not assigned yet
            continue
    names = _names_in(function.__code__)
    modules: list[ModuleType] = []
    for value in _values_of(names, function.__globals__):
        if _is(value, ModuleType):
            modules.append(value)
        else:
            yield value
    yield from _attributes(modules, names, home)


def _names_in(code: CodeType) -> set[str]:
    """Every global, attribute and imported name in the code and in the functions inside it."""
    names: set[str] = set()
    pending = [code]
    while pending:
        code = pending.pop()
        names.update(code.co_names)
        pending.extend(constant for constant in code.co_consts if isinstance(constant, CodeType))
    return names


def _values_of(names: Iterable[str], global_names: Mapping[str, Any]) -> Iterator[Any]:
    package = global_names.get("__package__") or ""
    for name in names:
        if name in global_names:
            yield global_names[name]
        # `from project import stages` inside the body: the module is known by its dotted name only.
        for dotted in (name, f"{package}.{name}"):
            if dotted in sys.modules:
                yield sys.modules[dotted]


def _attributes(modules: list[ModuleType], names: set[str], home: str) -> Iterator[Any]:
    """What the names mean as attributes of the modules, and of the modules found among those."""
    seen: set[int] = set()
    while modules:
        module = modules.pop()
        if id(module) in seen or _is_foreign(module.__name__, home):
            continue
        seen.add(id(module))
        for name in names & vars(module).keys():
            value = vars(module)[name]
            if _is(value, ModuleType):
                modules.append(value)
            else:
                yield value
