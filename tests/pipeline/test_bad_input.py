"""Arguments that can't be stored, or are too large: refused with the path to the culprit before anything is written."""

from __future__ import annotations

import datetime
import pathlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from flowq.errors import FlowqError, ValueNotStorable, ValueTooLarge
from flowq.pipeline import Node, pipeline, spec_from_node
from tests.pipeline.short_video import Published, download, store

LIMIT = 65_536


def _cyclic() -> list[Any]:
    held: list[Any] = []
    held.append(held)
    return held


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


async def _coroutine() -> None: ...


UNSTORABLE: dict[str, tuple[Callable[[], Any], str]] = {
    "object": (object, r"value can't be stored: builtins\.object"),
    "function": (lambda: print, "value can't be stored"),
    "lambda": (lambda: lambda: None, "value can't be stored"),
    "generator": (lambda: (n for n in ()), "value can't be stored"),
    "path": (lambda: pathlib.Path("x"), r"pathlib\."),
    "class": (lambda: Published, "value can't be stored: .*it was not called"),
    "stage": (lambda: store, r"value can't be stored: flowq\.pipeline\.stage\.Stage: it was not called: pass what it gives"),
    "in a list": (lambda: [1, [object()]], r"value\[1\]\[0\] can't be stored"),
    "in a dict": (lambda: {"a": {"b": object()}}, r"value\['a'\]\['b'\] can't be stored"),
    "in a struct": (lambda: Published(video=object()), r"value\.video can't be stored"),  # type: ignore[arg-type]
    "int key": (lambda: {1: 2}, r"value \(key\) can't be stored: int can't be a key"),
    "tuple key": (lambda: {(1, 2): 3}, "tuple can't be a key"),
    "none key": (lambda: {None: 3}, "NoneType can't be a key"),
    "2**64": (lambda: 2**64, "outside 64 bits"),
    "10**5000": (lambda: [10**5000], r"value\[0\] can't be stored: a whole number outside 64 bits"),
    "lone surrogate": (lambda: "a\ud800", "surrogates"),
    "holds itself": (_cyclic, "nested deeper than 64 levels, or holds itself"),
    "10,000 deep": (lambda: _deep(10_000), "nested deeper than 64 levels"),
    "complex": (lambda: 1j, "complex"),
    "extension": (lambda: msgspec.msgpack.Ext(1, b"x"), r"value can't be stored: .*extension \(code 1\)"),
    "extension in a list": (lambda: [msgspec.msgpack.Ext(0x51, b"0")], r"value\[0\] can't be stored: .*extension"),
    "bytes that are no msgpack": (lambda: [msgspec.Raw(b"\xc1")], r"value\[0\] can't be stored: msgspec\.Raw"),
}


@pytest.mark.parametrize("case", UNSTORABLE)
def test_a_value_that_can_not_be_stored_is_refused_with_its_path(case: str) -> None:
    make, message = UNSTORABLE[case]

    @pipeline
    def of_value(value: Any) -> Any:
        return store(value)

    @pipeline
    def in_body() -> Any:
        return store(make())

    for where, use in [
        ("store", lambda: store.flow(make())),
        ("of_value", lambda: of_value(make())),
        ("store", in_body),
        ("x", lambda: spec_from_node(Node("x", data={"value": make()}))),
    ]:
        with pytest.raises(ValueNotStorable, match=f"(?s)^{where}: .*{message}"):
            use()


def test_a_culprit_beside_a_promise_is_found() -> None:
    @pipeline
    def mixed() -> Any:
        return store([download("u"), {"a": object()}])

    with pytest.raises(ValueNotStorable, match=r"store: value\[1\]\['a'\] can't be stored: builtins\.object"):
        mixed()


@pytest.mark.parametrize("forged", [msgspec.msgpack.Ext(0x51, b"0"), msgspec.msgpack.Ext(1, b""), msgspec.Raw(b"\xd4\x510")])
def test_nothing_a_user_gives_passes_for_a_promise(forged: Any) -> None:
    @pipeline
    def mixed() -> Any:
        return store([download("u"), forged])

    with pytest.raises(ValueNotStorable, match=r"value\[1\] can't be stored"):
        mixed()


def test_the_path_into_a_bottomless_value_is_cut() -> None:
    with pytest.raises(ValueNotStorable) as refused:
        store.flow(_cyclic())
    assert len(refused.value.path) < 50


def test_a_coroutine_as_an_argument_is_refused() -> None:
    coroutine = _coroutine()
    with pytest.raises(ValueNotStorable, match="coroutine"):
        store.flow(coroutine)
    coroutine.close()


@pytest.mark.parametrize(
    "value",
    [
        *[0, -(2**63), 2**64 - 1, 2**53 + 1, -0.0, 1e308, "", "\x00", "é" * 10, b"\x00\xff", [], {}, [[]], None, True],
        *[datetime.datetime(2026, 1, 1), datetime.date(2026, 1, 1), datetime.timedelta(1), {"": 1}, 12345678901234567],
    ],
)
def test_what_msgspec_carries_is_taken_as_it_is(value: Any) -> None:
    stored = msgspec.msgpack.decode(store.flow(value).literals[0])["value"]
    expected = msgspec.to_builtins(value, builtin_types=(bytes,))
    assert stored == expected
    assert type(stored) is type(expected)


def test_the_limit_of_inputs_is_exact_and_names_the_argument_and_the_way_out() -> None:
    overhead = len(store.flow(b"x" * 60_000).literals[0]) - 60_000
    store.flow(b"x" * (LIMIT - overhead))
    with pytest.raises(ValueTooLarge, match=r"store: value takes 65,5\d\d bytes, more than 65,536; upload it"):
        store.flow(b"x" * (LIMIT - overhead + 1))


def test_many_small_arguments_that_are_too_large_together_are_refused() -> None:
    with pytest.raises(ValueTooLarge, match="all arguments together"):
        spec_from_node(Node("x", data={f"argument{n}": "x" * 10_000 for n in range(7)}))


def test_large_literals_around_promises_are_refused() -> None:
    @pipeline
    def padded() -> Any:
        return store([download("u"), "x" * LIMIT])

    with pytest.raises(ValueTooLarge, match="store: value takes"):
        padded()


def test_a_message_never_shows_more_than_80_characters_of_a_value() -> None:
    with pytest.raises(FlowqError) as refused:
        download.flow(["\x1b[31m" * 1000])  # type: ignore[arg-type]
    assert len(str(refused.value)) < 300
    assert "\x1b" not in str(refused.value)
