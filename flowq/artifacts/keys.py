"""Where an artifact lies in a storage, and which names and keys are refused.

A key that comes back from Redis is as hostile as any input: every backend checks it again before it is used.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote, unquote

import msgspec

from flowq.errors import ArtifactCorrupt, ArtifactNameInvalid, FlowqError, InvalidValue
from flowq.model.artifact import Artifact
from flowq.model.names import check_flow_id

# S3's own limit.
KEY_BYTES_MAX = 1_024
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@,()\-]{0,199}")
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_.\-]{0,127}")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]{1,62}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME_EXPECTED = "1 to 200 letters, digits or any of _ . + = @ , ( ) -, beginning with a letter, digit or '_', without folders"
_KEY_EXPECTED = "a relative key without '..', '.', empty parts, backslashes and control characters, at most 1,024 bytes"


class FolderId(NamedTuple):
    """One attempt of one stage: whoever holds, or committed, this token owns the folder."""

    flow_id: str
    stage: str
    token: str


class StageFolder(msgspec.Struct, frozen=True):
    """What the key of a stage's artifact says.

    Attributes:
        flow_id: the flow.
        stage: the stage's name.
        token: the fence token of the attempt that wrote it.
        name: the artifact's name.
    """

    flow_id: str
    stage: str
    token: str
    name: str

    @property
    def id(self) -> FolderId:
        """The attempt, without the artifact's name."""
        return FolderId(self.flow_id, self.stage, self.token)


class ObjectPlace(NamedTuple):
    """A checked key: `bucket` is "" for the storage's own."""

    bucket: str
    key: str


def stage_folder(flow_id: str, stage: str, token: str) -> str:
    """The folder of one attempt: `<flow>/<stage>/<token>`, flow and stage percent-encoded.

    The token is part of it, so that a zombie and its successor never write to one object.

    Raises:
        InvalidValue: a part is out of form.
    """
    check_flow_id(flow_id)
    if not stage or not stage.isprintable() or stage in (".", "..") or len(stage) > 200:
        raise InvalidValue("stage", stage, "1 to 200 printable characters")
    if not _TOKEN.fullmatch(token):
        raise InvalidValue("token", token, "counter:nonce")
    return f"{quote(flow_id, safe='')}/{quote(stage, safe='')}/{token}"


def parse(key: str, prefix: str = "") -> StageFolder | None:
    """What the key says when it is `<prefix>/<flow>/<stage>/<token>/<name>` in exactly the form flowq writes; else None."""
    if prefix and not key.startswith(f"{prefix}/"):
        return None
    parts = key[len(prefix) + 1 if prefix else 0 :].split("/")
    if len(parts) != 4 or not _NAME.fullmatch(parts[3]):
        return None
    folder = StageFolder(unquote(parts[0]), unquote(parts[1]), parts[2], parts[3])
    try:
        written = stage_folder(*folder.id)
    except FlowqError:
        return None
    # Decoding is not unique ("%41" is "A"); what flowq did not write is not flowq's to delete.
    return folder if written == "/".join(parts[:3]) else None


def flow_id_in(key: object) -> str:
    """The id of the flow that wrote to a key, or to the URL of one.

    Raises:
        InvalidValue: it is not of the form `…/<flow>/<stage>/<token>/<name>`.
    """
    found = parse("/".join(key.partition("?")[0].split("/")[-4:])) if isinstance(key, str) else None
    if found is None:
        raise InvalidValue("artifact key", key, "the key or URL of an artifact that a stage has written: …/FLOW/STAGE/TOKEN/NAME")
    return found.flow_id


def check_artifact_name(name: object) -> str:
    """Returns the name, or raises ArtifactNameInvalid."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise ArtifactNameInvalid(name, _NAME_EXPECTED)


def tidy_name(name: str) -> str:
    """The nearest allowed name: for files of the outside world, whose names nobody chose for flowq."""
    tidied = re.sub(r"[^A-Za-z0-9_.+=@,()\-]+", "-", name)[-200:].lstrip(".+=@,()-")
    return tidied or "upload"


def check_key(key: object) -> str:
    """Returns a key relative to a bucket or a root directory, or raises ArtifactNameInvalid."""
    if not isinstance(key, str) or not key:
        raise ArtifactNameInvalid(key, _KEY_EXPECTED)
    # A lone surrogate has no UTF-8 form; "replace" counts it, the printable test refuses it.
    too_long = len(key.encode("utf-8", "replace")) > KEY_BYTES_MAX
    if too_long or "\\" in key or not key.isprintable() or any(part in ("", ".", "..") for part in key.split("/")):
        raise ArtifactNameInvalid(key, _KEY_EXPECTED)
    return key


def check_bucket(bucket: object) -> str:
    """Returns the bucket's name, or raises InvalidValue."""
    if isinstance(bucket, str) and _BUCKET.fullmatch(bucket) and ".." not in bucket:
        return bucket
    raise InvalidValue("bucket", bucket, "3 to 63 letters, digits, '.', '_' or '-'")


def place_of(artifact: Artifact) -> ObjectPlace:
    """Where the artifact lies, all its fields checked.

    Raises:
        ArtifactNameInvalid: the key is out of form.
        ArtifactCorrupt: size or checksum are nothing that flowq writes.
    """
    bucket, key = "", artifact.key
    if key.startswith("s3://"):
        bucket, _, key = key.removeprefix("s3://").partition("/")
        if not _BUCKET.fullmatch(bucket):
            raise ArtifactNameInvalid(artifact.key, "s3://bucket/key")
    check_key(key)
    if artifact.checksum and not _SHA256.fullmatch(artifact.checksum):
        raise ArtifactCorrupt(key, "its reference holds a checksum that is no SHA-256")
    if artifact.size < -1:
        raise ArtifactCorrupt(key, f"its reference says it has {artifact.size} bytes")
    return ObjectPlace(bucket, key)
