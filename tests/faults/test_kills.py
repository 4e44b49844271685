"""Processes of `flowq worker` that are killed, told to stop, poisoned, or that hang."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import time

import pytest

from flowq.engine.worker.supervisor import WorkerOptions
from tests.engine.waiting import in_the_end
from tests.faults import stages
from tests.faults.plant import Plant, ended, kill_tree, producer_of, tree_of
from tests.stories.processes import all_processes, needs_proc

pytestmark = [
    pytest.mark.fault,
    pytest.mark.anyio,
    pytest.mark.timeout(180),
    needs_proc,
]

# Promised within a second; the rest is what a loaded machine takes to notice and to note it.
TAKEOVER_SECONDS_MAX = 2.0
# The lease, two looks of the rescuer two seconds apart, and a start.
LEASE_TAKEOVER_SECONDS_MAX = 1.0 + 2 * 2.0 + 4.0


@pytest.mark.alone
async def test_a_killed_child_is_replaced_and_its_stage_runs_at_once(plant: Plant) -> None:
    worker = plant.worker()
    async with producer_of(plant) as producer:
        flow = await producer.add(stages.work.flow(1.0))
        (first,) = await asyncio.to_thread(plant.until_noted, "work")
        os.kill(first.pid, signal.SIGKILL)
        killed_at = time.time()
        again = (await asyncio.to_thread(plant.until_noted, "work", 2))[1]
        snapshot = await ended(flow)
    assert again.at - killed_at < TAKEOVER_SECONDS_MAX
    assert again.pid != first.pid
    done = snapshot.stage("work")
    assert (snapshot.state, done.attempt, done.runs, done.crashes) == ("completed", 1, 2, 1)
    assert [(run.outcome, run.cause) for run in done.history] == [("rescued", "killed by SIGKILL")]
    assert worker.poll() is None


@pytest.mark.alone
async def test_what_a_killed_worker_ran_goes_on_elsewhere_when_its_lease_is_over(plant: Plant) -> None:
    victim = plant.short_lease_worker(name="victim")
    async with producer_of(plant) as producer:
        flow = await producer.add(stages.work.flow(3.0))
        (first,) = await asyncio.to_thread(plant.until_noted, "work")
        plant.short_lease_worker(name="heir")
        heirs = 0
        while not heirs:
            heirs = sum(known.name.startswith("heir") for known in await producer.workers())
        killed_at = kill_tree(victim)
        again = (await asyncio.to_thread(plant.until_noted, "work", 2))[1]
        snapshot = await ended(flow)
    assert again.at - killed_at < LEASE_TAKEOVER_SECONDS_MAX
    assert again.pid != first.pid
    assert (snapshot.state, snapshot.stage("work").attempt) == ("completed", 1)


async def test_children_do_not_outlive_a_killed_supervisor(plant: Plant) -> None:
    worker = plant.short_lease_worker()
    async with producer_of(plant) as producer:
        await producer.add(stages.work.flow(60.0))
        await asyncio.to_thread(plant.until_noted, "work")
    family = tree_of(worker.pid)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    await asyncio.to_thread(plant.until, lambda: not [pid for pid in family if pid in all_processes()], 5)


async def test_a_stopped_supervisor_is_taken_over_and_its_late_results_are_refused(plant: Plant) -> None:
    """The zombie: SIGSTOP for longer than the lease, then SIGCONT."""
    zombie = plant.short_lease_worker(name="zombie")
    async with producer_of(plant) as producer:
        flow = await producer.add(stages.until_file.flow(str(plant.directory / "go")))
        (first,) = await asyncio.to_thread(plant.until_noted, "until_file")
        family = tree_of(zombie.pid)
        for pid in family:
            os.kill(pid, signal.SIGSTOP)
        plant.short_lease_worker(name="heir")
        again = (await asyncio.to_thread(plant.until_noted, "until_file", 2))[1]
        for pid in family:
            with contextlib.suppress(ProcessLookupError):  # who goes on first may have ended the others by then
                os.kill(pid, signal.SIGCONT)
        (plant.directory / "go").touch()
        snapshot = await ended(flow)
    assert again.pid != first.pid
    done = snapshot.stage("until_file")
    assert (snapshot.state, done.runs, done.attempt) == ("completed", 2, 1)
    assert done.worker.startswith("heir")


async def test_a_worker_that_is_told_to_stop_finishes_what_it_runs(plant: Plant) -> None:
    worker = plant.worker("-c", "1")
    async with producer_of(plant) as producer:
        running = await producer.add(stages.work.flow(1.0))
        waiting = await producer.add(stages.work.flow(1.0))
        await asyncio.to_thread(plant.until_noted, "work")
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 30) == 0
        states = sorted([(await running.inspect()).state, (await waiting.inspect()).state])
        assert not await producer.workers()
    assert states == ["completed", "ready"]


async def test_told_twice_it_hands_everything_back_at_once(plant: Plant) -> None:
    worker = plant.worker()
    async with producer_of(plant) as producer:
        flow = await producer.add(stages.work.flow(600.0))
        await asyncio.to_thread(plant.until_noted, "work")
        worker.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
        assert worker.poll() is None, "it drains"
        worker.send_signal(signal.SIGTERM)
        told_at = time.monotonic()
        assert await asyncio.to_thread(worker.wait, 30) == 0
        assert time.monotonic() - told_at < 5
        back = (await flow.inspect()).stage("work")
    assert (back.state, back.attempt, back.crashes, [run.outcome for run in back.history]) == ("ready", 0, 0, ["released"])


async def test_a_drain_that_takes_too_long_hands_back_what_still_runs(plant: Plant) -> None:
    worker = plant.worker("--drain-timeout", "1s")
    async with producer_of(plant) as producer:
        flow = await producer.add(stages.work.flow(600.0))
        await asyncio.to_thread(plant.until_noted, "work")
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 30) == 0
        back = (await flow.inspect()).stage("work")
    assert (back.state, back.attempt, back.crashes) == ("ready", 0, 0)


@pytest.mark.parametrize(("poison", "cause"), [("poison_exit", "exit code 0"), ("poison_signal", "SIGSEGV")])
async def test_a_poisoned_stage_fails_after_three_crashes_and_costs_innocents_nothing(
    plant: Plant, poison: str, cause: str
) -> None:
    plant.worker()
    async with producer_of(plant) as producer:
        innocents = [await producer.add(stages.until_file.flow(str(plant.directory / "go"))) for _ in range(5)]
        await asyncio.to_thread(plant.until_noted, "until_file", 5)
        flow = await producer.add(getattr(stages, poison).flow())
        snapshot = await ended(flow)
        (plant.directory / "go").touch()
        others = [(await ended(innocent)).stage("until_file") for innocent in innocents]
    failure = snapshot.stage(poison).failure
    assert failure is not None
    assert (snapshot.state, failure.kind, snapshot.stage(poison).crashes) == ("failed", "poisoned", 3)
    assert cause in failure.message
    # Once among others, then three times alone.
    assert len(plant.noted(poison)) <= 4
    assert {(other.state, other.attempt, other.crashes) for other in others} == {("completed", 1, 0)}


async def test_a_stage_that_does_not_hear_its_timeout_fails_and_frees_its_process(plant: Plant) -> None:
    plant.worker()
    async with producer_of(plant) as producer:
        deaf = [await producer.add(stages.deaf.flow()) for _ in range(2)]
        for flow in deaf:
            snapshot = await ended(flow)
            failure = snapshot.stage("deaf").failure
            assert failure is not None
            assert (snapshot.state, failure.kind) == ("failed", "timeout")
        # Its process is ended some seconds later, although nothing of the store runs in it any more.
        pids = {noted.pid for noted in plant.noted("deaf")}
        await asyncio.to_thread(plant.until, lambda: pids.isdisjoint(all_processes()), 20)
        quick = await producer.add(stages.quick_alone.flow())
        assert await quick.result(30) == "done"
        assert (await quick.inspect()).stage("quick_alone").crashes == 0


async def test_a_stage_that_holds_the_interpreter_is_killed_at_its_timeout(plant: Plant) -> None:
    plant.worker()
    async with producer_of(plant) as producer:
        flow = await producer.add(stages.hog.flow())
        beside = await producer.add(stages.until_file.flow(str(plant.directory / "go")))
        snapshot = await ended(flow)
        failure = snapshot.stage("hog").failure
        assert failure is not None
        assert (snapshot.state, failure.kind, snapshot.stage("hog").crashes) == ("failed", "timeout", 0)
        (only,) = plant.noted("hog")
        await asyncio.to_thread(plant.until, lambda: only.pid not in all_processes(), 5)
        # Who ran beside it is charged with nothing.
        (plant.directory / "go").touch()
        assert (await ended(beside)).stage("until_file").crashes == 0


async def test_a_worker_runs_until_nothing_is_left_and_then_ends_by_itself(plant: Plant) -> None:
    async with producer_of(plant) as producer:
        flows = await producer.add_bulk(stages.three(number) for number in range(20))
        worker = plant.worker("--burst")
        assert [await flow.result(60) for flow in flows] == [number + 3 for number in range(20)]
        assert await asyncio.to_thread(worker.wait, 30) == 0


async def test_no_process_and_no_descriptor_is_left_of_many_killed_children(plant: Plant) -> None:
    worker = plant.worker()
    async with producer_of(plant) as producer:
        for count in range(1, 5):
            await producer.add(stages.work.flow(60.0), id=f"w{count}")
            noted = (await asyncio.to_thread(plant.until_noted, "work", 1))[-1]
            if noted.pid in all_processes():
                os.kill(noted.pid, signal.SIGKILL)
            await producer.flow(f"w{count}").cancel()
        await asyncio.to_thread(plant.until, lambda: len(tree_of(worker.pid)) <= 6, 20)
        descriptors = len(os.listdir(f"/proc/{worker.pid}/fd"))
        assert descriptors < 40
        assert await (await producer.add(stages.three(1))).result(30) == 4


async def test_a_worker_that_may_start_no_more_processes_works_on_with_those_it_has(plant: Plant) -> None:
    worker = plant.worker()
    children = 1 + WorkerOptions(modules=()).alone
    async with producer_of(plant) as producer:

        async def all_work() -> bool:
            return len(await producer.workers()) == children

        await in_the_end(all_work)
        crashed = await producer.add(stages.until_file.flow(str(plant.directory / "go")))
        (first,) = await asyncio.to_thread(plant.until_noted, "until_file")
        most = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (3, most[1]))
        os.kill(first.pid, signal.SIGKILL)
        await asyncio.to_thread(plant.until, lambda: "can't be started" in plant.logs())
        assert await (await producer.add(stages.quick_alone.flow())).result(30) == "done"
        (plant.directory / "go").touch()
        assert await crashed.result(30) == 1, "it goes on where suspects run"
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, most)
        assert await (await producer.add(stages.three(1))).result(30) == 4
    assert plant.logs().count("can't be started") == 1
