"""`limit`: what users write to keep within a limit: `async with limit("openai", tokens=1200)`, or as an option of a stage.

Knows no server: permits come from the `Limiter` that the engine binds for the time a stage runs.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Protocol, cast

from flowq.errors import InvalidValue, NoStageContext
from flowq.model.limit import LimitUse, check_limit_name, checked_key


class Permit(Protocol):
    """The right to do something, until it is returned.

    Attributes:
        use: for what.
        is_held: whether it has not been returned.
    """

    use: LimitUse
    is_held: bool

    async def give_back(self) -> None: ...


class Limiter(Protocol):
    """Who hands out permits."""

    async def acquire(self, use: LimitUse) -> Permit: ...
    def acquire_in_thread(self, use: LimitUse) -> Permit: ...
    def give_back_in_thread(self, permit: Permit) -> None: ...


bound_limiter: ContextVar[Limiter | None] = ContextVar("flowq_limiter", default=None)

# The permits in whose blocks the code stands that looks: blocks side by side, in tasks of their own, don't see each other.
_held: ContextVar[tuple[Permit, ...]] = ContextVar("flowq_permits", default=())


def hold(permit: Permit) -> None:
    """From now on this code stands within that permit, until it is returned."""
    _held.set((*(one for one in _held.get() if one.is_held), permit))


def is_within(use: LimitUse) -> bool:
    """Whether this code holds a permit of the same limit and key."""
    return any(one.is_held and (one.use.name, one.use.key) == (use.name, use.key) for one in _held.get())


class limit:
    """Waits until a named limit allows what comes in its block: `async with limit("openai", tokens=1200)`.

    Inside a stage; `with` in a plain `def`. A stage as a whole is limited by its option: `@stage(limits=[limit("openai")])`.
    Limits are set with `producer.set_limit` or `flowq limits set`, and hold for all workers together: in any period of the
    limit's length, wherever it begins, at most so much is begun, and at most `concurrency` blocks are open at once. Who asks
    first is served first.

    Args:
        name: the limit's.
        key: limits each key for itself, such as `key="user:7"`; as an option of a stage it may name arguments of the stage, as
            in `key="user:{user_id}"`.
        amounts: how much of what the limit counts, such as `tokens=1200`; one request if not said otherwise.

    Raises:
        InvalidValue: a name, key or amount is out of range; on entering: more than the limit ever allows.
        LimitNotSet: on entering: nobody has set this limit.
        DefinitionError: on entering: this code holds a place of the limit already, so it would wait for itself.
        NoStageContext: on entering: no stage is running here.
    """

    def __init__(self, name: str, /, *, key: str = "", **amounts: int) -> None:
        self._names = _names_in(key)
        self.use = LimitUse.checked(name, "" if self._names else key, amounts)
        if self._names:
            self.use = LimitUse(self.use.name, self.use.amounts, key)
        self._permits: list[Permit] = []

    async def __aenter__(self) -> None:
        """Waits."""
        self._entered(await self._limiter().acquire(self._whole_use()))

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Returns the permit."""
        await self._left().give_back()

    def __enter__(self) -> None:
        """Waits, in a stage that runs in a thread."""
        self._entered(self._limiter().acquire_in_thread(self._whole_use()))

    def __exit__(self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Returns the permit."""
        self._limiter().give_back_in_thread(self._left())

    def __repr__(self) -> str:
        amounts = "".join(f", {what}={amount}" for what, amount in self.use.amounts)
        return f"limit({self.use.name!r}{f', key={self.use.key!r}' if self.use.key else ''}{amounts})"

    def _entered(self, permit: Permit) -> None:
        self._permits.append(permit)
        hold(permit)

    def _left(self) -> Permit:
        # One object may be entered by several tasks at once: each leaves with the permit that it came with.
        own = [permit for permit in self._permits if permit in _held.get()] or self._permits
        permit = own[-1]
        self._permits.remove(permit)
        return permit

    def _limiter(self) -> Limiter:
        limiter = bound_limiter.get()
        if limiter is None:
            raise NoStageContext
        return limiter

    def _whole_use(self) -> LimitUse:
        if self._names:
            raise InvalidValue("key of a limit", self.use.key, "a key without {…}: they are for the option of a stage")
        return self.use


def use_for(use: LimitUse, arguments: Mapping[str, Any]) -> LimitUse:
    """A stage's use of a limit with the stage's arguments in its key.

    Raises:
        InvalidValue: the key names no argument, or gets characters that a key can't have.
    """
    if not _names_in(use.key):
        return use
    try:
        key = use.key.format_map({name: arguments[name] for name in _names_in(use.key)})
    except KeyError as missing:
        raise InvalidValue("key of a limit", use.key, f"names of arguments only: there is no {missing}") from None
    return LimitUse(use.name, use.amounts, checked_key(key))


def refuse_unknown_names(uses: Sequence[LimitUse], stage: str, arguments: Sequence[str]) -> None:
    """Refuses a key that names what is no argument of the stage, where the stage is defined: it could never run.

    Raises:
        InvalidValue: it does.
    """
    for use in uses:
        if unknown := [name for name in _names_in(use.key) if name not in arguments]:
            expected = f"names of arguments of {stage}, which takes {', '.join(arguments) or 'none'}: there is no {unknown[0]!r}"
            raise InvalidValue("key of a limit", use.key, expected)


def _names_in(key: object) -> list[str]:
    if not isinstance(key, str) or "{" not in key:
        return []
    try:
        parts = list(string.Formatter().parse(key))
    except ValueError:
        parts = [("", "", "", None)]
    names = [name for _, name, _, _ in parts if name is not None]
    if not all(name.isidentifier() for name in names):
        raise InvalidValue("key of a limit", key, "plain names in braces, such as 'user:{user_id}'")
    checked_key("".join(text + ("x" if name is not None else "") for text, name, _, _ in parts))
    return names


def checked_limits(value: object) -> tuple[LimitUse, ...]:
    """The uses that a stage's option names, or InvalidValue."""
    given = cast("list[object]", [value]) if isinstance(value, limit) else cast("list[object]", value)
    if not isinstance(cast("object", given), list | tuple) or not all(isinstance(one, limit) for one in given):
        raise InvalidValue("limits", value, 'a list such as [limit("openai", tokens=1200)]')
    uses = tuple(one.use for one in given if isinstance(one, limit))
    for use in uses:
        check_limit_name(use.name)
    if len({(use.name, use.key) for use in uses}) < len(uses):
        raise InvalidValue("limits", value, "each limit once, with all that the stage takes of it")
    # In one order everywhere, so that no two stages wait for each other's permits.
    return tuple(sorted(uses, key=lambda use: (use.name, use.key)))
