"""Every verb in every state: it leads where the table of transitions says, or changes nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest

from flowq.model.outcome import Claim, CompleteItem, Expand, Token, Wait, opaque
from flowq.model.states import TRANSITIONS
from flowq.store.store import Store
from flowq.store.views import Views
from tests.store.acting import Actor, again, failed, retried, snapshots, suspended
from tests.store.graphs import chain

pytestmark = pytest.mark.anyio

STATES = ("blocked", "scheduled", "ready", "running", "suspended", "completed", "failed", "cancelled", "skipped")
# A retry by hand makes the stage ready at once: it is due now.
BY_HAND = {("retry", state): "ready" for state in ("completed", "failed", "cancelled", "skipped")}
# A stage without a record is claimed by its entry in a lane: it is a root, or it would have none. No lane ever has an entry of a
# blocked stage, so what a claim would do then is not tried.
UNHEARD_OF = {("claim", "blocked")}
WALKS = [
    pytest.param(verb, state, id=f"{verb} {state}") for verb in TRANSITIONS for state in STATES if (verb, state) not in UNHEARD_OF
]


class Walk:
    """The second stage of a chain of two, `s-1`, is what all this is about."""

    def __init__(self, store: Store, actor: Actor, *, waits: bool) -> None:
        self.store, self.actor = store, actor
        # For a signal, where it is suspended; else it is a map.
        self.waits = waits
        self.tag = store.keys.tag_of("f1")
        self.spec = chain(2, attempts=5)
        # Until it is claimed nobody has a token for it; a forged one must do.
        self.item: Claim | None = None
        self.claim = Claim("f1", 1, self.spec.plan.digest, Token(1, "forged"), 1, 0, 0, 0, b"", {}, "default:s")

    async def into(self, state: str) -> None:
        await self.store.submit([("f1", self.spec)])
        self.first = await self.actor.claim_one()
        if state == "blocked":
            return
        await self.actor.complete(self.first)
        if state == "ready":
            return
        self.claim = await self.actor.claim_one()
        match state:
            case "scheduled":
                await self.actor.report(retried(self.claim, 60_000))
            case "suspended":
                if self.waits:
                    await self.actor.report(suspended(self.claim, Wait("signal", "go")))
                    return
                await self.suspend()
                self.item = await (await Actor(self.store).begin()).claim_one()  # else it would be rescued with its map's holder
            case "completed":
                await self.actor.complete(self.claim)
            case "failed":
                await self.actor.report(failed(self.claim))
            case "skipped":
                await self.actor.report(await self.actor.skipped(self.claim))
            case "cancelled":
                await self.store.cancel("f1", "", 2)

    async def state(self) -> str:
        return (await snapshots(self.store).snapshot("f1")).stage("s-1").state

    async def apply(self, verb: str) -> None:
        verbs: dict[str, Callable[[], Awaitable[object]]] = {
            "release": lambda: self.actor.complete(self.first),
            "delay": self.delay,
            "promote": self.promote,
            "claim": self.claim_by_a_stray_entry,
            "suspend": self.suspend,
            "complete": self.complete,
            "skip": self.skip,
            "fail": lambda: self.actor.report(failed(self.item or self.claim)),
            "retry": self.retry,
            "rescue": self.rescue,
            "resume": self.resume,
            "cancel": lambda: self.store.cancel("f1", "", 2),
        }
        await verbs[verb]()

    async def delay(self) -> None:
        """The first stage completes, and what it releases is to wait."""
        waiting = opaque(msgspec.msgpack.encode([(1, "default:s", 0, 1, [0], 60_000)]))
        await self.actor.report(msgspec.structs.replace(await self.actor.completed(self.first), parents=waiting))

    async def suspend(self) -> None:
        """As a map of one item; when that ends, so does the stage."""
        await self.actor.report(Expand(*self.claim.run, 1, 1, 0))

    async def complete(self) -> None:
        if self.item is None:
            await self.actor.complete(self.claim)
        else:
            await self.actor.report(CompleteItem(*self.item.run, opaque(b"\xc0"), opaque(b""), opaque(b"\x90")))

    async def promote(self) -> None:
        await self.store.connection.command("ZADD", f"{self.tag}:due", await Views(self.store).now() - 5, "1:f1")
        await self.actor.exchange(tag=self.tag)

    async def claim_by_a_stray_entry(self) -> None:
        """An entry in a lane is a hint; what counts is the stage's own record."""
        await self.store.connection.command("RPUSH", f"{self.tag}:q:default:s:0", "1:f1")
        await self.store.connection.command("ZADD", f"{self.tag}:z:default:s", 0, "0")
        await self.actor.exchange(tag=self.tag, capacity=5)

    async def retry(self) -> None:
        if await self.state() in ("completed", "failed", "cancelled", "skipped"):
            snapshot = await snapshots(self.store).snapshot("f1")
            await self.store.retry("f1", snapshot.seq, again(snapshot, self.spec.plan, ["s-1"]))
        else:
            await self.actor.report(retried(self.claim, 60_000))

    async def skip(self) -> None:
        await self.actor.report(await self.actor.skipped(self.claim))

    async def resume(self) -> None:
        """As if its time had come; a signal is an event of the flow, whoever waits for it."""
        if await self.state() != "scheduled":
            await self.promote()

    async def rescue(self) -> None:
        await self.store.connection.command("SADD", f"{self.tag}:x:{self.actor.id}", "1:f1")
        await self.store.rescue(self.tag, self.actor.id, "gone", is_crash=False)


@pytest.mark.parametrize(("verb", "state"), WALKS)
async def test_a_verb_leads_where_the_table_says_or_nowhere(store: Store, actor: Actor, verb: str, state: str) -> None:
    walk = Walk(store, actor, waits=verb == "resume")
    await walk.into(state)
    assert await walk.state() == state
    before = (await snapshots(store).snapshot("f1")).seq
    await walk.apply(verb)
    sources, target = TRANSITIONS[verb]
    expected = BY_HAND.get((verb, state), target) if state in sources else state
    assert await walk.state() == expected
    if state not in sources and not (verb == "cancel" or (verb in ("rescue", "release", "delay") and state == "blocked")):
        assert (await snapshots(store).snapshot("f1")).seq == before, "what changes nothing tells nothing"
