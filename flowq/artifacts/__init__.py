"""Where large values are kept: S3, or a directory in development. The only importer of boto3, and only on first use.

`open_storage` is the door; a `Storage` does the rest.
"""

from __future__ import annotations

from pathlib import Path

from flowq.artifacts.cache import LocalCache
from flowq.artifacts.directory import DirectoryStorage
from flowq.artifacts.keys import FolderId, StageFolder, check_artifact_name, check_bucket, check_key, parse, stage_folder
from flowq.artifacts.s3 import S3Storage
from flowq.artifacts.sink import AsyncSink, NewArtifact, SyncSink
from flowq.artifacts.spill import is_spilled, spill, unspill
from flowq.artifacts.storage import PendingUpload, Storage, StoredObject
from flowq.artifacts.sweep import Swept, sweep
from flowq.errors import ArtifactNameInvalid, InvalidValue
from flowq.settings import S3Access

__all__ = [
    "AsyncSink",
    "FolderId",
    "LocalCache",
    "NewArtifact",
    "PendingUpload",
    "StageFolder",
    "Storage",
    "StoredObject",
    "Swept",
    "SyncSink",
    "check_artifact_name",
    "is_spilled",
    "open_storage",
    "parse",
    "spill",
    "stage_folder",
    "sweep",
    "unspill",
]

_EXPECTED = "s3://bucket, s3://bucket/prefix or file:/a/directory"


def open_storage(location: str, access: S3Access | None = None, *, folder: str = "", cache: LocalCache | None = None) -> Storage:
    """The storage at a location. Does no I/O: `check()` does.

    Args:
        location: `s3://bucket`, `s3://bucket/prefix`, `file:/directory` or `file:directory` (relative to the working one).
        access: how to reach S3; None: boto3's own environment, files and roles.
        folder: the folder in it that all keys lie in; empty: none of its own.
        cache: the host's local copies; None: the user's cache directory, 2 GiB.

    Raises:
        InvalidValue: nothing of these.
    """
    if location.startswith("s3://"):
        bucket, _, prefix = location.removeprefix("s3://").partition("/")
        prefix = "/".join(part for part in (prefix.rstrip("/"), folder) if part)
        try:
            return S3Storage(check_bucket(bucket), check_key(prefix) if prefix else "", access, cache)
        except (ArtifactNameInvalid, InvalidValue):
            raise InvalidValue("artifacts", location, _EXPECTED) from None
    if location.startswith("file:"):
        # file:///directory and file:/directory are the same place; file://host/ is another machine's.
        path = location.removeprefix("file:")
        path = path.removeprefix("//") if path.startswith("///") else path
        if path and path.isprintable() and not path.startswith("//"):
            return DirectoryStorage(Path(path).absolute() / folder, cache)
    raise InvalidValue("artifacts", location, _EXPECTED)
