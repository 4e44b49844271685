"""What is done to many flows at once, and failed flows by what made them fail."""

from __future__ import annotations

import pytest

from flowq import FlowProducer, Unrecoverable, pipeline, stage
from flowq.errors import InvalidValue
from flowq.model.report import normalised
from tests.engine.work import outcome, working

pytestmark = pytest.mark.anyio

# What fails now, by its error.
broken: dict[str, Exception] = {}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """Nothing is broken."""
    broken.clear()


@stage
async def bu_fetch(name: str) -> str:
    if name in broken:
        raise broken[name]
    return name


@stage
async def bu_join(one: str, other: str) -> str:
    return one + other


@pipeline
def bu_pair(one: str, other: str) -> str:
    return bu_join(bu_fetch(one), bu_fetch(other))


@pipeline
def bu_single(one: str) -> str:
    return bu_fetch(one)


@pipeline
def bu_each(names: list[str]) -> list[str]:
    return bu_fetch.map(names)


EVERY = (bu_fetch, bu_join)


async def fail_some(producer: FlowProducer) -> None:
    """Five failed flows of two causes, and one that completed."""
    for number in range(3):
        broken[f"lost-{number}"] = Unrecoverable(f"NoSuchBucket: bucket{number:08d} in region {number}")
    broken["refused"] = Unrecoverable("HTTP 403")
    for number in range(3):
        await outcome(await producer.add(bu_pair(f"lost-{number}", "fine"), id=f"pair-{number}", tags=["eu"]))
    for number in range(2):
        await outcome(await producer.add(bu_single("refused"), id=f"single-{number}"))
    await outcome(await producer.add(bu_single("fine"), id="good"))


async def test_a_dry_run_tells_what_would_be_retried_and_changes_nothing(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        await fail_some(producer)
    report = await producer.retry(pipeline="bu_pair", dry_run=True)
    assert (report.verb, report.is_dry_run, report.matched, report.done, report.stages) == ("retry", True, 3, 0, 3)
    assert {flow.id for flow in report.flows} == {"pair-0", "pair-1", "pair-2"}
    assert report.by_pipeline == {"bu_pair": 3}
    assert report.by_cause == {"Unrecoverable: NoSuchBucket: <id> in region <n>": 3}
    assert len(await producer.list(state="failed")) == 5


async def test_all_flows_that_failed_for_a_cause_are_retried_and_no_others(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        await fail_some(producer)
        broken.clear()
        report = await producer.retry(cause="Unrecoverable: NoSuchBucket*")
        assert (report.matched, report.done, report.stages, report.errors) == (3, 3, 3, [])
        for number in range(3):
            assert await producer.flow(f"pair-{number}").result(30) == f"lost-{number}fine"
    assert {flow.id for flow in await producer.list(state="failed")} == {"single-0", "single-1"}
    assert (await producer.retry(cause="Unrecoverable: NoSuchBucket*")).matched == 0, "made again, it finds nothing left to do"


async def test_a_flow_that_fails_again_at_once_is_retried_once_a_call(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        await fail_some(producer)
        assert (await producer.retry(state="failed")).done == 5
        for flow in await producer.list(limit=10):
            await outcome(producer.flow(flow.id))
    assert {(await producer.flow(flow.id).inspect()).run for flow in await producer.list(state="failed")} == {2}


async def test_of_flows_that_failed_or_were_cancelled_the_failed_ones_are_retried_if_nothing_is_said(
    producer: FlowProducer,
) -> None:
    async with working(producer, *EVERY):
        await fail_some(producer)
    await (await producer.add(bu_single("never"), tags=["eu"])).cancel()
    assert (await producer.retry(tag="eu", dry_run=True)).matched == 3


async def test_one_damaged_flow_does_not_keep_the_others_from_being_retried(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        await fail_some(producer)
    store = producer._open.store
    await store.connection.command("HSET", store.keys.flow("pair-1"), "0", b"\xc1")
    report = await producer.retry(tag="eu")
    assert (report.matched, report.done) == (3, 2)
    assert [error.id for error in report.errors] == ["pair-1"]
    assert "pair-1" in report.errors[0].error


async def test_flows_are_cancelled_by_what_they_have_in_common(producer: FlowProducer) -> None:
    for number in range(3):
        await producer.add(bu_pair(str(number), "x"), id=f"pair-{number}", tenant="acme")
    await producer.add(bu_pair("a", "b"), id="other", tenant="umbrella")
    preview = await producer.cancel(tenant="acme", dry_run=True)
    assert (preview.matched, preview.done, preview.stages) == (3, 0, 9)
    report = await producer.cancel(tenant="acme", reason="gone")
    assert (report.matched, report.done, report.stages) == (3, 3, 9)
    assert [flow.id for flow in await producer.list(state="ready")] == ["other"]
    assert (await producer.flow("pair-0").inspect()).cancel_reason == "gone"
    assert (await producer.cancel(tenant="acme")).matched == 0


async def test_more_flows_than_a_page_holds_are_all_reached(producer: FlowProducer) -> None:
    await producer.add_bulk(bu_single(str(n)).with_options(id=f"f{n}", tags=["all"]) for n in range(450))
    assert (await producer.cancel(tag="all")).done == 450
    assert await producer.list(state="ready") == []
    report = await producer.prune(state="cancelled")
    assert (report.matched, report.done, len(report.flows)) == (450, 450, 450)
    assert await producer.list() == []


async def test_failed_flows_are_grouped_by_cause(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        await fail_some(producer)
        groups = await producer.dead()
        assert [(group.pipeline, group.stage, group.count) for group in groups] == [
            ("bu_pair", "bu_fetch", 3),
            ("bu_single", "bu_fetch", 2),
        ]
        first = groups[0]
        assert first.cause == "Unrecoverable: NoSuchBucket: <id> in region <n>"
        assert set(first.flows) == {"pair-0", "pair-1", "pair-2"}
        assert not first.is_poisoned
        assert first.first_at <= first.last_at
        assert [group.key for group in await producer.dead(tag="eu")] == [first.key]
        broken.clear()
        assert (await producer.retry(dead=first.key)).done == 3
        for number in range(3):
            await producer.flow(f"pair-{number}").result(30)
    assert [group.pipeline for group in await producer.dead()] == ["bu_single"]


async def test_dead_letters_are_discarded_a_group_at_a_time(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        await fail_some(producer)
    first, second = await producer.dead()
    assert (await producer.prune(dead=first.key, dry_run=True)).matched == 3
    assert (await producer.prune(dead=first.key)).done == 3
    assert [group.key for group in await producer.dead()] == [second.key]
    assert (await producer.prune(dead="nobody")).matched == 0


@pytest.mark.parametrize(
    ("cause", "shown"),
    [
        ("OSError: clip 17 of 240", "OSError: clip <n> of <n>"),
        ("E: 7d444840-9dc0-11d1-b245-5ffdce74fad2 is gone", "E: <id> is gone"),
        ("E: object 0xdeadbeef01 at 0x7f00aa11bb22", "E: object <id> at <id>"),
        ("E: job a1b2c3d4e5f6g7h8 took 1.52 s", "E: job <id> took <n> s"),
        ("ValueError: a sentence without a number", "ValueError: a sentence without a number"),
    ],
)
def test_what_differs_between_two_failures_of_one_cause_is_left_out(cause: str, shown: str) -> None:
    assert normalised(cause) == shown


async def test_what_would_mean_every_flow_is_refused(producer: FlowProducer) -> None:
    with pytest.raises(InvalidValue, match="in common"):
        await producer.cancel()
    with pytest.raises(InvalidValue, match="in common"):
        await producer.prune()
    with pytest.raises(InvalidValue, match="in common"):
        await producer.retry()
    with pytest.raises(InvalidValue, match="in common"):
        await producer.retry(dry_run=True, deadline="1h", pipeline=None)
    for wrong in ("completed", "running", "done"):
        with pytest.raises(InvalidValue, match="state"):
            await producer.retry(state=wrong)
    with pytest.raises(InvalidValue, match="state"):
        await producer.cancel(state="failed")
    with pytest.raises(InvalidValue, match="state"):
        await producer.prune(state="running")
    with pytest.raises(InvalidValue, match="older_than"):
        await producer.prune(older_than="a while")


async def test_a_dry_run_counts_the_items_that_would_run_again(producer: FlowProducer) -> None:
    broken["lost"] = Unrecoverable("NoSuchBucket")
    async with working(producer, *EVERY):
        await outcome(flow := await producer.add(bu_each(["fine", "lost", "good", "lost"])))
        foreseen = await producer.retry(pipeline="bu_each", dry_run=True)
        broken.clear()
        done = await producer.retry(pipeline="bu_each")
        assert await flow.result(30) == ["fine", "lost", "good", "lost"]
    assert (foreseen.stages, done.stages) == (2, 2)
