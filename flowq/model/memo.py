"""Memos: what identifies a run of a stage with a cache, and what is kept of one. Pure.

Inputs count by content: an artifact by its checksum, wherever it lies; any other value by its msgpack with sorted keys.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Any, cast

import msgspec

from flowq.model.artifact import Artifact

_ARTIFACT_FIELDS = frozenset(Artifact.__struct_fields__)
_CHECKSUM_CHARS = 64
_encoder = msgspec.msgpack.Encoder(order="deterministic")


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """A stage that computes what others may wait for.

    Attributes:
        flow_id: its flow.
        index: its index.
        run: the run of the flow: retried by hand, the stage may have other inputs.
        stage: its name in the flow.
    """

    flow_id: str
    index: int
    run: int
    stage: str


class MemoSource(msgspec.Struct, frozen=True, array_like=True):
    """The run that made a result.

    Attributes:
        flow_id: the flow.
        stage: the stage's name there.
        token: of the run.
    """

    flow_id: str
    stage: str
    token: str = ""


class Known(msgspec.Struct, frozen=True):
    """An earlier result.

    Attributes:
        result: packed, as the stage's outcome had it.
        artifacts: packed; empty: it made none.
        source: the packed MemoSource.
        at: when it was computed, milliseconds since 1970; 0: a moment ago.
    """

    result: bytes
    artifacts: bytes
    source: bytes
    at: int = 0

    @property
    def made_by(self) -> MemoSource:
        """The run that made it. Raises msgspec.DecodeError."""
        return msgspec.msgpack.decode(self.source, type=MemoSource)


def plain_bytes(raw: msgspec.Raw) -> bytes:
    """What was made `opaque` in an outcome."""
    data = bytes(raw)
    return data[{0xD9: 2, 0xDA: 3, 0xDB: 5}.get(data[0], 1) :]


def memo_digest(stage: str, version: str, code: str, inputs: Any) -> str:
    """The name of a computation: the same for the same function in the same version on the same inputs.

    Args:
        stage: the function's stage name.
        version: its declared version.
        code: the digest of its source.
        inputs: its arguments as plain data.
    """
    identity = _encoder.encode((stage, version, code, _by_content(inputs)))
    return base64.urlsafe_b64encode(hashlib.sha256(identity).digest()).decode().rstrip("=")


def artifacts_in(value: Any) -> Iterator[Artifact]:
    """The artifacts that plain data holds."""
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        if _is_artifact(fields):
            yield Artifact(**fields)
        else:
            for part in fields.values():
                yield from artifacts_in(part)
    elif isinstance(value, list | tuple):
        for part in cast("list[Any]", value):
            yield from artifacts_in(part)


def _by_content(value: Any) -> Any:
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        if _is_artifact(fields) and len(fields["checksum"]) == _CHECKSUM_CHARS:
            return {"sha256": fields["checksum"]}
        return {name: _by_content(part) for name, part in fields.items()}
    if isinstance(value, list | tuple):
        return [_by_content(part) for part in cast("list[Any]", value)]
    return value


def _is_artifact(fields: dict[str, Any]) -> bool:
    is_alike = fields.keys() == _ARTIFACT_FIELDS
    return is_alike and all(type(fields[name]) is str for name in _ARTIFACT_FIELDS - {"size"}) and type(fields["size"]) is int
