"""Following a flow to its end: live on a terminal, one line per change elsewhere, one JSON object per line for programs."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TextIO

from flowq.cli.documents import envelope, json_text
from flowq.cli.render.events import event_line
from flowq.cli.render.flow import flow_view
from flowq.cli.render.ink import line, painted
from flowq.cli.render.screen import WIDTH_MAX, WIDTH_MIN, Screen
from flowq.cli.waiting import once_made
from flowq.errors import FlowTimedOut
from flowq.model.event import Event

if TYPE_CHECKING:
    from flowq.engine.flow.handle import FlowHandle
    from flowq.model.snapshot import FlowSnapshot

# Four pictures a second look fluent; more would be reads of the server that nobody sees.
_PICTURE_SECONDS: Final = 0.25
# Without any event a running flow still changes: its clock goes on. It also heals whatever the event stream lost.
_IDLE_SECONDS: Final = 1.0
# Without a terminal a progress is worth a line only every so often.
_PROGRESS_STEP: Final = 0.1


async def follow(
    handle: FlowHandle[Any], output: str, stream: TextIO, screen: Screen, timeout: float | None = None
) -> FlowSnapshot:
    """Shows what happens until the flow has ended, and returns how it then stands.

    Args:
        handle: the flow.
        output: `text`, `json` (only the last state) or `jsonl`.
        stream: where to.
        screen: what that can show.
        timeout: seconds; None: for ever.

    Raises:
        FlowTimedOut: it has not ended in time; it goes on.
    """
    if output == "text" and screen.is_terminal:
        show: Callable[[], Awaitable[FlowSnapshot]] = lambda: _live(handle, stream, screen)  # noqa: E731
    else:
        writer = _writer(output, stream, screen)
        show = lambda: _each(handle, writer)  # noqa: E731
    try:
        async with asyncio.timeout(timeout):
            return await show()
    except TimeoutError:
        raise FlowTimedOut(handle.id, timeout or 0) from None


async def _each(handle: FlowHandle[Any], write: Callable[[Any], None]) -> FlowSnapshot:
    """Every event, from the flow's first; a flow that was retried has events of earlier ends among them."""
    async for item in handle.events(after=0):
        _heed_ctrl_c()
        write(item)
    return await handle.inspect()


def _writer(output: str, stream: TextIO, screen: Screen) -> Callable[[Any], None]:
    if output == "json":
        return lambda item: None
    if output == "jsonl":
        return lambda item: _write_json(item, stream)
    lines = _Lines(stream, screen)
    return lines.write


def _write_json(item: Any, stream: TextIO) -> None:
    kind = "event" if isinstance(item, Event) else "gap"
    stream.write(json_text(envelope(kind, item), pretty=False) + "\n")
    stream.flush()


class _Lines:
    """One line per change; of progress only what moved noticeably."""

    def __init__(self, stream: TextIO, screen: Screen) -> None:
        self._stream = stream
        self._screen = screen
        self._shown: dict[str | None, float] = {}

    def write(self, item: Any) -> None:
        if not isinstance(item, Event):
            self._put(line(f"{self._screen.ellipsis} {item.before - item.after - 1:,} events are no longer kept"))
        elif item.verb == "progressed":
            if self._is_news(item):
                self._put(event_line(item, self._screen))
        elif item.reason is None or item.reason.code != "children":  # each of those would say what one before them says
            self._put(event_line(item, self._screen))

    def _is_news(self, event: Event) -> bool:
        if event.progress is None:
            return False
        last = self._shown.get(event.stage)
        if last is not None and abs(event.progress - last) < _PROGRESS_STEP:
            return False
        self._shown[event.stage] = event.progress
        return True

    def _put(self, parts: Any) -> None:
        self._stream.write(painted([parts], self._screen.colour))
        self._stream.flush()


async def _live(handle: FlowHandle[Any], stream: TextIO, screen: Screen) -> FlowSnapshot:
    """The view of `inspect`, redrawn in place. Events only say that it is time to look again."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(file=stream, force_terminal=True, no_color=not screen.colour, highlight=False, markup=False)
    snapshot = await once_made(handle)
    changed = asyncio.Event()
    listener = asyncio.create_task(_listen(handle, changed))

    def picture(rows_max: int | None) -> Text:
        # The terminal may have been resized since the last picture.
        now = screen._replace(width=min(max(console.width, WIDTH_MIN), WIDTH_MAX))
        lines = flow_view(snapshot, now, rows_max=rows_max, live=True)
        return Text.from_ansi(painted(lines, screen.colour).rstrip("\n"), no_wrap=True)

    try:
        # Taller than the screen can't be redrawn in place, so like stages are folded to fit while it is live.
        rows_max = max(5, (console.size.height - 10) // 2)
        with Live(picture(rows_max), console=console, auto_refresh=False, transient=True) as live:
            while not snapshot.is_final:
                await _soon(changed)
                snapshot = await handle.inspect()
                live.update(picture(rows_max), refresh=True)
    finally:
        while not listener.done():
            listener.cancel()
            await asyncio.wait([listener], timeout=0.2)
    stream.write(painted(flow_view(snapshot, screen), screen.colour))
    return snapshot


async def _listen(handle: FlowHandle[Any], changed: asyncio.Event) -> None:
    async for _ in handle.events(after=0):
        changed.set()


async def _soon(changed: asyncio.Event) -> None:
    """Waits for a change, but neither too short nor too long."""
    await asyncio.sleep(_PICTURE_SECONDS)
    # Not wait_for: before Python 3.12 it swallows a Ctrl-C that comes in the same moment as the change.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_IDLE_SECONDS - _PICTURE_SECONDS):
            await changed.wait()
    changed.clear()
    _heed_ctrl_c()


def _heed_ctrl_c() -> None:
    """Ends the command when it was told to: a client library may have swallowed the cancellation that told so."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def stderr_screen(color: str = "auto") -> Screen:
    """What stderr can show, for commands whose stdout is data."""
    from flowq.cli.render.screen import screen_of

    return screen_of(sys.stderr, color)
