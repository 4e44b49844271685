"""Stages with a cache: before one runs it is asked for what its function has made of the same inputs; afterwards it is kept.

One of those who ask at once computes, the others are put back until it has ended. Who computes is noted by the stage, not by the
process: what became of it stands in its own flow, so a mark that a dead process left behind means nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import msgspec

from flowq.artifacts.spill import is_spilled, unspill
from flowq.artifacts.storage import Storage, check_size
from flowq.engine.run.stage_run import RunKey
from flowq.errors import ArtifactCorrupt, ArtifactMissing, ArtifactNameInvalid, FlowqError, StorageError
from flowq.model.artifact import Artifact
from flowq.model.failure import unpacked
from flowq.model.items import stage_of
from flowq.model.memo import Known, Mark, MemoSource, artifacts_in, memo_digest, plain_bytes
from flowq.model.names import spawned_id
from flowq.model.outcome import Claim, Complete, Delay, Fail, Outcome, Release, Reuse, Skip, opaque
from flowq.model.plan import StagePlan
from flowq.pipeline.code import code_digest
from flowq.pipeline.stage import AnyStage
from flowq.store.memos import Asking, hasten, hasten_if_over, look_at, memorize, recall, standing_of
from flowq.store.store import Store

log = logging.getLogger("flowq.engine")

# How soon a stage that waits looks again by itself, should nobody hasten it: as long as a lease.
_LOOK_AGAIN_MS = 15_000
# How often it is looked whether those whose results stages wait for still compute, and at how many of them.
LOOK_SECONDS, _LOOKED_AT_MAX = 1.0, 50
# What is known may turn out void again and again only while others write the same memo.
_QUESTIONS_MAX = 5
# How long the end of a process waits for memos that are being written.
_LAST_SECONDS = 2.0

_pack = msgspec.msgpack.Encoder().encode
_artifacts = msgspec.msgpack.Decoder(tuple[Artifact, ...])
_VOID = (ArtifactMissing, ArtifactCorrupt, ArtifactNameInvalid, msgspec.DecodeError)


class Ended(Protocol):
    """What of a plan the end of a stage needs."""

    def releases(self, index: int) -> msgspec.Raw: ...
    def bearers(self, index: int) -> tuple[msgspec.Raw, bool]: ...


class Reuser:
    """Finds and keeps results of stages with a cache, for one executor.

    Args:
        store: where memos are.
        storage: where artifacts are: what a memo names must still be there.
    """

    def __init__(self, store: Store, storage: Storage | None) -> None:
        self._store = store
        self._storage = storage
        self._asking: dict[RunKey, tuple[Asking, Mark | None]] = {}
        # Who computes → who was put back here for it, the latest last.
        self._waited_for: dict[Mark, Asking] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def outcome(
        self, claim: Claim, stage: StagePlan, function: AnyStage, inputs: dict[str, Any], plan: Ended
    ) -> Outcome | None:
        """What becomes of a claimed stage without running it; None: it is to run.

        Args:
            claim: the claim.
            stage: the stage, or item.
            function: its function.
            inputs: its arguments as plain data.
            plan: for what its end releases.
        """
        standing = await standing_of(self._store, claim)
        # They used no attempt, and none of the retries that cost none.
        claim.suspensions += standing.looks
        code = code_digest(function.fn, function.name, function.options.version)
        digest = memo_digest(function.name, function.options.version, code, inputs)
        asking = Asking(digest, stage.cache_ms, Mark(claim.flow_id, claim.index, standing.run, stage.name), standing.is_fresh)
        found = None if standing.is_fresh else await self._found_if_reachable(asking)
        if isinstance(found, Mark) and claim.flow_id.startswith(spawned_id(found.flow_id, found.stage, "")):
            found = None  # that one waits for this flow: they would wait for each other
        self._asking[claim.run] = asking, found if isinstance(found, Mark) else None
        if isinstance(found, Mark):
            return Delay(*claim.run, _LOOK_AGAIN_MS, found.flow_id, found.stage)
        if found is None:
            return None
        del self._asking[claim.run]
        index = stage_of(claim.index)
        made_by, result, artifacts = found.made_by, opaque(found.result), opaque(found.artifacts)
        done = (*claim.run, result, artifacts, plan.releases(index))
        tolerant, is_tolerated = plan.bearers(index)
        return Reuse(*done, tolerant, is_tolerated, made_by.flow_id, made_by.stage)

    def after(self, claim: Claim, outcome: Outcome | None) -> Callable[[], None] | None:
        """What is to be done when this outcome of a run was accepted, None: it was cancelled; None: nothing."""
        asking, mark = self._asking.pop(claim.run, (None, None))
        if asking is None:
            return None
        match outcome:
            case Delay() if mark is not None:
                return lambda: self._wait_for(mark, asking)
            case Skip():
                work = memorize, None
            case Complete():
                source = _pack(MemoSource(claim.flow_id, asking.mark.stage, str(claim.token)))
                work = memorize, Known(plain_bytes(outcome.result), plain_bytes(outcome.artifacts), source)
            case None | Fail() | Release():
                work = memorize, None
            case _:  # it will be tried again, and still is who computes
                return None
        step, what = work
        return lambda: self._begin(step(self._store, asking, what))  # type: ignore[arg-type]

    async def run_once(self) -> None:
        """One look at those that others wait for: one that was cancelled while it was suspended, say, tells nobody."""
        for mark in list(self._waited_for):
            if await look_at(self._store, mark) is not True and (asking := self._waited_for.pop(mark, None)):
                await hasten(self._store, [asking.member])

    async def settle(self) -> None:
        """Waits for what is being written, for a moment: what is lost now costs a run later."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_SECONDS)

    def _wait_for(self, mark: Mark, asking: Asking) -> None:
        self._waited_for.pop(mark, None)
        self._waited_for[mark] = asking
        if len(self._waited_for) > _LOOKED_AT_MAX:  # who is left out looks by itself, later
            del self._waited_for[next(iter(self._waited_for))]
        self._begin(hasten_if_over(self._store, asking, mark))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(_quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _found_if_reachable(self, asking: Asking) -> Known | Mark | None:
        try:
            return await self._found(asking)
        except StorageError as error:  # whether its objects are there can't be told: it is not used, nor thrown away
            log.info("an earlier result is not used: %s", error)
            return None

    async def _found(self, asking: Asking) -> Known | Mark | None:
        void = b""
        for _ in range(_QUESTIONS_MAX):
            answer = await recall(self._store, asking, void)
            if answer is None:
                return None
            if isinstance(answer, Known):
                if await self._stands(answer):
                    return answer
                void = answer.source
                continue
            seen = await look_at(self._store, answer)
            if seen is True:
                return answer
            if isinstance(seen, Known) and await self._stands(seen):
                # It has ended this moment, or its process did before it could keep this.
                await memorize(self._store, msgspec.structs.replace(asking, mark=answer), seen)
                return seen
            void = _pack(answer)
        return None

    async def _stands(self, known: Known) -> bool:
        """Whether all that an earlier result names is still in the storage."""
        try:
            known.made_by  # noqa: B018  it can be read
            if not (known.artifacts or is_spilled(known.result) or any(artifacts_in(unpacked(known.result)))):
                return True
            if self._storage is None:
                return False
            await self._storage.in_thread(_refuse_missing, self._storage, known)
        except _VOID as flaw:
            log.info("an earlier result can't be used any more: %s", flaw)
            return False
        return True


def _refuse_missing(storage: Storage, known: Known) -> None:
    """Raises ArtifactMissing or ArtifactCorrupt."""
    named = list(artifacts_in(unpacked(unspill(storage, known.result))))
    if known.artifacts:
        named += _artifacts.decode(known.artifacts)
    for artifact in {artifact.key: artifact for artifact in named}.values():
        check_size(artifact, storage.stat(artifact))


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except FlowqError as error:
        log.info("a result was not kept for other flows: %s", error)
