"""Who asks for a flow that was archived is told where the archive is."""

from __future__ import annotations

import pytest

from flowq import Artifact, FlowProducer, stage
from flowq.errors import FlowNotFound
from flowq.settings import KeepSettings, Settings
from tests.engine.work import working

pytestmark = pytest.mark.anyio


@stage
async def af_work(text: str) -> str:
    return text


async def test_a_flow_that_was_archived_is_looked_for_where_the_archive_is(
    producer: FlowProducer, namespace: str, artifacts: str
) -> None:
    keep = KeepSettings(archive=True)
    async with working(producer, af_work):
        assert await (await producer.add(af_work.flow("x"), id="clip:7")).result(30) == "x"
    async with FlowProducer(
        settings=Settings(url=producer._settings.url, namespace=namespace, artifacts=artifacts, keep=keep)
    ) as archiving:
        report = await archiving.prune(pipeline="af_work")
        assert report.done == 1, report
        with pytest.raises(FlowNotFound, match="been pruned, and then stands in a file below ") as caught:
            await archiving.find("clip:7")
    place = str(caught.value).partition(" below ")[2].partition(",")[0]
    assert place == f"{artifacts}/{namespace}/archive"
    (found,) = producer.storage.objects("archive/")
    with producer.storage.open(Artifact(found.key, found.size)) as stream:
        assert stream.read().startswith(b'{"id":"clip:7",')
    with pytest.raises(FlowNotFound) as unknown:
        await producer.find("clip:7")
    assert "below" not in str(unknown.value)
