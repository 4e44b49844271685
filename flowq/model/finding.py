"""`Finding`: one thing that `flowq doctor` looked at, and what to do where it is not well."""

from __future__ import annotations

from typing import Literal

import msgspec

Level = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True):
    """The outcome of one check.

    Attributes:
        name: what was looked at, such as `persistence`.
        level: `ok`; `warn`: it works, but may cost you later; `fail`: it does not work.
        problem: what was found, in one sentence; for `ok` what is well.
        remedy: what to do about it; empty for `ok`.
    """

    name: str
    level: Level
    problem: str
    remedy: str = ""
