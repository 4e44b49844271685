"""What `stage.map(…)` refuses before anything is written, and what it does outside a body."""

from __future__ import annotations

from typing import Any

import pytest

from flowq import pipeline, stage, succeeded, tolerate
from flowq.errors import (
    BodyFailed,
    DefinitionError,
    InvalidValue,
    ResultDoesNotFit,
    ResultNotReady,
    ValueTooLarge,
    WrongArguments,
)
from flowq.model.items import Mapped


@stage
def pm_text() -> str:
    return "a"


@stage
def pm_texts() -> list[str]:
    return ["a"]


@stage
def pm_twice(number: int, factor: int = 2) -> int:
    return number * factor


@stage
def pm_nothing() -> int:
    return 1


@stage
def pm_named(*, number: int) -> int:
    return number


@stage
def pm_sum(numbers: list[int]) -> int:
    return sum(numbers)


def body(wire: Any) -> Any:
    """The flow of a pipeline with this body."""

    @pipeline
    def pm_any() -> Any:
        return wire()

    return pm_any()


def test_a_map_is_one_stage_of_the_plan_and_knows_its_argument() -> None:
    (mapped, total) = body(lambda: pm_sum(pm_twice.with_options(at_once=5, need="any").map([1, 2], factor=3))).plan.stages
    assert mapped.mapping == Mapped("number", 5, 1)
    assert (mapped.parents, total.children, total.mapping) == ((1,), (0,), None)


def test_bounds_and_conditions_go_together_in_either_order() -> None:
    one = body(lambda: pm_twice.with_options(at_once=5).when(False).with_options(need=2).map([1]))
    other = body(lambda: pm_twice.when(False).with_options(need=2, at_once=5).map([1]))
    assert one.plan == other.plan


def test_outside_a_body_the_function_runs_for_each_element() -> None:
    assert pm_twice.map([1, 2, 3], factor=5) == [5, 10, 15]


@pytest.mark.parametrize("wrong", [0, -1, True, 1_000_000, "2"])
def test_a_bound_is_a_positive_number(wrong: Any) -> None:
    with pytest.raises(InvalidValue, match="at_once"):
        pm_twice.with_options(at_once=wrong)
    with pytest.raises(InvalidValue, match="need"):
        pm_twice.with_options(need=wrong)


def test_bounds_are_for_maps_only() -> None:
    with pytest.raises(DefinitionError, match="without map"):
        body(lambda: pm_twice.with_options(at_once=2)(1))
    with pytest.raises(DefinitionError, match="without map"):
        pm_twice.with_options(need="any").flow(1)


@pytest.mark.parametrize("unmappable", [pm_nothing, pm_named])
def test_a_stage_without_a_first_argument_has_no_place_for_an_element(unmappable: Any) -> None:
    with pytest.raises(DefinitionError, match="can't be mapped"):
        body(lambda: unmappable.map([1]))


def test_elements_must_be_what_the_stage_takes() -> None:
    with pytest.raises(InvalidValue, match=r"pm_twice\.number"):
        body(lambda: pm_twice.map([1, "two"]))  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ResultDoesNotFit, match="list"):
        body(lambda: pm_twice.map(pm_text()))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(WrongArguments, match="twice"):
        body(lambda: pm_twice.map([1], number=2))  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with pytest.raises(ValueTooLarge):
        body(lambda: pm_twice.map(list(range(100_000))))


def test_the_result_of_a_map_is_a_list_that_is_not_there_yet() -> None:
    with pytest.raises(ResultNotReady):
        body(lambda: pm_twice.map([1])[0])
    with pytest.raises(ResultDoesNotFit):
        body(lambda: pm_twice(pm_twice.map([1])))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ResultDoesNotFit):
        body(lambda: pm_sum(tolerate(pm_twice.map([1]))))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_succeeded_takes_a_map_but_no_other_promise() -> None:
    (binding,) = body(lambda: pm_sum(succeeded(pm_twice.map([1])))).plan.stages[1].bindings
    assert binding.on_failure == "items"
    with pytest.raises(InvalidValue, match="map"):
        body(lambda: pm_sum(succeeded(pm_texts())))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("items", [5, None, object()])
def test_what_has_no_elements_is_refused_with_the_name_of_the_stage(items: Any) -> None:
    with pytest.raises(InvalidValue, match=r"what pm_twice is mapped over is .*expected a list, or the result of a stage"):
        body(lambda: pm_twice.map(items))


def test_what_an_iterator_raises_is_not_taken_for_a_missing_list() -> None:
    def broken() -> Any:
        yield 1
        raise TypeError("of its own")

    with pytest.raises(BodyFailed, match="of its own"):
        body(lambda: pm_twice.map(broken()))
