"""Plain values against the schemas that msgspec makes of types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import pytest

from flowq.model.schema import misfit


class Inner(msgspec.Struct):
    level: int | None = None


@dataclass
class Outer:
    name: str
    kind: Literal["a", "b"]
    inner: list[Inner]
    pair: tuple[int, str]
    more: dict[str, float]


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    tricks: int


GOOD = {"name": "n", "kind": "a", "inner": [{"level": 1}, {}], "pair": [1, "x"], "more": {"x": 1}}


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (Outer, GOOD, None),
        (Outer, GOOD | {"name": 5}, "name: expected string"),
        (Outer, GOOD | {"kind": "c"}, "kind: expected one of 'a', 'b'"),
        (Outer, GOOD | {"inner": [{"level": "x"}]}, "inner[0].level: expected "),
        (Outer, GOOD | {"pair": ["x", "x"]}, "pair[0]: expected integer"),
        (Outer, GOOD | {"more": {"x": "y"}}, "more.x: expected number"),
        (Outer, {"name": "n"}, "expected a field"),
        (Outer, [1], "expected object"),
        (int, True, "expected integer"),
        (bool, True, None),
        (float, 1, None),
        (bytes, b"x", None),
        (str | None, None, None),
        (Cat | Dog, {"type": "Dog", "tricks": 3}, None),
        (Cat | Dog, {"type": "Dog", "tricks": "many"}, "expected"),
        (dict[str, Any], {"any": ["thing"]}, None),
    ],
)
def test_a_value_fits_or_what_does_not_is_named(kind: Any, value: object, said: str | None) -> None:
    found = misfit(value, msgspec.json.schema(kind))
    assert found is None if said is None else found is not None and said in found
