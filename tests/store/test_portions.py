"""What is written goes to the server in portions: large arguments hold nobody up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from flowq.model.outcome import opaque
from flowq.model.spec import FlowSpec
from flowq.store.connection import Connection
from flowq.store.portions import BYTES_MAX, portions
from flowq.store.store import Store
from tests.store.acting import Actor, again, snapshots, states
from tests.store.graphs import one_stage, pack, wide

pytestmark = pytest.mark.anyio

LARGE = pack({"n": "x" * 60_000})
WIDTH = 40


def with_large_arguments(spec: FlowSpec[Any], count: int = 1) -> FlowSpec[Any]:
    return FlowSpec(spec.plan, dict.fromkeys(range(count), LARGE), spec.inputs)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each script call and each command took."""
    sizes: list[int] = []
    run, commands = Connection.run, Connection.commands

    def note(words: Sequence[Any]) -> None:
        sizes.append(sum(len(word) for word in words if isinstance(word, bytes | str)))

    async def noted_run(self: Connection, name: str, tag: str, *words: Any, **options: Any) -> Any:
        note(words)
        return await run(self, name, tag, *words, **options)

    async def noted_commands(self: Connection, *asked: Any, **options: Any) -> Any:
        for words in asked:
            note(words)
        return await commands(self, *asked, **options)

    monkeypatch.setattr(Connection, "run", noted_run)
    monkeypatch.setattr(Connection, "commands", noted_commands)
    return sizes


def test_portions_keep_the_order_and_are_bounded_in_number_and_size() -> None:
    half = BYTES_MAX // 2
    assert list(portions([1, 2, 3, 4, 5], lambda _: 1, 2)) == [[1, 2], [3, 4], [5]]
    assert list(portions([half, half, 1, 3 * half, 1], lambda size: size, 10)) == [[half, half], [1], [3 * half], [1]]
    assert list(portions([], len, 10)) == []


async def test_a_flow_with_large_arguments_is_staged(store: Store, actor: Actor, sent: list[int]) -> None:
    await store.submit([("f1", with_large_arguments(wide(WIDTH), WIDTH))])
    assert max(sent) < BYTES_MAX + len(LARGE)
    assert await store.connection.command("HGET", store.keys.flow("f1"), f"i{WIDTH - 1}") == LARGE
    assert await actor.finish() == WIDTH + 1
    assert await states(store, "f1") == f"completed:{' completed' * (WIDTH + 1)}"


async def test_a_batch_of_flows_with_large_arguments_is_added_in_several_calls(
    store: Store, actor: Actor, sent: list[int]
) -> None:
    added = await store.submit([(f"f{number}", with_large_arguments(one_stage())) for number in range(WIDTH)])
    assert [one.flow_id for one in added] == [f"f{number}" for number in range(WIDTH)]
    assert all(one.is_new for one in added)
    assert max(sent) < BYTES_MAX + len(LARGE)
    assert await actor.finish() == WIDTH


async def test_large_new_arguments_of_a_retry_are_noted_in_parts(store: Store, actor: Actor, sent: list[int]) -> None:
    spec = wide(WIDTH)
    await store.submit([("f1", spec)])
    await store.cancel("f1", "", WIDTH + 1)
    snapshot = await snapshots(store).snapshot("f1")
    wanted = msgspec.structs.replace(again(snapshot, spec.plan), literals=[(index, opaque(LARGE)) for index in range(WIDTH)])
    sent.clear()
    assert await store.retry("f1", snapshot.seq, wanted)
    assert max(sent) < BYTES_MAX + len(LARGE)
    kept = await store.connection.command("HMGET", store.keys.flow("f1"), *(f"i{index}" for index in range(WIDTH)))
    assert kept == [LARGE] * WIDTH
    assert await actor.finish() == WIDTH + 1
