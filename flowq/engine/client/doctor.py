"""`flowq doctor`: is everything that flowq relies on as it must be? Each check is small and gives one finding."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from flowq.engine.backend import Backend
from flowq.errors import FlowNotFound, FlowqError, masked
from flowq.model.finding import Finding
from flowq.model.schedule import problem_of
from flowq.store.addresses import named
from flowq.store.schedules import Schedules
from flowq.store.snapshots import Snapshots
from flowq.store.views import Views

_CLOCK_SKEW_MS_MAX = 5_000
_MEMORY_SHARE_WARN = 0.8
# The newest in each partition: enough to see a queue that nobody serves.
_FLOWS_LOOKED_AT = 20
# Why stages wait that no worker would ever take.
_UNSERVED = ("no_worker", "no_room")
_TOLD_MAX = 5


async def examine(backend: Backend) -> list[Finding]:
    """All findings. A server that can't be used at all was refused when the backend was opened."""
    findings: list[Finding] = []
    checks: list[Callable[[Backend], Awaitable[Finding]]] = [
        _server,
        *((_nodes,) if backend.info.is_cluster else ()),
        _persistence,
        _memory,
        _clock,
        _rights,
        _functions,
        _workers,
        _queues,
        _schedules,
        _storage,
    ]
    for check in checks:
        try:
            findings.append(await check(backend))
        except FlowqError as error:
            findings.append(Finding(check.__name__.strip("_"), "fail", error.problem, error.remedy))
    return findings


async def _server(backend: Backend) -> Finding:
    info = backend.info
    several = f" on {info.nodes} nodes" if info.is_cluster else ""
    return Finding(
        "server",
        "ok",
        f"{info.product} {info.version}{several} at {masked(backend.settings.url)}, never evicts, {info.clients} connections",
    )


async def _nodes(backend: Backend) -> Finding:
    connection, tags = backend.store.connection, backend.store.partitions
    counts = Counter({named(server.host): 0 for server in await connection.servers()})
    counts.update([named((await connection.server_of(tag)).host) for tag in tags])
    spread = f"{len(tags)} partitions: " + ", ".join(f"{count} at {node}" for node, count in sorted(counts.items()))
    if idle := sorted(node for node, count in counts.items() if not count):
        return Finding(
            "nodes", "warn", f"{spread}; {', '.join(idle)} has nothing to do",
            "move slots there that partitions lie in; a namespace keeps the number of partitions that it began with",
        )  # fmt: skip
    if not backend.info.replicas:
        return Finding(
            "nodes", "warn", f"{spread}; not every primary has a replica: without one, all work waits until it is back",
            "give each primary a replica",
        )  # fmt: skip
    return Finding("nodes", "ok", spread)


async def _persistence(backend: Backend) -> Finding:
    info = backend.info
    if not info.aof:
        return Finding(
            "persistence", "warn", "the server keeps no append-only file: a restart loses flows",
            "set `appendonly yes` and `appendfsync always` (nothing is lost) or `everysec` (up to 2 s are)",
        )  # fmt: skip
    if not info.aof_ok:
        return Finding(
            "persistence",
            "fail",
            "the server's last write to its append-only file failed",
            "free disk space on the server; see its log",
        )
    if info.fsync != "always":
        return Finding(
            "persistence", "warn", f"appendfsync is {info.fsync or 'not told'}: a crash may lose the last 2 s",
            "set `appendfsync always`, if nothing that was acknowledged may be lost",
        )  # fmt: skip
    return Finding("persistence", "ok", "every acknowledged write is on disk (appendfsync always)")


async def _memory(backend: Backend) -> Finding:
    info = backend.info
    used = f"{info.used_memory / 1e6:,.0f} MB"
    if not info.maxmemory:
        return Finding("memory", "ok", f"{used} used, no limit set")
    if info.used_memory >= info.maxmemory:
        return Finding(
            "memory",
            "fail",
            f"{used} of {info.maxmemory / 1e6:,.0f} MB used: the server refuses new flows",
            "running flows drain it; or raise maxmemory, or keep ended flows for a shorter time",
        )
    if info.used_memory > _MEMORY_SHARE_WARN * info.maxmemory:
        return Finding(
            "memory",
            "warn",
            f"{used} of {info.maxmemory / 1e6:,.0f} MB used",
            "raise maxmemory, or keep ended flows for a shorter time",
        )
    return Finding("memory", "ok", f"{used} of {info.maxmemory / 1e6:,.0f} MB used")


async def _clock(backend: Backend) -> Finding:
    answers = await backend.store.connection.on_each("TIME")
    skew_ms = max(abs(int(seconds) * 1000 + int(micros) // 1000 - time.time() * 1000) for seconds, micros in answers)
    if skew_ms > _CLOCK_SKEW_MS_MAX:
        return Finding(
            "clock",
            "warn",
            f"the server's clock and this host's differ by {skew_ms / 1000:.0f} s",
            "run a time service (NTP) on both",
        )
    return Finding("clock", "ok", "the server's clock agrees with this host's")


async def _rights(backend: Backend) -> Finding:
    await backend.store.refuse_without_rights()
    return Finding("rights", "ok", "this user may do all that flowq asks for")


async def _functions(backend: Backend) -> Finding:
    why = await backend.store.connection.why_no_functions()
    if why is None:
        return Finding("functions", "ok", "what each stage and each flow calls are functions of the server")
    problem = f"what each stage and each flow calls are scripts, which cost the server up to twice the time: {why}"
    if why.is_broken:
        return Finding("functions", "warn", problem, "report this with the name and version of the server; flowq works on")
    return Finding("functions", "ok", problem)


async def _workers(backend: Backend) -> Finding:
    views = Views(backend.store)
    workers = await views.workers()
    if not workers:
        return Finding("workers", "warn", "no worker is connected: nothing will run", "start one: `flowq worker MODULE`")
    queues = sorted({queue for worker in workers for queue in worker.queues})
    count = sum(not worker.is_alone for worker in workers)
    serve = "worker process serves" if count == 1 else "worker processes serve"
    return Finding("workers", "ok", f"{count} {serve} {', '.join(queues)}")


async def _queues(backend: Backend) -> Finding:
    views = Views(backend.store)
    snapshots = Snapshots(backend.store, views)
    unserved: set[str] = set()
    for pages in views.indexes("running"):
        async for page in pages:
            for flow_id in page[:_FLOWS_LOOKED_AT]:
                with contextlib.suppress(FlowNotFound):
                    snapshot = await snapshots.snapshot(flow_id)
                    reasons = [stage.reason for stage in snapshot.graph if stage.reason is not None]
                    unserved |= {reason.sentence for reason in reasons if reason.code in _UNSERVED}
            break
    if unserved:
        more = f"; and {len(unserved) - _TOLD_MAX} more" if len(unserved) > _TOLD_MAX else ""
        return Finding(
            "queues", "warn", f"stages wait: {'; '.join(sorted(unserved)[:_TOLD_MAX])}{more}",
            "start a worker that has what is wanted: `flowq worker MODULE`",
        )  # fmt: skip
    return Finding("queues", "ok", "every stage that waits has a worker that serves it")


async def _schedules(backend: Backend) -> Finding:
    found = await Schedules(backend.store).every()
    workers = await Views(backend.store).workers()
    stuck = [(schedule.id, why) for schedule, latest, _ in found if (why := problem_of(schedule, workers) or latest.note)]
    if stuck:
        shown = "; ".join(f"{schedule_id}: {why}" for schedule_id, why in stuck[:3])
        more = f", and {len(stuck) - 3} more" if len(stuck) > 3 else ""
        return Finding("schedules", "warn", shown + more, "see `flowq schedule list`; start a worker with the module that has it")
    return Finding("schedules", "ok", f"{len(found)} schedules, and a worker for each" if found else "there is no schedule")


async def _storage(backend: Backend) -> Finding:
    storage = await backend.reach_storage()
    if storage is None:
        return Finding(
            "artifacts",
            "warn",
            "no artifact storage is configured",
            "set FLOWQ_ARTIFACTS=s3://bucket/prefix or file:/a/directory",
        )
    await asyncio.to_thread(storage.check)
    notice = f"; {backend.notice}" if backend.notice else ""
    return Finding("artifacts", "ok", f"put, get and delete work at {masked(storage.location)}{notice}")
