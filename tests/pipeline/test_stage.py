"""`@stage`: options, calls outside a body, one-stage flows and overrides."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any, cast

import msgspec
import pytest

from flowq.errors import DefinitionError, InvalidValue, WrongArguments
from flowq.model.artifact import Artifact
from flowq.model.retry import Backoff
from flowq.pipeline import declare, stage
from tests.pipeline.short_video import download, encode, finalize, note


def test_a_stage_keeps_its_function_name_and_documentation() -> None:
    @stage
    def documented(text: str) -> str:
        """Says it again."""
        return text

    assert documented.name == "documented"
    assert documented.__doc__ == "Says it again."
    assert documented.fn("x") == "x"
    assert str(inspect.signature(documented)) == "(text: 'str') -> 'str'"


def test_options_are_kept_in_milliseconds_and_words() -> None:
    assert download.options.queue == "network"
    assert download.options.attempts == 5
    assert download.options.timeout_ms == 600_000
    assert download.options.backoff == Backoff.exponential("2s", max="5m")
    assert encode.options.isolation == "thread"


def test_options_default_to_one_attempt_in_the_default_queue() -> None:
    assert finalize.options == stage(lambda_like).options
    assert (finalize.options.queue, finalize.options.attempts, finalize.options.timeout_ms) == ("default", 1, None)


def lambda_like() -> None: ...


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("attempts", value) for value in (0, -1, 101, 10**9, 1.5, "3", True, float("nan"))],
        *[("timeout", value) for value in (0, -1, "soon", float("inf"), "9000d", True)],
        *[("priority", value) for value in (1.5, "1", True, 10**7)],
        *[("queue", value) for value in ("", " ", "a{b}", "a" * 129, 3, "é", "a\nb", "*")],
        *[("isolation", value) for value in ("fork", "", 1)],
        ("backoff", "2s"),
        ("name", ""),
        ("name", "a b"),
        ("name", "../x"),
    ],
)
def test_an_option_out_of_range_is_refused_by_name(option: str, value: object) -> None:
    options: dict[str, Any] = {option: value}
    with pytest.raises(InvalidValue, match=option):
        stage(**options)(lambda_like)


def test_an_option_that_there_is_none_of_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="a stage has no option retries; it has queue, attempts"):
        cast("Any", stage)(retries=3)
    with pytest.raises(TypeError, match="a stage has no option retry_on; it has queue, attempts"):
        cast("Any", declare)("optionless", lambda: None, retry_on=OSError)


def test_a_lambda_needs_a_name() -> None:
    with pytest.raises(InvalidValue, match="stage name is '<lambda>'"):
        stage(lambda: None)


def test_an_async_function_is_a_stage_that_says_so() -> None:
    assert download.is_async
    assert not encode.is_async


def test_outside_a_body_a_stage_runs_its_function() -> None:
    assert encode(Artifact("a"), height=3) == Artifact("3.mp4")
    assert asyncio.run(_await(download("x"))) == Artifact("downloaded/x")


async def _await(coroutine: Any) -> Any:
    return await coroutine


def test_what_is_no_plain_function_is_refused() -> None:
    class Encoder:
        def run(self) -> None: ...

    def numbers() -> Any:
        yield 1

    async def events() -> Any:
        yield 1

    for wrong, why in [
        (numbers, "generator"),
        (events, "generator"),
        (Encoder.run, "method"),
        (Encoder, "not of a type"),
        (print, "not of a builtin"),
        (download, "stage already"),
    ]:
        with pytest.raises(DefinitionError, match=why):
            stage(wrong)  # type: ignore[arg-type]


def test_parameters_that_have_no_name_of_their_own_are_refused() -> None:
    def star(*sources: str) -> None: ...
    def double_star(**names: str) -> None: ...
    def positional(source: str, /) -> None: ...

    for wrong in (star, double_star, positional):
        with pytest.raises(DefinitionError, match="can't be passed by name"):
            stage(wrong)


def test_a_stage_is_a_flow_of_its_own() -> None:
    spec = encode.flow(Artifact("a"), height=480)
    assert spec.plan.pipeline == "encode"
    assert [planned.name for planned in spec.plan.stages] == ["encode"]
    assert spec.result_type is Artifact
    assert msgspec.msgpack.decode(spec.literals[0])["height"] == 480
    assert spec.inputs == spec.literals[0]
    assert spec.plan is encode.flow(Artifact("b")).plan


def test_the_arguments_of_a_flow_are_checked() -> None:
    with pytest.raises(InvalidValue, match=r"download\.url is 3"):
        download.flow(3)  # type: ignore[arg-type]
    with pytest.raises(WrongArguments, match=r"download\(\) lacks its argument 'url'; it takes \(url"):
        download.flow()  # type: ignore[call-arg]
    with pytest.raises(WrongArguments, match=r"'hight'.*did you mean 'height'"):
        encode.flow(Artifact("a"), hight=3)  # type: ignore[call-arg]
    with pytest.raises(WrongArguments, match="by position"):
        note.flow("a", "b")  # type: ignore[call-arg]
    with pytest.raises(WrongArguments, match="'text' twice"):
        note.flow("a", text="b")  # type: ignore[misc]


def test_with_options_overrides_at_one_call_only() -> None:
    small = encode.with_options(name="encode-480", queue="slow", attempts=3, priority=2, timeout="1m", backoff=Backoff.none())
    planned = small.flow(Artifact("a")).plan.stages[0]
    assert (planned.name, planned.stage, planned.queue, planned.attempts) == ("encode-480", "encode", "slow", 3)
    assert (planned.priority, planned.timeout_ms, planned.backoff) == (2, 60_000, Backoff.none())
    assert encode.flow(Artifact("a")).plan.stages[0].name == "encode"


def test_with_options_keeps_what_is_not_given() -> None:
    assert download.with_options(priority=1).options.queue == "network"
    assert download.with_options(priority=1).with_options(attempts=2).options.priority == 1


def test_with_options_checks_like_the_decorator() -> None:
    with pytest.raises(InvalidValue, match="attempts"):
        encode.with_options(attempts=0)
    with pytest.raises(InvalidValue, match="stage name"):
        encode.with_options(name="a b")
    for wrong in ("download", 3):
        with pytest.raises(InvalidValue, match="after"):
            encode.with_options(after=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="after of encode"):
        encode.with_options(after=["download"]).flow(Artifact("a"))
