"""Which results can never be which arguments: never said of what a worker would take."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import msgspec
import pytest

from flowq.errors import BodyFailed, InvalidValue, ResultDoesNotFit
from flowq.model.artifact import Artifact
from flowq.pipeline import pipeline, stage
from flowq.pipeline.fit import can_never_be
from tests.pipeline.short_video import Published, download, encode, finalize, probe, store


class Captions(msgspec.Struct):
    text: str


class Titled(msgspec.Struct, rename={"text": "key"}):
    text: str
    title: str = ""


class Subtitled(Captions):
    language: str = ""


class Tagged(msgspec.Struct, tag="tagged"):
    text: str


class Typed(msgspec.Struct):
    type: str


class Pair(msgspec.Struct, array_like=True):
    left: str


class Place(NamedTuple):
    left: str


class Named(TypedDict):
    key: str


@dataclasses.dataclass
class Clip:
    key: str
    text: str = ""


@dataclasses.dataclass
class Nothing: ...


class Colour(enum.Enum):
    RED = "red"


SAMPLES: list[tuple[Any, list[Any]]] = [
    (type(None), [None]),
    (bool, [True]),
    (int, [1, -1]),
    (float, [1.5, 1.0, 1]),
    (str, ["red", "YQ==", "2026-01-01T00:00:00", ""]),
    (bytes, [b"a", "YQ=="]),
    (list[int], [[], [1]]),
    (tuple[str, ...], [(), ("a",)]),
    (set[str], [{"a"}]),
    (dict[str, str], [{}, {"key": "a", "text": "b", "type": "tagged", "left": "c"}]),
    (Captions, [Captions("a"), {"text": "a"}]),
    (Titled, [Titled("a")]),
    (Subtitled, [Subtitled("a")]),
    (Tagged, [Tagged("a")]),
    (Typed, [Typed("a"), Typed("tagged")]),
    (Pair, [Pair("a")]),
    (Place, [Place("a")]),
    (Named, [{"key": "a"}]),
    (Clip, [Clip("a")]),
    (Nothing, [Nothing()]),
    (Artifact, [Artifact("a")]),
    (Colour, [Colour.RED]),
    (Literal["red"], ["red"]),
    (datetime.datetime, [datetime.datetime(2026, 1, 1)]),
    (int | None, [1, None]),
    (Annotated[int, msgspec.Meta(gt=0)], [1]),
    (Sequence[int], [[1]]),
    (object, [1, "a"]),
]
TYPES = [annotation for annotation, _ in SAMPLES]


@pytest.mark.parametrize("wanted", TYPES, ids=str)
def test_what_a_worker_would_take_is_never_refused(wanted: Any) -> None:
    for given, values in SAMPLES:
        for value in values:
            assert msgspec.convert(value, given) is not None or value is None
            stored = msgspec.msgpack.decode(msgspec.msgpack.encode(value))
            try:
                msgspec.convert(stored, wanted)
            except msgspec.ValidationError:
                continue
            assert not can_never_be(given, wanted), f"{value!r} of {given} is taken as {wanted}"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (Artifact, Captions), (Captions, Artifact), (Artifact, str), (str, Artifact), (list[Artifact], Artifact), (int, str),
        (type(None), int), (dict[str, int], list[int]), (Pair, Captions), (Annotated[int, "seconds"], Annotated[str, "name"]),
        (Nothing, int),
    ],
)  # fmt: skip
def test_what_no_worker_would_take_is_told_apart(given: Any, wanted: Any) -> None:
    assert can_never_be(given, wanted)


@stage
def caption(source: Artifact) -> Captions:
    return Captions("")


def test_a_result_of_a_wrong_type_is_refused_where_it_is_wired() -> None:
    @pipeline
    def wired_wrong() -> Published:
        source = download("u")
        return finalize(encode(source), caption(source))  # type: ignore[arg-type]

    with pytest.raises(ResultDoesNotFit, match=r"^finalize\.captions is declared as Artifact") as refusal:
        wired_wrong()
    assert f"caption() gives Captions (test_fit.py:{wired_wrong.fn.__code__.co_firstlineno + 3})" in refusal.value.problem


def test_a_part_of_a_result_is_looked_at_too() -> None:
    @pipeline
    def wired_wrong() -> Any:
        return encode(probe(download("u")).width)  # type: ignore[arg-type]

    with pytest.raises(ResultDoesNotFit, match=r"encode\.source is declared as Artifact, but probe\(\)\.width gives int"):
        wired_wrong()


def test_a_pipeline_that_returns_another_type_than_it_declares_is_refused() -> None:
    @pipeline
    def declares_captions() -> Captions:
        return download("u")  # type: ignore[return-value]

    @pipeline
    def forgets_return(url: str) -> Artifact:  # type: ignore[empty-body]
        download(url)

    @pipeline
    def returns_a_record() -> Captions:
        download("u")
        return Captions("here")

    with pytest.raises(ResultDoesNotFit, match=r"result of declares_captions is declared as Captions.*declares_captions\)"):
        declares_captions()
    with pytest.raises(InvalidValue, match="result of forgets_return is None; expected Artifact"):
        forgets_return("u")
    assert returns_a_record().output_literal is not None


def _half(number: str) -> int:
    return int(number, 10) // 2


def test_an_error_of_the_body_names_the_pipeline_and_the_line_and_is_chained() -> None:
    @pipeline
    def looks_up(settings: dict[str, int]) -> Any:
        return store(settings["height"])

    @pipeline
    def calls_a_helper() -> Any:
        return store(sorted([_half("nine")]))

    @pipeline
    def reads_json() -> Any:
        return store(msgspec.json.decode(b"{") or download("u"))

    with pytest.raises(BodyFailed) as refusal:
        looks_up({})
    line = looks_up.fn.__code__.co_firstlineno + 2
    assert refusal.value.problem == f"the body of pipeline 'looks_up' raised KeyError('height') (test_fit.py:{line})"
    assert isinstance(refusal.value.__cause__, KeyError)
    with pytest.raises(BodyFailed, match=rf"ValueError.*test_fit\.py:{_half.__code__.co_firstlineno + 1}"):
        calls_a_helper()
    with pytest.raises(BodyFailed, match=rf"DecodeError.*test_fit\.py:{reads_json.fn.__code__.co_firstlineno + 2}"):
        reads_json()
