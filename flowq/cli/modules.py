"""Whether a MODULE is there at all, told without importing it: whoever starts a worker must not run its code.

What is wrong inside the module is found, and told in the same way, by the process that imports it.
"""

from __future__ import annotations

from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

from flowq.errors import ModuleNotLoaded


def refuse_missing_module(target: str) -> None:
    """Refuses what can't be a module.

    Args:
        target: a dotted name, of which only the first part is looked for, or the path of a `.py` file.

    Raises:
        ModuleNotLoaded: there is no such file or top-level module, or a pipeline was named.
    """
    path = Path(target)
    if path.is_file():
        return
    module, colon, _ = target.partition(":")
    if colon:
        raise ModuleNotLoaded(f"{target!r} is no module", f"a worker serves all pipelines of a module: give {module}")
    if target.endswith(".py"):
        raise ModuleNotLoaded(f"there is no file {path}", "check the path")
    if not _is_there(target.partition(".")[0]):
        raise ModuleNotLoaded(
            f"there is no module {target!r}", "name it with dots from the current directory, or give its .py path"
        )


def _is_there(package: str) -> bool:
    try:
        return bool(package) and (PathFinder.find_spec(package, [str(Path.cwd())]) or find_spec(package)) is not None
    except ValueError:  # such as `__main__`, which was loaded from no file
        return False
