"""What a worker decodes: arguments to their annotations, results to the declared type."""

from __future__ import annotations

import datetime
import enum
import pathlib
import uuid
from typing import Annotated, Any, Literal

import msgspec
import pytest

from flowq.errors import DefinitionError, InvalidValue, ValueNotStorable, WrongArguments
from flowq.model.artifact import Artifact
from flowq.pipeline import stage
from tests.pipeline.short_video import Box, Labels, Probe, Published, Row, encode, finalize


class Speed(enum.Enum):
    FAST = "fast"


class Item(msgspec.Struct):
    n: int


@stage
def typed(
    artifact: Artifact,
    many: list[Item],
    by_name: dict[str, Item],
    probe: Probe,
    box: Box,
    labels: Labels,
    when: datetime.datetime,
    wait: datetime.timedelta,
    key: uuid.UUID,
    speed: Speed,
    some: set[int],
    pair: tuple[int, str],
    share: float,
    quality: Annotated[int, msgspec.Meta(ge=1, le=9)],
    mode: Literal["a", "b"],
    row: Row | None,
    data: bytes,
    free: Any,
) -> None: ...


ARGUMENTS: dict[str, Any] = {
    "artifact": Artifact("a", 3),
    "many": [Item(1)],
    "by_name": {"a": Item(2)},
    "probe": Probe(1, 2),
    "box": Box(1, 2),
    "labels": {"title": "t"},
    "when": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    "wait": datetime.timedelta(seconds=90),
    "key": uuid.UUID(int=7),
    "speed": Speed.FAST,
    "some": {1, 2},
    "pair": (1, "b"),
    "share": 0.5,
    "quality": 3,
    "mode": "a",
    "row": Row(1, 2),
    "data": b"\x00\xff",
    "free": {"x": [1]},
}


def test_every_type_comes_back_as_it_was_declared() -> None:
    spec = typed.flow(**ARGUMENTS)
    stored = msgspec.msgpack.decode(spec.literals[0])
    assert typed.signature.arguments(stored) == ARGUMENTS


def test_an_int_becomes_a_float_where_one_is_declared() -> None:
    @stage
    def half(share: float) -> float:
        return share / 2

    share = half.signature.arguments({"share": 3})["share"]
    assert share == 3.0
    assert type(share) is float


def test_absent_arguments_with_a_default_are_left_to_the_function() -> None:
    assert encode.signature.arguments({"source": {"key": "a"}}) == {"source": Artifact("a")}


def test_unknown_and_missing_arguments_are_named() -> None:
    with pytest.raises(WrongArguments, match="'hight'"):
        encode.signature.arguments({"source": {"key": "a"}, "hight": 3})
    with pytest.raises(WrongArguments, match="lacks its argument 'source'"):
        encode.signature.arguments({"height": 3})


def test_an_argument_that_does_not_fit_is_named_with_its_type() -> None:
    with pytest.raises(InvalidValue, match=r"encode\.height is 'tall'; expected int"):
        encode.signature.arguments({"source": {"key": "a"}, "height": "tall"})
    with pytest.raises(InvalidValue, match=r"encode\.source .*Artifact"):
        encode.signature.arguments({"source": 3})


def test_a_literal_that_does_not_fit_is_refused_before_anything_is_written() -> None:
    for name, wrong in [("quality", 10), ("mode", "c"), ("many", [3]), ("share", "x"), ("quality", True), ("row", 3)]:
        with pytest.raises(InvalidValue, match=rf"typed\.{name}"):
            typed.flow(**(ARGUMENTS | {name: wrong}))


def test_results_are_packed_so_that_the_declared_type_can_be_read_again() -> None:
    published = Published(Artifact("v"), Artifact("c"), 1.5)
    packed = finalize.signature.packed_result(published)
    assert msgspec.msgpack.decode(packed, type=Published) == published


def test_a_result_of_another_type_is_refused() -> None:
    with pytest.raises(InvalidValue, match="result of encode is 3; expected Artifact"):
        encode.signature.packed_result(3)


def test_a_result_that_can_not_be_stored_is_refused_with_its_path() -> None:
    @stage
    def loose() -> Any: ...

    with pytest.raises(ValueNotStorable, match=r"loose: result\['a'\]\[1\] can't be stored: builtins.object"):
        loose.signature.packed_result({"a": [1, object()]})


def test_a_declared_result_that_can_not_be_stored_is_refused_at_the_first_use() -> None:
    @stage
    def where() -> dict[str, list[pathlib.Path]]:
        return {}

    @stage
    def either() -> Item | Published:
        return Item(1)

    with pytest.raises(DefinitionError, match=r"where\(\) returns pathlib\S*\.Path, which can't be stored"):
        where.flow()
    with pytest.raises(DefinitionError, match=r"either\(\) returns"):
        either.flow()


def test_a_parameter_that_only_tests_pass_may_have_any_type() -> None:
    @stage
    def fetch(url: str, session: pathlib.Path | None = None) -> str:
        return url

    assert msgspec.msgpack.decode(fetch.flow("u").literals[0]) == {"session": None, "url": "u"}
    with pytest.raises(ValueNotStorable, match=r"fetch: session can't be stored: pathlib\S*\.PosixPath: it is of no type"):
        fetch.flow("u", pathlib.Path("x"))


def test_an_annotation_without_a_meaning_at_run_time_is_named() -> None:
    def lost(url: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(DefinitionError, match=r"annotation of .*lost.*Nowhere"):
        stage(lost).flow("x")


def test_types_of_the_surrounding_function_are_understood() -> None:
    class Local(msgspec.Struct):
        n: int

    @stage
    def local(thing: Local) -> Local:
        return thing

    assert local.signature.arguments({"thing": {"n": 3}}) == {"thing": Local(3)}


class Plain:
    """Says nothing of itself: Python shows its address."""


@stage
def video() -> Published:
    return Published(Artifact("v"))


@pytest.mark.parametrize("value", [Plain(), [Plain()], lambda: None])
def test_a_wrong_result_is_shown_by_its_type_and_not_by_its_address(value: Any) -> None:
    with pytest.raises(InvalidValue, match="result of video is") as refusal:
        video.signature.packed_result(value)
    assert " at 0x" not in str(refusal.value)
    assert f"{type(value).__name__}" in str(refusal.value) or "Plain" in str(refusal.value)


def test_a_wrong_field_of_a_result_is_named() -> None:
    with pytest.raises(InvalidValue, match=r"expected Published \(Expected `str`, got `int` at video\.key\)"):
        video.signature.packed_result({"video": {"key": 5}})


def test_a_signature_is_shown_as_it_was_written() -> None:
    assert str(finalize.signature) == "(video: Artifact, captions: Artifact) -> Published"
    with pytest.raises(WrongArguments, match=r"it takes \(source: Artifact, height: int = 720\) -> Artifact"):
        encode.flow()  # type: ignore[call-arg]


def test_what_is_expected_is_said_once() -> None:
    @stage
    def encode_once(height: int) -> None: ...

    with pytest.raises(InvalidValue, match=r"encode_once\.height is 'tall'; expected int$"):
        encode_once.signature.check({"height": "tall"})
