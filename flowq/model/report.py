"""What was done to many flows at once, or would be: `BulkReport`; and failed flows by what made them fail: `DeadGroup`. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

import msgspec

from flowq.model.snapshot import FlowSummary

# Enough to see what is meant; the counts are of all.
SHOWN_MAX = 1_000
_SAMPLES_MAX = 5
# A process that crashes too often: see `engine.policy`.
_POISONED = "Poisoned"

# What differs between two failures of one cause: ids, numbers, hashes, quoted names, paths.
_VARYING = (
    (re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b"), "<id>"),
    (re.compile(r"\b(?:0x)?(?=[0-9a-fA-F]*[0-9])[0-9a-fA-F]{8,}\b"), "<id>"),
    (re.compile(r"\b(?=\w*[0-9])(?=\w*[A-Za-z])\w{12,}\b"), "<id>"),
    (re.compile(r"\d+(?:\.\d+)*"), "<n>"),
)


class BulkError(msgspec.Struct, frozen=True):
    """A flow to which it could not be done.

    Attributes:
        id: the flow's id.
        error: why, as `ErrorType: text`.
    """

    id: str
    error: str


class BulkReport(msgspec.Struct, kw_only=True):
    """What was done to many flows, or, in a dry run, would be.

    Attributes:
        verb: `retry`, `cancel` or `prune`.
        is_dry_run: whether nothing was changed.
        matched: how many flows fitted.
        done: to how many of them it was done; in a dry run 0.
        kept: of these, ids of flows of hooks that a `prune` only took off the failed flows: they go with their flow.
        held: ids of flows that a `prune` left, because what runs after their end has not ended; counted in `unchanged`.
        unchanged: for how many there was nothing to do any more: somebody else was faster.
        stages: how many stages run again (`retry`), or have not ended (`cancel`).
        errors: where it failed; the others went on.
        flows: the flows that fitted, as they were before; at most 1,000 of them.
        by_pipeline: pipeline → how many.
        by_cause: normalised root cause → how many; of failed flows only.
    """

    verb: str
    is_dry_run: bool = False
    matched: int = 0
    done: int = 0
    kept: list[str] = []
    held: list[str] = []
    unchanged: int = 0
    stages: int = 0
    errors: list[BulkError] = []
    flows: list[FlowSummary] = []
    by_pipeline: dict[str, int] = {}
    by_cause: dict[str, int] = {}

    def note(self, flow: FlowSummary) -> None:
        """Counts a flow that fits."""
        self.matched += 1
        if len(self.flows) < SHOWN_MAX:
            self.flows.append(flow)
        self.by_pipeline[flow.pipeline] = self.by_pipeline.get(flow.pipeline, 0) + 1
        if flow.cause:
            cause = normalised(flow.cause)
            if cause in self.by_cause or len(self.by_cause) < SHOWN_MAX:
                self.by_cause[cause] = self.by_cause.get(cause, 0) + 1


class DeadGroup(msgspec.Struct, kw_only=True):
    """Failed flows of one pipeline in which one stage failed for one cause.

    Attributes:
        key: names the group: the same for the same cause, pipeline and stage, always.
        pipeline: the pipeline.
        stage: the stage that failed first.
        cause: `ErrorType: first line`, ids and numbers left out.
        count: how many flows.
        is_poisoned: whether the stage ended its process so often that it is not run any more.
        first_at, last_at: when the first and the last of these flows ended, milliseconds since 1970.
        example: the cause of the latest, as it was.
        flows: ids of the latest five.
    """

    key: str
    pipeline: str
    stage: str
    cause: str
    count: int = 0
    is_poisoned: bool = False
    first_at: int = 0
    last_at: int = 0
    example: str = ""
    flows: list[str] = []

    def take(self, flow: FlowSummary) -> None:
        """Counts a flow in."""
        at = flow.ended_at or flow.created_at
        self.count += 1
        self.first_at = min(self.first_at or at, at)
        if at >= self.last_at:
            self.last_at, self.example = at, flow.cause
            self.flows = [flow.id, *self.flows][:_SAMPLES_MAX]
        elif len(self.flows) < _SAMPLES_MAX:
            self.flows.append(flow.id)


def normalised(cause: str) -> str:
    """A cause without what differs from flow to flow: `HTTP 503 for clip 17` → `HTTP <n> for clip <n>`."""
    for pattern, word in _VARYING:
        cause = pattern.sub(word, cause)
    return cause


def group_key(pipeline: str, stage: str, cause: str) -> str:
    """Eight characters that name a group."""
    return hashlib.sha256("\0".join((pipeline, stage, normalised(cause))).encode()).hexdigest()[:8]


def grouped(failed: Iterable[tuple[FlowSummary, str]], groups: dict[str, DeadGroup]) -> None:
    """Sorts failed flows, each with the name of the stage that failed first, into `groups`."""
    for flow, stage in failed:
        key = group_key(flow.pipeline, stage, flow.cause)
        known = groups.get(key)
        if known is None:
            is_poisoned = flow.cause.partition(":")[0] == _POISONED
            cause = normalised(flow.cause)
            known = groups[key] = DeadGroup(
                key=key, pipeline=flow.pipeline, stage=stage, cause=cause, is_poisoned=is_poisoned
            )  # fmt: skip
        known.take(flow)
