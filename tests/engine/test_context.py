"""What a stage sees of its own run, and the programs it runs."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from flowq import Artifact, FlowProducer, context, pipeline, stage
from flowq.engine.run.context import StageContext
from flowq.errors import FlowFailed, InvalidValue, NoStageContext, StorageNotConfigured
from tests.engine.processes import wait_until_gone
from tests.engine.work import PATIENCE, Gate, outcome, until, working

pytestmark = pytest.mark.anyio


def test_outside_a_stage_there_is_none() -> None:
    with pytest.raises(NoStageContext, match="stage_context"):
        context()


async def test_a_stage_knows_its_run(producer: FlowProducer) -> None:
    @stage
    async def leaf_of_context() -> int:
        return 1

    @stage(timeout="1h", attempts=3)
    def root_of_context(number: int) -> dict[str, Any]:
        own = context()
        return {
            "flow": own.flow_id, "stage": own.stage, "attempt": own.attempt, "fence": own.fence, "key": own.idempotency_key,
            "children": own.children, "hours": own.deadline is not None, "cancelled": own.cancelled,
        }  # fmt: skip

    @pipeline
    def both() -> dict[str, Any]:
        return root_of_context(leaf_of_context())

    async with working(producer, leaf_of_context, root_of_context):
        assert await (await producer.add(both(), id="f1")).result(30) == {
            "flow": "f1", "stage": "root_of_context", "attempt": 1, "fence": 1, "key": "f1/root_of_context",
            "children": ["leaf_of_context"],
            "hours": True,
            "cancelled": False,
        }  # fmt: skip


async def test_each_of_many_stages_at_once_sees_its_own_context(producer: FlowProducer) -> None:
    together = asyncio.Barrier(20)

    @stage
    async def who() -> str:
        await together.wait()
        return context().flow_id

    @stage
    def who_in_a_thread() -> str:
        return context().flow_id

    async with working(producer, who, who_in_a_thread):
        flows = [await producer.add(one.flow()) for one in (who, who_in_a_thread) for _ in range(20)]
        assert [await flow.result(30) for flow in flows] == [flow.id for flow in flows]


@pytest.mark.parametrize(("given", "kept"), [(0.5, 0.5), (-3, 0.0), (7, 1.0), (1, 1.0)])
def test_progress_is_kept_between_none_and_all(given: float, kept: float) -> None:
    told: list[tuple[float, str]] = []
    StageContext("f", "s", 1, 1, on_progress=lambda fraction, message: told.append((fraction, message))).progress(
        given, "x" * 500
    )
    assert told == [(kept, "x" * 200)]


def test_progress_never_goes_back_within_a_run_but_its_message_counts() -> None:
    told: list[tuple[float, str]] = []
    run = StageContext("f", "s", 1, 1, on_progress=lambda *what: told.append(what))
    for fraction, message in ((0.9, "nearly"), (0.8, "a step back"), (1, "done")):
        run.progress(fraction, message)
    assert told == [(0.9, "nearly"), (0.9, "a step back"), (1.0, "done")]


@pytest.mark.usefixtures("threads_take_turns_often")
def test_progress_never_goes_back_where_several_threads_tell_it() -> None:
    told: list[float] = []
    run = StageContext("f", "s", 1, 1, on_progress=lambda fraction, _: told.append(fraction))

    def tells() -> None:
        for number in range(2_000):
            run.progress(number / 2_000)

    threads = [threading.Thread(target=tells) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 8_000
    assert told == sorted(told)


@pytest.mark.parametrize("given", ["0.5", None, True])
def test_progress_that_is_no_number_is_refused(given: Any) -> None:
    with pytest.raises(InvalidValue, match="progress"):
        StageContext("f", "s", 1, 1).progress(given)


def test_an_artifact_needs_storage() -> None:
    with pytest.raises(StorageNotConfigured, match=r"a\.txt"):
        StageContext("f", "s", 1, 1).new_artifact("a.txt")


async def test_a_flood_of_progress_is_thinned_out(producer: FlowProducer) -> None:
    @stage
    def flood() -> None:
        for number in range(20_000):
            context().progress(number / 20_000)

    async with working(producer, flood):
        flow = await producer.add(flood.flow())
        await flow.result(30)
    store = producer._open.store
    assert await store.connection.command("XLEN", store.keys.tag_of(flow.id) + ":events") < 100


async def test_a_program_that_fails_fails_its_stage_with_the_end_of_its_output(producer: FlowProducer) -> None:
    @stage
    def convert_nothing() -> None:
        context().run(["sh", "-c", "echo cannot open file >&2; exit 3"])

    async with working(producer, convert_nothing):
        error = await outcome(await producer.add(convert_nothing.flow()))
    assert isinstance(error, FlowFailed)
    assert error.error_type == "ProgramFailed"
    assert "exit code 3: cannot open file" in error.message


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_the_lines_of_a_program_become_progress_and_its_file_an_artifact(producer: FlowProducer, kind: str) -> None:
    program = [sys.executable, "-S", "-c", "import sys; print('half', flush=True); open(sys.argv[1], 'w').write('done')"]

    def half(line: str) -> float | None:
        return 0.5 if line == "half" else None

    @stage(name="run_plain")
    def run_plain() -> Artifact:
        with context().new_artifact("out.txt") as sink:
            context().run([*program, sink.path], progress=half)
        return sink.artifact

    @stage(name="run_async")
    async def run_async() -> Artifact:
        async with context().new_artifact("out.txt") as sink:
            await context().run_async([*program, sink.path], progress=half)
        return sink.artifact

    chosen: Any = run_plain if kind == "plain" else run_async
    async with working(producer, chosen):
        artifact = await (await producer.add(chosen.flow())).result(30)
    with artifact.open() as stream:
        assert stream.read() == b"done"


@pytest.mark.parametrize("ending", ["cancel", "timeout"])
async def test_a_program_ends_with_its_stage(producer: FlowProducer, ending: str) -> None:
    gate, pids = Gate(), []

    def noted(line: str) -> None:
        pids.append(int(line))
        gate.arrived.set()

    @stage(timeout="1s" if ending == "timeout" else None)
    def endless() -> None:
        context().run(["sh", "-c", "echo $$; sleep 1000 & wait"], progress=noted)

    async with working(producer, endless):
        flow = await producer.add(endless.flow())
        await gate.until_arrived()
        if ending == "cancel":
            await flow.cancel()
        await until(flow, lambda snapshot: snapshot.is_final)
        await asyncio.to_thread(wait_until_gone, pids[0])


async def test_what_cleans_up_after_a_failed_stage_still_knows_its_run(producer: FlowProducer) -> None:
    cleaned: asyncio.Queue[str] = asyncio.Queue()

    async def rows() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            cleaned.put_nowait(context().flow_id)

    @stage(attempts=1)
    async def holder_of_rows() -> None:
        held = rows()  # its frame holds them, the error its frame
        async for _ in held:
            raise ValueError("in the middle")

    async with working(producer, holder_of_rows):
        assert isinstance(await outcome(await producer.add(holder_of_rows.flow(), id="f1")), FlowFailed)
        assert await asyncio.wait_for(cleaned.get(), PATIENCE) == "f1"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="this Python has no eager tasks")
async def test_tasks_of_the_loop_may_be_eager(producer: FlowProducer, request: pytest.FixtureRequest) -> None:
    @stage
    async def eager_leaf() -> int:
        return 1

    @stage(timeout="1m")
    async def eager_root(number: int) -> int:
        await context().sleep("0.15s")
        return number + await context().spawn(eager_leaf)

    @pipeline
    def eager() -> int:
        return eager_root(eager_leaf())

    loop = asyncio.get_running_loop()
    request.addfinalizer(partial(loop.set_task_factory, None))
    loop.set_task_factory(vars(asyncio)["eager_task_factory"])
    async with working(producer, eager_leaf, eager_root):
        assert [await (await producer.add(eager())).result(30) for _ in range(3)] == [2, 2, 2]
