"""Maps in nested pipelines, with the options that a plan's stage has besides."""

from __future__ import annotations

from flowq import limit, pipeline, stage
from flowq.pipeline import subflow


@stage
def mn_split(video: str) -> list[str]:
    return [video]


@stage(limits=[limit("coder")], needs={"gpu": 1}, version="2", stall="5s")
def mn_encode(chunk: str, height: int = 1) -> str:
    return chunk


@pipeline
def mn_inner(video: str) -> list[str]:
    return mn_encode.with_options(at_once=2).map(mn_split(video), height=3)


@pipeline
def mn_outer(video: str) -> tuple[list[str], list[str]]:
    return subflow(mn_inner(video)), subflow(mn_inner(video))


def test_a_map_in_a_nested_pipeline_keeps_its_options_and_its_items_are_found() -> None:
    plan = mn_outer("a").plan
    names = ["mn_inner.mn_split", "mn_inner.mn_encode", "mn_inner-2.mn_split", "mn_inner-2.mn_encode"]
    assert [one.name for one in plan.stages] == names
    mapped = plan.stages[3]
    assert (mapped.label, mapped.stall_ms, mapped.needs, mapped.limits[0].name) == ("mn_encode@2", 5_000, (("gpu", 1),), "coder")
    assert mapped.mapping is not None
    assert mapped.mapping.at_once == 2
    item = plan.find("mn_inner-2.mn_encode[17]")
    assert item is not None
    assert plan.name_of(item) == "mn_inner-2.mn_encode[17]"
