"""What `stage.map(…)` needs beside a call: its bounds, and the signature of a stage that takes and gives lists."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Literal, ParamSpec, Protocol, TypeVar

import msgspec

from flowq.errors import DefinitionError, InvalidValue
from flowq.model.items import ITEMS, Mapped
from flowq.model.plan import StagePlan
from flowq.pipeline.signature import Signature

T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)
Q = ParamSpec("Q")


class TakesElement(Protocol[T_contra, Q, R_co]):
    """A stage whose first argument takes an element: how type checkers see one whose `map` is called. (mypy does not
    bind T where a method's self is declared as `Stage[Concatenate[T, Q], R]`.)"""

    def __call__(self, element: T_contra, /, *args: Q.args, **kwargs: Q.kwargs) -> R_co:
        """Runs for one element."""
        ...


class Bounds(msgspec.Struct, frozen=True):
    """How the items of a map run.

    Attributes:
        at_once: how many at once; 0: as many as workers have room for.
        need: how many must complete; 0: all.
    """

    at_once: int = 0
    need: int = 0

    def changed(self, at_once: int | None, need: int | Literal["all", "any"] | None) -> Bounds:
        """These bounds with those that were given as users write them; None counts as not given.

        Raises:
            InvalidValue: one is out of range.
        """
        if at_once is None and need is None:
            return self
        if at_once is not None and not _is_count(at_once):
            raise InvalidValue("at_once", at_once, f"a whole number from 1 to {ITEMS - 1:,}")
        if need is not None and need not in ("all", "any") and not _is_count(need):
            raise InvalidValue("need", need, "'all', 'any' or a whole number from 1 on")
        needed = self.need if need is None else {"all": 0, "any": 1}.get(str(need), need)
        return Bounds(self.at_once if at_once is None else at_once, int(needed))

    def template(self, template: StagePlan, argument: str) -> StagePlan:
        """The stage as a map that hands the elements to this argument."""
        return msgspec.structs.replace(template, mapping=Mapped(argument, self.at_once, self.need))


@lru_cache(maxsize=1024)
def mapped(signature: Signature) -> tuple[str, Signature]:
    """The argument that takes the elements, the first, and the signature of the map.

    Raises:
        DefinitionError: there is no argument.
    """
    if not signature.positional:
        raise DefinitionError(
            f"{signature.name} can't be mapped: it has no argument that could take an element by position",
            "give its function a first parameter",
        )
    argument = signature.positional[0]
    return argument, signature.mapped(argument)


def elements(items: Iterable[Any], name: str) -> list[Any]:
    """What the stage of this name is mapped over.

    Raises:
        InvalidValue: it has no elements.
    """
    try:
        each = iter(items)
    except TypeError:
        raise InvalidValue(f"what {name} is mapped over", items, "a list, or the result of a stage that returns one") from None
    return list(each)


def refuse_bounds(bounds: Bounds, name: str) -> None:
    """Raises DefinitionError: the stage is called, and bounds are for maps."""
    if bounds != _NONE:
        raise DefinitionError(f"{name} has at_once or need, and was called without map", f"use {name}.with_options(…).map(items)")


_NONE = Bounds()


def _is_count(value: object) -> bool:
    return type(value) is int and 1 <= value < ITEMS
