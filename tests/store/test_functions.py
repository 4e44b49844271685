"""What each stage calls is a function of the server where it can be, and a script where it can't: nobody notices which."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from flowq.errors import ServerIsFull
from flowq.store.connection import Connection
from flowq.store.script_library import Library, library
from flowq.store.script_loader import script
from flowq.store.store import Store
from tests.servers import running_valkey
from tests.store.acting import Actor
from tests.store.graphs import chain

pytestmark = pytest.mark.anyio


@pytest.fixture
async def url(anyio_backend: str) -> AsyncIterator[str]:
    """A server of one's own: functions are the whole server's, and so is its memory."""
    with running_valkey() as server:
        yield server


@pytest.fixture
async def admin(url: str) -> AsyncIterator[Connection]:
    """Somebody who may everything."""
    connection = Connection(url)
    yield connection
    await connection.close()


async def opened(url: str) -> Store:
    """A store there."""
    store = Store(Connection(url), "functions")
    await store.open(partitions=1)
    return store


async def loaded(admin: Connection) -> set[str]:
    """The scripts that the server knows as functions."""
    libraries = await admin.command("FUNCTION", "LIST", "LIBRARYNAME", "flowq_*")
    known = [dict(zip(one[::2], one[1::2], strict=True)) for one in libraries]
    return {one[b"library_name"].decode().split("_")[1] for one in known}


async def ran(store: Store, flow_id: str) -> int:
    """Runs a chain of three; how many of its stages completed."""
    await store.submit([(flow_id, chain(3))])
    return await (await Actor(store).begin()).finish()


async def test_what_each_flow_and_each_stage_calls_are_functions(url: str, admin: Connection) -> None:
    store = await opened(url)
    assert await ran(store, "f1") == 3
    assert await loaded(admin) == {"submit", "exchange"}
    await store.close()


async def test_functions_that_the_server_forgot_are_loaded_again(url: str, admin: Connection) -> None:
    store = await opened(url)
    for number in range(2):
        assert await ran(store, f"f{number}") == 3
        await admin.command("FUNCTION", "FLUSH")
        assert await loaded(admin) == set()
    await store.close()


@pytest.mark.parametrize("rule", ["-fcall", "-function|load", "-function"])
async def test_who_may_not_use_functions_calls_scripts(
    url: str, admin: Connection, rule: str, caplog: pytest.LogCaptureFixture
) -> None:
    await admin.command("ACL", "SETUSER", "limited", "reset", "on", ">pw", "~*", "&*", "+@all", rule)
    store = await opened(url.replace("unix://", "unix://limited:pw@"))
    assert await ran(store, "f1") == 3
    assert await loaded(admin) == set()
    refused = await store.connection.why_no_functions()
    assert refused is not None
    assert not refused.is_broken
    assert [record for record in caplog.records if record.levelname == "WARNING"] == [], "that is somebody's decision"
    await store.close()


async def test_a_function_that_the_server_can_not_compile_is_a_script_and_told_once(
    url: str, admin: Connection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("flowq.store.script_caller._told", set[str]())
    monkeypatch.setattr("flowq.store.script_caller.library", lambda made: Library(made.name, f"#!lua name={made.name}\nlocal ="))
    for number in range(2):
        store = await opened(url)
        assert await ran(store, f"f{number}") == 3
        refused = await store.connection.why_no_functions()
        await store.close()
    assert refused is not None
    assert refused.is_broken
    (warned,) = [record.getMessage() for record in caplog.records if "report this" in record.getMessage()]
    assert "`submit`" in warned
    assert "compiling" in warned


async def test_a_full_server_that_forgot_the_functions_still_runs_dry_and_knows_them_again_when_it_is_not(
    url: str, admin: Connection
) -> None:
    store = await opened(url)
    await store.submit([("f1", chain(3))])
    await admin.command("CONFIG", "SET", "maxmemory", "1")
    await admin.command("FUNCTION", "FLUSH")
    with pytest.raises(ServerIsFull):
        await store.submit([("f2", chain(3))])
    actor = await Actor(store).begin()
    assert await actor.finish() == 3
    assert await loaded(admin) == set()
    await admin.command("CONFIG", "SET", "maxmemory", "0")
    assert await ran(store, "f3") == 3
    assert await loaded(admin) == {"submit", "exchange"}
    await store.close()


@pytest.mark.parametrize("name", ["exchange", "submit"])
def test_variables_of_fragments_begin_anew_with_each_call(name: str) -> None:
    text = library(script(name)).source
    fragments, _, rest = text.partition("\nlocal function main()\n")
    variables = re.findall(r"^local ([a-z][\w, ]*)$", fragments, flags=re.MULTILINE)
    own = "left" if name == "exchange" else "onces, of_batch"
    assert {"views, opened", "tag", "now", "events, events_size, told_last", own} <= set(variables)
    begins = rest.rpartition("\nlocal begins = ")[2]
    assert [names for names in variables if f" {names} = " not in begins] == []
    # What stays is functions, tables of functions, and what is written in capitals.
    kept = set(re.findall(r"^local ([a-z]\w*) = ", fragments, flags=re.MULTILINE))
    assert kept == ({"apply", "promote", "dedup", "awaited"} if name == "exchange" else {"dedup"})


def test_a_function_says_the_same_line_of_an_error_as_the_script() -> None:
    made = script("exchange")
    of_script, of_function = made.source.split("\n"), library(made).source.split("\n")
    number = next(number for number, line in enumerate(of_script) if line.startswith("local function open_flow("))
    assert of_function[number] == of_script[number]
