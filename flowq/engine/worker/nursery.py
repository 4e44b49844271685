"""One child of the supervisor and its successors: started, registered, watched, rescued when it dies, replaced."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

import msgspec

from flowq.engine.capacity.host_room import this_host
from flowq.engine.duties.duties import rescue
from flowq.engine.exchange.holder import new_holder_id
from flowq.engine.process.child_process import DRAIN, STOP, ChildProcess
from flowq.engine.process.parent_link import Note, Ready, Retire
from flowq.engine.process.pulse import Pulse
from flowq.engine.worker.child_options import GO, HOUSE, ChildOptions, Heard, Known
from flowq.engine.worker.overdue import time_out
from flowq.errors import FlowqError, ModuleNotLoaded
from flowq.settings import S3Access
from flowq.store.store import Store
from flowq.store.wire import HolderInfo

log = logging.getLogger("flowq.engine")

# An async stage may hold its loop for so long before anybody is told.
_BLOCKED_SECONDS = 5.0
_RESTART_SECONDS_MAX = 10.0
_LIVED_SECONDS = 5.0


class Nurse:
    """Keeps one child alive until it is told to drain.

    Args:
        store: the store.
        template: the child's options, without holder and pulse.
        lease_ms: the lease of each child.
        give_up: called when not even the first child can be raised, because the modules can't be loaded.
        on_house: called with what the child has heard for duties.
    """

    def __init__(
        self, store: Store, template: ChildOptions, lease_ms: int, give_up: Callable[[FlowqError], None],
        on_house: Callable[[Nurse, Heard], None] | None = None,
    ) -> None:  # fmt: skip
        self._store = store
        self._template = template
        self._lease_ms = lease_ms
        self._give_up = give_up
        self._on_house = on_house
        self._child: ChildProcess | None = None
        self._pulse: Pulse | None = None
        self._known: asyncio.Future[Known | None] = asyncio.get_running_loop().create_future()
        self._refused: FlowqError | None = None
        self._told_to_drain = asyncio.Event()
        self._cause = ""
        # Its end was asked for, by us or by itself: whatever its exit code, no stage is to blame.
        self._is_expected = False
        self._warned_of = ""
        self._not_started_because = ""
        self._is_overdue = False
        self.holder = ""
        self.is_working = False
        self.routes: tuple[str, ...] = ()

    @property
    def running(self) -> int:
        """How many stages the child runs."""
        return self._pulse.running if self._pulse is not None else 0

    @property
    def begun(self) -> int:
        """How many stages the child has begun; fewer than before if it is another child."""
        return self._pulse.begun if self._pulse is not None else 0

    @property
    def asked(self) -> int:
        """How often the child has asked for permits; UNKNOWN on a damaged page."""
        return self._pulse.asked if self._pulse is not None else 0

    async def known(self) -> Known | None:
        """What the child can run, once it has said so; None: it never will."""
        return await asyncio.shield(self._known)

    async def care(self) -> None:
        """Raises a child, and another whenever one has died, until told to drain."""
        try:
            await self._raise_one_after_another()
        finally:
            if not self._known.done():
                self._known.set_result(None)

    async def _raise_one_after_another(self) -> None:
        restart_seconds = 0.0
        while not self._told_to_drain.is_set():
            began_at = time.monotonic()
            self._refused = None
            await self._one_life()
            if self._refused is not None:
                if not self._known.done():
                    self._give_up(self._refused)
                    return
                # What could be loaded before can be again, when whoever edits it is done.
                log.warning("child %s can't begin again yet: %s", self._template.name, self._refused)
            lived = time.monotonic() - began_at
            restart_seconds = 0.0 if lived > _LIVED_SECONDS else min(_RESTART_SECONDS_MAX, 2 * restart_seconds + 0.1)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(restart_seconds):
                    await self._told_to_drain.wait()

    def drain(self, *, at_once: bool = False) -> None:
        """Tells the child to end, and raises no other."""
        self._told_to_drain.set()
        self._is_expected = True
        if self._child is not None:
            self._child.command(STOP if at_once else DRAIN)
            if not self.is_working:
                self._child.kill()

    def kill(self, cause: str = "", *, is_crash: bool = True) -> None:
        """Ends the child now; its stages are rescued as soon as it is dead, and charged with it if it counts as a crash."""
        self._cause = self._cause or cause
        self._is_expected = self._is_expected or not is_crash
        if self._child is not None:
            self._child.kill()

    def move(self, artifacts: str, access: S3Access | None) -> None:
        """The storage is another one now: the child is replaced by one that knows it."""
        self._template = msgspec.structs.replace(self._template, artifacts=artifacts, access=access)
        self._is_expected = True
        if self._child is not None:
            self._child.command(STOP)

    def tell(self, heard: Heard) -> None:
        """Tells the child what another one has heard. One that is stopped hears nothing, else it would pile up."""
        if self._child is not None and self._pulse is not None and self.is_working and self._pulse.age() < _BLOCKED_SECONDS:
            self._child.command(HOUSE + msgspec.json.encode(heard).decode())

    def watch(self) -> None:
        """Kills a child whose stage neither ended at its timeout nor lets go of the process; warns of blocked loops."""
        if self._pulse is None or not self.is_working:
            return
        blocked_by = self._pulse.culprit if self._pulse.age() > _BLOCKED_SECONDS else ""
        if blocked_by and blocked_by != self._warned_of:
            log.warning("%s blocks the event loop of %s: make it a plain def, or await", blocked_by, self._template.name)
        self._warned_of = blocked_by
        if self._pulse.overdue() > 0:
            self._is_overdue = True
            self.kill(f"{blocked_by or 'a stage'} did not stop at its timeout")

    async def _one_life(self) -> None:
        self._cause = ""
        self._is_overdue = False
        self._is_expected = self._told_to_drain.is_set()
        told: asyncio.Queue[Known] = asyncio.Queue()
        holder = new_holder_id(self._template.name)
        try:
            child, pulse = await self._start(holder, told)
        except OSError as error:
            if self._not_started_because != str(error):
                log.error("child %s can't be started, and is tried again: %s", self._template.name, error)
            self._not_started_because = str(error)
            return
        self._not_started_because = ""
        self._child, self._pulse, self.holder = child, pulse, holder
        if self._told_to_drain.is_set():  # while it was being started
            child.kill()
        beginning = asyncio.create_task(self._begin(child, told))
        try:
            ended = await child.exited()
        except asyncio.CancelledError:
            child.kill()
            raise
        finally:
            beginning.cancel()
            self.is_working = False
            await asyncio.gather(beginning, return_exceptions=True)
        self.holder = ""
        cause = self._cause or ended.reason
        overdue = pulse.first if self._is_overdue else b""
        self._pulse = None
        pulse.close()
        if ended.exit_code != 0 and not self._told_to_drain.is_set() and self._refused is None:
            log.warning("child %s (pid %d) was lost: %s", self._template.name, ended.pid, cause)
        await self._take_back(holder, cause, overdue)

    async def _take_back(self, holder: str, cause: str, overdue: bytes) -> None:
        try:
            # The culprit is known, or was over already and only would not go: nobody else is to blame.
            if self._is_overdue and (not overdue or await time_out(self._store, holder, overdue)):
                self._is_expected = True
        except (FlowqError, OSError) as error:
            log.warning("that a stage of child %s timed out could not be reported: %s", self._template.name, error)
        try:
            await rescue(self._store, holder, cause, is_crash=not self._is_expected)
        except (FlowqError, OSError) as error:  # the rescuers find them when the lease is over
            log.warning("the stages of child %s could not be rescued: %s", self._template.name, error)

    async def _start(self, holder: str, told: asyncio.Queue[Known]) -> tuple[ChildProcess, Pulse]:
        """Raises OSError where the system refuses: it may have room again later, and other children work on."""

        def hear(message: Ready | Retire | Note) -> None:
            self._hear(message, told)

        pulse = Pulse.create()
        options = msgspec.structs.replace(self._template, holder=holder, pulse_fd=pulse.fd)
        try:
            child = await ChildProcess.start("flowq.engine.worker.child", options, on_message=hear, pass_fds=(pulse.fd,))
        except BaseException:  # also when it is cancelled: the page is nobody's then
            pulse.close()
            raise
        pulse.close_fd()
        return child, pulse

    async def _begin(self, child: ChildProcess, told: asyncio.Queue[Known]) -> None:
        known = await told.get()
        if not self._known.done():
            self._known.set_result(known)
        self.routes = known.routes
        options = self._template
        info = HolderInfo(
            options.name,
            known.queues,
            known.stages,
            known.routes,
            options.concurrency,
            options.is_alone,
            known.pipelines,
            options.has,
            this_host(),
            known.needs,
        )
        try:
            for tag in self._store.partitions:
                await self._store.register(tag, self.holder, self._lease_ms, info)
        except FlowqError as error:  # without a lease it may not begin; another one is raised
            self.kill(f"it could not be registered: {error.problem}", is_crash=False)
            return
        child.command(GO)
        self.is_working = True
        if self._told_to_drain.is_set():
            child.command(DRAIN)

    def _hear(self, message: Ready | Retire | Note, told: asyncio.Queue[Known]) -> None:
        if isinstance(message, Note) and message.topic == "known":
            told.put_nowait(msgspec.convert(message.body, Known))
        elif isinstance(message, Note) and message.topic == HOUSE:
            if self._on_house is not None:
                self._on_house(self, msgspec.convert(message.body, Heard))
        elif isinstance(message, Note) and message.topic == "refused":
            problem, remedy = message.body
            self._refused = ModuleNotLoaded(problem, remedy)  # whatever the child met, it met it in the modules
        elif isinstance(message, Retire):
            self._is_expected = True
            with contextlib.suppress(Exception):
                log.warning("child %s begins again: %s", self._template.name, message.reason)
