"""An entry of the event stream, as scripts/emit.lua packs it."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from flowq.model.event import Verb

# The same letters as in emit.lua.
VERB_OF: Final[dict[str, Verb]] = {
    "a": "added", "x": "claimed", "c": "completed", "k": "cancelled", "d": "delayed", "f": "failed", "h": "paused",
    "g": "progressed", "p": "promoted", "z": "pruned", "r": "released", "l": "replaced", "v": "rescued", "m": "resumed",
    "t": "retried", "s": "signalled", "i": "skipped", "u": "suspended",
}  # fmt: skip
_VALUES = 4

_decoder = msgspec.msgpack.Decoder(list[Any])


class WireEvent(msgspec.Struct, frozen=True):
    """An event; stage -1 is the flow, due_at 0 none, progress -1 none. The note of a claim is who claims."""

    flow_id: str
    seq: int
    verb: Verb
    stage: int
    at: int
    attempt: int
    note: str
    due_at: int = 0
    progress: float = -1


def events_of(data: bytes) -> list[WireEvent]:
    """The events of an entry; msgspec's `DecodeError` if it can't be read."""
    try:
        at, claimer, *values = _decoder.decode(data)
        found: list[WireEvent] = []
        flow_id = ""
        for start in range(0, len(values), _VALUES):
            flow, seq, what, note = values[start : start + _VALUES]
            flow_id = flow or flow_id
            verb, (stage, _, attempt) = VERB_OF[what[0]], what[1:].partition(".")
            note, due_at, progress = (note, 0, -1) if isinstance(note, str) else note
            note = claimer if verb == "claimed" else note
            found.append(WireEvent(flow_id, seq, verb, int(stage), at, int(attempt), note, due_at, progress))
        return found
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise msgspec.DecodeError(f"no entry of events: {error}") from error
