"""What a worker would take with one call, and within which bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import msgspec

_pack = msgspec.msgpack.Encoder().encode


class Wants(msgspec.Struct, frozen=True, array_like=True):
    """Routes of which a worker would take stages, and a bound for them together.

    A route may stand in several of a call's `Wants`, such as the one of its queue and the one of the host's room: it is under
    each of these bounds.

    Attributes:
        capacity: how many stages; -1: as many as the call takes at most.
        routes: the routes.
        suspects: the routes of suspects, of which it takes one if there is nothing else.
    """

    capacity: int
    routes: tuple[str, ...]
    suspects: tuple[str, ...] = ()


def queue_of(route: str) -> str:
    """The queue of a route."""
    return route.partition(":")[0]


def queues_of(wants: Iterable[Wants]) -> list[str]:
    """The queues that these are of, each once."""
    return list(dict.fromkeys(queue_of(route) for route in routes_of(wants)))


def routes_of(wants: Iterable[Wants]) -> list[str]:
    """All routes of these, those of suspects too, each once."""
    return list(dict.fromkeys(route for want in wants for route in (*want.routes, *want.suspects)))


def only(wants: Iterable[Wants], is_meant: Callable[[str], bool]) -> list[Wants]:
    """The same without other routes."""
    found = (Wants(want.capacity, tuple(filter(is_meant, want.routes)), tuple(filter(is_meant, want.suspects))) for want in wants)
    return [want for want in found if want.routes or want.suspects]


def together(wants: Iterable[Wants], most: int) -> Wants:
    """All routes of these under one bound."""
    wants = list(wants)
    routes = dict.fromkeys(route for want in wants for route in want.routes)
    suspects = dict.fromkeys(route for want in wants for route in want.suspects)
    return Wants(most, tuple(routes), tuple(suspects))


def most_of(wants: Iterable[Wants], queue: str, most: int) -> int:
    """How many of so many stages of a queue there could be."""
    wants = list(wants)
    routes = {route for route in routes_of(wants) if queue_of(route) == queue}
    return min([most, *(want.capacity for want in wants if want.capacity >= 0 and routes <= {*want.routes, *want.suspects})])


def within(wants: Sequence[Wants], queue: str, most: int) -> list[Wants]:
    """The same, but of this queue so many at most."""
    return [*wants, together(only(wants, lambda route: queue_of(route) == queue), most)]


def served(wants: Iterable[Wants]) -> bytes:
    """The routes of these, part by part, as scripts take them: packed once for all calls that say the same."""
    return _served(tuple((want.routes, want.suspects) for want in wants))


@lru_cache(1_000)
def _served(parts: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]) -> bytes:
    return _pack(parts)
