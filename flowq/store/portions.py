"""Cuts what is written into portions, none of which holds the server up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

T = TypeVar("T")

# What a script decodes in some milliseconds; it takes ever longer for each byte more: 6 MB take 10 ms, 27 MB 400 (measured).
BYTES_MAX: Final = 1_000_000


def portions(items: Iterable[T], bytes_of: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """The items in their order, at most so many and a megabyte at a time; what is larger stands alone."""
    portion: list[T] = []
    size = 0
    for item in items:
        item_bytes = bytes_of(item)
        if portion and (len(portion) == most or size + item_bytes > BYTES_MAX):
            yield portion
            portion, size = [], 0
        portion.append(item)
        size += item_bytes
    if portion:
        yield portion
