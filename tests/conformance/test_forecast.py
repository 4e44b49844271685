"""How far a flow is, and how long it will still take."""

from __future__ import annotations

import msgspec
import pytest

from flowq import FlowProducer, context, pipeline, stage
from flowq.model.forecast import Forecast, StageRun
from flowq.model.snapshot import ItemsSnapshot, Reason, StageSnapshot
from flowq.store import forecasts
from flowq.store.views import Views, record_decoder
from tests.conformance.scene import gate
from tests.engine.work import until, working

pytestmark = pytest.mark.anyio


@stage
async def fo_first(number: int) -> int:
    return number


@stage
async def fo_last(number: int) -> int:
    if number < 0:
        context().progress(0.5)
        await gate.stop_async()
    return number


@pipeline
def fo_two(number: int) -> int:
    return fo_last(fo_first(number))


def snapshot_of(name: str, state: str = "blocked", *children: str, **more: object) -> StageSnapshot:
    """A stage as it stands."""
    return StageSnapshot(name=name, stage=name.partition("-")[0], queue="q", state=state, children=children, **more)  # type: ignore[arg-type]


RUNS = [
    *(StageRun("download", "download", seconds) for seconds in (1.0, 2.0, 90.0)),
    *(StageRun("encode", "encode", seconds) for seconds in (10.0, 10.0, 10.0)),
    *(StageRun("transcribe", "transcribe", seconds) for seconds in (30.0, 31.0, 32.0)),
    *(StageRun("finalize", "finalize", seconds) for seconds in (1.0, 1.0, 1.0)),
]


def video(download: StageSnapshot, encode: StageSnapshot, transcribe: StageSnapshot) -> list[StageSnapshot]:
    """download → (encode ∥ transcribe) → finalize."""
    return [download, encode, transcribe, snapshot_of("finalize", "blocked", "encode", "transcribe")]


def test_the_longest_way_through_what_is_left_decides() -> None:
    forecast = Forecast(RUNS)
    waiting = [snapshot_of(name, "blocked", "download") for name in ("encode", "transcribe")]
    begun = video(snapshot_of("download", "running", run_seconds=0.5), waiting[0], waiting[1])
    assert forecast.eta_seconds(begun, 0) == pytest.approx(1.5 + 31 + 1)
    done = snapshot_of("download", "completed", progress=1.0)
    half = snapshot_of("transcribe", "running", "download", run_seconds=20.0, progress=0.5)
    assert forecast.eta_seconds(video(done, waiting[0], half), 0) == pytest.approx(20 + 1), "what it tells itself counts more"
    late = snapshot_of("transcribe", "running", "download", run_seconds=50.0)
    assert forecast.eta_seconds(video(done, waiting[0], late), 0) == pytest.approx(10 + 1), "it is late, and may end any moment"
    again = snapshot_of("transcribe", "scheduled", "download", ready_at=5_000)
    assert forecast.eta_seconds(video(done, waiting[0], again), 1_000) == pytest.approx(4 + 31 + 1)


def test_what_waits_for_somebody_may_end_any_time() -> None:
    done = snapshot_of("download", "completed", progress=1.0)
    asks = snapshot_of("transcribe", "suspended", "download", run_seconds=0.1)
    assert Forecast(RUNS).eta_seconds(video(done, snapshot_of("encode", "running", "download"), asks), 0) is None


@pytest.mark.parametrize("code", ["rate_limited", "no_worker", "no_room", "paused", "child_failed", "signal", "cache_pending"])
def test_what_waits_for_something_unforeseen_takes_the_estimate_away(code: str) -> None:
    held = snapshot_of("encode", "ready", reason=Reason(code, "waits"))
    half = snapshot_of("transcribe", "running", run_seconds=20.0, progress=0.5)
    for forecast in (Forecast(RUNS), Forecast()):
        assert forecast.eta_seconds([half], 0) == pytest.approx(20)
        assert forecast.eta_seconds([held, half], 0) is None


def test_an_estimate_is_never_less_than_until_the_last_begins() -> None:
    half = snapshot_of("transcribe", "running", run_seconds=20.0, progress=0.5)
    later = snapshot_of("encode", "scheduled", ready_at=3_600_000, reason=Reason("scheduled", "begins in 1h"))
    assert Forecast(RUNS).eta_seconds([later, half], 0) == pytest.approx(3_610)
    assert Forecast().eta_seconds([later, half], 0) is None, "nobody knows how long it will take then"


def test_a_map_of_which_an_item_sleeps_is_not_foreseen() -> None:
    def mapped(running: int, asleep: int = 0) -> StageSnapshot:
        items = ItemsSnapshot(
            count=4, completed=3 - asleep, running=running, failed=0, waiting=1 - running, need=4, at_once=0, suspended=asleep
        )
        reason = Reason("items", f"waits for {running} running")
        return snapshot_of("encode", "suspended", run_seconds=9.0, progress=0.75, items=items, reason=reason)

    for forecast in (Forecast(RUNS), Forecast()):
        assert forecast.eta_seconds([mapped(1)], 0) == pytest.approx(3)
        assert forecast.eta_seconds([mapped(0)], 0) is None
        assert forecast.eta_seconds([mapped(1, asleep=1)], 0) is None


def test_stages_weigh_what_they_usually_take() -> None:
    done = snapshot_of("download", "completed", progress=1.0)
    waiting = [snapshot_of(name, "blocked", "download") for name in ("encode", "transcribe")]
    graph = video(done, waiting[0], waiting[1])
    assert Forecast(RUNS).progress(graph) == pytest.approx(2 / 44)
    assert Forecast().progress(graph) == pytest.approx(1 / 4), "nothing is known: all weigh the same"


def test_a_stage_that_is_not_known_by_its_name_is_known_by_its_function() -> None:
    forecast = Forecast([StageRun("encode", "encode", 4.0)])
    assert forecast.seconds(snapshot_of("encode-7")) == 4.0
    assert forecast.eta_seconds([snapshot_of("encode-7", "ready")], 0) == 4.0
    assert forecast.eta_seconds([snapshot_of("encode", "ready"), snapshot_of("unheard")], 0) is None


async def test_a_flow_is_held_against_earlier_flows_of_its_pipeline(
    producer: FlowProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecasts, "_KEPT_SECONDS", 0.0)
    gate.__init__()
    store = producer._open.store
    async with working(producer, fo_first, fo_last):
        for number in range(3):
            flow = await producer.add(fo_two(number), id=f"earlier-{number}")
            await flow.result(30)
            for index, seconds in ((0, 10), (1, 30)):  # as if they had taken so long
                key = store.keys.flow(flow.id)
                record = record_decoder.decode(await store.connection.command("HGET", key, str(index)))
                record.ran = seconds * 1_000
                await store.connection.command("HSET", key, str(index), msgspec.msgpack.encode(record))
        running = await producer.add(fo_two(-1))
        await gate.until_arrived()
        snapshot = await until(running, lambda snapshot: snapshot.stage("fo_last").progress == 0.5)
        assert snapshot.progress == pytest.approx((10 + 15) / 40)
        assert snapshot.eta_seconds is not None
        gate.opened.set()
        await running.result(30)
    assert (await running.inspect()).progress == 1.0


async def test_a_damaged_earlier_flow_hides_nothing(producer: FlowProducer) -> None:
    store = producer._open.store
    async with working(producer, fo_first, fo_last):
        flow = await producer.add(fo_two(1), id="earlier")
        await flow.result(30)
    await store.connection.command("HSET", store.keys.flow("earlier"), "0", b"\xc1")
    assert (await (await producer.add(fo_two(2))).inspect()).progress == 0.0


async def test_a_backlog_does_not_hide_what_earlier_flows_took(producer: FlowProducer) -> None:
    store = producer._open.store
    async with working(producer, fo_first, fo_last):
        await (await producer.add(fo_two(1))).result(30)
    await producer.add_bulk(fo_two(number) for number in range(150))
    runs = await forecasts._runs(store, Views(store), "fo_two")
    assert [run.name for run in runs] == ["fo_first", "fo_last"]
