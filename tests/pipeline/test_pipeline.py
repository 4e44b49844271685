"""`@pipeline`: what a body becomes: stages, edges, literals, inputs and the shape of the result."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import pytest

from flowq.errors import BodyFailed, DefinitionError, FlowIsEmpty, InvalidValue, WrongArguments
from flowq.model.artifact import Artifact
from flowq.model.plan import Binding
from flowq.model.values import fill
from flowq.pipeline import pipeline
from flowq.pipeline.stage import Stage
from tests.pipeline.short_video import (
    Published,
    box,
    download,
    encode,
    finalize,
    join,
    publish,
    short_video,
    split,
    store,
    transcribe,
)

decode = msgspec.msgpack.decode


def test_the_documented_pipeline_becomes_the_documented_graph() -> None:
    spec = short_video("https://a")
    shape = [(planned.name, planned.queue, planned.children, planned.parents) for planned in spec.plan.stages]
    assert shape == [
        ("download", "network", (), (1, 2)),
        ("encode", "cpu", (0,), (3,)),
        ("transcribe", "gpu", (0,), (3,)),
        ("finalize", "default", (1, 2), ()),
    ]
    assert spec.plan.stages[3].bindings == (Binding(("video",), 1), Binding(("captions",), 2))
    assert spec.plan.output == (Binding((), 3),)
    assert spec.output_literal is None
    assert spec.result_type is Published


def test_literals_are_kept_beside_the_plan_and_defaults_are_bound_at_submit() -> None:
    spec = short_video("https://a")
    assert {index: decode(data) for index, data in spec.literals.items()} == {0: {"url": "https://a"}, 1: {"height": 720}}
    assert decode(spec.inputs) == {"height": 720, "url": "https://a"}
    assert spec.fingerprint == short_video(url="https://a", height=720).fingerprint
    assert spec.fingerprint != short_video("https://a", height=480).fingerprint


def test_flows_of_one_shape_share_one_plan() -> None:
    assert short_video("a").plan is short_video("b", height=3).plan
    assert short_video("a").plan.digest == short_video("b").plan.digest


def test_bodies_that_take_another_shape_get_another_plan() -> None:
    @pipeline
    def heights(url: str, wanted: list[int]) -> list[Artifact]:
        source = download(url)
        return [encode(source, height=height) for height in wanted]

    three, two = heights("u", [1, 2, 3]), heights("u", [1, 2])
    assert [planned.name for planned in three.plan.stages] == ["download", "encode", "encode-2", "encode-3"]
    assert len(two.plan.stages) == 3
    assert heights("v", [7, 8, 9]).plan is three.plan
    for count in range(200):
        heights("u", [1] * (count + 1))
    assert heights("u", [1, 2, 3]).plan == three.plan


def test_names_by_the_author_and_by_count_do_not_collide() -> None:
    @pipeline
    def named(url: str) -> Artifact:
        source = download(url)
        encode(source)
        encode.with_options(name="encode-480")(source, height=480)
        encode(source)
        encode.with_options(name="encode-3")(source)
        encode(source)
        return encode.with_options(name="encode-480")(source)

    names = [planned.name for planned in named("u").plan.stages]
    assert names == ["download", "encode", "encode-480", "encode-2", "encode-3", "encode-4", "encode-480-2"]


def test_after_orders_without_passing_a_result() -> None:
    @pipeline
    def ordered(url: str) -> Artifact:
        source = download(url)
        published = store([1])
        return encode.with_options(after=[published, source])(source)

    planned = ordered("u").plan.stages[2]
    assert planned.children == (0, 1)
    assert [binding.child for binding in planned.bindings] == [0]


def test_promises_inside_containers_leave_holes_that_results_fill() -> None:
    @pipeline
    def nested(url: str) -> Any:
        source = download(url)
        first, second = encode(source), encode(source, height=480)
        join([first, second], names={"a": "b"})
        publish(Published(video=first, captions=second, seconds=3.0))
        return store({"videos": [first, {"small": (second, 1)}], "size": source.size, "title": "x"})

    spec = nested("u")
    stored = decode(spec.literals[5])
    assert stored == {"value": {"videos": [None, {"small": [None, 1]}], "size": None, "title": "x"}}
    results = {0: {"size": 9}, 1: "first", 2: "second"}
    filled = fill(stored, spec.plan.stages[5].bindings, results)
    assert filled == {"value": {"videos": ["first", {"small": ["second", 1]}], "size": 9, "title": "x"}}
    assert decode(spec.literals[3]) == {"sources": [None, None], "names": {"a": "b"}}
    published = spec.plan.stages[4]
    assert [binding.into for binding in published.bindings] == [("published", "video"), ("published", "captions")]
    assert decode(spec.literals[4])["published"]["seconds"] == 3.0


def test_a_pipeline_returns_a_promise_a_part_a_container_a_struct_or_nothing() -> None:
    def spec_of(body: Any) -> Any:
        @pipeline
        def returning() -> Any:
            return body(download("u"))

        return returning()

    def result_of(spec: Any) -> Any:
        literal = None if spec.output_literal is None else decode(spec.output_literal)
        return fill(literal, spec.plan.output, {0: {"key": "k", "size": 9}})

    assert result_of(spec_of(lambda p: p)) == {"key": "k", "size": 9}
    assert result_of(spec_of(lambda p: p.size)) == 9
    assert result_of(spec_of(lambda p: (p.size, "x", [p.key]))) == [9, "x", ["k"]]
    assert result_of(spec_of(lambda p: {"a": {"b": p.key}})) == {"a": {"b": "k"}}
    assert result_of(spec_of(lambda p: Published(video=p)))["video"] == {"key": "k", "size": 9}
    assert result_of(spec_of(lambda p: None)) is None
    assert spec_of(lambda p: None).output_literal == b"\xc0"
    assert result_of(spec_of(lambda p: 42)) == 42


def test_a_pipeline_without_stages_is_refused() -> None:
    @pipeline
    def nothing(url: str) -> str:
        return url

    with pytest.raises(FlowIsEmpty, match="pipeline 'nothing' has no stages"):
        nothing("u")


def test_parameters_are_checked_converted_and_named() -> None:
    class Order(msgspec.Struct):
        url: str
        heights: list[int] = []

    seen: list[Any] = []

    @pipeline
    def ordered(order: Order, share: float = 1) -> Artifact:
        seen.append(order)
        return download(order.url)

    plain: Any = {"url": "u"}
    assert ordered(plain).fingerprint == ordered(Order("u")).fingerprint
    assert seen == [Order("u"), Order("u")]
    with pytest.raises(InvalidValue, match=r"ordered\.order .*Order"):
        ordered({"url": 3})  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match=r"short_video\.height is '720'; expected int"):
        short_video("u", height="720")  # type: ignore[arg-type]
    with pytest.raises(WrongArguments, match=r"short_video\(\) lacks its argument 'url'"):
        short_video()  # type: ignore[call-arg]
    with pytest.raises(WrongArguments, match="did you mean 'height'"):
        short_video("u", hieght=3)  # type: ignore[call-arg]


def test_a_body_that_is_async_or_no_function_is_refused() -> None:
    async def waits() -> None: ...

    def yields() -> Any:
        yield 1

    for wrong, why in [(waits, "is async"), (yields, "generator"), (download, "is a stage"), (3, "not of a int")]:
        with pytest.raises(DefinitionError, match=why):
            pipeline(wrong)  # type: ignore[arg-type]


def test_a_pipeline_may_have_a_name_of_its_own() -> None:
    @pipeline(name="short.v2")
    def short() -> Artifact:
        return download("u")

    assert short.name == short().plan.pipeline == "short.v2"
    with pytest.raises(InvalidValue, match="pipeline name"):
        pipeline(name="a b")(short.fn)


def test_a_pipeline_or_a_flow_inside_a_body_is_refused() -> None:
    @pipeline
    def outer() -> Any:
        return short_video("u")

    @pipeline
    def other() -> Any:
        return download.flow("u")

    with pytest.raises(DefinitionError, match="pipeline 'short_video' was called in the body of pipeline 'outer'"):
        outer()
    with pytest.raises(DefinitionError, match=r"download\.flow\(\) was called in the body"):
        other()

    spec = short_video("u")

    @pipeline
    def passing() -> Any:
        return store(spec)

    with pytest.raises(Exception, match="a flow can't be an argument"):
        passing()


def test_a_body_that_raises_leaves_nothing_behind() -> None:
    @pipeline
    def broken() -> Artifact:
        download("u")
        raise LookupError("mine")

    with pytest.raises(BodyFailed, match="mine"):
        broken()
    assert encode(Artifact("a")).key == "720.mp4"


def test_bodies_in_two_threads_do_not_see_each_other() -> None:
    inside, outside = threading.Event(), threading.Event()

    @pipeline
    def waiting() -> Artifact:
        source = download("u")
        inside.set()
        outside.wait(10)
        return source

    specs: list[Any] = []
    thread = threading.Thread(target=lambda: specs.append(waiting()))
    thread.start()
    inside.wait(10)
    assert encode(Artifact("a")).key == "720.mp4"
    outside.set()
    thread.join()
    assert len(specs[0].plan.stages) == 1


def test_a_chain_of_ten_thousand_and_a_fan_of_ten_thousand_are_planned() -> None:
    @pipeline
    def chain(length: int) -> Artifact:
        source = download("u")
        for _ in range(length):
            source = transcribe(source)
        return source

    @pipeline
    def fan(width: int) -> Artifact:
        source = download("u")
        return join([encode(source, height=height) for height in range(width)])

    assert len(chain(10_000).plan.stages) == 10_001
    wide = fan(10_000).plan
    assert len(wide.stages[-1].children) == 10_000
    assert len(wide.stages[0].parents) == 10_000
    assert wide.stages[-2].name == "encode-10000"


def test_the_same_definition_gives_the_same_digest_in_every_run() -> None:
    @pipeline
    def fixed(url: str) -> Any:
        left, right = split(download(url))
        return store({"b": left, "a": right, "c": box(left).left})

    assert fixed("u").plan.digest == fixed("v").plan.digest
    again = pipeline(fixed.fn)("w")
    assert again.plan.digest == fixed("u").plan.digest


def test_stages_of_a_flow_keep_the_order_of_calls() -> None:
    assert [planned.name for planned in short_video("u").plan.stages] == ["download", "encode", "transcribe", "finalize"]
    assert all(isinstance(found, Stage) for found in short_video.stages())
    assert finalize in short_video.stages()
