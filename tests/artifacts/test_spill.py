"""Values too large for Redis, and references that somebody else wrote there."""

from __future__ import annotations

import os

import msgspec
import pytest

from flowq.artifacts import Storage, is_spilled, spill, unspill
from flowq.artifacts.spill import SPILL_BYTES_MAX
from flowq.errors import ArtifactCorrupt, ArtifactMissing, ArtifactNameInvalid, FlowqError, ValueTooLarge
from flowq.model.artifact import Artifact
from tests.artifacts.folders import FOLDER

pack = msgspec.msgpack.encode


def reference_to(artifact: object, code: int = 1) -> bytes:
    return pack(msgspec.msgpack.Ext(code, pack(artifact)))


def test_a_value_comes_back_from_its_reference(storage: Storage) -> None:
    packed = pack({"frames": list(range(10_000))})
    reference = spill(storage, FOLDER, packed)
    assert len(reference) < 500
    assert is_spilled(reference)
    assert unspill(storage, reference) == packed


def test_spilling_the_same_value_again_gives_the_same_reference(storage: Storage) -> None:
    packed = pack("x" * 100_000)
    assert spill(storage, FOLDER, packed) == spill(storage, FOLDER, packed)


@pytest.mark.parametrize("value", [None, 0, 1, -1, 1.5, "", "text", b"\x01" * 300, [1], {"a": 1}, [{}] * 300, 2**63], ids=repr)
def test_no_ordinary_value_is_taken_for_a_reference(directory_storage: Storage, value: object) -> None:
    assert not is_spilled(pack(value))
    assert unspill(directory_storage, pack(value)) == pack(value)
    assert not is_spilled(b"")
    assert not is_spilled(reference_to(Artifact("a"), code=2))


def test_a_missing_value_says_so(storage: Storage) -> None:
    reference = spill(storage, FOLDER, pack("x" * 5_000))
    storage.delete([found.key for found in storage.objects()])
    with pytest.raises(ArtifactMissing):
        unspill(storage, reference)


SHA = "0" * 64
GOOD_KEY = f"{FOLDER}/result-0.msgpack"


@pytest.mark.parametrize("forged", [
    Artifact("../../etc/passwd", 1, checksum=SHA),
    Artifact("s3://other/f/s/1-a/x", 1, checksum=SHA),
    Artifact("secrets/key", 1, checksum=SHA),
    Artifact(GOOD_KEY, 1),
    Artifact(GOOD_KEY, -1, checksum=SHA),
    Artifact(GOOD_KEY, 2**40, checksum=SHA),
    Artifact(GOOD_KEY, 1, checksum="../x"),
    {"key": 7}, [], None, "text",
], ids=repr)  # fmt: skip
def test_a_forged_reference_is_refused(directory_storage: Storage, forged: object) -> None:
    with pytest.raises((ArtifactCorrupt, ArtifactNameInvalid)):
        unspill(directory_storage, reference_to(forged))


def test_random_bytes_after_the_mark_are_refused(directory_storage: Storage) -> None:
    for _ in range(200):
        with pytest.raises(FlowqError):
            unspill(directory_storage, b"\xc7\x20\x01" + os.urandom(32))
    with pytest.raises(FlowqError):
        unspill(directory_storage, b"\xc9\xff\xff\xff\xff\x01" + b"x" * 5_000)


def test_a_value_too_large_to_decode_is_refused(directory_storage: Storage) -> None:
    with pytest.raises(ValueTooLarge, match="write it to an artifact"):
        spill(directory_storage, FOLDER, bytes(SPILL_BYTES_MAX + 1))
    assert list(directory_storage.objects()) == []
