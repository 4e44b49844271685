"""One contract, two backends: every test that asks for `storage` runs on a directory and on a real S3 server."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowq.artifacts import LocalCache, Storage, open_storage
from flowq.settings import S3Access


@pytest.fixture
def cache(tmp_path: Path) -> LocalCache:
    """A cache of the test's own, so that nothing comes from another test's downloads."""
    return LocalCache(tmp_path / "cache")


@pytest.fixture
def s3_storage(s3: tuple[str, S3Access], cache: LocalCache) -> Iterator[Storage]:
    """An empty prefix on the real S3 server."""
    location, access = s3
    storage = open_storage(f"{location}/{secrets.token_hex(6)}", access, cache=cache)
    yield storage
    storage.close()


@pytest.fixture
def directory_storage(tmp_path: Path, cache: LocalCache) -> Iterator[Storage]:
    """A directory that does not exist yet."""
    storage = open_storage(f"file:{tmp_path / 'artifacts'}", cache=cache)
    yield storage
    storage.close()


@pytest.fixture(params=["directory", "s3"])
def storage(request: pytest.FixtureRequest) -> Storage:
    """Either of them."""
    return request.getfixturevalue(f"{request.param}_storage")
