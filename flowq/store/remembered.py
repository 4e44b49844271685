"""What is kept of stages that were suspended, and of flows that stages spawned, as typed structs; see scripts/suspend.lua."""

from __future__ import annotations

from typing import Any

import msgspec

from flowq.model.outcome import Wait


class Remembered(msgspec.Struct, array_like=True):
    """What a stage that was suspended remembers; see scripts/suspend.lua.

    Attributes:
        waits: what it waited for when it was suspended last.
        timers: each timer it ever started and when it ends, by turns; 0: that end was seen.
        suspensions: how often it was suspended.
    """

    waits: list[Wait]
    timers: list[Any]
    suspensions: int = 0

    @property
    def ends(self) -> dict[str, int]:
        """Timer → when it ends, milliseconds since 1970; 0: that end was seen."""
        return dict(zip(self.timers[::2], self.timers[1::2], strict=True))


class Link(msgspec.Struct, array_like=True, frozen=True):
    """Where a spawned flow comes from; see scripts/tree.lua.

    Attributes:
        stage: the index of its parent's stage.
        root_created_at: when the flow at the root of the tree was added: another one may have its id later.
        run, attempt: of the parent, when it last began this flow, retried it, or found it before it had ended.
    """

    stage: int
    root_created_at: int
    run: int
    attempt: int


remembered_decoder = msgspec.msgpack.Decoder(Remembered)
link_decoder = msgspec.msgpack.Decoder(Link)


def waits_of(data: bytes | None) -> tuple[tuple[Wait, int | None], ...]:
    """What a suspended stage waits for, and until when: milliseconds since 1970."""
    known = remembered_decoder.decode(data) if data else Remembered([], [])
    return tuple((wait, known.ends.get(wait.timer) or None) for wait in known.waits)
