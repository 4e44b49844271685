"""What runs after the end of a flow, below its stages: a line for each hook."""

from __future__ import annotations

import shlex
from typing import Final

from flowq.cli.render import palette
from flowq.cli.render.screen import Screen
from flowq.model.plan import AT_END
from flowq.model.snapshot import FlowSnapshot, HooksSnapshot, StageSnapshot

_SHOWN_MAX: Final = 12


def hook_lines(snapshot: FlowSnapshot, screen: Screen) -> list[str]:
    """The lines, without a label; none for a flow without hooks."""
    hooks = snapshot.hooks
    if hooks is None:
        return []
    if hooks.state is None:
        return ["a worker that lives will begin them; none has had the time"]
    # Those that have failed or still run are what somebody looks for.
    open_first = sorted(hooks.stages, key=lambda hook: hook.is_done)
    shown = hooks.stages if len(hooks.stages) <= _SHOWN_MAX else open_first[:_SHOWN_MAX]
    width = max((len(hook.name) for hook in shown), default=0)
    lines = [_line(hook, width, screen) for hook in shown]
    if hidden := len(hooks.stages) - len(shown):
        lines.append(f"{screen.ellipsis} and {hidden:,} more")
    return [*lines, _next(hooks)]


def _line(hook: StageSnapshot, width: int, screen: Screen) -> str:
    purpose = "after every end" if hook.hook == AT_END else f"undoes {hook.hook}"
    why = f": {hook.reason.sentence}" if hook.reason is not None else ""
    if hook.failure is not None and not hook.is_done:
        why = f": {hook.failure.line}"
    return f"{palette.glyph(hook.state, screen.unicode)} {hook.name:<{width}}  {purpose}, {hook.state}{why}"


def _next(hooks: HooksSnapshot) -> str:
    verb = "retry" if hooks.state in ("failed", "cancelled") else "inspect"
    return f"flowq {verb} {shlex.quote(hooks.id)}"
