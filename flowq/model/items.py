"""Items: the runs of a mapped stage, one for each element of a list that is known only at run time.

Item `i` of stage `k` of a plan has an index like a stage, beyond those of all stages, and the name `encode[i]`.
"""

from __future__ import annotations

import re

import msgspec

# scripts/groups.lua has the same. A plan has fewer stages, and a list that is mapped fewer elements.
ITEMS = 1_000_000

# The msgpack extension 3, without bytes, that stands where a map's result would be: its items have the results.
LIST = b"\xc7\x00\x03"

_NAME = re.compile(r"(.+)\[(0|[1-9][0-9]{0,5})\]")


class Mapped(msgspec.Struct, frozen=True, array_like=True):
    """How a stage runs once for each element of a list.

    Attributes:
        argument: the argument that takes the list; the function gets one element for it.
        at_once: how many items may run at once; 0: all.
        need: how many must complete; 0: all.
    """

    argument: str
    at_once: int = 0
    need: int = 0


def item_index(stage: int, number: int) -> int:
    """The index of an item of a stage."""
    return (stage + 1) * ITEMS + number


def is_item(index: int) -> bool:
    """Whether an index is that of an item."""
    return index >= ITEMS


def stage_of(index: int) -> int:
    """The stage that an index belongs to: its own, or that of its item."""
    return index // ITEMS - 1 if index >= ITEMS else index


def item_name(stage: str, index: int) -> str:
    """The name of a stage's item, by the item's index: `encode[17]`."""
    return f"{stage}[{index % ITEMS}]"


def item_named(name: str) -> tuple[str, int] | None:
    """The stage and the number in an item's name; None: it is none."""
    found = _NAME.fullmatch(name)
    return (found[1], int(found[2])) if found else None
