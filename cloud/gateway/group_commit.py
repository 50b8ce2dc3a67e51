"""Group commit: what many calls write at once goes through one thread in one transaction, with one fsync for all."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar

from cloud.store.ledger import Ledger

MOST_TOGETHER: Final = 32  # others of this process wait for the ledger meanwhile: some 30 ms

Result = TypeVar("Result")
_Asked = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class GroupCommit:
    """For calls that each write a little and must be on the disk before they are answered. Of one event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: deque[_Asked] = deque()
        self._working: asyncio.Task[None] | None = None

    async def run(self, write: Callable[[], Result]) -> Result:
        """What `write` returns or raises, called in a thread; all of what it wrote is on the disk, or none.

        A caller that is cancelled meanwhile may find it written all the same.
        """
        answered: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((write, answered))
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        return await answered

    async def _work(self) -> None:
        try:
            while self._waiting:
                together = [self._waiting.popleft() for _ in range(min(MOST_TOGETHER, len(self._waiting)))]
                together = [(write, answered) for write, answered in together if not answered.done()]
                try:
                    outcomes = await asyncio.to_thread(self._write, [write for write, _ in together])
                except Exception as error:  # of the transaction itself: it stands for every call
                    outcomes = [(None, error)] * len(together)
                for (_, answered), (result, failure) in zip(together, outcomes, strict=True):
                    if answered.done():
                        continue
                    if failure is None:
                        answered.set_result(result)
                    else:
                        answered.set_exception(failure)
        finally:
            self._working = None

    def _write(self, writes: list[Callable[[], Any]]) -> list[tuple[Any, Exception | None]]:
        """By call: what it returned, or what it raised."""
        outcomes: list[tuple[Any, Exception | None]] = []
        with self._ledger.transaction():
            for write in writes:
                try:
                    with self._ledger.savepoint():
                        result = write()
                except Exception as error:
                    outcomes.append((None, error))
                else:
                    outcomes.append((result, None))
        return outcomes
