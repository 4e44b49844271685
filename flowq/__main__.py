"""The `flowq` command, and `python -m flowq`: starts fast and ends at once.

Half of what a short command costs is Python's own: collections of garbage while modules are imported, of which there is
none, and the taking apart of all modules at the end. Both are spared (measured for `flowq inspect`: 250 → 180 ms).
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
from typing import NoReturn

# Import makes objects that stay; a collection for every 700 of them finds nothing. Long-running commands collect as well, later.
_COLLECT_AFTER_OBJECTS = 50_000


def run() -> NoReturn:
    """Runs the command line of this process and ends it with the command's exit code."""
    gc.set_threshold(_COLLECT_AFTER_OBJECTS)
    try:
        code = _run_main()
    except KeyboardInterrupt:  # before `main` or after it: in it, it is told like an error
        code = 130
    os._exit(code)


def _run_main() -> int:
    from flowq.cli import main

    code = main()
    atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage]  the modules of `submit` may have registered some
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # the reader has gone; `main` has dealt with it
            stream.flush()
    return code


if __name__ == "__main__":
    run()
