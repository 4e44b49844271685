"""What a producer does with many flows at once: retries, cancels and removes them, and groups the failed ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Unpack

from msgspec import structs

from flowq.engine.client.bulk import DeadLetters, Deed, Pages, do_to_each
from flowq.engine.client.client import Client
from flowq.engine.client.foreseen import Foreseen
from flowq.engine.duties.removal import Remover
from flowq.errors import InvalidValue
from flowq.model.duration import Duration, to_ms
from flowq.model.filter import FilterOptions, FlowFilter
from flowq.model.names import parent_id
from flowq.model.release import ReleaseReport
from flowq.model.report import BulkReport, DeadGroup
from flowq.model.snapshot import FlowSummary
from flowq.model.states import FINAL
from flowq.model.timing import Deadline, deadline_of
from flowq.model.usage import Usage
from flowq.pipeline import Pipeline, Stage
from flowq.store.finder import Finder
from flowq.store.meters import Meters
from flowq.store.outlived import Doomed
from flowq.store.views import Views

_RETRIABLE = ("failed", "cancelled")


class ManyFlows(Client):
    """The part of `FlowProducer` that acts on many flows. What fails for one of them stands in the report, and the others go
    on; a call that was broken off may be made again, and goes on with the rest.
    """

    async def retry(
        self,
        *,
        state: str | None = None,
        dead: str | None = None,
        dry_run: bool = False,
        deadline: Deadline | None = None,
        **options: Unpack[FilterOptions],
    ) -> BulkReport:
        """Retries all flows that fit, each as `FlowHandle.retry` does.

        Args:
            state: `failed` or `cancelled`; None: those that failed.
            dead: only flows of this group of `dead()`, by its key.
            dry_run: change nothing, and tell what would be retried; its stages are then those that failed, of maps their items.
            deadline: how long from now each has, or until when; None: no deadline any more.
            options: which flows, as in `list`: see `FilterOptions`; one, or `state` or `dead`, must be given.

        Raises:
            InvalidValue: no flow can be so; or the state is another, or the deadline is none; or nothing was given, which would
                mean every flow that has failed.
        """
        deadline_of(deadline)
        if state is not None and state not in _RETRIABLE:
            raise InvalidValue("state", state, "'failed' or 'cancelled': in other flows there is nothing to retry")
        wanted = FlowFilter.checked(state=state, **options)
        if wanted.is_empty and dead is None:
            raise InvalidValue("filter", None, "what the flows to retry have in common, such as pipeline=…, cause=… or state=…")
        wanted = structs.replace(wanted, state=state or "failed")

        async def deed(flow: FlowSummary) -> int | None:
            return await self.flow(flow.id).retry(deadline=deadline) or None

        return await self._act("retry", wanted, deed, dead=dead, dry_run=dry_run)

    async def cancel(
        self,
        *,
        reason: str = "",
        state: str | None = None,
        dry_run: bool = False,
        **options: Unpack[FilterOptions],
    ) -> BulkReport:
        """Cancels all flows that fit and have not ended.

        Args:
            reason: why; shown by `inspect`.
            state: only those in this state.
            dry_run: change nothing, and tell what would be cancelled.
            options: which flows, as in `list`: see `FilterOptions`; one, or `state`, must be given.

        Raises:
            InvalidValue: no flow can be so; or nothing was given, which would mean every flow there is.
        """
        wanted = FlowFilter.checked(state=state, **options)
        if wanted.is_empty:
            raise InvalidValue("filter", None, "what the flows to cancel have in common, such as pipeline=…, tag=… or since_ms=…")
        if state in ("completed", "failed", "cancelled"):
            raise InvalidValue("state", state, "that of flows which have not ended")

        async def deed(flow: FlowSummary) -> int | None:
            return await _open_stages(flow) if await self.flow(flow.id).cancel(reason) else None

        return await self._act("cancel", structs.replace(wanted, is_live=True), deed, dry_run=dry_run)

    async def prune(
        self,
        *,
        older_than: Duration | None = None,
        state: str | None = None,
        dead: str | None = None,
        dry_run: bool = False,
        **options: Unpack[FilterOptions],
    ) -> BulkReport:
        """Removes ended flows that fit, before their retention is over; archives them first where the settings say so.

        Hooks go with their flow: of themselves they are only taken off the failed flows (`BulkReport.kept`). A flow stays until
        they have ended (`BulkReport.held`).

        Args:
            older_than: only those that ended so long ago.
            state: `completed`, `failed` or `cancelled`; None: all of them.
            dead: only flows of this group of `dead()`, by its key.
            dry_run: change nothing, and tell what would be removed.
            options: which flows, as in `list`: see `FilterOptions`.

        Raises:
            InvalidValue: no flow can be so; or nothing was given, which would mean every flow that has ended.
        """
        wanted = FlowFilter.checked(state=state, **options)
        if state is not None and state not in FINAL:
            raise InvalidValue("state", state, "'completed', 'failed' or 'cancelled': other flows are needed")
        if wanted.is_empty and older_than is None and dead is None:
            raise InvalidValue("filter", None, "what the flows to remove have in common, such as older_than=… or state=…")
        backend = self._open
        views = Views(backend.store)
        before = await views.now() - (0 if older_than is None else to_ms(older_than, "older_than"))
        remover = Remover(backend.store, lambda: backend.storage, backend.settings.keep)
        kept: list[str] = []
        held: list[str] = []

        async def deed(flow: FlowSummary) -> int | None:
            (known,) = await views.heads([flow.id])
            if known is None:
                return None
            entry = f"{known[0]}{flow.id}".encode()
            removed = await remover.remove(Doomed(backend.store.keys.tag_of(flow.id), before + 1, [entry]))
            if removed and parent_id(flow.id) and await views.exists(flow.id):
                kept.append(flow.id)
            if not removed and not parent_id(flow.id):
                (left,) = await views.heads([flow.id])
                if left is not None and 0 < left[1].ended_at <= before:  # only its hooks can have kept it
                    held.append(flow.id)
            return removed or None

        wanted = structs.replace(wanted, is_live=False, ended_before_ms=before + 1)
        report = await self._act("prune", wanted, deed, dead=dead, dry_run=dry_run)
        report.kept, report.held = kept, held
        return report

    async def dead(self, **options: Unpack[FilterOptions]) -> Sequence[DeadGroup]:
        """Failed flows, grouped by pipeline, the stage that failed first and its error, without ids and numbers; the largest
        group first. Flows stay here until they are retried or their retention is over.

        Args:
            options: which flows, as in `list`: see `FilterOptions`.

        Raises:
            InvalidValue: no flow can be so.
        """
        wanted = FlowFilter.checked(state="failed", **options)
        store = self._open.store
        return await DeadLetters(store, Views(store)).groups(wanted)

    async def usage(self, *, days: int = 30, pipeline: str | None = None, tenant: str | None = None) -> Sequence[Usage]:
        """What stages told with `context().usage(…)`, summed by day, pipeline and tenant, the latest day first.

        Sums are kept for 400 days, also of flows that were removed.

        Args:
            days: how many days back, today included; at most 400.
            pipeline, tenant: only what was used there.

        Raises:
            InvalidValue: a number or name is out of range.
        """
        if type(days) is not int or not 1 <= days <= 400:
            raise InvalidValue("days", days, "a whole number from 1 to 400")
        wanted = FlowFilter.checked(pipeline=pipeline, tenant=tenant)
        found = await Meters(self._open.store).usage(days)
        return [one for one in found if wanted.pipeline in (None, one.pipeline) and wanted.tenant in (None, one.tenant)]

    async def check(
        self, *, pipelines: Iterable[Pipeline[..., Any]] = (), stages: Iterable[Stage[..., Any]] = (), queues: Sequence[str] = ()
    ) -> ReleaseReport:
        """Compares what a release has with the flows in flight, and tells what its workers could not run.

        Args:
            pipelines: pipelines whose stages the workers will serve.
            stages: further stages.
            queues: the queues they will serve, if not each stage's own.

        Raises:
            StageNameTaken, DefinitionError, InvalidValue: as for `Worker`.
        """
        from flowq.engine.client.release_check import check_release
        from flowq.engine.code.serving import served_stages

        return await check_release(self._open.store, served_stages(pipelines, stages).values(), queues)

    # ── private ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _act(self, verb: str, wanted: FlowFilter, deed: Deed, *, dead: str | None = None, dry_run: bool) -> BulkReport:
        store = self._open.store
        views = Views(store)
        pages: Pages = Finder(store, views).each(wanted) if dead is None else DeadLetters(store, views).members(dead, wanted)
        foresee = {"retry": Foreseen(store, views).stages, "cancel": _open_stages, "prune": _no_stages}[verb]
        return await do_to_each(BulkReport(verb=verb, is_dry_run=dry_run), pages, deed, foresee)


async def _no_stages(_: FlowSummary) -> int:
    return 0


async def _open_stages(flow: FlowSummary) -> int:
    return flow.stages - flow.finished
