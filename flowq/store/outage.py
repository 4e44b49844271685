"""Why a server can't be reached, in words: what the client library says of it begins with "Error 111 connecting to"."""

from __future__ import annotations

import os
import re

_NUMBER = re.compile(r"\[Errno (\d+)\]")
# What the client library makes of it: all that is left where it connects again while it deals with another error.
_BY_CLIENT = re.compile(r"Error (-?\d+) connecting to .+?\. (.+?)\.?$")


def what_the_system_said(error: BaseException | None) -> str:
    """Why a server can't be reached, without its address and without numbers; empty: the system said nothing."""
    said = ""
    while error is not None and not said:
        said = _said(error) if isinstance(error, OSError) else _told_by_client(error)
        error = error.__cause__ or error.__context__
    return said[:1].lower() + said[1:]


def _said(error: OSError) -> str:
    number = error.errno
    if number is None and (several := _NUMBER.search(str(error))):  # a name with several addresses, none of which took the call
        number = int(several[1])
    if number is None:
        return "no answer in time" if isinstance(error, TimeoutError) else ""
    said = error.strerror or ""
    return os.strerror(number) if not said or said.startswith("Connect call failed") else said


def _told_by_client(error: BaseException) -> str:
    if (told := _BY_CLIENT.match(str(error))) is None:
        return ""
    number = int(told[1])
    return os.strerror(number) if number > 0 else told[2]
