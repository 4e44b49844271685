"""Which keys may have no time to live."""

from __future__ import annotations

from flowq.store.keys import PERMANENT, RULES, Keys


def is_permanent(keys: Keys, key: str) -> bool:
    """Whether a key is on the documented list of those that need not expire."""
    if key in (keys.meta, keys.limits) or (key.startswith(keys.limit("")[:-1]) and key.endswith(RULES)):
        return True
    tag = next((tag for tag in keys.tags if key.startswith(tag)), None)
    return tag is not None and any(key[len(tag) :].startswith(word) for word in PERMANENT)
