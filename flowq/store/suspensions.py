"""What a suspended stage waits for: signals, times, the flows that stages spawn. One short method per script, like `Store`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from flowq.errors import CorruptState, FlowConflict, FlowNotFound
from flowq.model.names import depth_of, root_id
from flowq.model.spec import FlowSpec
from flowq.store.damage import text_of
from flowq.store.keys import TREE
from flowq.store.remembered import Remembered, link_decoder, remembered_decoder, waits_of
from flowq.store.store import Store
from flowq.store.submissions import Submissions
from flowq.store.wire import Head, Header, Record

_pack = msgspec.msgpack.Encoder().encode
_head = msgspec.msgpack.Decoder(Head)
_header = msgspec.msgpack.Decoder(Header)
_record = msgspec.msgpack.Decoder(Record)
_indexes = msgspec.msgpack.Decoder(list[int])
# States, as they are stored, of flows of which a stage may wait; and that of the stage.
_OPEN, _SUSPENDED = ("r", "x", "p"), "u"

# Of one flow; the others are told by a number.
_BENEATH_SHOWN_MAX = 200
_PAGE = 500


class Memory(msgspec.Struct, frozen=True):
    """What a stage's earlier runs left, read when it first waits.

    Attributes:
        now: the server's time, milliseconds since 1970.
        run: 1 more than how often the flow was retried by hand.
        tenant: whose the flow is.
        is_fresh: whether it reuses no results.
        ends: timer → when it ends, milliseconds since 1970; 0: that end was seen.
        suspensions: how often it was suspended.
    """

    now: int
    run: int
    tenant: str
    is_fresh: bool
    ends: dict[str, int]
    suspensions: int


class Spawner(msgspec.Struct, frozen=True, array_like=True):
    """Who spawns: the run of a stage, under its token, and which run and attempt of it that is."""

    flow_id: str
    index: int
    fence: int
    nonce: str
    run: int
    attempt: int


class Spawned(msgspec.Struct, frozen=True):
    """A flow that a stage spawned.

    Attributes:
        status: its state's letter.
        plan: its plan's digest.
        is_of_this_attempt: whether this run and attempt of the parent began it, retried it, or found it before it had ended.
    """

    status: str
    plan: str
    is_of_this_attempt: bool


class Ended(msgspec.Struct, frozen=True):
    """A flow that had ended when it was deleted: its id, its plan's digest, and when it ended, milliseconds since 1970."""

    flow_id: str
    plan: str
    ended_at: int


class Felled(msgspec.Struct, frozen=True):
    """What was deleted beneath roots that are gone; `is_more`: there is more to be looked at."""

    is_more: bool
    flows: list[Ended]


class Suspensions:
    """The part of the store that suspended stages need."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._connection = store.connection
        self._submissions = Submissions(store.connection)

    async def memory(self, flow_id: str, index: int) -> Memory:
        """What a stage remembers. Raises FlowNotFound."""
        fields = ("HMGET", self._store.keys.flow(flow_id), "m", "o", f"z{index}")
        (head, header, remembered), (seconds, micros) = await self._connection.commands(fields, ("TIME",))
        if head is None or header is None:
            raise FlowNotFound(flow_id)
        now = int(seconds) * 1000 + int(micros) // 1000
        known = remembered_decoder.decode(remembered) if remembered else Remembered([], [])
        said = _header.decode(header)
        return Memory(now, _head.decode(head).run, said.tenant, said.is_fresh, known.ends, known.suspensions)

    async def signal_of(self, flow_id: str, name: str) -> bytes | None:
        """The packed value of a signal; None: it has not come."""
        return await self._connection.command("HGET", self._store.keys.flow(flow_id), f"s:{name}")

    async def is_awaited(self, flow_id: str, name: str) -> bool:
        """Whether a stage of the flow waits for this signal now."""
        key = self._store.keys.flow(flow_id)
        head, noted = await self._connection.command("HMGET", key, "m", f"w:{name}")
        if head is None or noted is None or _head.decode(head).status not in _OPEN:
            return False
        # Who waited once stays noted when it goes on for another reason.
        indexes = _indexes.decode(noted)
        fields = await self._connection.command("HMGET", key, *map(str, indexes), *(f"z{index}" for index in indexes))
        for record, remembered in zip(fields[: len(indexes)], fields[len(indexes) :], strict=True):
            is_suspended = record is not None and _record.decode(record).state == _SUSPENDED
            if is_suspended and any((wait.kind, wait.name) == ("signal", name) for wait, _ in waits_of(remembered)):
                return True
        return False

    async def signal(self, flow_id: str, name: str, value: bytes) -> str:
        """Hands a signal over; the script's word: `signalled`, `known`, `differs`, `ended` or `unknown`."""
        answer = await self._connection.run("signal", self._store.keys.tag_of(flow_id), flow_id, name, value)
        return answer[0].decode()

    async def spawn(self, child_id: str, spec: FlowSpec[Any], spawner: Spawner) -> Spawned | None:
        """Adds a flow beneath the spawner's, or finds it again; None: the spawner's run is over.

        Found before it has ended, it is of the spawner's attempt from then on.

        Raises:
            FlowConflict: the id is taken by a flow with other inputs.
        """
        tag = self._store.keys.tag_of(child_id)
        (word,) = await self._submissions.submit(tag, [(child_id, spec)], spawner)
        if word == b"stale":
            return None
        if word == b"conflict":
            raise FlowConflict(child_id, "with other inputs, which has the same key")
        head, digest, link = await self._connection.command("HMGET", self._store.keys.flow(child_id), "m", "p", "^")
        if head is None or digest is None or link is None:
            raise CorruptState(child_id, "its head", "it vanished")
        known = link_decoder.decode(link)
        is_of_this_attempt = (known.run, known.attempt) == (spawner.run, spawner.attempt)
        return Spawned(_head.decode(head).status, digest.decode(), is_of_this_attempt)

    async def beneath(self, flow_id: str, head: Head, link: bytes | None) -> list[str]:
        """The ids of the flows that stages of this one spawned, at most 200."""
        found: list[str] = []
        async for page in self.all_beneath(flow_id, head, link):
            found += [one for one in page if depth_of(one) == depth_of(flow_id) + 1]
            if len(found) >= _BENEATH_SHOWN_MAX:
                break
        return found[:_BENEATH_SHOWN_MAX]

    async def all_beneath(self, flow_id: str, head: Head, link: bytes | None) -> AsyncIterator[list[str]]:
        """The ids, in pages, of the flows that stages of this one spawned, and stages of these, and so on; beneath hooks, too."""
        root = root_id(flow_id)
        if link:
            root_created_at = link_decoder.decode(link).root_created_at
        elif root == flow_id:
            root_created_at = head.created_at
        else:  # hooks
            above = await self._connection.command("HGET", self._store.keys.flow(root), "m")
            root_created_at = _head.decode(above).created_at if above else 0
        key, own = f"{self._store.keys.tag_of(flow_id)}{TREE}{root}@{root_created_at}", flow_id[len(root) :] + "^"
        after = f"[{own}".encode()
        while page := await self._connection.command("ZRANGEBYLEX", key, after, f"({own}".encode() + b"\xff", "LIMIT", 0, _PAGE):
            yield [root + name.decode() for name in page]
            if len(page) < _PAGE:
                return
            after = b"(" + page[-1]

    async def fell(self, tag: str, *, all_now: bool = False) -> Felled:
        """Deletes flows beneath roots that are gone, 500 at most, with their hooks.

        Args:
            tag: the partition.
            all_now: look also at trees that were looked at in the last ten minutes.
        """
        is_more, flat = await self._connection.run("fell", tag, "all" if all_now else "")
        entries = zip(flat[::2], flat[1::2], strict=True)
        flows = [Ended(text_of(entry[16:]), text_of(entry[:16]), ended_at) for entry, ended_at in entries]
        return Felled(bool(is_more), flows)


async def close_orphans(store: Store, flow_id: str) -> AsyncIterator[str]:
    """Closes the flows beneath one that nobody waits for any more, if that is noted; the ids of those to be cancelled."""
    word = b"closing"
    while word == b"closing":
        word, closed = await store.connection.run("orphans", store.keys.tag_of(flow_id), flow_id)
        for child in closed:
            yield child.decode()
