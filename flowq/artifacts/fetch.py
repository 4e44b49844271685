"""Reading a whole object: streamed, counted and hashed; refetched once when the bytes are wrong, then refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from flowq.errors import ArtifactCorrupt
from flowq.model.artifact import Artifact

# A flipped bit on the way is gone at the second try; one in the storage is still there.
_TRIES = 2


def fetch(
    artifact: Artifact,
    stream: Callable[[Artifact], Iterator[bytes]],
    target: BinaryIO,
    go_on: Callable[[], None] = lambda: None,
) -> None:
    """Writes the object's bytes to `target`, from its beginning.

    Args:
        artifact: what its size and checksum say is what `target` holds afterwards.
        stream: opens the object.
        target: a seekable file; what it held is overwritten.
        go_on: called between chunks; raises to stop.

    Raises:
        ArtifactCorrupt: size or SHA-256 are wrong twice in a row.
        ArtifactMissing, StorageError: from the storage.
    """
    flaw = ""
    for _ in range(_TRIES):
        target.seek(0)
        target.truncate(0)
        flaw = _fetch_once(artifact, stream(artifact), target, go_on)
        if not flaw:
            return
    raise ArtifactCorrupt(artifact.key, flaw)


def _fetch_once(artifact: Artifact, chunks: Iterator[bytes], target: BinaryIO, go_on: Callable[[], None]) -> str:
    """Returns what is wrong with the bytes, or nothing."""
    digest = hashlib.sha256()
    size = 0
    for chunk in chunks:
        go_on()
        size += len(chunk)
        # Before writing: an object that was replaced by a huge one must not fill the disk.
        if 0 <= artifact.size < size:
            return f"it has more than the {artifact.size:,} bytes that were written"
        digest.update(chunk)
        target.write(chunk)
    if 0 <= artifact.size != size:
        return f"it has {size:,} bytes of the {artifact.size:,} that were written"
    if artifact.checksum and digest.hexdigest() != artifact.checksum:
        return "its SHA-256 is not the one that was written"
    return ""
