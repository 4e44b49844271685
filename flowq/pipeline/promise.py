"""`Promise`: stands for a stage's result while a pipeline's body is traced. To type checkers it is the result itself.

It can be passed on, and taken apart where its declared type says how. Everything else that Python lets one do with a
value is refused with the line that tried: an answer made up at submit would be wrong in every flow.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn

import msgspec

from flowq.errors import ResultNotReady, UnknownField
from flowq.model.failure import StageFailure
from flowq.model.plan import OnFailure, PathStep
from flowq.pipeline.failures import union
from flowq.pipeline.fields import Part, attributes, items, keys, may_be_none, shown_type
from flowq.pipeline.lines import user_line

# Begins every promise's repr: text that holds it was made from a promise with %r and would be stored as nonsense.
PROMISE_MARK: Final = "<flowq promise of "


class Hole:
    """What stands for a result inside arguments: a promise, or a Node in another Node's data."""

    __slots__ = ()


class Promise(Hole):
    """The result of a stage that has not run yet."""

    __slots__ = ("_flowq",)

    # One slot, set past the refusing __setattr__, so that any name is free for the declared fields of the result.
    _flowq: Source

    def __init__(self, source: Source) -> None:
        _set_source(self, source)

    @property
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        # isinstance() asks for it once the real type has said no; a silent False would take the wrong branch.
        raise ResultNotReady(self._flowq.label, "checked for its type", user_line())

    def __repr__(self) -> str:
        return f"{PROMISE_MARK}{self._flowq.label}>"

    def __getattr__(self, name: str) -> Any:
        # Python itself asks for dunders (copy, pickle, numpy) and takes AttributeError for a no.
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        source = self._flowq
        part = _part(source, attributes(source.annotation), name, f"{name!r}")
        return Promise(source.part(part, f"{source.label}.{name}"))

    def __getitem__(self, key: Any) -> Any:
        source = self._flowq
        known = items(source.annotation)
        if known is None and type(key) is str and (declared := keys(source.annotation)):
            return Promise(source.part(_part(source, declared, key, f"[{key!r}]"), f"{source.label}[{key!r}]"))
        if known is None or type(key) is not int:
            raise ResultNotReady(source.label, "indexed", user_line())
        if not -len(known) <= key < len(known):
            raise UnknownField(source.label, f"[{key}]", user_line(), f"it is {shown_type(source.annotation)}")
        return Promise(source.part(known[key], f"{source.label}[{key}]"))

    def __iter__(self) -> Iterator[Any]:
        source = self._flowq
        known = items(source.annotation)
        if known is None:
            raise ResultNotReady(source.label, "iterated or unpacked", user_line())
        return iter([Promise(source.part(part, f"{source.label}[{index}]")) for index, part in enumerate(known)])

    def __len__(self) -> int:
        known = items(self._flowq.annotation)
        if known is None:
            raise ResultNotReady(self._flowq.label, "measured with len()", user_line())
        return len(known)

    def __copy__(self) -> Promise:
        return self

    def __deepcopy__(self, memo: object) -> Promise:
        return self


class Source(msgspec.Struct, frozen=True):
    """Where a promised value will come from.

    Attributes:
        trace: the run of the body that made the promise; promises of other runs are refused.
        child: the index of the stage.
        take: which part of the stage's result it is.
        annotation: the declared type of that part.
        label: how messages call it, such as `download().size`.
        on_failure: what becomes of the place it goes to if the stage fails for good.
        is_map: whether it is the whole list of a map's results.
    """

    trace: Any
    child: int
    annotation: Any
    label: str
    take: tuple[PathStep, ...] = ()
    on_failure: OnFailure = "fail"
    is_map: bool = False

    def part(self, part: Part, label: str) -> Source:
        """The source of a part of this value."""
        return Source(self.trace, self.child, part.annotation, label, (*self.take, part.step))


def source_of(promise: Promise) -> Source:
    """Where the promise's value comes from. The one way in for the rest of the package."""
    return promise._flowq  # pyright: ignore[reportPrivateUsage]


def tolerant(promise: Promise, on_failure: OnFailure) -> Promise:
    """The same result, whose place is filled in another way if the stage fails for good."""
    source = source_of(promise)
    annotation = union(source.annotation, StageFailure) if on_failure == "value" else source.annotation
    return Promise(Source(source.trace, source.child, annotation, source.label, source.take, on_failure, is_map=source.is_map))


def _part(source: Source, declared: Mapping[str, Part], name: str, shown_name: str) -> Part:
    part = declared.get(name)
    if part is not None and not part.absent_because:
        return part
    annotation = source.annotation
    if part is not None:
        remedy = f"{part.absent_because}; pass the whole result to a stage and read it there"
    elif may_be_none(annotation):
        remedy = f"it is {shown_type(annotation)}: pass it to a stage and look there"
    elif nearest := difflib.get_close_matches(name, declared, 1):
        remedy = f"did you mean {nearest[0]!r}?"
    elif declared:
        remedy = f"{shown_type(annotation)} declares {', '.join(declared)}; methods and properties work inside stages only"
    else:
        remedy = f"its declared type is {shown_type(annotation)}: declare a Struct or dataclass, or read it inside a stage"
    raise UnknownField(source.label, shown_name, user_line(), remedy)


_BINARY: Final = "add sub mul matmul truediv floordiv mod pow lshift rshift and or xor divmod"
_USES: Final = {
    "used as a truth value": "bool",
    "compared": "eq ne lt le gt ge",
    "used as a key or in a set": "hash",
    "formatted as text": "str format bytes fspath",
    "searched with `in`": "contains",
    "called": "call",
    "used as a number": "int float complex index round trunc floor ceil",
    "calculated with": " ".join(["neg pos abs invert", *(side + name for name in _BINARY.split() for side in ("", "r", "i"))]),
    "awaited (the body of a pipeline waits for nothing: drop the `await`)": "await aiter anext",
    "used in a `with`": "enter exit aenter aexit",
    "changed": "setattr delattr setitem delitem",
    "pickled": "reduce_ex",
    "reversed": "reversed",
}


def _refusal(use: str) -> Any:
    def refuse(self: Promise, *_: object) -> NoReturn:
        raise ResultNotReady(source_of(self).label, use, user_line())

    return refuse


_set_source = Promise.__dict__["_flowq"].__set__
for _use, _operations in _USES.items():
    for _operation in _operations.split():
        setattr(Promise, f"__{_operation}__", _refusal(_use))
