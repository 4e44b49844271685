"""`FlowSpec`: a flow that has been defined and checked but not stored yet: what a pipeline call returns and `add` takes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Generic, TypedDict, TypeVar, Unpack

import msgspec

from flowq.errors import InvalidValue
from flowq.model.dedup import Dedup, check_dedup
from flowq.model.duration import Duration
from flowq.model.names import check_flow_id, check_name, root_id
from flowq.model.plan import Plan
from flowq.model.timing import Deadline, Timing

R_co = TypeVar("R_co", covariant=True)

PRIORITY_MAX = 1_000_000
# What `producer.find` and the command line take for the newest flow.
LATEST = "latest"
_TAGS_MAX = 32


class AddOptions(TypedDict, total=False):
    """The options of one flow, as users write them: what `producer.add` and `with_options` take by name.

    Attributes:
        id: its id; made up if not given.
        tenant: whose it is.
        tags: words to find it by.
        priority: larger runs first; 0 by default.
        delay: it begins so long after it was added.
        start_at: it begins then, a datetime with a time zone; at once if that is over.
        deadline: so long after it was added, or then, what has not completed is cancelled, and the flow has failed.
        dedup: `Dedup("user:7", window="10m")`: if a flow of this pipeline was added under the key within the window, or,
            without a window, has not ended yet, nothing is added and its handle is returned; or, with `debounce` or
            `keep_last`, this one takes its place or waits for its end. `is_new` and `addition` of the handle tell.
        cache: False: stages with a cache run, whatever is known, and what they compute is kept anew; True by default.
    """

    id: str | None
    tenant: str
    tags: Sequence[str]
    priority: int
    delay: Duration | None
    start_at: datetime | None
    deadline: Deadline | None
    dedup: Dedup | None
    cache: bool


class FlowOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How one flow is to be submitted. Checked by `FlowOptions.checked`.

    Attributes:
        id: the flow's id; None: flowq makes one.
        tenant: whose flow it is; "" for nobody's in particular.
        tags: words to find it by.
        priority: larger runs first.
        timing: when it begins, and when it must have ended.
        dedup: under which key it is the only flow of its pipeline.
        cache: whether its stages may take results that are known.
    """

    id: str | None = None
    tenant: str = ""
    tags: tuple[str, ...] = ()
    priority: int = 0
    timing: Timing = Timing()
    dedup: Dedup | None = None
    cache: bool = True

    @classmethod
    def checked(
        cls,
        *,
        id: str | None = None,
        tenant: str = "",
        tags: Sequence[str] = (),
        priority: int = 0,
        delay: Duration | None = None,
        start_at: datetime | None = None,
        deadline: Deadline | None = None,
        dedup: Dedup | None = None,
        cache: bool = True,
        **unknown: object,
    ) -> FlowOptions:
        """The options as users write them, or InvalidValue; TypeError: there is no such option."""
        if unknown:
            raise TypeError(f"a flow has no option {', '.join(sorted(unknown))}; it has {', '.join(AddOptions.__annotations__)}")
        if not isinstance(tags, list | tuple) or len(tags) > _TAGS_MAX:
            raise InvalidValue("tags", tags, f"a list of at most {_TAGS_MAX} words")
        if type(priority) is not int or abs(priority) > PRIORITY_MAX:
            raise InvalidValue("priority", priority, f"a whole number from -{PRIORITY_MAX} to {PRIORITY_MAX}")
        if type(cache) is not bool:
            raise InvalidValue("cache", cache, "True or False; for how long is said with the stage: @stage(cache='30d')")
        return cls(
            id=None if id is None else _own_id(id),
            tenant=check_name(tenant, "tenant") if tenant else "",
            tags=tuple(check_flow_id(tag, "tag") for tag in tags),
            priority=priority,
            timing=Timing.checked(delay, start_at, deadline),
            dedup=check_dedup(dedup, id, delay, start_at),
            cache=cache,
        )


def _own_id(value: object) -> str:
    if value == LATEST:
        raise InvalidValue("flow id", value, "another word: everywhere it stands for the newest flow")
    if isinstance(value, str) and root_id(value) != value:
        raise InvalidValue("flow id", value, "one without '^', which only stands in ids of flows that flowq adds by itself")
    return check_flow_id(value)


class FlowSpec(Generic[R_co]):
    """A flow, ready to be added. Immutable; made by calling a pipeline, by `stage.flow(...)` or from Nodes.

    Attributes:
        plan: the graph.
        literals: stage index → its literal arguments as a msgpack map; a place that a child's result fills holds nil.
        output_literal: the literal part of the flow's result as msgpack; None: it is one stage's result, whole.
        inputs: the arguments of the pipeline as a msgpack map with sorted keys: they and its name identify the work.
        result_type: the type the result is decoded to.
        options: how it is to be submitted.
    """

    __slots__ = ("inputs", "literals", "options", "output_literal", "plan", "result_type")

    def __init__(
        self,
        plan: Plan,
        literals: dict[int, bytes],
        inputs: bytes,
        *,
        output_literal: bytes | None = None,
        result_type: Any = Any,
        options: FlowOptions = FlowOptions(),
    ) -> None:
        self.plan = plan
        self.literals = literals
        self.inputs = inputs
        self.output_literal = output_literal
        self.result_type = result_type
        self.options = options

    @property
    def fingerprint(self) -> bytes:
        """16 bytes: equal for the same pipeline and the same inputs, whatever release of the code made them."""
        return hashlib.sha256(self.plan.pipeline.encode() + b"\0" + self.inputs).digest()[:16]

    def with_options(self, **options: Unpack[AddOptions]) -> FlowSpec[R_co]:
        """The same flow with other options, see `AddOptions`; what is not given goes back to its default.

        Raises:
            InvalidValue: an option is out of range.
        """
        return self.optioned(FlowOptions.checked(**options))

    def optioned(self, options: FlowOptions) -> FlowSpec[R_co]:
        """The same flow with options that were checked already."""
        return FlowSpec(
            self.plan, self.literals, self.inputs,
            output_literal=self.output_literal, result_type=self.result_type, options=options,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<FlowSpec {self.plan.pipeline}: {len(self.plan.stages)} stages>"
