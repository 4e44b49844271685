"""Opens the link to what a URL means; asks the nodes of a cluster who has which slots, and Sentinels who is the primary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis import exceptions as refused

from flowq.errors import WrongKindOfServer
from flowq.store.addresses import Address, Host, named
from flowq.store.nodes import LOST, Nodes, Ranges
from flowq.store.server import Link, Server
from flowq.store.slots import SLOTS


def linked(address: Address, name: str, size: int) -> Link:
    """The link to what a URL means; nothing is asked yet. `name` and `size` as for `Server`, of each server."""

    def made(host: Host) -> Server:
        return Server(address.of(host), name, size, host)

    match address.kind:
        case "server":
            return Server(address.url, name, size)
        case "cluster":
            return Nodes(_Cluster(address).ranges, made, address.hosts)
        case "sentinel":
            return Nodes(_Sentinels(address).ranges, made)


class _Cluster:
    def __init__(self, address: Address) -> None:
        self._address = address

    async def ranges(self, known: Sequence[Server]) -> Ranges:
        lost: Exception | None = None
        for server in known:
            try:
                ranges = await server.one(("CLUSTER", "SLOTS"))
            except LOST as error:
                lost = lost or error
            except refused.ResponseError as error:
                if "cluster support disabled" not in str(error):
                    raise
                raise WrongKindOfServer(self._address.url, "is a server alone and no cluster", "redis://host:6379") from None
            else:
                return [(first, last, _host(primary, server)) for first, last, primary, *_ in ranges]
        raise lost or refused.ConnectionError("none of its nodes is known")


class _Sentinels:
    def __init__(self, address: Address) -> None:
        self._address = address

    async def ranges(self, known: Sequence[Server]) -> Ranges:
        """The primary that the first Sentinel names which answers: it has all there is."""
        lost: Exception | None = None
        knows_none = ""
        for host in self._address.hosts:
            sentinel = Server(self._address.of_sentinel(host), "flowq:sentinel", 1)
            try:
                found = await sentinel.one(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._address.service))
            except LOST as error:
                lost = lost or error
            except refused.ResponseError as error:
                if "unknown command" not in str(error).lower():
                    raise
                raise WrongKindOfServer(self._address.url, "is no Sentinel", "redis://host:6379") from None
            else:
                if found is not None:
                    return [(0, SLOTS - 1, (found[0].decode(), int(found[1])))]
                knows_none = knows_none or named(host)
            finally:
                await sentinel.close()
        if knows_none:
            problem = f"is a Sentinel that watches nothing called {self._address.service!r}"
            form = "redis+sentinel://host:26379/service, with the name from its configuration"
            raise WrongKindOfServer(self._address.url, problem, form)
        raise lost or refused.ConnectionError("none of the Sentinels is known")


def _host(primary: Sequence[Any], server: Server) -> Host:
    """A node that does not know its own name is meant by the one under which it was reached."""
    name: bytes | None = primary[0]
    return (name.decode() if name and name != b"?" else server.host[0]), int(primary[1])
