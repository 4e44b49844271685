"""Hash slots: where Redis and Valkey Cluster keep a key, and tags that spread the partitions of a namespace evenly over them.

A cluster is split into 16,384 slots, and each primary has ranges of them, as a rule of one length. So the tags of P partitions
are chosen such that one lies near the middle of each P-th of all slots: then any three primaries have a third of the partitions
each, whichever slots they have got, and a new one that takes a range takes its share. (`{ns:0}` … `{ns:11}` as they are would
put 3 on one of three primaries and 5 on another.)
"""

from __future__ import annotations

import binascii
from functools import lru_cache
from itertools import count

SLOTS = 16_384


def crc16(text: bytes) -> int:
    """The checksum that Redis Cluster spreads keys by."""
    return binascii.crc_hqx(text, 0)


def slot_of(key: str | bytes) -> int:
    """The slot of a key: of what stands between its first braces, if something does."""
    raw = key.encode() if isinstance(key, str) else key
    start = raw.find(b"{") + 1
    end = raw.find(b"}", start) if start else -1
    return crc16(raw[start:end] if end > start else raw) % SLOTS


@lru_cache(maxsize=64)
def tags_of(namespace: str, partitions: int) -> tuple[str, ...]:
    """The hash tags of all partitions of a namespace: `{namespace:0}` if there is one, else such as `{namespace:3-17}`."""
    if partitions == 1:
        return (f"{{{namespace}:0}}",)
    return tuple(_tag(namespace, partition, SLOTS / partitions) for partition in range(partitions))


def _tag(namespace: str, partition: int, width: float) -> str:
    """The first tag of this partition that lies in the middle half of its part of the slots."""
    begin = (partition + 0.25) * width
    words = (f"{namespace}:{partition}-{salt}" for salt in count())
    return next(f"{{{word}}}" for word in words if begin <= crc16(word.encode()) % SLOTS < begin + width / 2)
