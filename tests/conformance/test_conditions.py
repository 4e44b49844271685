"""Stages that run only if a condition holds."""

from __future__ import annotations

import msgspec
import pytest

from flowq import FlowProducer, context, pipeline, stage
from flowq.errors import InvalidValue
from tests.conformance.scene import ran
from tests.engine.work import told, working

pytestmark = pytest.mark.anyio


class Probed(msgspec.Struct):
    has_audio: bool
    seconds: float


@stage
async def cc_probe(has_audio: bool) -> Probed:
    return Probed(has_audio, 1.5)


@stage
async def cc_caption(seconds: float) -> str:
    ran["cc_caption"] += 1
    return f"captions of {seconds} s"


@stage
async def cc_mux(captions: str | None) -> str:
    ran["cc_mux"] += 1
    return captions or "no captions"


@stage
async def cc_note() -> str:
    return context().stage


@pipeline
def cc_video(has_audio: bool) -> str:
    probed = cc_probe(has_audio)
    return cc_mux(cc_caption.when(probed.has_audio)(probed.seconds))


@pipeline
def cc_fixed(wanted: bool) -> str:
    return cc_mux(cc_caption.when(wanted)(2.0))


@pipeline
def cc_only_ordered(has_audio: bool) -> str:
    probed = cc_probe(has_audio)
    skipped = cc_caption.when(probed.has_audio)(3.0)
    return cc_note.with_options(name="after", after=[skipped])()


EVERY = (cc_probe, cc_caption, cc_mux, cc_note)


async def test_a_stage_whose_condition_holds_runs(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        assert await (await producer.add(cc_video(True))).result(30) == "captions of 1.5 s"


async def test_a_stage_whose_condition_does_not_hold_is_skipped_and_gives_none(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cc_video(False))
        assert await flow.result(30) == "no captions"
    snapshot = await flow.inspect()
    skipped = snapshot.stage("cc_caption")
    assert (skipped.state, skipped.result, skipped.reason, skipped.failure) == ("skipped", None, None, None)
    assert (snapshot.state, snapshot.progress, snapshot.done) == ("completed", 1.0, 3)
    assert ran == {"cc_mux": 1}
    assert "skipped cc_caption" in await told(flow)


@pytest.mark.parametrize("wanted", [True, False])
async def test_a_condition_may_be_a_value(producer: FlowProducer, wanted: bool) -> None:
    async with working(producer, *EVERY):
        assert await (await producer.add(cc_fixed(wanted))).result(30) == ("captions of 2.0 s" if wanted else "no captions")
    assert ran["cc_caption"] == wanted


async def test_who_only_waits_for_a_skipped_stage_runs(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        assert await (await producer.add(cc_only_ordered(False))).result(30) == "after"


async def test_a_flow_of_one_skipped_stage_gives_none(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cc_caption.when(False).flow(1.0))
        assert await flow.result(30) is None
    assert (await flow.inspect()).state == "completed"


async def test_a_skipped_stage_runs_when_its_condition_holds_at_a_retry(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cc_video(False))
        assert await flow.result(30) == "no captions"
        assert await flow.retry(from_stage="cc_probe", overrides={"has_audio": True}) == 3
        assert await flow.result(30) == "captions of 1.5 s"
    assert [run.outcome for run in (await flow.inspect()).stage("cc_caption").history] == ["skipped"]


def test_a_condition_is_a_bool_or_a_result_declared_to_be_one() -> None:
    for wrong in (1, "yes", None):
        with pytest.raises(InvalidValue, match="condition of cc_caption"):
            cc_caption.when(wrong)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    @pipeline
    def cc_of_a_number(has_audio: bool) -> str:
        return cc_mux(cc_caption.when(cc_probe(has_audio).seconds)(1.0))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    with pytest.raises(InvalidValue, match="declared to be one"):
        cc_of_a_number(True)


def test_options_and_conditions_go_together_in_either_order() -> None:
    one = cc_caption.when(False).with_options(name="named", attempts=3)
    other = cc_caption.with_options(name="named", attempts=3).when(False)
    assert one.flow(1.0).plan == other.flow(1.0).plan
    assert one.flow(1.0).literals == other.flow(1.0).literals
