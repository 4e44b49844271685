"""A producer for each test, once with one partition and once with four, and a fresh scene. Some tests run on a cluster too."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from flowq import FlowProducer
from flowq.engine.exchange import conversation, notes
from flowq.engine.run import limiter, reuse
from flowq.store.connection import Connection
from flowq.store.store import Store
from tests.conformance.scene import gate, set_scene

# One or two of each topic: what differs on a cluster is where keys are, and each kind of key is used by some of these.
ON_CLUSTER = frozenset({
    "test_a_delayed_flow_waits_and_says_so_then_it_runs",
    "test_a_limit_as_a_stages_option_holds_for_all_of_its_run",
    "test_a_paused_flow_ends_what_runs_and_begins_nothing_until_it_is_resumed",
    "test_a_retry_of_the_parent_runs_the_failed_child_again",
    "test_a_retry_runs_only_the_items_that_failed",
    "test_a_stage_goes_on_with_the_value_that_was_sent",
    "test_a_stage_may_wait_for_thousands",
    "test_a_worker_fires_the_schedules_of_its_pipelines",
    "test_all_flows_that_failed_for_a_cause_are_retried_and_no_others",
    "test_an_attempt_that_tells_no_progress_for_too_long_fails_and_is_retried",
    "test_cancelling_a_flow_cancels_what_it_spawned",
    "test_events_of_a_second_run_follow_those_of_the_first",
    "test_flows_are_found_by_state_and_by_cause",
    "test_flows_are_spread_over_the_partitions_and_each_lives_in_one",
    "test_flows_of_many_tenants_all_complete",
    "test_many_at_once_add_one",
    "test_of_a_paused_queue_nothing_is_begun_until_it_is_resumed",
    "test_running_stages_and_slots_are_counted_by_queue",
    "test_spawned_flows_stay_as_long_as_the_root_and_go_with_it",
    "test_the_same_call_in_a_later_flow_is_not_run_again",
    "test_what_completed_is_undone_in_reverse_order_when_the_flow_fails",
})  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves out what need not run on a cluster; `FLOWQ_TEST_CLUSTER=all` leaves all in."""
    if os.environ.get("FLOWQ_TEST_CLUSTER") != "all":
        items[:] = [item for item in items if not _is_on_cluster(item) or getattr(item, "originalname", "") in ON_CLUSTER]


def _is_on_cluster(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and hasattr(item, "callspec") and item.callspec.params.get("producer") == "cluster"


@pytest.fixture(params=[1, 4, "cluster"], ids=["1 partition", "4 partitions", "cluster"])
async def producer(
    anyio_backend: str, valkey_url: str, namespace: str, artifacts: str, request: pytest.FixtureRequest
) -> AsyncIterator[FlowProducer]:
    """An open producer with a directory for artifacts."""
    if request.param == "cluster":
        url = request.getfixturevalue("cluster").url
    else:
        url = valkey_url
        store = Store(Connection(url, name="test"), namespace)
        await store.open(partitions=request.param)
        await store.close()
    async with FlowProducer(url, namespace=namespace, artifacts=artifacts) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _fresh_scene() -> Iterator[None]:
    """Nothing has run, nothing is broken, and the gate is closed; who still stands there afterwards may go."""
    set_scene()
    yield
    gate.opened.set()


@pytest.fixture(autouse=True)
def _workers_look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tests do behind a worker's back, such as moving a time, nobody tells it of; and logs are told as often."""
    monkeypatch.setattr(conversation, "_POLL_SECONDS", 0.2)
    monkeypatch.setattr(limiter, "_LOOK_AGAIN_MS", 200)
    monkeypatch.setattr(notes, "_LOG_SECONDS", 0.2)


@pytest.fixture
def only_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for what another stage computes comes back only when it is told to."""
    monkeypatch.setattr(reuse, "_LOOK_AGAIN_MS", 600_000)
