"""All stages of this process by name. Workers look here for the code of a stage that a flow names."""

from __future__ import annotations

import gc
import inspect
import threading
from weakref import WeakValueDictionary

from flowq.errors import StageNameTaken
from flowq.pipeline.stage import AnyStage

_lock = threading.Lock()
_stages: dict[str, AnyStage] = {}
# Stages made inside functions (tests, factories) live as long as somebody holds them; then their name is free again.
_local_stages: WeakValueDictionary[str, AnyStage] = WeakValueDictionary()
_declared: dict[str, AnyStage] = {}


def register(made: AnyStage) -> None:
    """Enters a stage. The same function, imported again or reloaded, takes its own place.

    Raises:
        StageNameTaken: another function has this name.
    """
    if made.is_declared:
        _declared[made.name] = made
        return
    known = _living(made.name)
    if known is not None and not _is_same_function(known, made) and made.name in _local_stages:
        del known
        gc.collect()  # a local stage caught in a reference cycle is gone for everybody but the collector
        known = _living(made.name)
    if known is not None and not _is_same_function(known, made):
        raise StageNameTaken(made.name, known.signature.where, made.signature.where)
    with _lock:
        (_local_stages if "<locals>" in made.signature.where else _stages)[made.name] = made


def find_stage(name: str) -> AnyStage | None:
    """The stage of this name: with its code if this process has it, else as it was declared, else None."""
    return _living(name) or _declared.get(name)


def all_stages() -> list[AnyStage]:
    """All stages of this process whose code it has."""
    with _lock:
        return [*_stages.values(), *_local_stages.values()]


def _living(name: str) -> AnyStage | None:
    return _stages.get(name) or _local_stages.get(name)


def _is_same_function(known: AnyStage, made: AnyStage) -> bool:
    if known.signature.where == made.signature.where:
        return True
    # A file that runs as __main__ and is imported as well defines each function twice.
    known_file, made_file = _file_of(known), _file_of(made)
    return known_file == made_file and not made_file.startswith("<") and known.fn.__qualname__ == made.fn.__qualname__


def _file_of(some: AnyStage) -> str:
    return inspect.unwrap(some.fn).__code__.co_filename
