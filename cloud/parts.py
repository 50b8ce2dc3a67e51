"""Parts of a program that run until they are told to stop, and stop in the reverse order of their start."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

log = logging.getLogger(__name__)

STOP_S: Final = 5.0
_AGAIN_S: Final = 1.0


class PartFailed(Exception):
    """A part that should run for ever has ended."""


class Parts:
    """Started parts, last one first out."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[Any], str] = {}
        self._stops: list[tuple[str, Callable[[], Awaitable[object]], float]] = []

    def on_stop(self, name: str, stop: Callable[[], Awaitable[object]], *, within_s: float = STOP_S) -> None:
        """Call `stop` when everything that is started later has stopped."""
        self._stops.append((name, stop, within_s))

    def run(self, name: str, work: Coroutine[Any, Any, Any], *, within_s: float = STOP_S) -> None:
        """Run `work` until the stop, which cancels it and gives it so long."""
        task = asyncio.create_task(work, name=name)
        self._tasks[task] = name
        self.on_stop(name, lambda: _cancel(task), within_s=within_s)

    def run_again(self, name: str, work: Callable[[], Coroutine[Any, Any, Any]], after: type[Exception]) -> None:
        """Run `work` until the stop, and again after it ended by an error of this kind: what it needs is away."""
        self.run(name, _again(name, work, after))

    async def until(self, event: asyncio.Event, *, within_s: float | None = None) -> None:
        """Wait for `event`. Raises TimeoutError, or what a part raised that ended meanwhile, PartFailed if nothing."""
        waiting = asyncio.create_task(event.wait())
        try:
            done, _ = await asyncio.wait({waiting, *self._tasks}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if not done:
            raise TimeoutError
        for task in done - {waiting}:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
            raise PartFailed(f"{self._tasks[task]} has ended by itself")

    async def stop(self) -> None:
        """Stop every part, each within a few seconds; one that fails or hangs does not keep the others."""
        task = asyncio.current_task()
        cancelled = task.cancelling() if task is not None else 0
        while self._stops:
            name, stop, within_s = self._stops.pop()
            try:
                async with asyncio.timeout(within_s):
                    await stop()
            except TimeoutError:
                log.error("%s does not stop within %.0f s", name, within_s)
            except asyncio.CancelledError:
                # Ours, or a library's own that it lets out, as nats-py's close does for a broken connection.
                if task is not None and task.cancelling() > cancelled:
                    raise
                log.warning("%s was broken off while it stopped", name)
            except Exception:
                log.exception("%s failed while it stopped", name)


def is_only(error: BaseException, kinds: type[Exception] | tuple[type[Exception], ...]) -> bool:
    """Whether an error is of these kinds, or a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_only(one, kinds) for one in error.exceptions)
    return isinstance(error, kinds)


async def _again(name: str, work: Callable[[], Coroutine[Any, Any, Any]], after: type[Exception]) -> None:
    told = ""
    while True:
        try:
            await work()
        except Exception as error:
            if not is_only(error, after):
                raise
            if (text := " ".join(str(error).split())) != told:
                log.warning("%s waits: %s", name, text)
                told = text
        else:
            return
        await asyncio.sleep(_AGAIN_S)


async def _cancel(task: asyncio.Task[Any]) -> None:
    if task.done():  # how it ended is told by `until`
        return
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error
