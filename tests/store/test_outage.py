"""Why a server can't be reached is told in the system's words, whatever the client library was doing."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.asyncio import UnixDomainSocketConnection
from redis.exceptions import ConnectionError as Lost

from flowq.store.outage import what_the_system_said

pytestmark = pytest.mark.anyio


async def test_the_systems_words_are_told_also_where_only_the_clients_are_left(tmp_path: Path) -> None:
    connection = UnixDomainSocketConnection(path=str(tmp_path / "nothing.sock"))
    with pytest.raises(Lost) as refused:
        await connection.connect()
    assert what_the_system_said(refused.value) == "no such file or directory"
    # Its pool can lose the system's error when it replaces a connection that the server has closed.
    without_cause = Lost(str(refused.value))
    without_cause.__context__ = Lost("Connection has data")
    assert what_the_system_said(without_cause) == "no such file or directory"


def test_an_error_that_names_no_cause_says_nothing() -> None:
    assert what_the_system_said(Lost("Connection closed by server.")) == ""
    assert (
        what_the_system_said(Lost("Error -2 connecting to no-such-host:6379. Name or service not known."))
        == "name or service not known"
    )
