"""Why a server can't be reached, in words: what the client library says of it begins with "Error 111 connecting to"."""

from __future__ import annotations

import os
import re

_NUMBER = re.compile(r"\[Errno (\d+)\]")


def what_the_system_said(error: BaseException | None) -> str:
    """Why a server can't be reached, without its address and without numbers; empty: the system said nothing."""
    while error is not None:
        if isinstance(error, OSError) and (said := _said(error)):
            return said[0].lower() + said[1:]
        error = error.__cause__ or error.__context__
    return ""


def _said(error: OSError) -> str:
    number = error.errno
    if number is None and (several := _NUMBER.search(str(error))):  # a name with several addresses, none of which took the call
        number = int(several[1])
    if number is None:
        return "no answer in time" if isinstance(error, TimeoutError) else ""
    said = error.strerror or ""
    return os.strerror(number) if not said or said.startswith("Connect call failed") else said
