"""Arguments as somebody typed them who does not know their types: `flowq retry --set title=2024`.

Text is meant where text is stored, else JSON. Where null is stored and the stage's code is not at hand, `2024` may be a number or
a text: then the text is stored and marked, and the worker, which has the code, reads it as the argument's type says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from flowq.errors import InvalidValue
from flowq.model.plan import TYPED
from flowq.model.values import json_or_text
from flowq.pipeline.conversion import convert
from flowq.pipeline.signature import Signature


class AsTyped(msgspec.Struct, frozen=True):
    """A value as it was typed.

    Attributes:
        text: what was typed.
    """

    text: str

    def meant(self, name: str, literals: Mapping[str, Any], signature: Signature | None) -> Any:
        """The value that is meant; itself where only the stage's code could tell.

        Args:
            name: the argument.
            literals: what is stored.
            signature: the stage's, where its code is here.
        """
        stored = None if name in marked(literals) else literals[name]
        if isinstance(stored, str):
            return self.text
        if signature is not None and name in signature.names:
            return _fitting(name, self.text, signature)
        value = json_or_text(self.text)
        return self if stored is None and value is not None and not isinstance(value, str) else value


def marked(literals: Mapping[str, Any]) -> set[str]:
    """The arguments that are stored as they were typed."""
    return set(cast("list[str]", literals.get(TYPED, ())))


def with_marks(literals: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The literals with these changes, those of them marked that are stored as they were typed."""
    marks = marked(literals) - changes.keys() | {name for name, value in changes.items() if isinstance(value, AsTyped)}
    plain = {name: value.text if isinstance(value, AsTyped) else value for name, value in changes.items()}
    kept = {name: value for name, value in literals.items() if name != TYPED}
    return kept | plain | ({TYPED: sorted(marks)} if marks else {})


def read_marked(arguments: dict[str, Any], signature: Signature) -> None:
    """Reads a stage's marked arguments as its types say, in place."""
    for name in cast("list[str]", arguments.pop(TYPED)):
        if name in signature.names and isinstance(text := arguments.get(name), str):
            arguments[name] = _fitting(name, text, signature)


def _fitting(name: str, text: str, signature: Signature) -> Any:
    """What JSON makes of it where that fits the argument's type, else the text."""
    value, annotation = json_or_text(text), signature.annotations[name]
    if not isinstance(value, str):
        try:
            convert(value, annotation, name)
        except InvalidValue as misfit:
            try:
                convert(text, annotation, name)
            except InvalidValue:
                raise misfit from None
            return text
    return value
