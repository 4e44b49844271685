"""What is wrong with a stage, a pipeline or a graph; found before anything is written."""

from __future__ import annotations

from collections.abc import Sequence

from flowq.errors.root import FlowqError, shown


class DefinitionError(FlowqError):
    """The definition of a stage, pipeline or graph is wrong."""


class StageNameTaken(DefinitionError):
    """Two functions were given one stage name."""

    def __init__(self, name: str, first: str, second: str) -> None:
        super().__init__(
            f"stage name {name!r} is taken: {first} and {second} both use it",
            f"rename one of the functions, or give it a name of its own: @stage(name='{name}_2')",
        )


class FlowIsEmpty(DefinitionError):
    """A pipeline called no stage."""

    def __init__(self, pipeline: str) -> None:
        super().__init__(f"pipeline {pipeline!r} has no stages", "call at least one stage in its body")


class BodyFailed(DefinitionError):
    """A pipeline's own body raised an exception, which is the cause of this one."""

    def __init__(self, pipeline: str, error: Exception, where: str) -> None:
        super().__init__(
            f"the body of pipeline {pipeline!r} raised {shown(error, 300)} ({where})",
            "correct that line, or the inputs",
        )


class FlowHasCycle(DefinitionError):
    """The graph has a cycle; `path` is a shortest one, its first node repeated at its end."""

    def __init__(self, path: Sequence[str]) -> None:
        super().__init__(f"flow has a cycle: {' → '.join(path)}", "remove one of these edges")
        self.path = tuple(path)


class UnknownChild(DefinitionError):
    """A stage names a child that is no part of the graph."""

    def __init__(self, stage: str, child: object, nearest: str | None = None) -> None:
        remedy = f"did you mean {nearest!r}?" if nearest else "add it to the graph, or remove the reference"
        super().__init__(f"stage {stage!r} waits for {shown(child)}, which is no stage of this flow", remedy)


class ResultNotReady(DefinitionError):
    """A stage's result was used as a value while the pipeline's body was traced."""

    def __init__(self, promise: str, use: str, where: str) -> None:
        super().__init__(
            f"{promise} is unknown until its stage has run, so it can't be {use} ({where})",
            "pass it to a stage as it is, or move this line into a stage",
        )


class UnknownField(DefinitionError):
    """A part of a stage's result was named that its declared type does not have, or may not have."""

    def __init__(self, promise: str, field: str, where: str, remedy: str) -> None:
        super().__init__(f"{promise} has no declared part {field} ({where})", remedy)


class ResultDoesNotFit(DefinitionError):
    """A stage's result was put where a value of another type is declared, so that every flow would fail there."""

    def __init__(self, place: str, wanted: str, promise: str, given: str, where: str) -> None:
        super().__init__(
            f"{place} is declared as {wanted}, but {promise} gives {given} ({where})",
            "put another result there, or correct one of the two annotations",
        )


class ForeignPromise(DefinitionError):
    """A promise was used outside the run of the pipeline's body that made it."""

    def __init__(self, promise: str, used_by: str) -> None:
        super().__init__(
            f"{used_by} got {promise}, the promise of another run of a pipeline's body",
            "call the stage in the same body; promises can't be kept for later",
        )


class NotAFlow(DefinitionError):
    """`add` was given something that is no flow."""

    def __init__(self, value: object, remedy: str) -> None:
        super().__init__(f"{shown(value)} is no flow", remedy)


class ModuleNotLoaded(DefinitionError):
    """A module, or a name in it, could not be loaded."""
