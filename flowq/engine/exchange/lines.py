"""The lines of a conversation: so many calls may be under way at once. Who of them looks what there is to say, and when."""

from __future__ import annotations

import asyncio


class Line:
    """One of the calls that may be under way.

    Attributes:
        number: the first is 0.
        seq: of its latest call.
        is_talking: whether a call is under way.
    """

    __slots__ = ("_stirred", "is_talking", "number", "seq")

    def __init__(self, number: int) -> None:
        self.number = number
        self.seq = 0
        self.is_talking = False
        self._stirred = asyncio.Event()

    def stir(self) -> None:
        """There is something to look at, when it has time."""
        self._stirred.set()

    async def until_stirred(self, seconds: float) -> None:
        """Waits for that from now on; not longer than so long."""
        self._stirred.clear()
        # No `asyncio.timeout`, which costs more than all else here.
        timer = asyncio.get_running_loop().call_later(seconds, self.stir)
        try:
            await self._stirred.wait()
        finally:
            timer.cancel()


class Lines:
    """The first and the second.

    Args:
        count: how many there are.
    """

    def __init__(self, count: int) -> None:
        self.all = [Line(number) for number in range(count)]

    def stir(self) -> None:
        """There is something to say or to ask: the first that has time looks. Only the first of all ever asks without saying."""
        for line in self.all:
            if not line.is_talking:
                line.stir()
                return

    def stir_all(self) -> None:
        """It concerns them all."""
        for line in self.all:
            line.stir()
