"""What `flowq doctor` finds on a real server that is set up in this way or that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flowq import FlowProducer, stage
from flowq.engine.backend import Backend
from flowq.engine.client.doctor import examine
from flowq.model.finding import Finding
from flowq.settings import Settings
from tests.engine.work import working
from tests.servers import running_valkey

pytestmark = pytest.mark.anyio


async def found(url: str) -> dict[str, Finding]:
    """The findings by name, as a client finds them that comes now."""
    backend = await Backend.open(Settings(url=url, namespace="examined"), name="flowq:doctor")
    try:
        return {finding.name: finding for finding in await examine(backend)}
    finally:
        await backend.close()


@pytest.fixture
async def url(anyio_backend: str) -> AsyncIterator[str]:
    """A server of one's own, to set up."""
    with running_valkey() as server:
        yield server


async def told(url: str, *options: str) -> None:
    """Sets options of the server."""
    backend = await Backend.open(Settings(url=url, namespace="examined"), name="flowq:test")
    await backend.store.connection.command("CONFIG", "SET", *options)
    await backend.close()


async def test_a_bare_server_gets_warnings_with_remedies(url: str) -> None:
    findings = await found(url)
    warned = {name for name, finding in findings.items() if finding.level == "warn"}
    assert warned == {"persistence", "workers", "artifacts"}
    assert all(findings[name].remedy for name in warned)
    assert {findings[name].level for name in ("server", "memory", "clock", "rights")} == {"ok"}


@pytest.mark.parametrize(("fsync", "level"), [("always", "ok"), ("everysec", "warn"), ("no", "warn")])
async def test_persistence_is_judged_by_what_a_crash_would_cost(url: str, fsync: str, level: str) -> None:
    await told(url, "appendonly", "yes", "appendfsync", fsync)
    persistence = (await found(url))["persistence"]
    assert persistence.level == level
    assert "appendfsync always" in persistence.problem + persistence.remedy


@pytest.mark.parametrize(("maxmemory", "level"), [("1gb", "ok"), ("1", "fail")])
async def test_memory_is_judged_by_what_is_left(url: str, maxmemory: str, level: str) -> None:
    await found(url)  # the namespace's own key is there already: a full server would refuse it
    await told(url, "maxmemory", maxmemory)
    assert (await found(url))["memory"].level == level


async def test_a_worker_and_a_storage_are_found(producer: FlowProducer) -> None:
    @stage
    async def examined() -> None: ...

    async with working(producer, examined):
        await (await producer.add(examined.flow())).result(30)
        findings = {finding.name: finding for finding in await examine(producer._open)}
    assert {findings[name].level for name in ("workers", "artifacts")} == {"ok"}


@pytest.mark.parametrize("spelling", ['rename-command CONFIG ""', "user default on nopass ~* &* +@all -config"])
async def test_a_server_that_tells_no_settings_can_be_used_and_is_said_so(
    spelling: str, tmp_path: Path, anyio_backend: str
) -> None:
    (tmp_path / "hosted.conf").write_text(f"appendonly yes\n{spelling}\n")
    with running_valkey({"include": str(tmp_path / "hosted.conf"), "dir": str(tmp_path), "appendonly": "yes"}) as url:
        persistence = (await found(url))["persistence"]
    assert (persistence.level, "not told" in persistence.problem) == ("warn", True)


async def test_stages_that_no_worker_takes_are_told_with_what_is_missing(producer: FlowProducer) -> None:
    @stage
    async def doctored() -> None: ...

    @stage(needs={"doctors_gpu": 2})
    async def doctored_on_gpu() -> None: ...

    @stage
    async def nobody_doctors() -> None: ...

    async with working(producer, doctored, doctored_on_gpu):
        for one in (doctored_on_gpu, nobody_doctors):
            await producer.add(one.flow())
        (finding,) = [one for one in await examine(producer._open) if one.name == "queues"]
    assert finding.level == "warn"
    assert "no worker of queue default knows stage nobody_doctors" in finding.problem
    assert "needs doctors_gpu=2, which no worker of queue default has" in finding.problem
