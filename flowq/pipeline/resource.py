"""`@resource`: something expensive that stages share (a model, a connection), built once per process when first needed."""

from __future__ import annotations

import functools
import inspect
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, overload
from weakref import WeakSet

from flowq.errors import DefinitionError, InvalidValue

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

Scope = Literal["process"]


class Resource(Generic[T]):
    """A value that is built by its first caller, while all others wait. A builder that raises is tried again by the next."""

    _built: tuple[T] | tuple[()]
    _lock: threading.RLock
    _is_building: bool

    def __init__(self, builder: Callable[[], T]) -> None:
        """Use `@resource`."""
        functools.update_wrapper(self, builder)
        self._builder = builder
        _all.add(self)
        self.reset()

    def __call__(self) -> T:
        """The value.

        Raises:
            DefinitionError: its own builder asks for it.
        """
        built = self._built
        if built:
            return built[0]
        with self._lock:
            if self._is_building:
                raise DefinitionError(f"resource {self._builder.__name__!r} needs itself", "build it without calling it")
            if not self._built:
                self._is_building = True
                try:
                    self._built = (self._builder(),)
                finally:
                    self._is_building = False
            return self._built[0]

    def reset(self) -> None:
        """Forgets the value; the next call builds a new one."""
        self._built = ()
        # Re-entrant, so that a builder that needs itself is told so and does not hang.
        self._lock = threading.RLock()
        self._is_building = False


class AsyncResource(Generic[T]):
    """A resource with an `async def` builder: `await database()`. It is built in the loop of its first caller."""

    _built: Future[T] | None
    # Kept, because the loop itself holds its tasks only weakly.
    _task: asyncio.Task[None] | None
    _lock: threading.Lock

    def __init__(self, builder: Callable[[], Coroutine[Any, Any, T]]) -> None:
        """Use `@resource`."""
        functools.update_wrapper(self, builder)
        self._builder = builder
        _all.add(self)
        self.reset()

    async def __call__(self) -> T:
        """The value."""
        import asyncio  # a third of what `import flowq` would cost who only submits

        with self._lock:
            built = self._built
            if built is None:
                built = self._built = Future[T]()
                # A future of another thread's loop; marked running so that a cancelled waiter can't cancel the others'.
                built.set_running_or_notify_cancel()
                # The build is a task of its own: a caller that is cancelled must not take it along.
                self._task = asyncio.get_running_loop().create_task(self._build(built))
        return await asyncio.wrap_future(built)

    async def _build(self, built: Future[T]) -> None:
        try:
            value = await self._builder()
        except BaseException as error:  # also a cancellation: who waits for the value must be told
            with self._lock:
                if self._built is built:
                    self._built = None
            built.set_exception(error)
        else:
            built.set_result(value)

    def reset(self) -> None:
        """Forgets the value; the next call builds a new one."""
        self._built = None
        self._task = None
        self._lock = threading.Lock()


class ResourceDecorator(Protocol):
    """What `@resource(…)` returns."""

    def __call__(self, builder: Callable[[], T], /) -> Resource[T]: ...


# An async builder is a Callable[[], Coroutine[…, T]], so its resource types as what it is: something to be awaited.
@overload
def resource(builder: Callable[[], T], /) -> Resource[T]: ...
@overload
def resource(*, scope: Scope = "process") -> ResourceDecorator: ...
def resource(builder: Callable[[], Any] | None = None, /, *, scope: Scope = "process") -> Any:
    """Makes a resource of the function that builds it: `@resource`, or `@resource(scope="process")`.

    Args:
        builder: takes no arguments; `def` or `async def`.
        scope: `process`: one value per worker process, kept warm between stages.

    Raises:
        InvalidValue: a scope there is not.
        DefinitionError: the builder takes arguments.
    """
    if scope != "process":
        raise InvalidValue("scope", scope, "'process'")
    if builder is None:
        return _made
    return _made(builder)


def reset_resources() -> None:
    """Forgets all built resources of this process; for tests. Does not close them."""
    for known in list(_all):
        known.reset()


def _made(builder: Callable[[], Any]) -> Resource[Any] | AsyncResource[Any]:
    if not callable(builder) or inspect.signature(builder).parameters:
        raise DefinitionError(f"resource {getattr(builder, '__name__', builder)!r} takes arguments", "read settings inside it")
    if inspect.iscoroutinefunction(builder):
        return AsyncResource(builder)
    return Resource(builder)


_all: WeakSet[Resource[Any] | AsyncResource[Any]] = WeakSet()
if hasattr(os, "register_at_fork"):  # a connection or a CUDA context of the parent is useless in a forked child
    os.register_at_fork(after_in_child=reset_resources)
