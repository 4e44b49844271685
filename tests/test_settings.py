"""Where settings come from, and what is refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from flowq.errors import InvalidValue
from flowq.model.setting_values import queue_slots
from flowq.settings import Settings, SettingsWarning, unknown_variables


def load(tmp_path: Path, environment: dict[str, str] | None = None, **explicit: object) -> Settings:
    return Settings.load(tmp_path, environment or {}, **explicit)


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    assert load(tmp_path) == Settings()
    assert Settings().worker.concurrency == 50


def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(tmp_path: Path) -> None:
    (tmp_path / "flowq.toml").write_text('url = "redis://file"\nnamespace = "file"\nartifacts = "file:/file"\n')
    settings = load(tmp_path, {"FLOWQ_URL": "redis://env", "FLOWQ_NAMESPACE": "env"}, url="redis://flag")
    assert (settings.url, settings.namespace, settings.artifacts) == ("redis://flag", "env", "file:/file")


def test_an_explicit_none_and_an_empty_variable_count_as_not_given(tmp_path: Path) -> None:
    assert load(tmp_path, {"FLOWQ_NAMESPACE": ""}, url=None) == Settings()


def test_pyproject_serves_when_there_is_no_flowq_toml(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.flowq]\nnamespace = "shop"\n[tool.flowq.worker]\nprocesses = 3\n')
    settings = load(tmp_path)
    assert (settings.namespace, settings.worker.processes) == ("shop", 3)


def test_worker_settings_come_from_all_sources(tmp_path: Path) -> None:
    (tmp_path / "flowq.toml").write_text('[worker]\nqueues = {gpu = 1}\ndrain_timeout = "2m"\nprocesses = 2\n')
    environment = {"FLOWQ_WORKER_CONCURRENCY": "7", "FLOWQ_WORKER_IDLE_TIMEOUT": "90", "FLOWQ_WORKER_HEALTH_PORT": "8080"}
    worker = load(tmp_path, environment, worker_processes=4).worker
    assert (worker.concurrency, worker.processes, worker.queues) == (7, 4, {"gpu": 1})
    assert (worker.drain_timeout_ms, worker.idle_timeout_ms, worker.health_port) == (120_000, 90_000, 8080)


def test_queues_are_written_as_text_in_the_environment(tmp_path: Path) -> None:
    assert load(tmp_path, {"FLOWQ_WORKER_QUEUES": "gpu:1, cpu"}).worker.queues == {"gpu": 1, "cpu": None}
    assert queue_slots("gpu:2") == ("gpu", 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CONCURRENCY", "0"), ("CONCURRENCY", "many"), ("CONCURRENCY", "10001"), ("PROCESSES", "-1"), ("QUEUES", "gpu:0"),
        ("QUEUES", "g pu"), ("QUEUES", "gpu:x"), ("DRAIN_TIMEOUT", "soon"), ("IDLE_TIMEOUT", "-5"), ("IDLE_TIMEOUT", "0"),
        ("HEALTH_PORT", "70000"),
    ],
)  # fmt: skip
def test_worker_settings_out_of_range_are_refused_by_name(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(InvalidValue):
        load(tmp_path, {f"FLOWQ_WORKER_{name}": value})


@pytest.mark.parametrize(
    "content",
    [
        "url = 5",
        "url = ",
        'ulr = "x"',
        "[worker]\nconcurency = 5",
        "worker = 5",
        '[worker]\nconcurrency = "x"',
        'namespace = "a b"',
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "flowq.toml").write_text(content)
    with pytest.raises(InvalidValue):
        load(tmp_path)


def test_an_unknown_setting_is_told_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "flowq.toml").write_text("[worker]\nconcurency = 5")
    with pytest.raises(InvalidValue, match=r"worker\.concurrency"):
        load(tmp_path)


def test_a_misspelt_variable_is_warned_of_with_the_nearest(tmp_path: Path) -> None:
    with pytest.warns(SettingsWarning, match="FLOWQ_NAMSPACE.*FLOWQ_NAMESPACE"):
        load(tmp_path, {"FLOWQ_NAMSPACE": "x"})


def test_variables_of_other_parts_are_not_warned_of(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(tmp_path, {"FLOWQ_SERVER_BIN": "x", "FLOWQ_DEMO_FAIL": "encode", "OTHER": "y"})
    assert unknown_variables({"FLOWQ_S3_BIN": "x"}) == []


def test_origins_say_where_each_value_came_from(tmp_path: Path) -> None:
    (tmp_path / "flowq.toml").write_text('namespace = "shop"\n')
    origins = {
        item.name: item for item in Settings.origins(tmp_path, {"FLOWQ_URL": "redis://u:secret@h:1"}, worker_concurrency=3)
    }
    assert (origins["namespace"].value, origins["namespace"].source) == ("shop", "flowq.toml")
    assert (origins["url"].value, origins["url"].source) == ("redis://u:***@h:1", "FLOWQ_URL")
    assert (origins["worker.concurrency"].value, origins["worker.concurrency"].source) == ("3", "flag")
    assert origins["artifacts"].source == "default"


@pytest.mark.parametrize(
    "location", ["gs://bucket", "s3://", "s3:///prefix", "file:relative", "file://host/directory", "/directory", 5]
)
def test_artifacts_that_can_be_nowhere_are_refused_when_settings_are_made(location: Any) -> None:
    with pytest.raises(InvalidValue, match="artifacts"):
        Settings(artifacts=location)


@pytest.mark.parametrize("content", ["tool = 1", "[tool]\nflowq = 1", "tool = [1]"])
def test_a_pyproject_without_the_table_is_refused_by_its_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "pyproject.toml").write_text(content)
    with pytest.raises(InvalidValue, match=r"\[tool\.flowq\]"):
        load(tmp_path)


def test_how_long_logs_and_events_are_kept_is_set_beside_flows(tmp_path: Path) -> None:
    (tmp_path / "flowq.toml").write_text('[keep]\nlogs = "2d"\nevents = "1d"\n')
    keep = load(tmp_path, {"FLOWQ_KEEP_EVENTS_MOST": "90000"}).keep
    assert (keep.logs_ms, keep.events_ms, keep.events_most) == (2 * 86_400_000, 86_400_000, 90_000)
    with pytest.raises(InvalidValue, match="events_most"):
        load(tmp_path, {"FLOWQ_KEEP_EVENTS_MOST": "200001"})


@pytest.mark.parametrize("value", ["9" * 5_000, "²", "1²"])
def test_a_duration_of_odd_digits_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(InvalidValue, match="failed"):
        load(tmp_path, {"FLOWQ_KEEP_FAILED": value})
