"""Every key of flowq, spelled here and nowhere else: Python builds keys with `Keys`, Lua gets the same words from `LUA`.

All keys of one partition carry one hash tag (`slots.py`), so a script may touch any of them and a cluster keeps them in one
slot. Ids and names are checked (`flowq.model.names`) so that none can hold a brace or, where it is
followed by something, a colon.
"""

from __future__ import annotations

from typing import Final

from flowq.model.names import root_id
from flowq.store.slots import crc16, tags_of

# What follows the tag. One letter where the key is written for every flow or stage, a word where there are few.
FLOW: Final = ":f:"
PLAN: Final = ":p:"
LANES: Final = ":z:"
LANE: Final = ":q:"
TENANT_LANES: Final = ":t:"
TENANTS: Final = ":tenants:"
WEIGHTS: Final = ":weights"
# Of limits, each of which has a tag of its own: `{namespace:L:name}`.
RULES: Final = ":rules"
WINDOWS: Final = ":windows:"
PERMITS: Final = ":permits:"
HELD: Final = ":held:"
LINE: Final = ":line:"
SEEN: Final = ":seen:"
TURNED: Final = ":turned:"
HUNGRY: Final = ":hungry:"
LIMITS_MARK: Final = ":limits-mark"
GRANT: Final = ":grant:"
PARKED: Final = ":w:"
HOLDER: Final = ":h:"
RUNNING: Final = ":x:"
STAGING: Final = ":s:"
PROBE: Final = ":probe:"
FINISHED: Final = ":finished:"
DUE: Final = ":due"
HOLDERS: Final = ":holders"
EVENTS: Final = ":events"
LIVE: Final = ":live"
FAILED: Final = ":failed"
CANCELLED: Final = ":cancelled"
CLOSING: Final = ":closing"
BY: Final = ":by:"
PIPELINES: Final = ":pipelines"
ROUTES: Final = ":routes"
ONCE: Final = ":once:"
METERED: Final = ":metered:"
TREE: Final = ":tree:"
TREES: Final = ":trees"
MEMO: Final = ":memo:"
MEMO_MARK: Final = ":memo-mark:"
MEMO_WAITS: Final = ":memo-waits:"
SPARED: Final = ":spared"
UNLOGGED: Final = ":unlogged"
DAMAGED: Final = ":damaged"
PAUSED: Final = ":paused"
ASIDE: Final = ":o:"
SCHEDULES: Final = ":schedules"
FIRED: Final = ":fired"
FIRINGS: Final = ":firings"
# Fields of the hash of routes that are none: since when they are counted; some may not be; a plan has too many to count.
ROUTES_STAMP: Final = "@"
ROUTES_LOST: Final = "?"
ROUTES_UNCOUNTED: Final = "*"
WAKE_CHANNEL: Final = ":wake:"
ENDED_CHANNEL: Final = ":ended:"

_TAGGED: Final = {
    "FLOW": FLOW, "PLAN": PLAN, "LANES": LANES, "LANE": LANE, "PARKED": PARKED, "HOLDER": HOLDER, "RUNNING": RUNNING,
    "FINISHED": FINISHED, "DUE": DUE, "HOLDERS": HOLDERS, "EVENTS": EVENTS, "LIVE": LIVE,
    "FAILED": FAILED, "CANCELLED": CANCELLED, "CLOSING": CLOSING, "TREE": TREE, "TREES": TREES, "DAMAGED": DAMAGED,
    "PROBE": PROBE, "PAUSED": PAUSED, "ASIDE": ASIDE, "SCHEDULES": SCHEDULES, "FIRED": FIRED, "FIRINGS": FIRINGS,
    "BY": BY, "PIPELINES": PIPELINES, "ROUTES": ROUTES, "ONCE": ONCE, "METERED": METERED,
    "MEMO": MEMO, "MEMO_MARK": MEMO_MARK, "MEMO_WAITS": MEMO_WAITS,
    "WAKE_CHANNEL": WAKE_CHANNEL, "ENDED_CHANNEL": ENDED_CHANNEL,
    "TENANT_LANES": TENANT_LANES, "TENANTS": TENANTS, "WEIGHTS": WEIGHTS,
    "RULES": RULES, "WINDOWS": WINDOWS, "PERMITS": PERMITS, "HELD": HELD, "LINE": LINE, "SEEN": SEEN, "GRANT": GRANT,
    "TURNED": TURNED,
    "HUNGRY": HUNGRY, "LIMITS_MARK": LIMITS_MARK,
}  # fmt: skip
_FIELDS: Final = {"ROUTES_STAMP": ROUTES_STAMP, "ROUTES_LOST": ROUTES_LOST}

# Keys without a time to live, and why each is bounded. All others expire. docs/reference/keys.md is this table.
PERMANENT: Final[dict[str, str]] = {
    "meta": "one per namespace: schema, instance id, number of partitions",
    "limits": "one per namespace: the names of the limits that are set",
    FLOW: "a flow that has not ended; it expires when it has; one that was spawned is deleted after the flow at its tree's root",
    PLAN: "one per definition, counted by its flows, deleted with the last",
    LANES: "one per queue and stage that has lanes; deleted with the last of these",
    LANE: "ready stages; those of cancelled and pruned flows until a worker of the queue passes them; deleted when empty",
    RUNNING: "one per process that holds stages; deleted with the process",
    DUE: "stages and flows that wait for a time, and deadlines",
    HOLDERS: "live processes and their leases",
    EVENTS: "one stream per partition, trimmed by age and length",
    LIVE: "flows that have not ended",
    FAILED: "failed flows, until pruned",
    CANCELLED: "cancelled flows, until pruned",
    CLOSING: "flows and maps that are being closed, and ended flows whose hooks are to be added, or what is beneath to be closed",
    PAUSED: "queues and pipelines that are paused; deleted when empty",
    ASIDE: "one per paused pipeline or flow that has ready stages: these; deleted when it is resumed, or the flow ends",
    SCHEDULES: "schedules, until they are removed",
    FIRED: "what became of the latest firing of each schedule",
    FIRINGS: "when each schedule fires next",
    BY: "the flows of a pipeline, of a tenant, with a tag; until pruned",
    SPARED: "removed flows whose artifacts a cache may still name; until it may not",
    PIPELINES: "the pipelines that have flows, and what they say of their retention",
    ROUTES: "the queues and stages of plans that have flows, each with how many of these plans name it; `@`: since when",
    TENANT_LANES: "one per queue, stage and priority that has lanes of tenants; deleted with the last of these",
    TENANTS: "one per queue: whose turn it is; only tenants that are ahead of the others are in it",
    WEIGHTS: "the weights of tenants that somebody set",
    RULES: "one per limit that is set: what it allows",
    LIMITS_MARK: "one per namespace: changes when a limit is set or removed",
    TREE: "the flows beneath one that spawned some; deleted after it",
    TREES: "flows that spawned others, until these are deleted",
}


def lua_constants() -> str:
    """The key words as Lua locals, put before every script by the loader."""
    named = {f"{name}_KEY": word for name, word in _TAGGED.items()} | _FIELDS
    words = ", ".join(f"'{word}'" for word in named.values())
    return f"local {', '.join(named)} = {words}\n"


class Keys:
    """The keys of one namespace, spread over `partitions` hash tags."""

    __slots__ = ("limits", "meta", "namespace", "tags")

    def __init__(self, namespace: str, partitions: int = 1) -> None:
        self.namespace = namespace
        self.meta = f"{{{namespace}}}:meta"
        self.limits = f"{{{namespace}}}:limits"
        self.tags = list(tags_of(namespace, partitions))

    def tag_of(self, flow_id: str) -> str:
        """The hash tag of the partition that a flow lives in: CRC16 of its id, as Redis Cluster computes it.

        Flows that others spawned live in one partition with the flow at the root of their tree.
        """
        if len(self.tags) == 1:
            return self.tags[0]
        return self.tags[crc16(root_id(flow_id).encode()) % len(self.tags)]

    def flow(self, flow_id: str) -> str:
        """The hash that holds a flow."""
        return self.tag_of(flow_id) + FLOW + flow_id

    def limit(self, name: str) -> str:
        """The hash tag of a limit: its own slot, wherever the flows are that it holds for."""
        return f"{{{self.namespace}:L:{name}}}"
