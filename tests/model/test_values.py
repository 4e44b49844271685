"""Values in and out of storage: what can't be stored is refused by the name of its part."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowq.errors import CorruptState, ValueNotStorable, ValueTooLarge
from flowq.model.plan import Binding
from flowq.model.values import INPUT_BYTES_MAX, fill, packed, packed_input, taken

unpack = msgspec.msgpack.decode
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@dataclasses.dataclass
class Frame:
    number: int
    image: Any = None


class Video(msgspec.Struct):
    frames: list[Any] = []
    title: str = ""


class Colour(enum.Enum):
    RED = "red"


@given(PLAIN)
def test_plain_values_come_back_as_they_were(value: Any) -> None:
    assert unpack(packed(value, "stage", "result")) == value


def test_equal_inputs_are_equal_bytes_whatever_their_order() -> None:
    assert packed({"a": 1, "b": {"c": 2, "d": 3}}, "p", "x") == packed({"b": {"d": 3, "c": 2}, "a": 1}, "p", "x")


def test_empty_lists_stay_lists_and_large_numbers_stay_exact() -> None:
    for value in ([], {}, 2**53 + 1, 1_700_000_000_123_456, -0.0, [[], {}]):
        again = unpack(packed(value, "stage", "result"))
        assert again == value
        assert type(again) is type(value)


def test_typed_values_are_stored() -> None:
    for value in (
        Frame(1),
        Video([Frame(2)]),
        Colour.RED,
        datetime.timedelta(seconds=1),
        datetime.datetime.now(datetime.UTC),
        {1, 2},
        b"x",
    ):
        assert packed(value, "stage", "result")


CYCLE: list[Any] = []
CYCLE.append(CYCLE)
DEEP: Any = []
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (object(), "video"),
        ({"frames": [1, 2, object()]}, "video['frames'][2]"),
        (Video([Frame(1, object())]), "video.frames[0].image"),
        ({1: "a"}, "video (key)"),
        ({None: "a"}, "video (key)"),
        (2**64, "video"),
        ([2**100], "video[0]"),
        (lambda: None, "video"),
        ((number for number in range(3)), "video"),
        ("\ud800", "video"),
        ({"text": ["fine", "\udfff"]}, "video['text'][1]"),
        (msgspec.msgpack.Ext(1, b"spilled"), "video"),
        ({"frames": [1, msgspec.msgpack.Ext(5, b"")]}, "video['frames'][1]"),
        (Frame(1, msgspec.msgpack.Ext(1, b"")), "video.image"),
        ([msgspec.Raw(b"\xc1")], "video[0]"),
        (math, "video"),
    ],
)
def test_what_can_not_be_stored_is_named(value: Any, path: str) -> None:
    with pytest.raises(ValueNotStorable) as refusal:
        packed(value, "encode", "video")
    assert refusal.value.path == path
    assert str(refusal.value).startswith(f"encode: {path} can't be stored")


@pytest.mark.parametrize("value", [CYCLE, DEEP], ids=["a list that holds itself", "100,000 levels"])
def test_bottomless_values_are_refused_and_not_followed(value: Any) -> None:
    with pytest.raises(ValueNotStorable, match="nested"):
        packed(value, "encode", "video")


def test_a_large_input_is_refused_with_the_way_out() -> None:
    assert packed_input(b"x" * (INPUT_BYTES_MAX - 3), "p", "clip")
    with pytest.raises(ValueTooLarge, match="upload"):
        packed_input(b"x" * INPUT_BYTES_MAX, "p", "clip")


def test_results_are_put_into_the_holes_they_were_meant_for() -> None:
    target = {"clips": [None, "b"], "meta": None}
    bindings = [Binding(("clips", 0), 0), Binding(("meta",), 1, ("size", 1))]
    assert fill(target, bindings, {0: "a", 1: {"size": [1, 2]}}) == {"clips": ["a", "b"], "meta": 2}
    assert fill(None, [Binding((), 3)], {3: "whole"}) == "whole"


@pytest.mark.parametrize("value", [None, 1, "text", [], {}, {"other": 1}])
def test_a_result_without_the_part_that_was_declared_is_damage(value: Any) -> None:
    with pytest.raises(CorruptState, match="size"):
        taken(value, ("size",))
