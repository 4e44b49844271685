"""What `compensate=` and `finally_=` take: a stage with one argument."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar, cast

import msgspec

from flowq.errors import DefinitionError, InvalidValue
from flowq.model.plan import Hook
from flowq.pipeline.options import StageOptions
from flowq.pipeline.stage import AnyStage, Stage

T_contra = TypeVar("T_contra", contravariant=True)


class Takes(Protocol[T_contra]):
    """A stage that can be called with one argument of this type.

    Whether a compensation takes what its stage gives is checked at submit: no type checker can ask for it and keep the type of a
    stage whose compensation takes more.
    """

    def __call__(self, told: T_contra, /) -> Any:
        """Runs with it."""
        ...


def hook_of(option: str, given: object) -> tuple[Hook, AnyStage]:
    """The hook that a stage becomes, and the stage. Its options are those of the stage, but hooks have no hooks.

    Raises:
        InvalidValue: it is no stage.
        DefinitionError: it can't be called with one argument.
    """
    if not isinstance(given, Stage):
        raise InvalidValue(option, given, "a stage with one argument: a function decorated with @stage")
    made = cast("AnyStage", given)
    if not made.signature.positional or made.signature.required - {made.signature.positional[0]}:
        raise DefinitionError(
            f"{made.name}{made.signature} can't be {option}: it would be called with one argument",
            "give it one parameter, and defaults to all others",
        )
    return Hook(msgspec.structs.replace(made.template, compensate=None, cache_ms=0), made.signature.positional[0]), made


def with_compensation(options: StageOptions, compensate: object) -> tuple[StageOptions, AnyStage]:
    """The options of a stage that this one undoes, and this one.

    Raises:
        InvalidValue, DefinitionError: it can't be.
    """
    hook, compensation = hook_of("compensate", compensate)
    return msgspec.structs.replace(options, compensate=hook), compensation
