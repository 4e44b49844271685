"""`SourceWatch`: notices that Python files have changed, for the reload of `flowq dev`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

# Others' code: it changes by installing, and there is a lot of it.
_SKIPPED: Final = frozenset({"__pycache__", "node_modules", "site-packages", "venv", "env", "build", "dist"})
# Looking at more files each second would cost more than the reload saves.
_FILES_MAX: Final = 5_000


class SourceWatch:
    """Looks at the modification times of the `.py` files below some folders."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = list(folders)
        self._seen = self._look()

    def changed(self) -> list[str]:
        """The files that changed, appeared or vanished since the last call."""
        now = self._look()
        before, self._seen = self._seen, now
        return sorted(path for path in now.keys() | before.keys() if now.get(path) != before.get(path))

    def _look(self) -> dict[str, int]:
        times: dict[str, int] = {}
        for path in self._files():
            try:
                times[path] = os.stat(path).st_mtime_ns
            except OSError:  # it vanished in between: the next look tells
                continue
            if len(times) >= _FILES_MAX:
                break
        return times

    def _files(self) -> Iterator[str]:
        for folder in self._folders:
            for parent, folders, files in os.walk(folder):
                folders[:] = [name for name in folders if name not in _SKIPPED and not name.startswith(".")]
                yield from (os.path.join(parent, name) for name in files if name.endswith(".py"))
