"""What a release would strand: stages of flows in flight that its workers could not run. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from flowq.model.builtin import BUILTIN_QUEUE
from flowq.model.plan import CONDITION, StagePlan

_EXAMPLES_MAX = 5


class Served(msgspec.Struct, frozen=True):
    """A stage as a release has it.

    Attributes:
        version: its version; "": none.
        queues: the queues that its workers serve it on.
        parameters: name → whether it must be given.
    """

    version: str
    queues: frozenset[str]
    parameters: Mapping[str, bool]


class Stranding(msgspec.Struct, kw_only=True):
    """Why stages of flows in flight could not be run.

    Attributes:
        pipeline: their pipeline.
        stage: the stage, as `encode` or `encode@2`.
        code: `stage` · `version` · `queue` · `parameters`.
        sentence: the same for people.
        flows: how many flows have such a stage before them.
        examples: ids of five of them.
    """

    pipeline: str
    stage: str
    code: str
    sentence: str
    flows: int = 0
    examples: list[str] = []


class ReleaseReport(msgspec.Struct, kw_only=True):
    """What a release means to the flows in flight.

    Attributes:
        flows: how many flows are in flight.
        stages: how many of their stages are still to run.
        strandings: what could not be run; empty: the release is safe.
    """

    flows: int = 0
    stages: int = 0
    strandings: list[Stranding] = []


class ReleaseCheck:
    """Compares stages of flows in flight with those that a release serves.

    Args:
        served: stage name → how the release has it.
    """

    def __init__(self, served: Mapping[str, Served]) -> None:
        self._served = served
        self._found: dict[tuple[str, str, str, str], Stranding] = {}
        self.flows = 0
        self.stages = 0

    def take(self, flow_id: str, pipeline: str, pending: Collection[tuple[StagePlan, Collection[str]]]) -> None:
        """Counts a flow in.

        Args:
            flow_id: its id.
            pipeline: its pipeline.
            pending: its stages that have not ended, each with the names of its literal arguments.
        """
        self.flows += 1
        self.stages += len(pending)
        problems = {(pipeline, stage.label, *problem) for stage, names in pending if (problem := self._problem(stage, names))}
        for key in problems:
            if key not in self._found:
                self._found[key] = Stranding(pipeline=key[0], stage=key[1], code=key[2], sentence=key[3])
            known = self._found[key]
            known.flows += 1
            if len(known.examples) < _EXAMPLES_MAX:
                known.examples.append(flow_id)

    @property
    def report(self) -> ReleaseReport:
        """What came out, the most flows first."""
        found = sorted(self._found.values(), key=lambda one: (-one.flows, one.pipeline, one.stage, one.code))
        return ReleaseReport(flows=self.flows, stages=self.stages, strandings=found)

    def _problem(self, stage: StagePlan, literals: Collection[str]) -> tuple[str, str] | None:
        if stage.queue == BUILTIN_QUEUE:
            return None  # every worker serves what flowq brings itself
        served = self._served.get(stage.stage)
        if served is None:
            return "stage", f"the release has no stage {stage.stage}"
        if served.version != stage.version:
            return "version", f"it needs {_version(stage.version)}, the release has {_version(served.version)}"
        if stage.queue not in served.queues:
            queues = ", ".join(sorted(served.queues))
            return "queue", f"it waits on queue {stage.queue}, the release serves it on {queues}"
        given = {str(binding.into[0]) for binding in stage.bindings} | set(literals)
        given.discard(CONDITION)
        unknown = sorted(given - served.parameters.keys())
        missing = sorted(name for name, is_required in served.parameters.items() if is_required and name not in given)
        if not unknown and not missing:
            return None
        parts = [f"its flow has no argument {', '.join(missing)}"] if missing else []
        parts += [f"the release takes no argument {', '.join(unknown)}"] if unknown else []
        return "parameters", "; ".join(parts)


def _version(version: str) -> str:
    return f"version {version}" if version else "no version"
