"""Named limits, kept by all workers together: rates in any window of their period, places taken in the order of asking."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import pytest

from flowq import FlowProducer, limit, pipeline, stage
from flowq.engine.run.limiter import Limiter, give_all_back
from flowq.errors import FlowFailed, InvalidValue, LimitNotSet, NoStageContext
from flowq.model.limit import LimitRule, LimitUse, LimitWait
from flowq.model.snapshot import Reason
from flowq.store.limits import Granted, Limits, Waits
from flowq.store.views import Views
from tests.conformance.scene import busy, gate, most
from tests.engine.waiting import in_the_end
from tests.engine.work import until, working
from tests.store.acting import Actor

pytestmark = pytest.mark.anyio

LEASE_MS = 15_000


@pytest.fixture
def limits(producer: FlowProducer) -> Limits:
    """The limits of the test's namespace."""
    return Limits(producer._open.store)


async def granted_at(limits: Limits, uses: Sequence[LimitUse]) -> list[tuple[int, LimitUse]]:
    """From when on each use is allowed: known at once, so that nothing has to be waited for."""
    found: list[tuple[int, LimitUse]] = []
    for number, use in enumerate(uses):
        answer = await limits.acquire(use, f"p{number}", "holder", LEASE_MS)
        assert isinstance(answer, Granted)
        found.append((answer.at, use))
    return found


def most_in_a_window(grants: Sequence[tuple[int, LimitUse]], what: str, period_ms: int) -> int:
    """The largest sum of any window of this length."""
    amounts = [(at, dict(use.amounts).get(what, 1)) for at, use in grants]
    return max(sum(amount for at, amount in amounts if end - period_ms < at <= end) for end, _ in amounts)


async def test_no_window_of_the_period_holds_more_than_the_rate_and_nearly_all_of_it_is_used(
    producer: FlowProducer, limits: Limits
) -> None:
    await producer.set_limit("openai", rate={"requests": "100/m", "tokens": "2000/m"})
    uses = [LimitUse("openai", (("tokens", 5 + number % 31),)) for number in range(400)]
    grants = await granted_at(limits, uses)
    assert most_in_a_window(grants, "requests", 60_000) <= 100
    assert most_in_a_window(grants, "tokens", 60_000) <= 2_000
    minutes = (grants[-1][0] - grants[0][0]) / 60_000
    used = sum(dict(use.amounts)["tokens"] for _, use in grants[:-1]) / (2_000 * max(1.0, minutes))
    assert used >= 0.95, used
    assert [at for at, _ in grants] == sorted(at for at, _ in grants)


@pytest.mark.parametrize("rate", ["7/s", "100/m", "1/100ms", "3/90s", "1000000/d"])
async def test_a_rate_holds_whatever_its_period(producer: FlowProducer, limits: Limits, rate: str) -> None:
    await producer.set_limit("any", rate=rate)
    state = (await producer.limits())[0]
    (found,) = state.rule.rates
    grants = await granted_at(limits, [LimitUse("any")] * min(150, 3 * found.amount + 1))
    assert most_in_a_window(grants, "requests", found.period_ms) <= found.amount
    periods = (grants[-1][0] - grants[0][0]) / found.period_ms
    assert periods <= (len(grants) - 1) / found.amount * 1.05 + 0.05


async def test_each_key_has_the_whole_limit_for_itself(producer: FlowProducer, limits: Limits) -> None:
    await producer.set_limit("api", rate="1/h")
    answers = [await limits.acquire(LimitUse("api", (), key), f"p{key}", "h", LEASE_MS) for key in ("user:1", "user:2", "")]
    assert [isinstance(answer, Granted) and answer.at <= answer.now for answer in answers] == [True] * 3
    again = await limits.acquire(LimitUse("api", (), "user:1"), "p4", "h", LEASE_MS)
    assert isinstance(again, Granted)
    assert again.at - again.now > 3_000_000


async def test_the_same_permit_asked_for_twice_counts_once(producer: FlowProducer, limits: Limits) -> None:
    await producer.set_limit("api", rate="2/h", concurrency=2)
    first = await limits.acquire(LimitUse("api"), "p1", "h", LEASE_MS)
    assert isinstance(first, Granted)
    second = await limits.acquire(LimitUse("api"), "p1", "h", LEASE_MS)
    assert isinstance(second, Granted)
    assert first.at == second.at
    assert isinstance(await limits.acquire(LimitUse("api"), "p2", "h", LEASE_MS), Granted)
    assert (await producer.limits())[0].held == 2


async def test_what_was_granted_for_later_and_not_used_is_taken_back(producer: FlowProducer, limits: Limits) -> None:
    await producer.set_limit("api", rate="10/h")
    use = LimitUse("api", (("requests", 10),))
    await granted_at(limits, [use])
    waiting = await limits.acquire(use, "late", "h", LEASE_MS)
    assert isinstance(waiting, Granted)
    await limits.give_back(use, "h", ["late"], is_unused=True)
    after = await limits.acquire(use, "later", "h", LEASE_MS)
    assert isinstance(after, Granted)
    assert after.at == waiting.at


async def test_places_are_given_in_the_order_of_asking(producer: FlowProducer, limits: Limits) -> None:
    await producer.set_limit("gpu", concurrency=1)
    use = LimitUse("gpu")
    assert isinstance(await limits.acquire(use, "p0", "h", LEASE_MS), Granted)
    for number in (1, 2, 3):
        answer = await limits.acquire(use, f"p{number}", "h", LEASE_MS)
        assert isinstance(answer, Waits)
        assert answer.ahead == number - 1
    await limits.give_back(use, "h", ["p0"])
    assert isinstance(await limits.acquire(use, "p3", "h", LEASE_MS), Waits)
    assert isinstance(await limits.acquire(use, "p1", "h", LEASE_MS), Granted)
    await limits.give_back(use, "h", ["p2"])  # it does not want to wait any more
    await limits.give_back(use, "h", ["p1"])
    assert isinstance(await limits.acquire(use, "p3", "h", LEASE_MS), Granted)


async def test_permits_of_a_dead_holder_expire_and_those_of_a_living_one_do_not(producer: FlowProducer, limits: Limits) -> None:
    await producer.set_limit("gpu", concurrency=2)
    use = LimitUse("gpu")
    assert isinstance(await limits.acquire(use, "p1", "dead", 200), Granted)
    assert isinstance(await limits.acquire(use, "p2", "alive", 200), Granted)
    await limits.extend(LEASE_MS, ["alive"])
    async with asyncio.timeout(20):
        while isinstance(answer := await limits.acquire(use, "p3", "new", LEASE_MS), Waits):
            pass  # each turn is a round trip
    assert isinstance(answer, Granted)
    await limits.extend(LEASE_MS, ["dead"])  # too late: it is not revived
    assert isinstance(await limits.acquire(use, "p4", "new", LEASE_MS), Waits)
    assert (await producer.limits())[0].held == 2


# ── in stages ────────────────────────────────────────────────────────────────────────────────────────────────────────


@stage
async def cl_ask(number: int) -> int:
    async with limit("model", tokens=10):
        await busy(model=1)
    return number


@stage
def cl_ask_in_thread(number: int) -> int:
    with limit("model", tokens=10):
        return number


@stage(limits=[limit("model", tokens=1)])
async def cl_limited(number: int) -> int:
    await busy(model=1)
    return number


@stage(limits=[limit("gate")], timeout=60)
async def cl_gated(number: int) -> int:
    await gate.stop_async()
    return number


@stage(limits=[limit("user", key="user:{user}")])
async def cl_of_user(user: str) -> str:
    return user


@stage
def cl_ask_in_a_loop_of_its_own(number: int) -> int:
    async def ask() -> int:
        async with limit("gate"):
            return number

    return asyncio.run(ask())


@stage
async def cl_ask_without_async(number: int) -> int:
    with limit("gate"):
        return number


@stage
async def cl_unknown() -> None:
    async with limit("nobody-set-this"):
        pass


@pipeline
def cl_all(numbers: list[int]) -> list[int]:
    return [cl_ask(number) for number in numbers]


EVERY = (cl_ask, cl_ask_in_thread, cl_limited, cl_gated, cl_of_user, cl_unknown)


async def test_who_is_cancelled_while_it_returns_permits_returns_all_of_them(producer: FlowProducer) -> None:
    """While its process lives nothing else would: permits last as long as the lease."""
    for name in ("one", "other", "third"):
        await producer.set_limit(name, concurrency=1)
    store = producer._open.store
    limiter = Limiter(store, (await Actor(store).begin()).id)
    permits = await limiter.acquire_all([LimitUse(name) for name in ("one", "other", "third")], lambda _: None)
    assert sum(state.held for state in await producer.limits()) == 3
    returning = asyncio.create_task(give_all_back(permits))
    await asyncio.sleep(0)
    returning.cancel()

    async def none_is_held() -> bool:
        return not any(state.held for state in await producer.limits())

    await in_the_end(none_is_held)


async def test_stages_of_several_workers_keep_to_a_concurrency_together(producer: FlowProducer) -> None:
    await producer.set_limit("model", rate={"tokens": "1000/s"}, concurrency=2)
    async with working(producer, *EVERY), working(producer, *EVERY):
        assert await (await producer.add(cl_all(list(range(12))))).result(30) == list(range(12))
    assert 1 <= most["model"] <= 2
    assert (await producer.limits())[0].held == 0


async def test_a_stage_in_a_thread_keeps_to_a_limit(producer: FlowProducer) -> None:
    await producer.set_limit("model", rate={"tokens": "100/s"}, concurrency=1)
    async with working(producer, *EVERY):
        flows = [await producer.add(cl_ask_in_thread.flow(number)) for number in range(4)]
        assert [await flow.result(30) for flow in flows] == [0, 1, 2, 3]
    assert (await producer.limits())[0].held == 0


async def test_a_stage_in_a_thread_may_ask_in_a_loop_of_its_own(producer: FlowProducer, limits: Limits) -> None:
    await producer.set_limit("gate", concurrency=1)
    async with working(producer, cl_ask_in_a_loop_of_its_own):
        flows = [await producer.add(cl_ask_in_a_loop_of_its_own.flow(number)) for number in range(5)]
        assert [await flow.result(30) for flow in flows] == list(range(5))
    state = await limits.state("gate")
    assert state is not None
    assert state.held == 0


async def test_who_forgets_async_before_with_is_told_and_holds_nothing_up(producer: FlowProducer) -> None:
    await producer.set_limit("gate", concurrency=1)
    async with working(producer, cl_ask_without_async):
        with pytest.raises(FlowFailed, match=r"`with limit\('gate'\)` stands in an async function; write `async with`"):
            await (await producer.add(cl_ask_without_async.flow(1))).result(30)


async def test_a_limit_as_a_stages_option_holds_for_all_of_its_run(producer: FlowProducer) -> None:
    await producer.set_limit("model", rate={"tokens": "100/s"}, concurrency=1)
    async with working(producer, *EVERY):
        flows = [await producer.add(cl_limited.flow(number)) for number in range(5)]
        assert [await flow.result(30) for flow in flows] == list(range(5))
    assert most["model"] == 1


async def test_who_waits_for_a_limit_says_so_and_can_be_cancelled(producer: FlowProducer) -> None:
    await producer.set_limit("gate", concurrency=1)
    async with working(producer, *EVERY):
        first = await producer.add(cl_gated.flow(1))
        await gate.until_arrived()
        second = await producer.add(cl_gated.flow(2))
        snapshot = await until(second, lambda flow: flow.graph[0].reason is not None and flow.graph[0].state == "running")
        assert snapshot.graph[0].reason == Reason("rate_limited", "waits for a free place of limit gate", ("gate",))
        assert snapshot.graph[0].message == ""
        await second.cancel()
        gate.opened.set()
        assert await first.result(30) == 1
        assert await (await producer.add(cl_gated.flow(3))).result(30) == 3
    assert [(state.held, state.waiting) for state in await producer.limits()] == [(0, 0)]


async def test_a_key_may_be_made_of_the_stages_arguments(producer: FlowProducer, limits: Limits) -> None:
    await producer.set_limit("user", rate="1/h")
    async with working(producer, *EVERY):
        assert await (await producer.add(cl_of_user.flow("ada"))).result(30) == "ada"
        assert await (await producer.add(cl_of_user.flow("bob"))).result(30) == "bob"
        late = await producer.add(cl_of_user.flow("ada"))
        snapshot = await until(late, lambda flow: flow.graph[0].reason is not None and flow.graph[0].state == "running")
        reason = snapshot.graph[0].reason
        assert reason is not None
        assert re.fullmatch(r"waits (1h|59m|60m)[^,]* for limit user, until [\d-]+ [\d:]+ UTC", reason.sentence)
        await late.cancel()


async def test_a_limit_that_nobody_has_set_fails_the_stage_and_says_how_to_set_it(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        with pytest.raises(FlowFailed, match="flowq limits set nobody-set-this"):
            await (await producer.add(cl_unknown.flow())).result(30)


async def test_more_than_a_limit_ever_allows_is_refused_at_once(producer: FlowProducer, limits: Limits) -> None:
    await producer.set_limit("openai", rate={"tokens": "100/m"})
    with pytest.raises(InvalidValue, match="at most 100 tokens a minute"):
        await limits.acquire(LimitUse("openai", (("tokens", 101),)), "p", "h", LEASE_MS)
    with pytest.raises(InvalidValue, match="tokns"):
        await limits.acquire(LimitUse("openai", (("tokns", 1),)), "p", "h", LEASE_MS)
    with pytest.raises(LimitNotSet):
        await limits.acquire(LimitUse("other"), "p", "h", LEASE_MS)


async def test_limits_are_listed_changed_and_removed(producer: FlowProducer) -> None:
    await producer.set_limit("openai", rate="5/m")
    await producer.set_limit("openai", rate="100/m", concurrency=3)
    await producer.set_limit("another", concurrency=1)
    assert [(state.name, str(state.rule)) for state in await producer.limits()] == [
        ("another", "1 at once"),
        ("openai", "100 requests a minute, 3 at once"),
    ]
    assert await producer.remove_limit("another")
    assert not await producer.remove_limit("another")
    assert [state.name for state in await producer.limits()] == ["openai"]


@pytest.mark.parametrize(
    ("name", "rate", "concurrency"),
    [
        ("bad name", "1/m", None), ("{x}", "1/m", None), ("x", None, None), ("x", "fast", None), ("x", "0/m", None),
        ("x", "1/fortnight", None), ("x", {"to kens": "1/m"}, None), ("x", 5, None), ("x", None, 0), ("x", None, True),
        ("queue:gpu", "1/m", None), ("x", "1/400d", None), ("queue:", None, 2), ("tenant:", None, 2), ("queue:a:b", None, 2),
        ("tenant:7", None, 2),
    ],
)  # fmt: skip
async def test_a_rule_that_makes_no_sense_is_refused_before_it_is_written(
    producer: FlowProducer, name: str, rate: Any, concurrency: Any
) -> None:
    with pytest.raises(InvalidValue):
        await producer.set_limit(name, rate=rate, concurrency=concurrency)
    assert await producer.limits() == []


async def test_a_limit_of_no_queue_or_tenant_is_refused_with_what_a_name_is_and_still_removed(producer: FlowProducer) -> None:
    for prefix in ("queue", "tenant"):
        with pytest.raises(
            InvalidValue, match=f"limit is '{prefix}:'.*expected '{prefix}:' and the name of a {prefix}: 1 to 128"
        ):
            await producer.set_limit(f"{prefix}:", concurrency=2)
        assert not await producer.remove_limit(f"{prefix}:")
        await Limits(producer._open.store).set(f"{prefix}:", LimitRule(concurrency=2))  # as it could be once
        assert await producer.remove_limit(f"{prefix}:")
        with pytest.raises(InvalidValue, match="limit"):
            await producer.remove_limit(f"{prefix}:a b")
    assert await producer.limits() == []


def test_a_use_that_makes_no_sense_is_refused_where_it_is_written() -> None:
    wrong: list[Any] = ["", "a b", 3, None, "queue:", "tenant:"]
    for name in wrong:
        with pytest.raises(InvalidValue):
            limit(name)
    for amount in (-1, 1.5, "many", True):
        with pytest.raises(InvalidValue, match="tokens"):
            limit("x", tokens=amount)  # type: ignore[arg-type]
    for key in ("user {", "{0}", "{a.b}", "a b"):
        with pytest.raises(InvalidValue, match="key"):
            limit("x", key=key)
    with pytest.raises(InvalidValue, match="limits"):
        stage(limits=["openai"])  # type: ignore[list-item]


async def test_outside_a_stage_there_is_nobody_to_ask(producer: FlowProducer) -> None:
    with pytest.raises(NoStageContext):
        async with limit("x"):
            pass


async def test_a_wait_has_a_known_end(producer: FlowProducer) -> None:
    await producer.set_limit("slow", rate="1/10s")
    told: list[LimitWait] = []
    limiter = Limiter(producer._open.store, "h")
    await (await limiter.acquire(LimitUse("slow"))).give_back()
    hears = asyncio.Event()

    def on_wait(wait: LimitWait) -> None:
        told.append(wait)
        hears.set()

    waiting = asyncio.create_task(limiter.acquire(LimitUse("slow"), on_wait))
    await asyncio.wait_for(hears.wait(), 20)
    waiting.cancel()
    assert told[0].name == "slow"
    assert 5 < (told[0].until - await Views(producer._open.store).now()) / 1000 <= 10.2
