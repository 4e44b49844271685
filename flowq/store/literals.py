"""The fields of a flow that hold what its stages get beside results: `i<index>`, and `j<index>` for the rest of what is cut.

A server keeps a hash compact, in about half the memory, while none of its values is longer than 64 bytes. So what is a little
longer is cut in two, and arguments of a flow that are the same as its first stage's are not written twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

# CUT_AT also in scripts/carried.lua.
CUT_AT = 64
_CUT_MAX = 2 * CUT_AT


def fields_of_literals(index: int, literals: bytes) -> Iterator[tuple[str, bytes]]:
    """The fields, with what is in them."""
    if CUT_AT < len(literals) <= _CUT_MAX:
        yield f"i{index}", literals[:CUT_AT]
        yield f"j{index}", literals[CUT_AT:]
    else:
        yield f"i{index}", literals


def names_of_literals(*indexes: int) -> list[str]:
    """The names of the fields that have to be read, two for each stage."""
    return [f"{kind}{index}" for index in indexes for kind in "ij"]


def joined(first: bytes | None, rest: bytes | None) -> bytes:
    """The literals, from these fields; empty: none. Only what was cut has a rest: another may be left from before."""
    return (first or b"") + (rest or b"" if first is not None and len(first) == CUT_AT else b"")


def literals_in(indexes: Sequence[int], values: Sequence[bytes | None]) -> dict[int, dict[str, Any]]:
    """Stage → its literals, from the values of their fields."""
    parts = zip(indexes, values[::2], values[1::2], strict=True)
    return {index: msgspec.msgpack.decode(found) if (found := joined(*pair)) else {} for index, *pair in parts}


# Where the arguments of a flow are if its header does not hold them: kept since its first stage got others, or its literals.
INPUTS: Final = ("in", *names_of_literals(0))


def inputs_in(values: Sequence[bytes | None]) -> bytes:
    """The arguments, from the values of these fields."""
    kept, *literals = values
    return kept or joined(*literals)
