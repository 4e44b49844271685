"""Why a stage is not running: always one code and one sentence."""

from __future__ import annotations

import msgspec
import pytest

from flowq.model.failure import Failure
from flowq.model.fleet import WorkerSnapshot
from flowq.model.reasons import lost_below, reason_for
from flowq.model.snapshot import ItemsSnapshot, Reason, StageSnapshot
from flowq.model.states import StageState

WORKER = WorkerSnapshot(id="w", name="w", queues=("gpu",), stages=("encode",))
NOW = 1_000_000


def reason(
    state: StageState,
    *,
    children: dict[str, str] | None = None,
    workers: tuple[WorkerSnapshot, ...] = (WORKER,),
    flow: str = "running",
    queue: str = "gpu",
    stage: str = "encode",
    suspect: bool = False,
    lost: dict[str, str] | None = None,
    ready_at: int = NOW,
    failure: Failure | None = None,
) -> Reason | None:
    children = children or {}
    snapshot = StageSnapshot(
        name="encode-2",
        stage=stage,
        queue=queue,
        state=state,
        attempt=1,
        attempts=3,
        children=tuple(children),
        ready_at=ready_at,
        failure=failure,
    )
    return reason_for(snapshot, children, workers, flow, NOW, is_suspect=suspect, lost=lost_below(children, [lost or {}]))


@pytest.mark.parametrize("state", ["running", "completed", "failed", "cancelled", "skipped"])
def test_what_runs_or_has_ended_needs_no_reason(state: StageState) -> None:
    assert reason(state) is None


@pytest.mark.parametrize(
    ("found", "code", "said"),
    [
        (reason("blocked", children={"a": "running"}), "children", "waits for a"),
        (reason("blocked", children={f"c{n}": "ready" for n in range(9)}), "children", "c0, c1, c2 and 6 more"),
        (reason("blocked", children={"a": "failed"}, flow="failed"), "flow_ended", "can't run: a has failed"),
        (reason("blocked", children={"a": "failed", "b": "failed"}, flow="failed"), "flow_ended", "a, b have failed"),
        (reason("blocked", children={"a": "failed", "b": "running"}), "child_failed", "can't run: a has failed"),
        (reason("blocked", children={"a": "cancelled"}), "child_failed", "can't run: a was cancelled"),
        (reason("blocked", children={"a": "blocked"}, lost={"b": "failed"}), "child_failed", "can't run: b has failed"),
        (reason("ready", workers=()), "no_worker", "no worker serves queue gpu"),
        (reason("ready", stage="unknown"), "no_worker", "no worker of queue gpu knows stage unknown"),
        (reason("ready", queue="cpu"), "no_worker", "no worker serves queue cpu"),
        (reason("ready", suspect=True), "suspect", "run alone"),
        (reason("ready"), "busy", "free slot of 1 worker process"),
        (reason("ready", workers=(WORKER, WORKER)), "busy", "2 worker processes"),
        (
            reason("scheduled", ready_at=NOW + 90_000, failure=Failure("OSError", "disk full")),
            "back_off",
            "in 1m 30s after OSError: disk full",
        ),
        (reason("scheduled", ready_at=NOW - 5), "back_off", "attempt 2 of 3 begins now"),
    ],
)  # fmt: skip
def test_each_kind_of_waiting_has_its_code_and_its_sentence(found: Reason | None, code: str, said: str) -> None:
    assert found is not None
    assert found.code == code
    assert said in found.sentence
    assert "\n" not in found.sentence


def test_a_map_at_rest_says_which_limit_or_host_its_items_wait_for() -> None:
    items = ItemsSnapshot(count=2, completed=0, running=0, failed=0, waiting=2, need=2, at_once=0)
    resting = StageSnapshot(name="encode", stage="encode", queue="gpu", state="suspended", items=items)

    def of(stage: StageSnapshot, **more: object) -> str:
        found = reason_for(stage, {}, (WORKER,), "running", NOW, is_suspect=False, lost={}, **more)  # type: ignore[arg-type]
        assert found is not None
        return found.code

    assert of(resting) == "items"
    assert of(resting, full={"queue:gpu": "1 at once"}) == "queue_limit"
    assert of(resting, full={"tenant:acme": "1 at once"}, tenant="acme") == "tenant_limit"
    assert of(resting, needs=[("gpu", 1)]) == "no_room"
    assert of(resting, needs=[("gpu", 1)], full={"queue:gpu": "1 at once"}) == "no_room"
    away = msgspec.structs.replace(resting, items=msgspec.structs.replace(items, waiting=0, suspended=2))
    assert of(away, full={"queue:gpu": "1 at once"}) == "items"
    at_work = msgspec.structs.replace(resting, items=msgspec.structs.replace(items, running=1, waiting=1))
    assert of(at_work, full={"queue:gpu": "1 at once"}) == "items"


def test_a_limit_that_is_used_up_hides_nothing_that_lasts() -> None:
    waits = StageSnapshot(name="encode", stage="encode", queue="gpu", state="ready")

    def of(*workers: WorkerSnapshot, **more: object) -> str:
        full = {"queue:gpu": "1 at once"}
        found = reason_for(waits, {}, workers, "running", NOW, is_suspect=False, lost={}, full=full, **more)  # type: ignore[arg-type]
        assert found is not None
        return found.code

    assert of() == "no_worker"
    assert of(WORKER, needs=[("card", 1)]) == "no_room"
    assert of(msgspec.structs.replace(WORKER, has={"card": 1}, in_use={"card": 1}), needs=[("card", 1)]) == "queue_limit"
    assert of(WORKER) == "queue_limit"


def test_room_of_one_host_that_is_in_use_holds_nothing_up_while_another_has_some() -> None:
    waits = StageSnapshot(name="encode", stage="encode", queue="gpu", state="ready")
    used = msgspec.structs.replace(WORKER, has={"card": 2}, in_use={"card": 2})
    free, bare = (msgspec.structs.replace(WORKER, name=name, has=has) for name, has in (("free", {"card": 2}), ("bare", {})))

    def of(*workers: WorkerSnapshot) -> Reason:
        found = reason_for(waits, {}, workers, "running", NOW, is_suspect=False, lost={}, needs=[("card", 1)])
        assert found is not None
        return found

    assert of(bare, used) == Reason(
        "room_used", "needs card=1, which no worker of queue gpu has free: on w 2 of 2 card in use", ("card",)
    )
    assert of(used, free).code == "busy"
