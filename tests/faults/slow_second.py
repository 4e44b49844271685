"""A module whose second import, in another process, takes a minute: the first one made the file."""

import os
import time
from pathlib import Path

from flowq import stage

_HERE = Path(os.environ["FLOWQ_TEST_JOURNAL"]).parent
try:
    (_HERE / "imported").touch(exist_ok=False)
except FileExistsError:
    (_HERE / "importing").touch()
    time.sleep(60)


@stage
def slowly_imported() -> None:
    """Is never run."""
