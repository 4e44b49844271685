"""Where a contestant is measured: a server that nobody else uses, and drivers that work on it."""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import redis

from benchmarks.contestants import Contestant
from benchmarks.conversation import Conversation, talking
from benchmarks.server import Counters, counters
from tests.servers import running_valkey

SERVERS: Mapping[str, Mapping[str, str]] = {
    "none": {},
    "everysec": {"appendonly": "yes", "appendfsync": "everysec"},
    "always": {"appendonly": "yes", "appendfsync": "always"},
}
# Every command above it is remembered, so that the slowest is known.
_SLOW_US = "1000"


class Sizes(NamedTuple):
    """How much of each kind of work."""

    singles: int = 20_000
    chains: int = 5_000
    diamonds: int = 5_000
    concurrency: tuple[int, ...] = (10, 50, 200)
    width: int = 10_000
    great_width: int = 100_000
    alone: int = 500
    weighed: int = 1_000
    held: int = 200
    backlogs: tuple[int, ...] = (0, 10_000)
    great_backlog: int = 1_000_000
    claims: int = 1_000
    idle_seconds: float = 6.0
    starts: int = 5


QUICK = Sizes(400, 100, 100, (50,), 500, 2_000, 20, 100, 20, (0, 500), 2_000, 50, 1.0, 1)


class Server(NamedTuple):
    """A server, and a client to ask it."""

    url: str
    client: redis.Redis


class Stand(NamedTuple):
    """One contestant at one server, for one measure in one round."""

    contestant: Contestant
    server: Server
    sizes: Sizes
    cache: Path
    namespace: str

    def driver(self) -> AbstractContextManager[Conversation]:
        """Starts its driver, in a process of its own: what it uses is its own."""
        argv = self.contestant.argv(self.cache, self.server.url, self.namespace)
        return talking(argv, self.contestant.environment(self.cache))

    def share(self, flows: int) -> int:
        """Its part of them."""
        return max(1, round(flows * self.contestant.share))

    def look(self) -> Counters:
        """The server's counters."""
        return counters(self.server.client)

    def slowest_ms(self) -> float:
        """The longest that the server was busy with one command since the stand was cleared; 0: none took a millisecond."""
        entries: Any = self.server.client.slowlog_get(128)
        return max((entry["duration"] for entry in entries), default=0) / 1_000

    def clear(self) -> None:
        """Leaves the server as it was at its start. It is the harness's own."""
        self.server.client.flushall(asynchronous=False)
        while self.server.client.info("memory")["lazyfree_pending_objects"]:
            time.sleep(0.1)
        self.server.client.memory_purge()
        self.server.client.slowlog_reset()


def stand_for(contestant: Contestant, server: Server, sizes: Sizes, cache: Path) -> Stand:
    """A stand with a namespace that was never used."""
    return Stand(contestant, server, sizes, cache, f"b{secrets.token_hex(4)}")


@contextlib.contextmanager
def running_servers(kinds: set[str]) -> Iterator[dict[str, Server]]:
    """Real Valkeys on loopback ports, because not every peer can use a unix socket; one for each kind of persistence."""
    with contextlib.ExitStack() as stack:
        servers: dict[str, Server] = {}
        for kind in sorted(kinds):
            port = _free_port()
            config = {"bind": "127.0.0.1", "port": str(port), "slowlog-log-slower-than": _SLOW_US, **SERVERS[kind]}
            stack.enter_context(running_valkey(config))
            url = f"redis://127.0.0.1:{port}/0"
            servers[kind] = Server(url, stack.enter_context(redis.Redis.from_url(url)))
        yield servers


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
