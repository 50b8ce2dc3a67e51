"""Reading a device: one picture each cycle in the fewest transactions, ratings and scale factors in between."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable

from edge_agent.drivers.sunspec.discovery import Registers
from edge_agent.drivers.sunspec.layout import Field
from edge_agent.drivers.sunspec.plan import Block, Image, plan_reads, to_bytes
from edge_agent.model.clock import Clock
from edge_agent.model.devices import DeviceRejected, DeviceTimeout

_log = logging.getLogger(__name__)

SLOW_PERIOD_S = 30.0  # how old ratings and scale factors may get
# Capabilities asked one after the other in a cycle share one picture, none gets the same twice. Half a period at 50 Hz.
SHARED_S = 0.01


class Poller:
    """Keeps an Image of a device's registers fresh."""

    def __init__(
        self,
        registers: Registers,
        clock: Clock,
        *,
        fast: Iterable[Field],
        slow: Iterable[Field],
        expected: dict[Field, int],
        plan: Callable[[Iterable[Field]], tuple[Block, ...]] = plan_reads,
        seen_slow: Callable[[Image], None] = lambda image: None,
    ) -> None:
        """`expected` are slow fields that must always read the same: the models' numbers and lengths.

        plan: how fields are joined. `seen_slow` is told each time all slow fields have been read anew.
        """
        self._registers = registers
        self._clock = clock
        self._seen_slow = seen_slow
        self.image = Image()
        fast = tuple(fast)
        scales = {field.scale for field in (*fast, *slow) if isinstance(field.scale, Field)}
        # A scale factor that may change while the device runs belongs to the same picture as its point.
        moving = {f.scale for f in fast if isinstance(f.scale, Field) and f.scale.point.static == "D"}
        self._fast_fields = {*fast, *moving}
        self._slow_fields = {*slow, *scales, *expected} - self._fast_fields
        self._expected = expected
        self._plan = plan
        self._fast = plan(self._fast_fields)
        self._slow = plan(self._slow_fields)
        self._due: deque[Block] = deque()
        self._slow_at_s = 0.0
        self._lost = False
        self._lock = asyncio.Lock()
        self._at_s = 0.0  # when the last picture was begun
        self._done_s = float("-inf")  # when it was complete
        self._taken_by: set[str] = set()

    async def start(self) -> None:
        """The first reading of everything. Raises DeviceTimeout, DeviceRejected."""
        try:
            await self._read_all()
        except DeviceRejected:
            if self._plan is not plan_reads:
                raise
            # Some devices refuse a read that crosses from one model into the next.
            self._fast = plan_reads(self._fast_fields, across_models=False)
            self._slow = plan_reads(self._slow_fields, across_models=False)
            await self._read_all()
            _log.info("models are read one by one: %d transactions a cycle", len(self._fast))

    @property
    def pictured_s(self) -> float:
        """When the picture in the image was begun."""
        return self._at_s

    async def picture(self, reader: str) -> float:
        """Sees to it that the image holds a picture which `reader` has not had yet; its instant [s].

        Raises DeviceTimeout, DeviceRejected.
        """
        async with self._lock:
            if reader in self._taken_by or self._clock.monotonic_s() - self._done_s > SHARED_S:
                await self._take()
            self._taken_by.add(reader)
            return self._at_s

    async def _take(self) -> None:
        try:
            if self._lost:  # it may have been restarted, or replaced, since it was last heard
                await self._read(self._slow)
                self._check_map()
                self._seen_slow(self.image)
            at_s = self._clock.monotonic_s()
            await self._read(self._fast)
            self._at_s = at_s
            self._taken_by = set()
            self._done_s = self._clock.monotonic_s()
            self._lost = False
            await self._read_one_slow()
        except DeviceTimeout:
            self._lost = True
            self._done_s = float("-inf")
            raise

    async def _read_one_slow(self) -> None:
        """At most one slow transaction a picture, so that no cycle waits for all of them."""
        now_s = self._clock.monotonic_s()
        if not self._due and now_s - self._slow_at_s >= SLOW_PERIOD_S:
            self._due.extend(self._slow)
            self._slow_at_s = now_s
        if self._due:
            await self._read((self._due.popleft(),))
            self._check_map()
            if not self._due:
                self._seen_slow(self.image)

    async def _read_all(self) -> None:
        await self._read(self._slow)
        await self._read(self._fast)
        self._slow_at_s = self._clock.monotonic_s()

    async def _read(self, blocks: Iterable[Block]) -> None:
        for block in blocks:
            self.image.store(block, to_bytes(await self._registers.read(block.address, block.count, block)))

    def _check_map(self) -> None:
        for field, value in self._expected.items():
            if (found := self.image.raw(field)) != value:
                self._lost = True
                raise DeviceRejected(
                    f"the register map has changed: {field} at {field.address} was {value} and is {found}; "
                    "restart the agent"
                )
