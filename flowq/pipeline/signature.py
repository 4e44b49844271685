"""`Signature`: the parameters and the result type of a stage or pipeline, for binding, checking and decoding values.

Annotations are resolved when first needed, because modules may refer to names they define further down.
"""

from __future__ import annotations

import copy
import difflib
import inspect
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, get_type_hints

import msgspec

from flowq.errors import DefinitionError, WrongArguments
from flowq.model.values import packed
from flowq.pipeline.conversion import convert, exact_types, unstorable

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Parameter(msgspec.Struct, frozen=True):
    """A parameter of a stage or pipeline.

    Attributes:
        name: its name.
        annotation: its type; Any when it has none.
        required: whether it has no default.
        default: the default; None when there is none.
    """

    name: str
    annotation: Any
    required: bool
    default: Any = None


class Signature:
    """What a function takes and gives.

    Attributes:
        name: the stage's or pipeline's name, for messages.
        where: `module.function`, for messages; the file's name where there is no module.
        is_declared: whether there is no code behind it.
        origin: itself, or, of one for a map, that of the stage.
        positional: the parameters that may be given by position, in order.
    """

    def __init__(
        self, fn: Callable[..., Any], name: str, local_names: Mapping[str, Any] | None = None, *, is_declared: bool = False
    ) -> None:
        """
        Args:
            fn: the function.
            name: the stage's or pipeline's name.
            local_names: names of the function around `fn`, when there is one; its annotations may refer to them.
            is_declared: whether `fn` only declares and has no code.

        Raises:
            DefinitionError: a parameter can't be passed by name.
        """
        self.name = name
        # What `exec` makes may belong to no module.
        self.where = f"{fn.__module__ or inspect.unwrap(fn).__code__.co_filename}.{fn.__qualname__}"
        self.is_declared = is_declared
        self.origin = self
        self._fn = fn
        self._inspected = inspect.signature(fn)
        self.positional: list[str] = []
        self._defaults: dict[str, Any] = {}
        for parameter in self._inspected.parameters.values():
            self._add(parameter)
        self._required = frozenset(self._inspected.parameters) - self._defaults.keys()
        self._size = len(self._inspected.parameters)
        if local_names is not None:
            self._resolve_at_once(local_names)

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters' names, in order."""
        return tuple(self._inspected.parameters)

    @property
    def required(self) -> frozenset[str]:
        """The parameters without a default."""
        return self._required

    @cached_property
    def annotations(self) -> dict[str, Any]:
        """Parameter → type, Any where there is none; and `return`.

        Raises:
            DefinitionError: an annotation names something that does not exist at run time.
        """
        try:
            return self._resolved(None)
        except Exception as error:  # an annotation is code and may raise anything
            raise DefinitionError(
                f"an annotation of {self.where} can't be read: {error}",
                "import its type at run time too, not only under TYPE_CHECKING",
            ) from None

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """The parameters by name, in order."""
        return {
            name: Parameter(name, self.annotations[name], name in self._required, self._defaults.get(name))
            for name in self._inspected.parameters
        }

    @cached_property
    def result(self) -> Any:
        """The result's type; Any when it is not declared.

        Raises:
            DefinitionError: it is a type that can't be stored.
        """
        annotation = self.annotations["return"]
        if culprit := unstorable(annotation):
            raise DefinitionError(
                f"{self.name}() returns {culprit}, which can't be stored",
                "return an Artifact, a msgspec.Struct, a dataclass, numbers, text, lists or dicts with text keys",
            )
        return annotation

    def mapped(self, argument: str) -> Signature:
        """The signature of a map: a list of what one argument takes for it, and a list of results."""
        of_map = copy.copy(self)
        for computed in ("annotations", "parameters", "result", "_exact", "_exact_result"):
            of_map.__dict__.pop(computed, None)
        annotations = self.annotations
        of_map.__dict__["annotations"] = annotations | {
            argument: list[annotations[argument]],
            "return": list[self.result],
        }
        return of_map

    def bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by name, defaults included.

        Raises:
            WrongArguments: one is unknown, missing or given twice.
        """
        values = dict(zip(self.positional, args, strict=False))
        if len(args) > len(values):
            raise self._mismatch(f"got {len(args)} arguments by position")
        if kwargs:
            if not values.keys().isdisjoint(kwargs):
                raise self._mismatch(f"got {next(name for name in kwargs if name in values)!r} twice")
            values.update(kwargs)
        if len(values) != self._size or kwargs:
            self._refuse_unknown_and_missing(values)
            if len(values) != self._size:
                values = self._defaults | values
        return values

    def check(self, values: Mapping[str, Any]) -> None:
        """Checks literal values against their annotations; values of no known parameter are an error of `bound`.

        Raises:
            InvalidValue: one does not fit; names it as `stage.argument`.
        """
        exact = self._exact
        for name, value in values.items():
            fitting = exact[name]
            if fitting is not None and type(value) not in fitting:
                self._converted(name, value)

    def converted(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values, each converted to its annotation where it is not of that type already.

        Raises:
            InvalidValue: one does not fit; names it as `stage.argument`.
        """
        exact = self._exact
        return {
            name: value if (fitting := exact[name]) is None or type(value) in fitting else self._converted(name, value)
            for name, value in values.items()
        }

    def arguments(self, values: dict[str, Any]) -> dict[str, Any]:
        """A stored stage's arguments, as its function takes them: `fn(**signature.arguments(values))`.

        Args:
            values: argument → plain value, children's results filled in. Absent ones get the function's default.

        Raises:
            WrongArguments: one is unknown, or one without a default is missing: other code made the flow.
            InvalidValue: one does not fit its annotation.
        """
        if len(values) != self._size or not values.keys() <= self._exact.keys():
            self._refuse_unknown_and_missing(values)
        return self.converted(values)

    def packed_result(self, value: Any) -> bytes:
        """The function's result as it is stored.

        Raises:
            InvalidValue: it is not of the declared type.
            ValueNotStorable: it holds what can't be stored.
        """
        if type(value) not in self._exact_result:
            convert(value, self.result, f"result of {self.name}")
        return packed(value, self.name, "result")

    def __str__(self) -> str:
        """As users wrote it: annotations that are text stand without quotes."""
        parameters = [
            parameter.replace(annotation=_unquoted(parameter.annotation)) for parameter in self._inspected.parameters.values()
        ]
        returned = _unquoted(self._inspected.return_annotation)
        return str(self._inspected.replace(parameters=parameters, return_annotation=returned))

    def _add(self, parameter: inspect.Parameter) -> None:
        if parameter.kind not in _NAMED:
            raise DefinitionError(
                f"{self.where} takes {parameter}, which can't be passed by name",
                "arguments are stored by name: give each a name, or take one list or dict",
            )
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            self.positional.append(parameter.name)
        if parameter.default is not inspect.Parameter.empty:
            self._defaults[parameter.name] = parameter.default

    def _resolve_at_once(self, local_names: Mapping[str, Any]) -> None:
        # A function inside another sees its surroundings only now; what can't be resolved yet is tried again later.
        try:
            self.__dict__["annotations"] = self._resolved(local_names)
        except Exception:  # an annotation is code and may raise anything
            return

    def _resolved(self, local_names: Mapping[str, Any] | None) -> dict[str, Any]:
        hints = get_type_hints(self._fn, localns=dict(local_names) if local_names is not None else None, include_extras=True)
        return {name: hints.get(name, Any) for name in (*self._inspected.parameters, "return")}

    @cached_property
    def _exact(self) -> dict[str, frozenset[type] | None]:
        return {name: exact_types(self.annotations[name]) for name in self._inspected.parameters}

    @cached_property
    def _exact_result(self) -> frozenset[type]:
        return exact_types(self.result) or frozenset()

    def _converted(self, name: str, value: Any) -> Any:
        return convert(value, self.annotations[name], f"{self.name}.{name}")

    def _refuse_unknown_and_missing(self, values: Mapping[str, Any]) -> None:
        known = self._inspected.parameters
        for name in values:
            if name not in known:
                nearest = difflib.get_close_matches(name, known, 1)
                hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
                raise self._mismatch(f"has no argument {name!r}{hint}")
        for name in known:
            if name in self._required and name not in values:
                raise self._mismatch(f"lacks its argument {name!r}")

    def _mismatch(self, problem: str) -> WrongArguments:
        return WrongArguments(self.name, problem, str(self))


class _Unquoted(str):
    __slots__ = ()
    __repr__ = str.__str__


def _unquoted(annotation: Any) -> Any:
    return _Unquoted(annotation) if isinstance(annotation, str) else annotation


def surrounding_names(fn: object) -> Mapping[str, Any] | None:
    """The names around a function that is being defined inside another one: its annotations may refer to them.

    For decorators only: looks at the frame that called the caller.
    """
    if "<locals>" not in getattr(fn, "__qualname__", ""):
        return None
    return sys._getframe(2).f_locals  # pyright: ignore[reportPrivateUsage]
