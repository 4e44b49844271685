"""Adds flows to the store: gives ids to those that have none, and says what sets a flow apart whose id is taken."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Sequence
from string import ascii_lowercase, digits
from typing import Any, TypeAlias, TypeVar

import msgspec

from flowq.errors import DefinitionError, FlowConflict, InvalidValue, ValueNotStorable, ValueTooLarge
from flowq.model.spec import FlowSpec
from flowq.pipeline import to_spec
from flowq.store.store import Store
from flowq.store.submissions import Added, bytes_of
from flowq.store.views import Views
from flowq.store.wire import Header

R = TypeVar("R")

# What many flows come from: a list, a generator, an asynchronous one.
Flows: TypeAlias = Iterable[FlowSpec[R]] | AsyncIterable[FlowSpec[R]]

# Of the arguments of flows so much is held at once, or one flow's, if they are larger.
_HELD_BYTES_MAX = 4_000_000

# Why a flow may be refused before it is sent.
_REFUSALS = (InvalidValue, DefinitionError, ValueNotStorable, ValueTooLarge)

# One for each byte. 36 does not divide 256, so four letters are a little likelier than others, which costs 0.02 bits.
_LETTERS_AND_DIGITS = bytes(ord((ascii_lowercase + digits)[byte % 36]) for byte in range(256))

# Compared as they are stored: 1 and 1.0 are different inputs.
_inputs = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])


async def batches(flows: Flows[Any], most: int) -> AsyncGenerator[list[FlowSpec[Any]], None]:
    """The flows in lists of at most so many, none of which is much larger than `_HELD_BYTES_MAX`; none is taken before its turn.

    Raises:
        NotAFlow, InvalidValue, DefinitionError, ValueNotStorable, ValueTooLarge: one of them is refused; says its position. And
            whatever the source raises. What was taken before is given first.
    """
    batch: list[FlowSpec[Any]] = []
    held, position = 0, 1
    why: Exception | None = None
    try:
        async for flow in _one_by_one(flows):
            batch.append(spec := to_spec(flow))
            held += bytes_of(spec)
            position += 1
            if len(batch) == most or held >= _HELD_BYTES_MAX:
                yield batch
                batch, held = [], 0
    except Exception as error:  # users' code: a source may raise anything
        why = _at(position, error)
    if batch:
        yield batch
    if why is not None:
        raise why


async def added(store: Store, specs: Sequence[FlowSpec[Any]]) -> list[Added]:
    """Adds flows in one call per partition; what became of each, in their order.

    Raises:
        FlowConflict: ids are taken; says which, and by what the first. The others of the batch are added.
    """
    flows = [(spec.options.id or _new_id(store, spec), spec) for spec in specs]
    try:
        return await store.submit(flows)
    except FlowConflict as conflict:
        first, *others = conflict.flow_ids
        header = await Views(store).header(first)
        raise FlowConflict(first, _difference(header, dict(flows)[first]), others) from None


def _at(position: int, error: Exception) -> Exception:
    """The error; one that refuses a flow says which it is. The source may make its flows only when it is asked for them."""
    if isinstance(error, _REFUSALS):
        error.problem = f"flow {position:,} of those to be added: {error.problem}"
    return error


async def _one_by_one(flows: Flows[Any]) -> AsyncIterator[FlowSpec[Any]]:
    if isinstance(flows, AsyncIterable):
        async for flow in flows:
            yield flow
    else:
        for flow in flows:
            yield flow


def _difference(known: Header, spec: FlowSpec[Any]) -> str:
    """What sets a stored flow apart from one that was to get its id."""
    if known.pipeline != spec.plan.pipeline:
        return f"of pipeline {known.pipeline!r}"
    was, now = _inputs.decode(known.inputs), _inputs.decode(spec.inputs)
    return f"with other inputs: {', '.join(name for name in sorted(was.keys() | now.keys()) if was.get(name) != now.get(name))}"


def _new_id(store: Store, spec: FlowSpec[Any]) -> str:
    """One in the partition of the key under which the flow is the only one: both are looked at in one step."""
    flow_id, dedup, tag_of = _new_flow_id(), spec.options.dedup, store.keys.tag_of
    while dedup is not None and tag_of(flow_id) != tag_of(dedup.name(spec.plan.pipeline)):
        flow_id = _new_flow_id()
    return flow_id


def _new_flow_id() -> str:
    """16 lowercase letters and digits, the first always a letter: 82 bits of chance, from one question to the system."""
    chance = secrets.token_bytes(16)
    return ascii_lowercase[chance[0] % 26] + chance[1:].translate(_LETTERS_AND_DIGITS).decode()
