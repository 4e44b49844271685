"""Pipelines inside pipelines: the stages of the inner one are stages of the outer flow."""

from __future__ import annotations

import msgspec
import pytest

from flowq import FlowProducer, StageFailure, Unrecoverable, Worker, context, pipeline, stage, tolerate
from flowq.errors import DefinitionError, FlowFailed, FlowIsEmpty, ForeignPromise, InvalidValue, ResultDoesNotFit
from flowq.model.spec import FlowSpec
from flowq.pipeline import subflow
from tests.conformance.scene import broken
from tests.engine.work import working

pytestmark = pytest.mark.anyio


class Video(msgspec.Struct):
    name: str
    height: int = 0


@stage
async def cn_fetch(url: str) -> Video:
    return Video(url)


@stage
async def cn_scale(video: Video, height: int) -> Video:
    if context().stage in broken:
        raise Unrecoverable("no such size")
    return Video(video.name, height)


@stage
async def cn_heights(videos: list[Video | StageFailure]) -> list[int]:
    return [0 if isinstance(video, StageFailure) else video.height for video in videos]


@pipeline
def cn_ladder(video: Video, heights: list[int]) -> list[int]:
    return cn_heights([tolerate(cn_scale(video, height)) for height in heights])


@pipeline
def cn_pair(video: Video) -> tuple[Video, Video]:
    return cn_scale(video, 1), cn_scale(video, 2)


@pipeline
def cn_outer(url: str) -> tuple[list[int], list[int]]:
    video = cn_fetch(url)
    return subflow(cn_ladder(video, [360, 720])), subflow(cn_ladder(video, [480]))


@pipeline
def cn_twice_nested(url: str) -> int:
    one, _ = subflow(cn_through(url))
    return cn_scale(one, 9).height


@pipeline
def cn_through(url: str) -> tuple[Video, Video]:
    return subflow(cn_pair(cn_fetch(url)))


@pipeline(fail_fast=True)
def cn_fast(url: str) -> Video:
    return cn_fetch(url)


async def test_the_stages_of_a_nested_pipeline_are_stages_of_the_flow(producer: FlowProducer) -> None:
    async with working(producer, cn_fetch, cn_scale, cn_heights):
        flow = await producer.add(cn_outer("u"))
        assert await flow.result(30) == ([360, 720], [480])
    assert [stage.name for stage in (await flow.inspect()).graph] == [
        "cn_fetch", "cn_ladder.cn_scale", "cn_ladder.cn_scale-2", "cn_ladder.cn_heights",
        "cn_ladder-2.cn_scale", "cn_ladder-2.cn_heights",
    ]  # fmt: skip


async def test_what_the_inner_pipeline_tolerates_the_outer_flow_tolerates(producer: FlowProducer) -> None:
    broken.add("cn_ladder.cn_scale-2")
    async with working(producer, cn_fetch, cn_scale, cn_heights):
        assert await (await producer.add(cn_outer("u"))).result(30) == ([360, 0], [480])


async def test_nested_pipelines_nest(producer: FlowProducer) -> None:
    spec = cn_twice_nested("u")
    assert [stage.name for stage in spec.plan.stages][1] == "cn_through.cn_pair.cn_scale"
    async with working(producer, cn_fetch, cn_scale):
        assert await (await producer.add(spec)).result(30) == 9


async def test_a_worker_of_the_outer_pipeline_serves_the_inner_ones(producer: FlowProducer) -> None:
    assert {"cn_fetch", "cn_scale"} == {stage.name for stage in cn_twice_nested.stages()}
    with pytest.raises(InvalidValue):
        Worker(pipelines=[cn_pair("u")])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]


async def test_a_failure_inside_fails_the_flow_under_the_inner_name(producer: FlowProducer) -> None:
    broken.add("cn_pair.cn_scale")

    @pipeline
    def cn_one(url: str) -> Video:
        return subflow(cn_pair(cn_fetch(url)))[0]

    async with working(producer, cn_fetch, cn_scale):
        with pytest.raises(FlowFailed, match=r"cn_pair\.cn_scale"):
            await (await producer.add(cn_one("u"))).result(30)


def test_what_can_not_be_kept_or_makes_no_sense_is_refused() -> None:
    made_outside = cn_pair(Video("u"))
    kept: list[FlowSpec[tuple[Video, Video]]] = []

    @pipeline
    def cn_of_a_fast_one(url: str) -> Video:
        return subflow(cn_fast(url))

    @pipeline
    def cn_forgets(url: str) -> Video:
        kept.append(cn_pair(cn_fetch(url)))
        return cn_fetch(url)

    @pipeline
    def cn_keeps(url: str) -> Video:
        cn_fetch(url)
        return subflow(kept[0])[0]

    @pipeline
    def cn_foreign(url: str) -> Video:
        return subflow(made_outside)[0]

    @pipeline
    def cn_misfit(url: str) -> Video:
        return subflow(cn_pair(cn_heights([cn_fetch(url)])))[0]  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    @pipeline
    def cn_empty() -> None: ...

    @pipeline
    def cn_of_an_empty_one(url: str) -> Video:
        subflow(cn_empty())
        return cn_fetch(url)

    for wrong, error, said in (
        (cn_of_a_fast_one, DefinitionError, "fails fast, and 'cn_of_a_fast_one'"),
        (cn_forgets, DefinitionError, "nest it: subflow"),
        (cn_keeps, ForeignPromise, "the flow of cn_pair"),
        (cn_foreign, InvalidValue, "a pipeline's call in this body"),
        (cn_misfit, ResultDoesNotFit, "cn_pair.video is declared as Video"),
        (cn_of_an_empty_one, FlowIsEmpty, "'cn_empty' has no stages"),
    ):
        with pytest.raises(error, match=said):
            wrong("u")
    with pytest.raises(DefinitionError, match="outside a pipeline's body"):
        subflow(made_outside)


def test_a_fast_pipeline_nests_in_a_fast_one() -> None:
    @pipeline(fail_fast=True)
    def cn_all_fast(url: str) -> Video:
        return subflow(cn_fast(url))

    assert cn_all_fast("u").plan.fail_fast
