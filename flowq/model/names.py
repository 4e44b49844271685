"""What ids and names may look like, so that none of them can break a key, a path or a terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

from flowq.errors import InvalidValue, masked

ROOM_MAX = 10_000

# Braces would break the hash tag that keeps a flow's keys in one cluster slot; control characters, spaces and
# backslashes break logs, shells and object keys. URLs are allowed, because people use them as ids.
# A flow that a stage spawned has its parent's id, "^", and a name of its own: see `spawned_id`.
_FLOW_ID = re.compile(r"[A-Za-z0-9][!-\[\]-z|~]{0,255}(?:\^[A-Za-z0-9_.\-]{1,160})*")
_BENEATH = "^"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,127}")
NAME_IS = "1 to 128 letters, digits, '_', '-' or '.', beginning with a letter or '_'"
# file:///directory and file:/directory are the same place; file://host/ is another machine's.
_LOCATION = re.compile(r"s3://[A-Za-z0-9._\-]{3,63}(/.*)?|file:(//)?/(?!/).+")
NAMESPACE_LENGTH_MAX = 64
_NAMESPACE = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.\-]{{0,{NAMESPACE_LENGTH_MAX - 1}}}")


def check_flow_id(value: object, field: str = "flow id") -> str:
    """Returns the id, or raises InvalidValue."""
    if isinstance(value, str) and _FLOW_ID.fullmatch(value):
        return value
    raise InvalidValue(
        field,
        value,
        "1 to 256 printable ASCII characters without spaces, braces and backslashes, beginning with a letter or digit",
    )


def spawned_id(parent: str, stage: str, digest: str) -> str:
    """The id of a flow that a stage of the flow `parent` spawns."""
    return f"{parent}{_BENEATH}{stage}.{digest}"


def parent_id(flow_id: str) -> str | None:
    """The id of the flow that spawned this one; None: none did."""
    return flow_id.rpartition(_BENEATH)[0] or None


def root_id(flow_id: str) -> str:
    """The id of the flow at the root of the tree, which nobody spawned."""
    return flow_id.partition(_BENEATH)[0]


def depth_of(flow_id: str) -> int:
    """How many flows stand above this one."""
    return flow_id.count(_BENEATH)


def check_name(value: object, field: str) -> str:
    """Returns the name of a stage, queue, pipeline or tenant, or raises InvalidValue."""
    if isinstance(value, str) and is_name(value):
        return value
    raise InvalidValue(field, value, NAME_IS)


def is_name(text: str) -> bool:
    """Whether a stage, queue, pipeline or tenant can be called so."""
    return _NAME.fullmatch(text) is not None


def check_namespace(value: object) -> str:
    """Returns the namespace, or raises InvalidValue."""
    if isinstance(value, str) and _NAMESPACE.fullmatch(value):
        return value
    raise InvalidValue("namespace", value, "1 to 64 letters, digits, '_', '-' or '.', beginning with a letter or digit")


def check_location(value: str) -> str:
    """Returns the location of artifacts, or raises InvalidValue for its form: whether it can be used is seen when it is."""
    if _LOCATION.fullmatch(value):
        return value
    raise InvalidValue("artifacts", masked(value), "s3://bucket, s3://bucket/prefix or file:/a/directory")


def worker_of(holder: str) -> str:
    """The worker's name, as people see it, in the id that one incarnation of it holds stages under: `host-1:42.9f3c1a2b`."""
    return holder.rpartition(".")[0] or holder


def checked_room(value: object, field: str) -> tuple[tuple[str, int], ...]:
    """Returns (resource, how much) of a dict such as `{"gpu": 1, "vram": 20}`, sorted, or raises InvalidValue."""
    if not isinstance(value, Mapping):
        raise InvalidValue(field, value, 'a dict such as {"gpu": 1, "vram": 20}')
    given = cast("Mapping[object, object]", value)
    room: list[tuple[str, int]] = []
    for name, amount in given.items():
        if type(amount) is not int or not 1 <= amount <= ROOM_MAX:
            raise InvalidValue(f"{field} of {name!r}", amount, f"a whole number from 1 to {ROOM_MAX:,}")
        room.append((check_name(name, "resource"), amount))
    return tuple(sorted(room))
