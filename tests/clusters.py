"""Real clusters and Sentinels for tests, on free loopback ports; like those of `tests.servers`, and ended with them."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis

from flowq.embedded.binaries import find_valkey
from flowq.embedded.process import ServerProcess
from tests.servers import private_directory

SLOTS = 16_384
SERVICE = "flows"
# Of one's own and not a test's: a node that loads its configuration waits two seconds before it serves slots.
_SECONDS_MAX = 20.0


class Node:
    """A server that runs, and a client of it that may everything."""

    def __init__(self, directory: Path, no_lock: int, *options: str) -> None:
        self.port = _free_port()
        folder = directory / str(self.port)
        folder.mkdir()
        argv = [str(find_valkey().path), *options, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)]
        self.process = ServerProcess(argv, folder, folder / "log", {}, no_lock)
        self.client: Any = redis.Redis(port=self.port, decode_responses=True)
        in_the_end(self._answers)

    def told(self, *words: object) -> Any:
        """What it answers."""
        return self.client.execute_command(*words)

    def kill(self) -> None:
        """It is gone at once."""
        self.process.wait_or_kill(0)

    def _answers(self) -> bool:
        assert self.process.is_alive, self.process.log_tail()
        with contextlib.suppress(redis.ConnectionError):
            return bool(self.client.execute_command("PING"))
        return False


class Cluster:
    """Primaries that share the slots evenly.

    Attributes:
        nodes: in the order of their slots; those that were added come last.
    """

    def __init__(self, directory: Path, no_lock: int, count: int, *options: str) -> None:
        self._directory = directory
        self._no_lock = no_lock
        self._options = options
        self.nodes = [self._started() for _ in range(count)]
        for number, node in enumerate(self.nodes):
            node.told("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            node.told("CLUSTER", "ADDSLOTSRANGE", number * SLOTS // count, (number + 1) * SLOTS // count - 1)
        for node in self.nodes[1:]:
            self._meet(node)
        self.settle()

    @property
    def url(self) -> str:
        """As users write it."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])

    def add(self) -> Node:
        """One more node, without slots."""
        node = self._started()
        self._meet(node)
        self.nodes.append(node)
        self.settle()
        return node

    def follow(self, primary: Node) -> Node:
        """A replica of a primary, that has all it has."""
        replica = self._started()
        self._meet(replica)
        in_the_end(lambda: primary.told("CLUSTER", "MYID") in replica.told("CLUSTER", "NODES"))
        replica.told("CLUSTER", "REPLICATE", primary.told("CLUSTER", "MYID"))
        in_the_end(lambda: replica.told("INFO", "replication")["master_link_status"] == "up")
        self.nodes.append(replica)
        self.settle()
        return replica

    def owner(self, slot: int) -> Node:
        """Whose slot it is."""
        asked = next(node for node in self.nodes if node.process.is_alive)
        for first, last, (_, port, *_), *_ in asked.told("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise AssertionError(f"slot {slot} is nobody's")

    def begin_move(self, slot: int, target: Node) -> None:
        """From now on the slot is on its way."""
        source = self.owner(slot)
        target.told("CLUSTER", "SETSLOT", slot, "IMPORTING", source.told("CLUSTER", "MYID"))
        source.told("CLUSTER", "SETSLOT", slot, "MIGRATING", target.told("CLUSTER", "MYID"))

    def end_move(self, slot: int, target: Node) -> int:
        """Moves the slot's keys, one by one, and then the slot; returns how many keys there were."""
        source, moved = self.owner(slot), 0
        while keys := source.told("CLUSTER", "GETKEYSINSLOT", slot, 1):
            source.told("MIGRATE", "127.0.0.1", target.port, keys[0], 0, 5_000)
            moved += 1
        for node in (target, source, *self.nodes):
            if node.process.is_alive:
                node.told("CLUSTER", "SETSLOT", slot, "NODE", target.told("CLUSTER", "MYID"))
        return moved

    def move_at_once(self, first: int, last: int, target: Node) -> None:
        """Moves a range of slots of one node, where servers can do so by themselves; others raise redis.ResponseError."""
        source = self.owner(first)
        source.told("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", first, last, "NODE", target.told("CLUSTER", "MYID"))
        in_the_end(lambda: self.owner(first) is target)

    def settle(self) -> None:
        """Waits until all agree."""
        running = [node for node in self.nodes if node.process.is_alive]

        def is_settled(node: Node) -> bool:
            info = dict(line.split(":") for line in node.told("CLUSTER", "INFO").split())
            return info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) >= len(running)

        in_the_end(lambda: all(is_settled(node) for node in running))

    def _started(self) -> Node:
        bus = str(_free_port())
        own = ("--cluster-enabled", "yes", "--cluster-port", bus, "--save", "", "--appendonly", "no")
        return Node(self._directory, self._no_lock, *own, *self._options)

    def _meet(self, node: Node) -> None:
        bus = node.client.config_get("cluster-port")["cluster-port"]
        self.nodes[0].told("CLUSTER", "MEET", "127.0.0.1", node.port, bus)


@contextlib.contextmanager
def running_cluster(count: int = 3, node_timeout_ms: int = 5_000) -> Iterator[Cluster]:
    """A cluster of so many primaries; starts in about two and a half seconds."""
    with private_directory("fqc-") as (directory, no_lock):
        cluster: Cluster | None = None
        try:
            cluster = Cluster(directory, no_lock, count, "--cluster-node-timeout", str(node_timeout_ms))
            yield cluster
        finally:
            for node in cluster.nodes if cluster else ():
                node.kill()


class Watched:
    """A primary with a replica, and a Sentinel that watches them."""

    def __init__(self, directory: Path, no_lock: int) -> None:
        plain = ("--save", "", "--appendonly", "no")
        self.primary = Node(directory, no_lock, *plain)
        self.replica = Node(directory, no_lock, *plain, "--replicaof", f"127.0.0.1 {self.primary.port}")
        in_the_end(lambda: self.replica.told("INFO", "replication")["master_link_status"] == "up")
        configuration = directory / "sentinel.conf"
        configuration.write_text(
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.primary.port} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} 500\nsentinel failover-timeout {SERVICE} 3000\n"
        )
        self.sentinel = Node(directory, no_lock, str(configuration), "--sentinel")
        in_the_end(lambda: bool(self.sentinel.client.sentinel_slaves(SERVICE)))

    def fail_over(self) -> None:
        """Makes the replica the primary, as soon as the Sentinel has heard enough of it: it asks each only once in a while."""
        in_the_end(self._is_failing_over)

    def _is_failing_over(self) -> bool:
        try:
            self.sentinel.told("SENTINEL", "FAILOVER", SERVICE)
        except redis.ResponseError as error:
            if not str(error).startswith("NOGOODSLAVE"):
                raise
            return False
        return True

    @property
    def url(self) -> str:
        """As users write it; nobody answers at the first."""
        return f"redis+sentinel://127.0.0.1:1,127.0.0.1:{self.sentinel.port}/{SERVICE}"


@contextlib.contextmanager
def watched() -> Iterator[Watched]:
    """See `Watched`; starts in about two seconds."""
    with private_directory("fqw-") as (directory, no_lock):
        found: Watched | None = None
        try:
            found = Watched(directory, no_lock)
            yield found
        finally:
            for node in (found.sentinel, found.replica, found.primary) if found else ():
                node.kill()


def in_the_end(condition: Callable[[], bool]) -> None:
    """Waits until it is so."""
    deadline = time.monotonic() + _SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
