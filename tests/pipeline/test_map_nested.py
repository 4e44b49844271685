"""Maps in nested pipelines, with the options that a plan's stage has besides."""

from __future__ import annotations

from flowq import limit, pipeline, stage
from flowq.pipeline import subflow


@stage
def split(video: str) -> list[str]:
    return [video]


@stage(limits=[limit("coder")], needs={"gpu": 1}, version="2", stall="5s")
def encode(chunk: str, height: int = 1) -> str:
    return chunk


@pipeline
def inner(video: str) -> list[str]:
    return encode.with_options(at_once=2).map(split(video), height=3)


@pipeline
def outer(video: str) -> tuple[list[str], list[str]]:
    return subflow(inner(video)), subflow(inner(video))


def test_a_map_in_a_nested_pipeline_keeps_its_options_and_its_items_are_found() -> None:
    plan = outer("a").plan
    assert [one.name for one in plan.stages] == ["inner.split", "inner.encode", "inner-2.split", "inner-2.encode"]
    mapped = plan.stages[3]
    assert (mapped.label, mapped.stall_ms, mapped.needs, mapped.limits[0].name) == ("encode@2", 5_000, (("gpu", 1),), "coder")
    assert mapped.mapping is not None
    assert mapped.mapping.at_once == 2
    item = plan.find("inner-2.encode[17]")
    assert item is not None
    assert plan.name_of(item) == "inner-2.encode[17]"
