"""`compensate=` and `finally_=`: what they take, what is refused, and what workers know of them."""

from __future__ import annotations

from typing import Any

import pytest

from flowq import Node, declare, pipeline, stage
from flowq.errors import DefinitionError, InvalidValue, ResultDoesNotFit
from flowq.hooks import FlowEnd
from flowq.model.plan import Hook
from flowq.pipeline.node_graph import spec_from_node


@stage(queue="undo", attempts=4, timeout="5s")
async def ph_undo(number: int, reason: str = "") -> None:
    """Undoes a number."""


@stage(compensate=ph_undo)
async def ph_do(number: int) -> int:
    """Can be undone."""
    return number


@stage
async def ph_text(text: str) -> str:
    """Takes text."""
    return text


@stage
async def ph_two(first: int, second: int) -> None:
    """Takes two things."""


@stage
async def ph_end(end: FlowEnd) -> None:
    """Takes an end."""


@pipeline(finally_=ph_end)
def ph_flow(number: int) -> int:
    return ph_do(number)


def test_a_plan_has_the_hooks_with_their_own_options() -> None:
    plan = ph_flow(1).plan
    (done,) = plan.stages
    assert done.compensate is not None
    assert (done.compensate.argument, done.compensate.stage.queue, done.compensate.stage.attempts) == ("number", "undo", 4)
    assert done.compensate.stage.timeout_ms == 5_000
    assert plan.finally_ == Hook(ph_end.template, "end")


def test_a_hook_may_have_other_options_than_its_stage() -> None:
    @stage(compensate=ph_undo.with_options(queue="slow"))
    async def ph_slowly(number: int) -> int:
        return number

    compensate = ph_slowly.with_options(queue="fast").flow(1).plan.stages[0].compensate
    assert compensate is not None
    assert (compensate.stage.queue, compensate.stage.stage) == ("slow", "ph_undo")


def test_hooks_have_no_hooks() -> None:
    @stage(compensate=ph_do)
    async def ph_twice(number: int) -> int:
        return number

    compensate = ph_twice.flow(1).plan.stages[0].compensate
    assert compensate is not None
    assert compensate.stage.compensate is None


def test_a_worker_of_a_pipeline_serves_its_hooks() -> None:
    assert [served.name for served in ph_flow.stages()] == ["ph_do", "ph_end", "ph_undo"]


def test_a_declared_stage_can_have_one() -> None:
    declared = declare("ph_declared", ph_do.fn, compensate=ph_undo)
    assert declared.flow(1).plan.stages[0].compensate == ph_do.flow(1).plan.stages[0].compensate


@pytest.mark.parametrize("wrong", [print, "ph_undo", ph_flow, ph_undo.fn])
def test_a_hook_is_a_stage(wrong: Any) -> None:
    with pytest.raises(InvalidValue, match="compensate"):
        stage(compensate=wrong)
    with pytest.raises(InvalidValue, match="finally_"):
        pipeline(finally_=wrong)(ph_flow.fn)


def test_a_hook_can_be_called_with_one_argument() -> None:
    @stage
    async def ph_nothing() -> None: ...

    for wrong in (ph_two, ph_nothing):
        with pytest.raises(DefinitionError, match="called with one argument"):
            stage(compensate=wrong)  # type: ignore[call-overload]  # pyright: ignore
        with pytest.raises(DefinitionError, match="called with one argument"):
            pipeline(finally_=wrong)(ph_flow.fn)  # type: ignore[call-overload]  # pyright: ignore


def test_a_compensation_takes_what_its_stage_gives() -> None:
    @stage(compensate=ph_text)
    async def ph_number() -> int:
        return 1

    @pipeline
    def ph_unfit() -> int:
        return ph_number()

    for make in (ph_unfit, ph_number.flow):
        with pytest.raises(ResultDoesNotFit, match=r"ph_text\.text is declared as str, but ph_number\(\) gives int"):
            make()


def test_a_stage_after_the_end_takes_an_end() -> None:
    @pipeline(finally_=ph_text)  # type: ignore[call-overload]  # pyright: ignore
    def ph_unfit() -> int:
        return ph_do(1)

    with pytest.raises(ResultDoesNotFit, match=r"ph_text\.text is declared as str, but the end of ph_unfit gives FlowEnd"):
        ph_unfit()


def test_what_can_be_undone_is_computed_for_each_flow() -> None:
    both = "stage 'ph_(once|do)' has both a cache and a compensation: .* leave out cache="
    with pytest.raises(DefinitionError, match=both):

        @stage(name="ph_once", cache="1d", compensate=ph_undo)
        async def ph_cached(number: int) -> int:
            return number

    with pytest.raises(DefinitionError, match=both):
        declare("ph_once", ph_do.fn, cache="1d", compensate=ph_undo)
    with pytest.raises(DefinitionError, match=both):
        ph_do.with_options(cache="1d")
    with pytest.raises(DefinitionError, match=both):
        spec_from_node(Node("ph_do", data={"number": 1}, cache="1d"))
    ph_do.with_options(cache=False).flow(1)
    ph_once = stage(name="ph_once", cache=False, compensate=ph_undo)(ph_text.fn)
    assert ph_once.options.compensate is not None
