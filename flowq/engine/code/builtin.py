"""The code of the stages that flowq brings itself. Every worker serves them."""

from __future__ import annotations

from typing import Any, Final

from flowq.engine.run.context import context
from flowq.engine.run.waits import NO_DEFAULT
from flowq.errors import InvalidValue
from flowq.model.builtin import BUILTIN_QUEUE, SIGNAL_STAGE
from flowq.model.schema import misfit
from flowq.pipeline.options import StageOptions
from flowq.pipeline.stage import AnyStage, Stage


async def _await_signal(name: str, schema: dict[str, Any] | None, timeout_ms: int | None, default: list[Any]) -> Any:
    def read(value: Any) -> Any:
        if schema is not None and (reason := misfit(value, schema)):
            raise InvalidValue(f"signal {name}", value, reason.removeprefix("expected "))
        return value

    return await context().await_signal(name, read, timeout_ms, default[0] if default else NO_DEFAULT)


BUILTIN_STAGES: Final[tuple[AnyStage, ...]] = (Stage(_await_signal, SIGNAL_STAGE, StageOptions(queue=BUILTIN_QUEUE)),)
