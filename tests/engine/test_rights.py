"""Users of a server that may not do everything: what flowq needs is said before anything is written, and its remedy is enough."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flowq import FlowProducer, Node, Worker, stage
from flowq.engine.backend import Backend
from flowq.engine.client.doctor import examine
from flowq.engine.duties.duties import Pruner
from flowq.engine.worker.supervisor import Supervisor
from flowq.errors import InvalidValue, ServerForbids, ServerIsReplica
from flowq.settings import Settings
from flowq.store.connection import Connection
from flowq.store.script_loader import script
from flowq.store.views import Views
from tests.engine.supervised import options_for
from tests.engine.work import told as told_of
from tests.engine.work import working
from tests.servers import running_valkey

pytestmark = pytest.mark.anyio

EVERYTHING = ("~*", "&*", "+@all")
# As docs/how-to/deploy.md has it.
READING = ("%R~{flowq*", "+@read", "+@connection", "-@dangerous", "+info", "+time")
TRIED = re.findall(r"\{'([A-Z]+)'", script("trial").source)
COMMANDS = [command.lower() for command in sorted({"EVAL", "EVALSHA", "SSUBSCRIBE", "SUNSUBSCRIBE", *TRIED})]


@stage
async def rights_twice(number: int) -> int:
    return 2 * number


@pytest.fixture
async def url(anyio_backend: str) -> AsyncIterator[str]:
    """A server of one's own, to set up."""
    with running_valkey() as server:
        yield server


@pytest.fixture
async def used(url: str) -> str:
    """The same, where flows have run before."""
    async with FlowProducer(url) as producer, working(producer, rights_twice):
        assert await (await producer.add(rights_twice.flow(1), id="before")).result(30) == 2
    return url


async def told(url: str, *words: str) -> object:
    """What the server answers to somebody who may everything."""
    admin = Connection(url)
    try:
        return await admin.command(*words)
    finally:
        await admin.close()


async def as_user(url: str, *rules: str) -> str:
    """The URL for a new user with these rules."""
    await told(url, "ACL", "SETUSER", "limited", "reset", "on", ">pw", *rules)
    return url.replace("unix://", "unix://limited:pw@")


async def everything(url: str) -> dict[bytes, object]:
    """Every key and its value."""
    keys = await told(url, "KEYS", "*")
    assert isinstance(keys, list)
    return {key: await told(url, "DUMP", key) for key in sorted(keys)}


async def level_of_rights(url: str) -> str:
    """What doctor thinks of them."""
    backend = await Backend.open(Settings(url=url), name="flowq:doctor")
    findings = {finding.name: finding.level for finding in await examine(backend)}
    await backend.close()
    return findings["rights"]


async def test_what_the_remedy_grants_is_enough_for_whoever_may_nothing(url: str) -> None:
    limited = await as_user(url, "-@all")
    with pytest.raises(ServerForbids) as refusal:
        await FlowProducer(limited).__aenter__()
    granted = [word for word in refusal.value.remedy.split() if word.startswith(("~", "&", "+", "-"))]
    assert len(granted) == 5
    await told(url, "ACL", "SETUSER", "limited", *granted)
    async with FlowProducer(limited) as producer, working(producer, rights_twice):
        assert await (await producer.add(rights_twice.flow(4))).result(30) == 8
        assert [flow.state for flow in await producer.list()] == ["completed"]
    assert await level_of_rights(limited) == "ok"


async def test_who_lacks_one_command_is_refused_before_anything_is_written(used: str) -> None:
    before = await everything(used)
    for command in COMMANDS:
        limited = await as_user(used, *EVERYTHING, f"-{command}")
        with pytest.raises(ServerForbids, match=command):
            async with FlowProducer(limited) as producer:
                await producer.add(rights_twice.flow(4))
        with pytest.raises(ServerForbids, match=command):
            await Worker(limited, stages=[rights_twice]).run()
        assert await everything(used) == before


async def test_all_that_is_missing_is_said_at_once(used: str) -> None:
    limited = await as_user(used, *EVERYTHING, "-xadd", "-ltrim", "-ssubscribe", "-eval", "resetchannels")
    async with FlowProducer(limited) as producer:
        with pytest.raises(ServerForbids, match=r"the commands eval, ltrim, ssubscribe, xadd; the channels \{flowq:0\}:…"):
            await producer.add(rights_twice.flow(4))


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        (("~*", "+@all", "resetchannels"), "the channels"),
        (("~*", "+@all", "resetchannels", "&*:wake:*"), "the channels"),
        (("~*", "&*", "+@all", "-spublish"), "the command spublish"),
        (("~other*", "~{flowq}:meta", "&*", "+@all"), "the keys"),
        (("~{flowq:0}", "~{flowq}:meta", "&*", "+@all"), "the keys"),
        (("%R~*", "&*", "+@all"), "the keys"),
    ],
)
async def test_who_lacks_keys_or_channels_is_told_which(url: str, rules: tuple[str, ...], missing: str) -> None:
    limited = await as_user(url, *rules)
    with pytest.raises(ServerForbids, match=rf"needs: {missing}[^;]*; grant"):
        await FlowProducer(limited).__aenter__()
    assert await everything(url) == {}


async def test_a_large_flow_is_refused_before_its_first_piece_is_written(used: str) -> None:
    limited = await as_user(used, *EVERYTHING, "-rename")
    parts = [Node(f"part-{number}", stage="part", data={"number": number}) for number in range(600)]
    before = await everything(used)
    async with FlowProducer(limited) as producer:
        with pytest.raises(ServerForbids, match="rename"):
            await producer.add(Node("all", children=parts))
    assert await everything(used) == before


@pytest.mark.parametrize("rules", [READING, (*EVERYTHING, "-sunsubscribe")], ids=["reading", "no sunsubscribe"])
async def test_who_lacks_rights_can_look_at_everything_and_change_nothing(used: str, rules: tuple[str, ...]) -> None:
    before = await everything(used)
    async with FlowProducer(await as_user(used, *rules)) as producer:
        flow = producer.flow("before")
        assert [listed.id for listed in await producer.list()] == ["before"]
        assert (await flow.inspect()).state == "completed"
        assert (await told_of(flow))[-1] == "completed"
        assert await flow.result() == 2
        for _ in range(4):  # more often than there are connections: none is spoiled by the refusal
            with pytest.raises(ServerForbids):
                await producer.add(rights_twice.flow(4))
            with pytest.raises(ServerForbids):
                await flow.cancel()
        assert (await flow.inspect()).state == "completed"
    assert await everything(used) == before


async def test_who_may_not_subscribe_is_told_instead_of_waiting_too_long(used: str) -> None:
    async with FlowProducer(used) as producer, FlowProducer(await as_user(used, *READING)) as reader:
        await producer.add(rights_twice.flow(4), id="waits")
        with pytest.raises(ServerForbids, match="ssubscribe"):
            await reader.flow("waits").result(4)  # less than what it waits at most between two looks
        await told(used, "ACL", "SETUSER", "limited", "+ssubscribe", "+sunsubscribe", "&*")
        waiting = asyncio.create_task(reader.flow("waits").result(30))
        async with working(producer, rights_twice):
            assert await waiting == 8


async def test_a_worker_process_that_lacks_a_right_ends_before_it_loads_its_modules(used: str, tmp_path: Path) -> None:
    settings = Settings(url=await as_user(used, *EVERYTHING, "-spop"))
    with pytest.raises(ServerForbids, match="spop"):
        await Supervisor(settings, options_for(tmp_path / "is_not_there.py")).run()


async def test_a_pruner_that_may_not_prune_takes_nothing_off_the_list_of_ended_flows(used: str) -> None:
    backend = await Backend.open(Settings(url=await as_user(used, *EVERYTHING, "-zrem")), name="flowq:pruner")
    with pytest.raises(ServerForbids, match="zrem"):
        await Pruner(backend.store, Views(backend.store)).run_once()
    await backend.close()


async def test_doctor_names_what_is_missing(used: str) -> None:
    assert await level_of_rights(await as_user(used, *EVERYTHING, "-hdel")) == "fail"
    assert await level_of_rights(await as_user(used, *EVERYTHING)) == "ok"


async def test_rights_are_tried_once_by_each_client(used: str) -> None:
    async with FlowProducer(used) as producer:
        await told(used, "CONFIG", "RESETSTAT")
        for number in range(3):
            await producer.add(rights_twice.flow(number))
        stats = await told(used, "INFO", "commandstats")
    assert isinstance(stats, dict)
    assert (stats["cmdstat_eval"]["calls"], stats["cmdstat_ssubscribe"]["calls"]) == (1, 2)


async def test_the_trial_leaves_nothing_that_stays(used: str) -> None:
    await as_user(used, *EVERYTHING, "-del", "-unlink")
    before = await everything(used)
    with pytest.raises(ServerForbids, match="del, unlink"):
        await Worker(used.replace("unix://", "unix://limited:pw@"), stages=[rights_twice]).run()
    left = (await everything(used)).keys() - before.keys()
    assert all([await told(used, "PTTL", key.decode()) != -1 for key in left])


async def test_a_full_server_lets_new_clients_finish_what_it_has(used: str) -> None:
    async with FlowProducer(used) as producer:
        await producer.add(rights_twice.flow(4), id="waits")
    await told(used, "CONFIG", "SET", "maxmemory", "1mb")
    async with FlowProducer(used) as producer:
        assert await producer.flow("waits").cancel()


async def test_a_server_that_became_a_replica_is_said_to_be_one(used: str) -> None:
    async with FlowProducer(used) as producer:
        await told(used, "REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(ServerIsReplica):
            await producer.add(rights_twice.flow(4))


async def test_a_message_that_is_refused_in_the_middle_leaves_nothing_by_halves(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowq.engine.flow.handle._POLL_SECONDS", 0.1)  # nobody can tell of the end
    limited = await as_user(url, *EVERYTHING)
    async with FlowProducer(limited) as producer, working(producer, rights_twice):
        assert await (await producer.add(rights_twice.flow(1))).result(30) == 2
        await told(url, "ACL", "SETUSER", "limited", "-spublish")
        flow = await producer.add(rights_twice.flow(5))
        assert await flow.result(30) == 10
        assert [listed.state for listed in await producer.list()] == ["completed", "completed"]


async def test_a_database_that_the_server_has_not_is_a_wrong_url(url: str) -> None:
    with pytest.raises(InvalidValue, match="database number"):
        await FlowProducer(f"{url}?db=99").__aenter__()


@pytest.mark.parametrize("name", ["two words", "ends\n"])
async def test_a_refusal_while_a_connection_is_set_up_is_told_at_once(url: str, name: str) -> None:
    connection = Connection(url, name=name, patience=600)
    with pytest.raises(ServerForbids, match="Client names"):
        await connection.command("PING")
    await connection.close()
