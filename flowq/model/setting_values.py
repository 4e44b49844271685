"""The values of settings as people write them, in files and in the environment: read and checked. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from flowq.errors import InvalidValue
from flowq.model.duration import Duration, to_ms
from flowq.model.keep import MOST_MAX
from flowq.model.names import check_name

CONCURRENCY_MAX = 10_000
# No length comes near so many digits; of some thousands, Python refuses to read a number at all, with an error of its own.
_DIGITS_MAX = 30
PROCESSES_MAX = 256
# 0 is meant as "never" as often as "at once"; a worker looks twice a second at most.
IDLE_MS_MIN = 100
# scripts/emit.lua has the same.
EVENTS_MOST_MAX = 200_000

_SWITCH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def queue_slots(text: str) -> tuple[str, int | None]:
    """`gpu:1` → ("gpu", 1), `gpu` → ("gpu", None): a queue with the slots it has on this host.

    Raises:
        InvalidValue: not a queue's name, or slots below 1.
    """
    name, colon, slots = text.strip().partition(":")
    check_name(name, "queue")
    return name, whole("slots of queue " + name, slots, 1, CONCURRENCY_MAX) if colon else None


def text(name: str, value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        raise InvalidValue(f"setting {name}", value, "text")
    return value


def address(value: Any) -> str:
    """An address of this host, or its name; whether it has it is seen when it is used."""
    if not isinstance(value, str) or not value or any(char.isspace() for char in value):
        raise InvalidValue("setting worker.health_host", value, "an address of this host, such as 127.0.0.1 or 0.0.0.0")
    return value


def whole(field: str, value: Any, least: int, most: int) -> int:
    """A whole number in a range, also written as text."""
    expected = f"a whole number from {least} to {most}"
    try:
        number = int(value) if isinstance(value, str) else value
    except ValueError:
        raise InvalidValue(field, value, expected) from None
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
        raise InvalidValue(field, value, expected)
    return number


def queues(value: Any) -> dict[str, int | None]:
    """Queues with their slots: a table, or `gpu:1,cpu`."""
    if isinstance(value, str):
        return dict(queue_slots(part) for part in value.split(",") if part.strip())
    if not isinstance(value, dict):
        raise InvalidValue("setting worker.queues", value, "a table such as {gpu = 1, cpu = 2}, or gpu:1,cpu:2")
    queues: dict[str, int | None] = {}
    for name, slots in cast("dict[str, Any]", value).items():
        queues[check_name(name, "queue")] = None if slots is None else whole(f"slots of queue {name}", slots, 1, CONCURRENCY_MAX)
    return queues


def ms(name: str, value: Any, least_ms: int = 0) -> int:
    """A length in milliseconds."""
    # The environment has only text: a bare number there means seconds, as everywhere.
    is_bare = isinstance(value, str) and len(value) <= _DIGITS_MAX and value.isascii() and value.replace(".", "", 1).isdigit()
    duration: Duration = (float(value) if "." in value else int(value)) if is_bare else value
    return to_ms(duration, f"setting {name}", least_ms=least_ms)


def count(name: str, most: int) -> Callable[[Any], int]:
    """Reads a whole number from 1 on."""
    return lambda value: whole(f"setting {name}", value, 1, most)


def most(name: str) -> Callable[[Any], int]:
    """Reads how many are kept."""
    return lambda value: whole(f"setting {name}", value, 0, MOST_MAX)


def switch(name: str) -> Callable[[Any], bool]:
    """Reads a yes or no."""

    def read(value: Any) -> bool:
        word = str(value).lower()
        if word not in _SWITCH:
            raise InvalidValue(f"setting {name}", value, "true or false")
        return _SWITCH[word]

    return read


def duration(name: str, least_ms: int = 0) -> Callable[[Any], int]:
    """Reads a length."""
    return lambda value: ms(name, value, least_ms)
