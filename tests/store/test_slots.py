"""Which slot a key has, and tags that lie evenly in them."""

from __future__ import annotations

from collections import Counter

import pytest

from flowq.store.keys import Keys
from flowq.store.slots import SLOTS, slot_of, tags_of
from tests.clusters import Cluster


def test_keys_have_the_slots_that_a_cluster_gives_them(cluster: Cluster) -> None:
    keys = ["", "a", "{a}b", "b{a}", "{}a", "a{}{b}", "{a", "a}b{c}d{e}", "{{a}}", "{flowq:3-1}:f:ümläut", "f" * 300]
    assert [slot_of(key) for key in keys] == [cluster.nodes[0].told("CLUSTER", "KEYSLOT", key) for key in keys]
    assert slot_of(b"{a}\xff") == slot_of("a")


@pytest.mark.parametrize("nodes", [3, 4, 6, 12])
@pytest.mark.parametrize("namespace", ["flowq", "media", "a.b-c"])
def test_each_node_of_a_cluster_has_as_many_partitions_as_the_others(namespace: str, nodes: int) -> None:
    found = Counter(slot_of(tag) * nodes // SLOTS for tag in tags_of(namespace, 12))
    assert sorted(found.values()) == [12 // nodes] * nodes


def test_a_node_that_takes_a_part_of_every_others_slots_takes_as_many_partitions() -> None:
    taken = [slot_of(tag) % (SLOTS / 3) < SLOTS / 12 for tag in tags_of("flowq", 12)]
    assert sum(taken) == 3


def test_tags_are_the_same_for_all_clients_and_of_one_partition_as_they_were() -> None:
    assert Keys("flowq", 4).tags == ["{flowq:0-3}", "{flowq:1-13}", "{flowq:2-3}", "{flowq:3-13}"]
    assert Keys("flowq").tags == ["{flowq:0}"]
    assert len(set(Keys("flowq", 256).tags)) == 256
