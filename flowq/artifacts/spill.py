"""Results too large for Redis: their bytes go to the storage, a small reference takes their place.

The reference is a msgpack extension of code 1, so that no ordinary value can be taken for one.
"""

from __future__ import annotations

import hashlib

import msgspec

from flowq.artifacts.keys import parse, place_of
from flowq.artifacts.storage import Storage
from flowq.errors import ArtifactCorrupt, ValueTooLarge
from flowq.model.artifact import Artifact
from flowq.model.values import SPILLED_CODE

# Decoded in memory by whoever needs it; more than this is a file in disguise.
SPILL_BYTES_MAX = 64 * 1024 * 1024
# A key of 1,024 bytes and the other fields; a longer "reference" is none.
_REFERENCE_BYTES_MAX = 2_048
# msgpack: the extension formats and where in the bytes their code stands.
_CODE_AT = {0xC7: 2, 0xC8: 3, 0xC9: 5, 0xD4: 1, 0xD5: 1, 0xD6: 1, 0xD7: 1, 0xD8: 1}

_artifact_decoder = msgspec.msgpack.Decoder(Artifact)


def spill(storage: Storage, folder: str, packed: bytes) -> bytes:
    """Stores a packed value and returns its reference. Blocks. The same value in the same folder is stored once.

    Raises:
        ValueTooLarge: above 64 MiB.
        StorageError: the storage failed.
    """
    if len(packed) > SPILL_BYTES_MAX:
        raise ValueTooLarge(folder, "result", len(packed), SPILL_BYTES_MAX, "write it to an artifact and return that")
    name = f"result-{hashlib.sha256(packed).hexdigest()[:16]}.msgpack"
    artifact = storage.put_bytes(folder, name, packed, "application/msgpack")
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(SPILLED_CODE, msgspec.msgpack.encode(artifact)))


def is_spilled(data: bytes) -> bool:
    """Whether packed data is a reference. Looks at the first bytes only."""
    code_at = _CODE_AT.get(data[0]) if data else None
    return code_at is not None and len(data) > code_at and data[code_at] == SPILLED_CODE


def unspill(storage: Storage, data: bytes) -> bytes:
    """The packed value behind a reference, verified. Blocks; data that is no reference is returned as it is.

    Raises:
        ArtifactCorrupt: the reference is not one that flowq writes, or the bytes are not those it was made for.
        ArtifactMissing, StorageError.
    """
    return storage.get_bytes(_referenced(storage, data)) if is_spilled(data) else data


def _referenced(storage: Storage, data: bytes) -> Artifact:
    """The artifact of a reference from Redis, which anybody may have written there."""
    flaw = ArtifactCorrupt("of a spilled value", "its reference is not one that flowq writes")
    if len(data) > _REFERENCE_BYTES_MAX:
        raise flaw
    try:
        extension = msgspec.msgpack.decode(data, type=msgspec.msgpack.Ext)
        artifact = _artifact_decoder.decode(extension.data)
    except msgspec.DecodeError:
        raise flaw from None
    place_of(artifact)
    # Without these, a forged reference could read other objects or fill the memory.
    if not artifact.checksum or not 0 <= artifact.size <= SPILL_BYTES_MAX or parse(artifact.key, storage.prefix) is None:
        raise flaw
    return artifact
