"""Why a stage is not running: one code for machines, one sentence for people. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from flowq.model.dedup import DedupSnapshot
from flowq.model.duration import shown_duration
from flowq.model.fleet import WorkerSnapshot
from flowq.model.limit import OF_QUEUE, OF_TENANT, LimitWait
from flowq.model.outcome import Wait
from flowq.model.pause import Pause
from flowq.model.plan import stage_label
from flowq.model.snapshot import ItemsSnapshot, Reason, StageSnapshot

_NAMED_MAX = 3
_ENDS = {"failed": ("has failed", "have failed"), "cancelled": ("was cancelled", "were cancelled")}
_KINDS = ("signal", "flow", "sleep")
# What does not pass when other stages end. A limit that is used up must not hide it.
_LASTING = ("no_worker", "no_room")


def reason_for(
    stage: StageSnapshot,
    states: Mapping[str, str],
    workers: Sequence[WorkerSnapshot],
    flow_state: str,
    now_ms: int,
    *,
    is_suspect: bool,
    lost: Mapping[str, str],
    pause: Pause | None = None,
    full: Mapping[str, str] = {},
    tenant: str = "",
    needs: Sequence[tuple[str, int]] = (),
    waits: Sequence[tuple[Wait, int | None]] = (),
) -> Reason | None:
    """The reason for a stage that neither runs nor has ended, or waits for a limit in its slot; None for others.

    Args:
        stage: the stage.
        states: child's name → state, of the children that it waits for.
        workers: all live workers.
        flow_state: the flow's state.
        now_ms: the server's time.
        is_suspect: its process died under an earlier run.
        lost: name → state, of stages that failed or were cancelled for good and without which it can't run: see `lost_below`.
        pause: what keeps it from being claimed, of its flow, its pipeline and its queue.
        full: limits that are used up → what they allow.
        tenant: the flow's.
        needs: what the stage takes of a worker host's own room.
        waits: what a suspended stage waits for, and until when.
    """
    if stage.state == "running":
        return _rate_limited(LimitWait.told_by(stage.message), now_ms)
    if stage.state == "blocked":
        return _blocked(states, lost, flow_state)
    if stage.state == "scheduled":
        seconds = max(0, (stage.ready_at or now_ms) - now_ms) / 1000
        if not (stage.attempt or stage.failure or stage.history):
            return Reason("scheduled", f"begins {f'in {shown_duration(seconds)}' if seconds else 'now'}")
        cause = f" after {stage.failure.line}" if stage.failure else ""
        when = f"in {shown_duration(seconds)}" if seconds else "now"
        return Reason("back_off", f"attempt {stage.attempt + 1} of {stage.attempts} begins {when}{cause}")
    is_idle = stage.state == "ready" or (stage.items is not None and stage.state == "suspended" and not stage.items.running)
    if is_idle and pause is not None:
        return Reason("paused", pause.sentence, (pause.name,))
    if stage.state == "suspended" and stage.items is not None:
        return _items(stage, stage.items, workers, needs, _limited(stage.queue, tenant, full))
    if stage.state == "ready":
        ready = _ready(stage, workers, needs, is_suspect=is_suspect)
        return ready if ready.code in _LASTING else _limited(stage.queue, tenant, full) or ready
    return _suspended(waits) if stage.state == "suspended" else None


def _limited(queue: str, tenant: str, full: Mapping[str, str]) -> Reason | None:
    for code, name, whose in (
        ("queue_limit", OF_QUEUE + queue, f"queue {queue}"),
        ("tenant_limit", OF_TENANT + tenant, f"tenant {tenant}"),
    ):
        if name in full:
            return Reason(code, f"{whose} is at its limit: {full[name]}", (name,))
    return None


def own_message(message: str) -> str:
    """What a stage tells itself; what it waits for is its reason."""
    return "" if LimitWait.told_by(message) else message


def _rate_limited(wait: LimitWait | None, now_ms: int) -> Reason | None:
    if wait is None or 0 < wait.until <= now_ms:  # it goes on, and is about to say so
        return None
    return Reason("rate_limited", wait.sentence(now_ms), (wait.name,))


def held_by_key(dedup: DedupSnapshot | None, is_scheduled: bool, begins_at: int) -> Reason | None:
    """Why nothing of a flow has begun that was added under a key; None: that does not keep it.

    Args:
        dedup: the flow's.
        is_scheduled: whether the flow waits to begin.
        begins_at: when it begins; 0: when another flow has ended.
    """
    if dedup is None or not is_scheduled:
        return None
    if not begins_at and dedup.waits_for:
        return Reason("other_flow", f"waits until flow {dedup.waits_for} has ended", (dedup.waits_for,))
    if dedup.mode != "debounce":
        return None
    moment = datetime.fromtimestamp(begins_at / 1000, UTC)
    return Reason("debounced", f"debounced until {moment:%Y-%m-%d %H:%M:%S} UTC: begins unless another is added as {dedup.key}")


def lost_below(children: Mapping[str, str], of_children: Iterable[Mapping[str, str]]) -> Mapping[str, str]:
    """Why a stage can't run any more: the children that are lost to it, else what is lost to one of its children.

    Args:
        children: name → state, of the children that it waits for.
        of_children: the same answer for each of these children.
    """
    for state in ("failed", "cancelled"):
        if lost := {name: found for name, found in children.items() if found == state}:
            return lost
    none: Mapping[str, str] = {}
    return next((lost for lost in of_children if lost), none)


def _blocked(states: Mapping[str, str], lost: Mapping[str, str], flow_state: str) -> Reason:
    if lost:
        code = "flow_ended" if flow_state in ("failed", "cancelled") else "child_failed"
        names = tuple(lost)
        for_one, for_many = _ENDS[lost[names[0]]]
        return Reason(code, f"can't run: {_listed(names)} {for_one if len(names) == 1 else for_many}", names)
    waiting = tuple(states)
    return Reason("children", f"waits for {_listed(waiting)}", waiting)


def _suspended(waits: Sequence[tuple[Wait, int | None]]) -> Reason:
    # Signals first: they are what people can do something about.
    ordered = sorted(waits, key=lambda one: (_KINDS.index(one[0].kind), one[0].name))
    if not ordered:
        return Reason("sleep", "is about to begin again")
    first = ordered[0][0].kind
    names = tuple(dict.fromkeys(wait.name for wait, _ in ordered if wait.kind == first and wait.name))
    told = [_told(wait, until) for wait, until in ordered[:_NAMED_MAX]]
    more = f" and {len(ordered) - _NAMED_MAX} more" if len(ordered) > _NAMED_MAX else ""
    return Reason("spawned" if first == "flow" else first, "; ".join(told) + more, names)


def _told(wait: Wait, until_ms: int | None) -> str:
    until = f" until {datetime.fromtimestamp(until_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC" if until_ms else ""
    if wait.kind == "sleep":
        return f"sleeps{until}"
    if wait.kind == "flow":
        return f"waits for flow {wait.name}, which it spawned"
    refused = f", what was sent being refused: {wait.refused}" if wait.refused else ""
    return f"waits for signal {wait.name}{until}{refused}"


def _ready(
    stage: StageSnapshot, workers: Sequence[WorkerSnapshot], needs: Sequence[tuple[str, int]], *, is_suspect: bool
) -> Reason:
    label = stage_label(stage.stage, stage.version)
    serving = [worker for worker in workers if label in worker.stages and stage.queue in worker.queues]
    if not serving:
        versions = _versions(stage.stage, [worker for worker in workers if stage.queue in worker.queues])
        if versions:
            wanted = f"version {stage.version} of {stage.stage}" if stage.version else f"{stage.stage} without a version"
            return Reason("no_worker", f"no worker has {wanted}; there is {_listed(versions)}", (stage.queue,))
        if any(stage.queue in worker.queues for worker in workers):
            return Reason("no_worker", f"no worker of queue {stage.queue} knows stage {stage.stage}", (stage.queue,))
        return Reason("no_worker", f"no worker serves queue {stage.queue}", (stage.queue,))
    if needs and not any(all(worker.has.get(name, 0) >= amount for name, amount in needs) for worker in serving):
        sentence = f"needs {_wanted(needs)}, which no worker of queue {stage.queue} has"
        return Reason("no_room", sentence, tuple(name for name, _ in needs))
    if needs and not any(all(_free(worker, name) >= amount for name, amount in needs) for worker in serving):
        sentence = f"needs {_wanted(needs)}, which no worker of queue {stage.queue} has free: {_in_use(serving, needs)}"
        return Reason("room_used", sentence, tuple(name for name, _ in needs))
    if is_suspect:
        return Reason("suspect", "its process died under it, so it waits for a process in which it can run alone", (stage.queue,))
    # Which of these it is the server does not know.
    used = f", or for {_wanted(needs)} that a function still uses whose stage is over" if needs else ""
    return Reason("busy", f"queue {stage.queue}: waits for a free slot of {_counted(serving)}{used}", (stage.queue,))


def _wanted(needs: Sequence[tuple[str, int]]) -> str:
    return " and ".join(f"{name}={amount}" for name, amount in needs)


def _free(worker: WorkerSnapshot, name: str) -> int:
    return worker.has.get(name, 0) - worker.in_use.get(name, 0)


def _in_use(workers: Sequence[WorkerSnapshot], needs: Sequence[tuple[str, int]]) -> str:
    """What keeps a stage from the worker that has the most of what it needs."""
    worker = max(workers, key=lambda worker: sum(worker.has.get(name, 0) >= amount for name, amount in needs))
    short = [name for name, amount in needs if _free(worker, name) < amount]
    used = ", ".join(f"{worker.in_use.get(name, 0)} of {worker.has.get(name, 0)} {name}" for name in short)
    return f"on {worker.name} {used} in use"


def _versions(stage: str, workers: Sequence[WorkerSnapshot]) -> list[str]:
    """The versions of a stage that workers have, as they are told to people."""
    known = {label.partition("@")[2] for worker in workers for label in worker.stages if label.partition("@")[0] == stage}
    return [f"version {version}" if version else "one without a version" for version in sorted(known)]


def _items(
    stage: StageSnapshot,
    items: ItemsSnapshot,
    workers: Sequence[WorkerSnapshot],
    needs: Sequence[tuple[str, int]],
    limited: Reason | None,
) -> Reason:
    if not items.running and (items.waiting > 0 or not items.suspended):
        ready = _ready(stage, workers, needs, is_suspect=False)
        if ready.code in _LASTING:
            return ready
        if limited is not None or ready.code == "room_used":
            return limited or ready
    away = f", {items.suspended:,} suspended" if items.suspended else ""
    return Reason("items", f"waits for {items.running:,} running{away} and {items.waiting:,} waiting of {items.count:,}")


def _counted(workers: Sequence[WorkerSnapshot]) -> str:
    count = sum(not worker.is_alone for worker in workers) or 1
    return f"{count} worker process{'es' if count > 1 else ''}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED_MAX])
    return f"{shown} and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else shown
