"""Arguments that hold promises (or Nodes) apart: the literal part as msgpack, and where in it which result goes.

The values are encoded once with a placeholder for each hole and taken apart in their stored shape, so Structs with
renamed fields, dataclasses and named tuples need no rules of their own here.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, NoReturn, cast

import msgspec

from flowq.errors import ResultNotReady, ValueTooLarge
from flowq.model.plan import PathStep
from flowq.model.spec import FlowSpec
from flowq.model.values import INPUT_BYTES_MAX, packed, readable
from flowq.pipeline.promise import PROMISE_MARK, Hole, user_line

# Begins the text that stands for a hole while values are taken apart; nobody else can know it.
_HOLE = f"hole {secrets.token_hex(16)} "
_MARK = PROMISE_MARK.encode()
_UPLOAD = "upload it with `await producer.upload(…)` and pass the Artifact instead"


class Filled(msgspec.Struct, frozen=True):
    """A hole and its place.

    Attributes:
        into: the argument's name, then keys and indexes inside it.
        hole: what fills it.
    """

    into: tuple[PathStep, ...]
    hole: Hole


def packed_apart(values: Mapping[str, Any], where: str) -> tuple[bytes, list[Filled]]:
    """The values as a msgpack map with nil for each hole, and the holes in a fixed order.

    Args:
        values: argument → value.
        where: the stage or pipeline, for messages.

    Raises:
        ValueNotStorable: names the argument and the path inside it.
        ValueTooLarge: the literal part takes more than 65,536 bytes.
        ResultNotReady: text was made from a promise.
    """
    holes: list[Filled] = []
    try:
        literal = readable(_encoder.encode(values))
    except _HoleFound:
        literal, holes = _taken_apart(values, where)
    except (TypeError, ValueError, OverflowError, RecursionError):
        _refuse_unstorable(values, where)
    # Without the byte that each hole takes: a stage may wait for 100,000 others.
    if len(literal) - len(holes) > INPUT_BYTES_MAX:
        _refuse_too_large(values, where, len(literal))
    if _MARK in literal:
        _refuse_text_of_a_promise(values, where)
    return literal, holes


class _HoleFound(Exception):
    """Ends the first, optimistic encoding."""


def _unsupported(value: Any) -> NoReturn:
    if isinstance(value, Hole):
        raise _HoleFound
    if isinstance(value, FlowSpec):
        raise TypeError("a flow can't be an argument: nest it with subflow(…), and pass its result")
    if callable(value):
        raise TypeError("it was not called: pass what it gives")
    raise TypeError("it is of no type that msgspec carries")


_encoder = msgspec.msgpack.Encoder(enc_hook=_unsupported, order="deterministic")


def _taken_apart(values: Mapping[str, Any], where: str) -> tuple[bytes, list[Filled]]:
    holes: list[Hole] = []

    def placeholder(value: Any) -> str:
        if not isinstance(value, Hole):
            _unsupported(value)
        holes.append(value)
        return f"{_HOLE}{len(holes) - 1}"

    data = b"".join(_field(name, value, where, placeholder) for name, value in sorted(values.items()))
    plain = msgspec.msgpack.decode(_map_header(len(values)) + data)
    places = _emptied(plain)
    return _encoder.encode(plain), [Filled(into, holes[index]) for into, index in places]


def _field(name: str, value: Any, where: str, placeholder: Any) -> bytes:
    # Argument by argument, so that a refusal can name the argument and the path inside it.
    return _encoder.encode(name) + packed(value, where, name, placeholder)


def _map_header(size: int) -> bytes:
    return b"\xdf" + size.to_bytes(4, "big")


def _emptied(plain: Any) -> list[tuple[tuple[PathStep, ...], int]]:
    """Replaces placeholders in maps and lists by None; returns their paths, in the order of the encoded bytes."""
    places: list[tuple[tuple[PathStep, ...], int]] = []
    pending: list[tuple[tuple[PathStep, ...], Any]] = [((), plain)]
    while pending:
        path, container = pending.pop()
        entries = cast("Any", container.items() if isinstance(container, dict) else enumerate(container))
        for step, value in list(entries):
            if isinstance(value, str) and value.startswith(_HOLE):
                container[step] = None
                places.append(((*path, step), int(value.removeprefix(_HOLE))))
            elif isinstance(value, dict | list):
                pending.append(((*path, step), cast("Any", value)))
    return sorted(places, key=lambda place: place[1])


def _refuse_unstorable(values: Mapping[str, Any], where: str) -> NoReturn:
    for name, value in values.items():
        packed(value, where, name, _nil_for_hole)
    packed(dict(values), where, "arguments", _nil_for_hole)  # each alone is just not too deep
    raise AssertionError("the values could not be encoded, but nothing in them is wrong")


def _refuse_too_large(values: Mapping[str, Any], where: str, size_bytes: int) -> NoReturn:
    sizes = {name: len(packed(value, where, name, _nil_for_hole)) for name, value in values.items()}
    largest = max(sizes, key=sizes.__getitem__)
    if sizes[largest] * 2 < size_bytes:
        raise ValueTooLarge(where, "all arguments together", size_bytes, INPUT_BYTES_MAX, _UPLOAD)
    raise ValueTooLarge(where, largest, sizes[largest], INPUT_BYTES_MAX, _UPLOAD)


def _refuse_text_of_a_promise(values: Mapping[str, Any], where: str) -> NoReturn:
    name = next((name for name, value in values.items() if _MARK in packed(value, where, name, _nil_for_hole)), "")
    raise ResultNotReady("a stage's result", f"written into the text of {where}.{name}", user_line())


def _nil_for_hole(value: Any) -> None:
    if not isinstance(value, Hole):
        _unsupported(value)
