"""What a worker serves: which stages, on which queues, and by which routes."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any, cast

from flowq.engine.code.builtin import BUILTIN_STAGES
from flowq.errors import DefinitionError, InvalidValue, StageNameTaken
from flowq.model.builtin import BUILTIN_QUEUE
from flowq.pipeline import Pipeline, Stage
from flowq.pipeline.stage import AnyStage

log = logging.getLogger("flowq.engine")

_NAMED_MAX = 10
_BUILTIN_NAMES = frozenset(stage.name for stage in BUILTIN_STAGES)


def served_stages(pipelines: Iterable[Pipeline[..., Any]], stages: Iterable[Stage[..., Any]]) -> dict[str, AnyStage]:
    """The stages of pipelines, and single ones, by name; those whose code is elsewhere are left out.

    Raises:
        StageNameTaken: two of them have one name.
        DefinitionError: there is none.
    """
    served: dict[str, AnyStage] = {}
    given = (*(stage for pipeline in pipelines for stage in pipeline.stages()), *stages)
    for stage in (*given, *(stage.compensation for stage in given)):
        if stage is None or stage.is_declared:
            continue
        known = served.setdefault(stage.name, stage)
        if known.fn is not stage.fn:
            raise StageNameTaken(stage.name, known.signature.where, stage.signature.where)
    if not served:
        raise DefinitionError("there is no stage to run", "give pipelines=[…] or stages=[…] whose code is here")
    return served | {stage.name: stage for stage in BUILTIN_STAGES}


def listed(field: str, given: object, kind: type[Any]) -> list[Any]:
    """What was given as a list of pipelines or stages, or InvalidValue that names `field`."""
    found = list(cast("Iterable[object]", given)) if isinstance(given, Iterable) else [given]
    wrong = [one for one in found if not isinstance(one, kind)]
    if wrong or not isinstance(given, Iterable):
        raise InvalidValue(
            field, wrong[0] if wrong else cast("object", given), f"a list of functions decorated with @{kind.__name__.lower()}"
        )
    return found


def own_queues(stages: Iterable[AnyStage]) -> tuple[str, ...]:
    """The queues that stages are on where no call moves them."""
    return tuple(sorted({stage.options.queue for stage in stages} - {BUILTIN_QUEUE}))


def announce(name: str, stages: Collection[str], queues: Iterable[str], own: Collection[str]) -> None:
    """Logs what a worker serves. A queue that none of its stages is on (`own`) may be misspelt; or calls move stages there."""
    stages = [stage for stage in stages if stage not in _BUILTIN_NAMES]
    queues = sorted({*queues} - {BUILTIN_QUEUE})
    named = ", ".join(sorted(stages)) if len(stages) <= _NAMED_MAX else f"{len(stages)} stages"
    log.info("worker %s serves %s; queues: %s", name, named, ", ".join(queues))
    if unused := [queue for queue in queues if queue not in own]:
        log.warning(
            "no stage is on queue %s but by with_options(queue=…) in a call; the stages are on: %s",
            ", ".join(unused), ", ".join(own),
        )  # fmt: skip


def routes_of(stages: Iterable[AnyStage], queues: Mapping[str, int | None] | None) -> dict[str, list[str]]:
    """Queue → the routes a worker serves: every stage on its own queue, or on each of `queues`, because a call may move it."""
    routes: dict[str, list[str]] = {}
    for stage in stages:
        own = {stage.options.queue}
        for queue in queues if queues and own != {BUILTIN_QUEUE} else own:
            routes.setdefault(queue, []).append(f"{queue}:{stage.label}")
    return routes


def labels_of(stages: Mapping[str, AnyStage]) -> tuple[str, ...]:
    """The stages as a worker announces them, with their versions."""
    return tuple(stage.label for stage in stages.values())


def limited_queues(queues: Mapping[str, int | None] | None) -> list[str]:
    """The queues that have a limit of their own."""
    return [queue for queue, count in (queues or {}).items() if count is not None]
