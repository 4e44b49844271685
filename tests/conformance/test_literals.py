"""Arguments that are written whole or in two parts, once for a flow and its first stage."""

from __future__ import annotations

import pytest

from flowq import FlowProducer, pipeline, stage
from tests.engine.work import working

pytestmark = pytest.mark.anyio


@stage
async def lit_back(text: str) -> str:
    return text


@pipeline
def lit_twice(text: str) -> list[str]:
    return [lit_back(text), lit_back(text + "!")]


# 64 and 128 bytes, packed with the name of the argument, are among them.
@pytest.mark.parametrize("length", [1, *range(54, 60), *range(116, 124), 400])
async def test_arguments_arrive_as_they_were_given(producer: FlowProducer, length: int) -> None:
    text = "x" * length
    flow, other = await producer.add(lit_back.flow(text)), await producer.add(lit_twice(text))
    async with working(producer, lit_back):
        assert await flow.result(30) == text
        assert await other.result(30) == [text, text + "!"]
    assert (await flow.inspect()).inputs == {"text": text}
    assert (await other.inspect()).inputs == {"text": text}


async def test_other_arguments_of_a_stage_leave_those_of_the_flow_as_they_were(producer: FlowProducer) -> None:
    flow = await producer.add(lit_back.flow("x" * 57))
    async with working(producer, lit_back):
        assert await flow.result(30) == "x" * 57
        for text in ("y" * 56, "y" * 100, "y"):
            await flow.retry(from_stage="lit_back", overrides={"text": text})
            assert await flow.result(30) == text
    assert (await flow.inspect()).inputs == {"text": "x" * 57}
