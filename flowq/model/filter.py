"""`FlowFilter`: which flows are meant, in lists and by what is done to many at once; `FilterOptions`: as users say it. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from typing import Any, TypedDict, Unpack, get_args

import msgspec

from flowq.errors import InvalidValue
from flowq.model.names import check_flow_id, check_name, root_id
from flowq.model.snapshot import FlowSummary
from flowq.model.states import FINAL, FlowState

_TEXT_CHARS_MAX = 500


class FilterOptions(TypedDict, total=False):
    """What the flows have in common that a call is about, as users write it: whatever is given must fit.

    Attributes:
        pipeline: only those of this pipeline.
        tenant: only this tenant's.
        tag: only those with this tag.
        since_ms: only those added since, milliseconds since 1970.
        until_ms: only those added until then.
        search: only those whose id holds this text, of the 100,000 newest.
        cause: only failed ones whose root cause fits a pattern such as `NoSuchBucket*`: `ErrorType: first line of its text`.
    """

    pipeline: str | None
    tenant: str | None
    tag: str | None
    since_ms: float | None
    until_ms: float | None
    search: str | None
    cause: str | None


class FlowFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What flows have in common; what is None is not asked for. Built with `checked`.

    Attributes:
        state: the flow's state.
        pipeline: its pipeline's name.
        tenant: whose it is.
        tag: one of its tags.
        since_ms, until_ms: it was added not before, and not after: milliseconds since 1970.
        ended_before_ms: it has ended, before that moment.
        search: a part of its id.
        is_live: whether it has not ended.
        cause: what its root cause looks like, such as `NoSuchBucket*`: a pattern for `ErrorType: first line of the text`.
        with_hooks: whether flows are meant, too, that run after the end of others.
    """

    state: str | None = None
    pipeline: str | None = None
    tenant: str | None = None
    tag: str | None = None
    since_ms: float | None = None
    until_ms: float | None = None
    ended_before_ms: float | None = None
    search: str | None = None
    cause: str | None = None
    is_live: bool | None = None
    with_hooks: bool | None = None

    @classmethod
    def checked(cls, *, state: str | None = None, **options: Unpack[FilterOptions]) -> FlowFilter:
        """The filter as users write it.

        Raises:
            InvalidValue: no flow can be so, or a value is of the wrong type; names it.
            TypeError: there is no such option.
        """
        given: dict[str, object] = {"state": state, **options}
        if unknown := given.keys() - _CHECKS.keys():
            raise TypeError(f"flows are not filtered by {', '.join(sorted(unknown))}; they are by {', '.join(_CHECKS)}")
        return cls(**{name: None if value is None else _CHECKS[name](name, value) for name, value in given.items()})

    @property
    def is_empty(self) -> bool:
        """Whether all flows fit."""
        return self == FlowFilter()

    @property
    def labels(self) -> list[str]:
        """What it asks for that flows are indexed by."""
        asked = (("pipeline", self.pipeline), ("tenant", self.tenant), ("tag", self.tag))
        return [f"{kind}:{value}" for kind, value in asked if value is not None]

    def fits(self, flow: FlowSummary) -> bool:
        """Whether a flow is one of those meant."""
        return (
            (self.with_hooks or root_id(flow.id) == flow.id)
            and (self.state is None or flow.state == self.state)
            and (self.pipeline is None or flow.pipeline == self.pipeline)
            and (self.tenant is None or flow.tenant == self.tenant)
            and (self.tag is None or self.tag in flow.tags)
            and (self.since_ms is None or flow.created_at >= self.since_ms)
            and (self.until_ms is None or flow.created_at <= self.until_ms)
            and (self.ended_before_ms is None or 0 < (flow.ended_at or 0) < self.ended_before_ms)
            and (self.search is None or self.search in flow.id)
            and (self.is_live is None or self.is_live == (flow.state not in FINAL))
            and (self.cause is None or fnmatch.fnmatchcase(flow.cause, self.cause))
        )


def labels_of(pipeline: str, tenant: str, tags: tuple[str, ...]) -> tuple[str, ...]:
    """What a flow is indexed by: its pipeline first, then what else was given of it."""
    more = [f"tenant:{tenant}"] if tenant else []
    return (f"pipeline:{pipeline}", *more, *(f"tag:{tag}" for tag in dict.fromkeys(tags)))


def _state(name: str, value: object) -> object:
    if value not in get_args(FlowState):
        raise InvalidValue(name, value, f"one of {', '.join(get_args(FlowState))}")
    return value


def _moment(name: str, value: object) -> object:
    if type(value) not in (int, float) or value != value:
        raise InvalidValue(name, value, "milliseconds since 1970")
    return value


def _text(name: str, value: object) -> object:
    if not isinstance(value, str) or not 0 < len(value) <= _TEXT_CHARS_MAX:
        raise InvalidValue(name, value, f"a text of 1 to {_TEXT_CHARS_MAX} characters")
    return value


def _name(name: str, value: object) -> object:
    return check_name(value, name)


def _tag(name: str, value: object) -> object:
    return check_flow_id(value, name)


_CHECKS: dict[str, Callable[[str, object], Any]] = {
    "state": _state,
    "pipeline": _name,
    "tenant": _name,
    "tag": _tag,
    "since_ms": _moment,
    "until_ms": _moment,
    "search": _text,
    "cause": _text,
}
