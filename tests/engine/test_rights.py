"""Users of a server that may not do everything: what flowq needs is said before anything is written, and its remedy is enough."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from flowq import FlowProducer, stage
from flowq.engine.backend import Backend
from flowq.engine.doctor import examine
from flowq.errors import InvalidValue, ServerForbids
from flowq.settings import Settings
from flowq.store.connection import Connection
from tests.engine.work import working
from tests.servers import running_valkey

pytestmark = pytest.mark.anyio


@stage
async def rights_twice(number: int) -> int:
    return 2 * number


@pytest.fixture
async def url(anyio_backend: str) -> AsyncIterator[str]:
    """A server of one's own, to set up."""
    with running_valkey() as server:
        yield server


async def as_user(url: str, *rules: str) -> str:
    """The URL for a new user with these rules."""
    admin = Connection(url)
    await admin.command("ACL", "SETUSER", "limited", "reset", "on", ">pw", *rules)
    await admin.close()
    return url.replace("unix://", "unix://limited:pw@")


async def keys(url: str) -> list[bytes]:
    admin = Connection(url)
    found = await admin.command("KEYS", "*")
    await admin.close()
    return found


async def test_what_the_remedy_grants_is_enough(url: str) -> None:
    remedy = ServerForbids(url, "").remedy
    keys_granted, channels_granted = (word for word in remedy.split() if word.startswith(("~", "&")))
    limited = await as_user(url, keys_granted, channels_granted, "+@all", "-@dangerous", "+info")
    async with FlowProducer(limited) as producer, working(producer, rights_twice):
        assert await (await producer.add(rights_twice.flow(4))).result(30) == 8
        assert [flow.state for flow in await producer.list()] == ["completed"]
    backend = await Backend.open(Settings(url=limited), name="flowq:doctor")
    assert {finding.name: finding.level for finding in await examine(backend)}["rights"] == "ok"
    await backend.close()


@pytest.mark.parametrize(
    "rules", [("~*", "+@all", "resetchannels"), ("~*", "&*", "+@all", "-publish")], ids=["channels", "publish"]
)
async def test_who_may_send_no_messages_is_refused_at_once(url: str, rules: tuple[str, ...]) -> None:
    with pytest.raises(ServerForbids, match="channels"):
        await FlowProducer(await as_user(url, *rules)).__aenter__()


async def test_a_message_that_is_refused_in_the_middle_leaves_nothing_by_halves(url: str) -> None:
    limited = await as_user(url, "~*", "&*", "+@all")
    async with FlowProducer(limited) as producer, working(producer, rights_twice):
        assert await (await producer.add(rights_twice.flow(1))).result(30) == 2
        await producer._open.store.connection.command("ACL", "SETUSER", "limited", "-publish")
        flow = await producer.add(rights_twice.flow(5))
        assert await flow.result(30) == 10
        assert [listed.state for listed in await producer.list()] == ["completed", "completed"]


async def test_a_user_who_may_not_write_is_refused_before_anything_is_written(url: str) -> None:
    with pytest.raises(ServerForbids):
        await FlowProducer(await as_user(url, "%R~*", "&*", "+@all")).__aenter__()
    assert await keys(url) == []


async def test_a_database_that_the_server_has_not_is_a_wrong_url(url: str) -> None:
    with pytest.raises(InvalidValue, match="database number"):
        await FlowProducer(f"{url}?db=99").__aenter__()
