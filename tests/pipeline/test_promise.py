"""Promises: what may be done with a result that is not there yet, and what is refused with its line."""

from __future__ import annotations

import copy
import math
import operator
import os
import pickle
import random
from collections.abc import Callable
from typing import Any

import pytest

from flowq.errors import DefinitionError, ForeignPromise, ResultNotReady, UnknownField
from flowq.model.artifact import Artifact
from flowq.pipeline import pipeline
from tests.pipeline import short_video
from tests.pipeline.short_video import anything, box, download, encode, labels, note, parts, probe, row, sparse, split, store

# Wrong wiring that checkers would refuse, too.
any_probe: Any = probe
any_labels: Any = labels
any_split: Any = split
any_maybe: Any = short_video.maybe


def _traced(body: Callable[[Any], object]) -> Any:
    """Runs `body` with a promise of download() inside a pipeline, and returns the flow."""

    @pipeline
    def tried() -> Any:
        body(download("u"))

    return tried()


USES: dict[str, Callable[[Any], object]] = {
    "truth": lambda p: bool(p),
    "if": lambda p: 1 if p else 2,
    "not": lambda p: not p,
    "==": lambda p: p == 3,
    "!=": lambda p: p != 3,
    "<": lambda p: p < 3,
    "> reflected": lambda p: operator.gt(3, p),
    ">=": lambda p: p >= 3,
    "in": lambda p: 3 in p,
    "in list": lambda p: p in [1, 2],
    "iteration": lambda p: list(p),
    "unpacking": lambda p: [*p],
    "len": len,
    "str": str,
    "f-string": lambda p: f"{p}",
    "f-string with format": lambda p: f"{p:>10}",
    "percent": lambda p: "%s" % p,  # noqa: UP031
    "format": lambda p: "{}".format(p),  # noqa: UP032
    "join": lambda p: ",".join(p),
    "bytes": bytes,
    "path": os.fspath,
    "int": int,
    "float": float,
    "round": round,
    "ceil": math.ceil,
    "index": lambda p: [1, 2][p],
    "add": lambda p: p + 1,
    "reflected add": lambda p: 1 + p,
    "in-place add": lambda p: operator.iadd(p, 1),
    "negate": lambda p: -p,
    "abs": abs,
    "divide": lambda p: 10 / p,
    "or": lambda p: p | 1,
    "hash": hash,
    "set": lambda p: {p},
    "dict key": lambda p: {p: 1},
    "call": lambda p: p(),
    "item": lambda p: p[0],
    "slice": lambda p: p[1:],
    "set item": lambda p: operator.setitem(p, 0, 1),
    "set attribute": lambda p: setattr(p, "size", 1),
    "delete attribute": lambda p: delattr(p, "size"),
    "isinstance": lambda p: isinstance(p, Artifact),
    "match": lambda p: _matched(p),
    "with": lambda p: p.__enter__(),
    "await": lambda p: p.__await__(),
    "async for": lambda p: p.__aiter__(),
    "pickle": pickle.dumps,
    "reversed": reversed,
}


def _matched(promise: Any) -> int:
    match promise:
        case Artifact():
            return 1
        case _:
            return 2


@pytest.mark.parametrize("use", USES)
def test_a_promise_used_as_a_value_is_refused_with_file_and_line(use: str) -> None:
    with pytest.raises(ResultNotReady) as refused:
        _traced(USES[use])
    message = str(refused.value)
    assert message.startswith("download() is unknown until its stage has run, so it can't be ")
    assert "(test_promise.py:" in message
    assert "move this line into a stage" in message


def test_the_line_is_that_of_the_author_not_of_the_library() -> None:
    line = test_the_line_is_that_of_the_author_not_of_the_library.__code__.co_firstlineno + 3
    with pytest.raises(ResultNotReady, match=rf"test_promise\.py:{line}\)"):
        _traced(lambda p: f"{p}")


def test_a_promise_may_be_named_in_messages_and_copied() -> None:
    @pipeline
    def tried() -> Any:
        source = download("u")
        assert repr(source) == "<flowq promise of download()>"
        assert copy.deepcopy([source])[0] is source
        assert not hasattr(source, "__array__")
        return store([copy.copy(source)])

    assert tried().plan.stages[1].bindings[0].into == ("value", 0)


def test_declared_fields_are_taken_by_their_place_in_storage() -> None:
    @pipeline
    def fields() -> Any:
        source = download("u")
        taken = [
            source.size,
            probe(source).height,
            probe(source).width,
            box(source).right,
            row(source).height,
            labels(source)["title"],
        ]
        return store(taken)

    takes = [binding.take for binding in fields().plan.stages[-1].bindings]
    # A NamedTuple is stored as a list, a tagged list-like Struct has its tag first.
    assert takes == [("size",), ("height",), ("width",), (1,), (2,), ("title",)]


def test_fields_of_fields_and_renamed_fields_are_taken() -> None:
    from tests.pipeline.short_video import finalize

    @pipeline
    def nested() -> Any:
        source = download("u")
        done = finalize(source, source)
        return store([done.video.key, done.seconds])

    assert [binding.take for binding in nested().plan.stages[-1].bindings] == [("video", "key"), ("seconds",)]


def test_a_tuple_result_can_be_unpacked_and_indexed() -> None:
    @pipeline
    def unpacked() -> Any:
        cut, frames = split(download("u"))
        pair = split(cut)
        assert len(pair) == 2
        store([frames, pair[-1], pair[0].key])
        left, right = box(cut)
        return store([left, right])

    stages = unpacked().plan.stages
    assert [binding.take for binding in stages[3].bindings] == [(1,), (1,), (0, "key")]
    assert [binding.take for binding in stages[5].bindings] == [(0,), (1,)]


@pytest.mark.parametrize(
    ("body", "problem", "remedy"),
    [
        (lambda p: p.sise, r"download\(\) has no declared part 'sise' \(test_promise", "did you mean 'size'"),
        (lambda p: p.local(), "'local'", "methods and properties work inside stages only"),
        (lambda p: p.name, "'name'", "methods and properties"),
        (lambda p: any_probe(p).fps, r"probe\(\) has no declared part 'fps'", "Probe declares width, height, audio"),
        (lambda p: anything(p).size, "'size'", "its declared type is Any"),
        (lambda p: any_maybe(p).video, "'video'", r"it is .*Published \| None"),
        (lambda p: sparse(p).size, "'size'", "omit_defaults"),
        (lambda p: any_labels(p)["language"], r"\['language'\]", "not required"),
        (lambda p: any_labels(p)["titel"], r"\['titel'\]", "did you mean 'title'"),
        (lambda p: any_labels(p).title, "'title'", "its declared type is Labels"),
        (lambda p: any_split(p)[2], r"split\(\) has no declared part \[2\]", "tuple"),
    ],
)
def test_a_part_that_is_not_declared_is_refused_with_advice(body: Callable[[Any], object], problem: str, remedy: str) -> None:
    with pytest.raises(UnknownField, match=rf"{problem}.*{remedy}"):
        _traced(body)


def test_a_list_has_no_known_items() -> None:
    for use in (lambda p: parts(p)[0], lambda p: list(parts(p)), lambda p: len(parts(p))):
        with pytest.raises(ResultNotReady, match=r"parts\(\)"):
            _traced(use)


def test_text_made_from_a_promise_is_refused_even_through_repr() -> None:
    for made in (lambda p: f"{p!r}", lambda p: [{"a": "x %r" % p}], lambda p: str([p])):  # noqa: UP031
        with pytest.raises(ResultNotReady, match=r"written into the text of store\.value \(test_promise"):
            _traced(lambda p, made=made: store(made(p)))
    with pytest.raises(ResultNotReady, match=r"note\.text"):
        _traced(lambda p: note(repr(p)))


def test_a_promise_of_another_run_is_refused() -> None:
    kept: list[Any] = []

    @pipeline
    def keeper() -> Any:
        kept.append(download("u"))
        return kept[-1]

    @pipeline
    def thief() -> Any:
        return encode(kept[0])

    keeper()
    for use in (thief, lambda: encode.flow(kept[0]), lambda: _traced(lambda p: store([kept[0]]))):
        with pytest.raises(ForeignPromise, match=r"download\(\)"):
            use()
    with pytest.raises(ForeignPromise):
        _traced(lambda p: encode.with_options(after=[kept[0]])(p))
    keeper()
    with pytest.raises(DefinitionError):
        _second_run_returns(kept[0])


def _second_run_returns(promise: Any) -> Any:
    @pipeline
    def returns() -> Any:
        download("u")
        return {"a": promise}

    return returns()


def test_the_line_that_is_named_is_never_one_of_a_library() -> None:
    @pipeline
    def runs_a_promise() -> Any:
        return random.choice(anything(download("u")))

    with pytest.raises(ResultNotReady, match=rf"\(test_promise\.py:{runs_a_promise.fn.__code__.co_firstlineno + 2}\)"):
        runs_a_promise()
