"""Makes a history that fails as short as it can be: every history can be played, so parts of it are simply left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from tests.property.operations import Add, History, Operation, Work

# A history is played so often at most: a shorter one is welcome, but not for any price.
_PLAYED_MAX = 400


def shrunk(history: History, fails: Callable[[History], bool]) -> History:
    """The shortest history found that still fails; deterministic, if failing is."""
    played = 0
    size = max(1, len(history.operations) // 2)
    while size:
        is_shorter = False
        start = len(history.operations) - size
        while start > -size and played < _PLAYED_MAX:
            first = max(0, start)
            shorter = replace(history, operations=history.operations[:first] + history.operations[start + size :])
            played += 1
            if fails(shorter):
                history, is_shorter = shorter, True
            start -= size
        size = size if is_shorter and size == 1 else size // 2
    while (simpler := next((simpler for simpler in _simpler(history) if fails(simpler)), None)) is not None:
        history = simpler
    return history


def _simpler(history: History) -> Iterator[History]:
    if history.partitions > 1:
        yield replace(history, partitions=1)
    for position, operation in enumerate(history.operations):
        for simpler in _simpler_operation(operation):
            yield replace(history, operations=(*history.operations[:position], simpler, *history.operations[position + 1 :]))


def _simpler_operation(operation: Operation) -> Iterator[Operation]:
    match operation:
        case Add():
            yield from (
                replace(operation, **{name: value})
                for name, value in (("priority", 0), ("begins_later", False), ("has_deadline", False), ("inputs", 0))
                if getattr(operation, name) != value
            )
        case Work():
            if operation.reports:
                yield replace(operation, reports=operation.reports[1:])
            if operation.capacity:
                yield replace(operation, capacity=0)
            if operation.is_repeated:
                yield replace(operation, is_repeated=False)
            if operation.without:
                yield replace(operation, without=0)
        case _:
            pass
