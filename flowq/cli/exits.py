"""Exit codes, and the one table that says which error ends with which. The README and `flowq --help` print the same list."""

from __future__ import annotations

from typing import Final

from flowq import errors
from flowq.cli.usage import ArtifactNotFound, UsageError

OK: Final = 0
ERROR: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
UNREACHABLE: Final = 4
FLOW_FAILED: Final = 5
FLOW_CANCELLED: Final = 6
TIMEOUT: Final = 124
INTERRUPTED: Final = 130

MEANING: Final = {
    OK: "ok",
    ERROR: "error",
    USAGE: "wrong usage or value",
    NOT_FOUND: "no such flow, stage, artifact or schedule",
    UNREACHABLE: "server or storage unreachable, or it refused",
    FLOW_FAILED: "the flow failed",
    FLOW_CANCELLED: "the flow was cancelled",
    TIMEOUT: "timeout",
    INTERRUPTED: "interrupted",
}

# The first class that an error is an instance of decides, so special cases stand before their bases.
_CODE_OF: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (UsageError, USAGE),
    (ArtifactNotFound, NOT_FOUND),
    (errors.FlowFailed, FLOW_FAILED),
    (errors.FlowCancelled, FLOW_CANCELLED),
    (errors.FlowTimedOut, TIMEOUT),
    (errors.FlowNotFound, NOT_FOUND),
    (errors.StageNotFound, NOT_FOUND),
    (errors.ScheduleNotFound, NOT_FOUND),
    (errors.ArtifactMissing, NOT_FOUND),
    (errors.AmbiguousFlowId, USAGE),
    (errors.InvalidValue, USAGE),
    (errors.DefinitionError, USAGE),
    (errors.ValueNotStorable, USAGE),
    (errors.ValueTooLarge, USAGE),
    (errors.ArtifactNameInvalid, USAGE),
    (errors.CorruptState, ERROR),
    (errors.ArtifactCorrupt, ERROR),
    (errors.ArtifactMisused, ERROR),
    (errors.ArtifactNameTaken, ERROR),
    (errors.ArtifactNotWritten, ERROR),
    (errors.ServerError, UNREACHABLE),
    (errors.StorageError, UNREACHABLE),
    (errors.EmbeddedError, UNREACHABLE),
    (KeyboardInterrupt, INTERRUPTED),
)

# How the state that a flow ended in becomes the exit code of `watch` and `submit --wait`.
OF_STATE: Final = {"completed": OK, "failed": FLOW_FAILED, "cancelled": FLOW_CANCELLED}


def code_of(error: BaseException) -> int:
    """The exit code for an error."""
    return next((code for kind, code in _CODE_OF if isinstance(error, kind)), ERROR)
