"""Where histories are played: one loop and one connection for all of them, a namespace of its own for each."""

from __future__ import annotations

import asyncio
import os
import secrets
import traceback
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, seed, settings

from flowq.store.connection import Connection
from tests.property.histories import histories
from tests.property.operations import History
from tests.property.player import Player
from tests.property.shrinking import shrunk

# Other histories than those of every run.
SEED = int(os.environ.get("SEED") or 0)


class Found(AssertionError):
    """A history in which the scripts and the model differ."""

    def __init__(self, history: History, difference: Exception) -> None:
        self.history = history
        plans = "\n".join(f"  {plan!r}" for plan in history.plans)
        operations = "\n".join(f"  {operation!r}" for operation in history.operations)
        super().__init__(f"{difference}\n{history.partitions} partitions, plans:\n{plans}\nwhat happened:\n{operations}")


class Playground:
    """Plays histories.

    Attributes:
        histories, operations: how many were played.
        latest: the history that was played last.
    """

    def __init__(self, url: str) -> None:
        self.histories = self.operations = 0
        self.latest: History | None = None
        self._runner = asyncio.Runner()
        self._connection = Connection(url, name="property")

    def play(self, history: History) -> None:
        """Plays a history in a namespace of its own, and removes what it left."""
        self._runner.run(self._played(history))

    def search(
        self, most: int, *, least: int = 1, played: Callable[[History], None] | None = None, of: int = 0
    ) -> Exception | None:
        """Plays random histories of at least `least` operations, the same each time, until one fails; gives why, or None.

        `of` chooses other histories, where the environment does not.
        """
        found: list[Exception] = []

        @settings(
            max_examples=most, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
            report_multiple_bugs=False, suppress_health_check=(HealthCheck.too_slow, HealthCheck.large_base_example),
        )  # fmt: skip
        @given(history=histories(least))
        def agree(history: History) -> None:
            try:
                (played or self.play)(history)
            except Exception as error:  # whatever it is, an assertion or an error of the server: they do not agree
                found.append(error)
                raise

        try:
            (seed(SEED or of)(agree) if SEED or of else agree)()
        except Exception:  # Hypothesis has more to say than what was found
            if not found:
                raise
        return found[0] if found else None

    def judge(self, history: History) -> None:
        """Plays a history. Raises Found, with the shortest one that fails in the same way."""
        if (error := self._failure_of(history)) is None:
            return

        def fails(shorter: History) -> bool:
            found = self._failure_of(shorter)
            return found is not None and _kind(found) == _kind(error)

        shortest = shrunk(history, fails)
        raise Found(shortest, self._failure_of(shortest) or error) from error

    def close(self) -> None:
        """Closes the connection and the loop."""
        self._runner.run(self._connection.close())
        self._runner.close()

    def _failure_of(self, history: History) -> Exception | None:
        try:
            self.play(history)
        except Exception as error:  # see `search`
            return error
        return None

    async def _played(self, history: History) -> None:
        namespace = f"t{secrets.token_hex(6)}"
        player = Player(self._connection, namespace, history)
        self.histories += 1
        self.latest = history
        try:
            await player.play()
        finally:
            self.operations += player.played
            if keys := await self._connection.command("KEYS", f"{{{namespace}[:}}]*"):
                await self._connection.command("UNLINK", *keys)


def _kind(error: Exception) -> tuple[type[Exception], int | None]:
    """Where it was found that they differ: a history that is made shorter must not end in another mistake."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "property" in frame.filename]
    return type(error), frames[-1].lineno
