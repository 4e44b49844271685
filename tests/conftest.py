"""Fixtures for the whole suite: real servers, one per test session, and a namespace of its own for every test.

A test that uses `namespace` is followed by a leak check: each key it left must expire or be on the documented list of
permanent keys. Nothing is flushed, so tests may share a server and run side by side.
"""

from __future__ import annotations

import gc
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from flowq.settings import S3Access
from tests.alone import pytest_collection_modifyitems as pytest_collection_modifyitems
from tests.alone import pytest_runtest_protocol as pytest_runtest_protocol
from tests.clusters import Cluster, running_cluster
from tests.property.summary import pytest_terminal_summary as pytest_terminal_summary
from tests.servers import running_s3, running_valkey

NEVER_EXPIRES = -1  # what PTTL answers


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio: the engine is written for it."""
    return "asyncio"


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """The URL of a real, empty Valkey that lives as long as the test session."""
    with running_valkey() as url:
        yield url


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster of three primaries that lives as long as the test session; nobody kills its nodes or moves its slots."""
    with running_cluster() as found:
        yield found


@pytest.fixture(scope="session")
def s3() -> Iterator[tuple[str, S3Access]]:
    """The location of an empty bucket on a real S3 server, and how to reach it."""
    with running_s3() as server:
        yield server


@pytest.fixture
def artifacts(tmp_path: Path) -> str:
    """The location of an empty artifact directory: for tests that need some storage, whichever."""
    return f"file:{tmp_path / 'artifacts'}"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who opens what is out of reach says so soon; else it is tried for some seconds."""
    monkeypatch.setattr("flowq.engine.backend._OPEN_SECONDS_MAX", 0.1)


@pytest.fixture
def namespace(valkey_url: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace nobody else uses on the servers of the tests; fails the test if keys are left that never expire."""
    name = f"t{secrets.token_hex(6)}"
    yield name
    ports = [node.port for node in request.getfixturevalue("cluster").nodes] if "cluster" in request.fixturenames else []
    leaked: list[str] = []
    for client in (redis.Redis.from_url(valkey_url), *(redis.Redis(port=port) for port in ports)):
        with client:
            keys = list(client.scan_iter(match=f"{{{name}[:}}]*", count=10_000))
            leaked += leaked_keys(client, name, keys)
            asked(client, "UNLINK", keys)
    assert not leaked, f"keys that never expire and are not in flowq.store.keys.PERMANENT: {leaked[:10]}"


def pytest_collection_finish() -> None:
    """What was collected stays: it need not be gone through whenever a test makes many objects."""
    gc.collect()
    gc.freeze()


def leaked_keys(client: redis.Redis, namespace: str, keys: list[Any]) -> list[str]:
    """The keys that have no time to live and are not on the list of permanent ones."""
    from flowq.store.keys import Keys
    from tests.permanent import is_permanent

    known = Keys(namespace)
    # As many partitions as keys were written to: a test may have asked for several. Limits have tags of their own.
    tags = {key.decode().partition("}")[0] + "}" for key in keys}
    known.tags = [tag for tag in tags if tag != f"{{{namespace}}}" and not tag.startswith(f"{{{namespace}:L:")]
    times = asked(client, "PTTL", keys)
    eternal = [key.decode() for key, left in zip(keys, times, strict=True) if left == NEVER_EXPIRES]
    return [key for key in eternal if not is_permanent(known, key)]


def asked(client: redis.Redis, command: str, keys: list[Any]) -> list[Any]:
    """What a command answers for each of the keys, of which there may be very many; they lie in any slots."""
    answers: list[Any] = []
    for start in range(0, len(keys), 1_000):
        with client.pipeline(transaction=False) as page:
            for key in keys[start : start + 1_000]:
                page.execute_command(command, key)
            answers += page.execute()
    return answers
