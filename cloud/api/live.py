"""The live picture of the fleet, and its changes, for every open tab."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

import numpy as np

from cloud.api import frames
from cloud.api.asked import Asked, asked
from cloud.api.board import Board
from cloud.api.stream import Broadcaster, encode
from cloud.api.target import Target
from cloud.dispatch import asking
from cloud.fleet.state import TICK_MS, FleetState
from cloud.model.records import EventRecord
from cloud.store.errors import LedgerUnavailable
from cloud.store.ledger import Ledger

CHANGE_S: Final = 0.25
HISTORY_SLOTS: Final = 1200  # two minutes
SETTLED_MS: Final = 2_500  # an instant older than this is drawn with the sites that reported for it
EVENTS_KEPT: Final = 200
FEW_SITES: Final = 200  # up to which the columns go with every change, else once a second
CHANGES_PER_COLUMNS: Final = 4
DISPATCH_S: Final = 2.0  # between looks at what was asked, while a tab is open
LEDGER_S: Final = 1.0  # between looks at sites and intents
LEDGER_PARTS: Final = 20  # such a look takes at most one part of so many of the time


class Live:
    """Follows fleet and ledger and tells every open tab what changed, four times a second.

    broker_connected: whether the coordinator's own connection to the broker is up.
    utc_ms: the wall clock that the sites' samples are on.
    session_check_s: how often an open stream's session is looked up again.
    """

    def __init__(
        self,
        fleet: FleetState,
        ledger: Ledger,
        target: Target,
        *,
        broker_connected: Callable[[], bool],
        utc_ms: Callable[[], int],
        session_check_s: float = 30.0,
    ) -> None:
        self._fleet = fleet
        self._ledger = ledger
        self._target = target
        self._broker_connected = broker_connected
        self._utc_ms = utc_ms
        self._board = Board()
        self._roster_is_news = False
        self._slots: deque[tuple[int, float, float, float]] = deque(maxlen=HISTORY_SLOTS)
        self._last_slot_ms = 0
        self._events: deque[EventRecord] = deque(maxlen=EVENTS_KEPT)
        self._last_event: int | None = None
        self._stops = 0  # heard of, ordered or lifted
        self._changes = 0
        self.broadcaster = Broadcaster(self._picture, session_check_s=session_check_s)

    async def run(self) -> None:
        """Follows until cancelled."""
        await self._take_ledger()  # first, so that no instant is stepped without knowing what was asked
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_ledger())
            tasks.create_task(self._follow_fleet())
            tasks.create_task(self._follow_dispatch())

    def system(self) -> frames.System:
        return self._board.system(self._fleet, self._utc_ms(), broker=self._broker_connected())

    def roster(self) -> frames.Roster:
        return self._board.roster

    def columns(self) -> frames.Columns:
        return self._board.columns(self._fleet, self._utc_ms(), self._target.responding())

    def flexible(self) -> frames.Flexible:
        return self._board.flexible(self._fleet)

    async def _follow_ledger(self) -> None:
        loop = asyncio.get_running_loop()
        took_s = 0.0
        while True:
            await asyncio.sleep(max(LEDGER_S, took_s * LEDGER_PARTS))
            begun_s = loop.time()
            with suppress(LedgerUnavailable):  # what was read last stands; the process's readiness tells of it
                await self._take_ledger()
            took_s = loop.time() - begun_s

    async def _take_ledger(self) -> None:
        """Takes over what is registered and asked."""
        board, asked_now = await asyncio.to_thread(self._read_ledger)
        self._roster_is_news |= board.roster != self._board.roster
        self._board = board
        self._target.renew(asked_now)

    def _read_ledger(self) -> tuple[Board, Asked]:
        sites = self._ledger.sites()
        asked_now = asked(sites, self._ledger.latest_intents())
        return Board(sites, asked_now), asked_now

    async def _follow_fleet(self) -> None:
        while True:
            self._events.extend(events := await asyncio.to_thread(self._new_events))
            self._stops += sum(event.code.startswith("stop.") for event in events)
            samples = self._new_samples()
            if self.broadcaster.tabs:
                self._changes += 1
                with_columns = (
                    self._roster_is_news
                    or len(self._board.sites) <= FEW_SITES
                    or self._changes % CHANGES_PER_COLUMNS == 0
                )
                message = frames.Message(
                    now_ms=self._utc_ms(),
                    system=self.system(),
                    roster=self.roster() if self._roster_is_news else None,
                    columns=self.columns() if with_columns else None,
                    samples=samples,
                    events=[frames.happening(event) for event in events] or None,
                )
                self.broadcaster.publish(encode("change", message))
            self._roster_is_news = False
            await asyncio.sleep(CHANGE_S)

    async def _follow_dispatch(self) -> None:
        """Tells tabs that what was asked, or became of it, is another than before: they ask for the page again."""
        told = ""
        while True:
            await asyncio.sleep(DISPATCH_S)
            if not self.broadcaster.tabs:
                continue
            with suppress(LedgerUnavailable):
                mark = await asyncio.to_thread(asking.mark, self._ledger, self._utc_ms())
                if (mark := f"{mark} {self._stops}") != told:
                    self.broadcaster.publish(encode("dispatch", {}))
                told = mark

    def _new_events(self) -> list[EventRecord]:
        try:
            events = self._ledger.events(after=self._last_event, limit=EVENTS_KEPT)
        except LedgerUnavailable:
            return []
        if events:
            self._last_event = events[-1].number
        elif self._last_event is None:
            self._last_event = 0  # nothing is recorded yet: from now on every event is news
        return events

    def _new_samples(self) -> frames.Samples | None:
        """Steps the target along the instants that are settled since the last call, and keeps all of them."""
        recent = self._fleet.recent(self._last_slot_ms)
        now_ms = self._utc_ms()
        online = int((now_ms - self._fleet.last_seen_ms < SETTLED_MS).sum())
        settled = (recent.sites >= max(1, online)) | (recent.utc_ms < now_ms - SETTLED_MS)
        # A site reports in order: what lies before an instant that all have reported is settled too.
        count = int(np.flatnonzero(settled)[-1]) + 1 if settled.any() else 0
        new = []
        for index in range(count):
            utc_ms, frequency_hz = int(recent.utc_ms[index]), float(recent.frequency_hz[index])
            power_w_by_slot, soc = self._fleet.inverter_power_w, self._fleet.soc
            target_w = self._target.step(utc_ms, frequency_hz, TICK_MS / 1000, power_w_by_slot, soc)
            measured = recent.sites[index] > 0
            power_w = float(recent.inverter_power_w[index]) if measured else np.nan
            new.append((utc_ms, frequency_hz, power_w, np.nan if target_w is None else target_w))
        if not new:
            return None
        if self._slots:  # nobody reported for a while: a hole, as long as it was
            hole = range(self._last_slot_ms + TICK_MS, new[0][0], TICK_MS)[-HISTORY_SLOTS:]
            new = [(utc_ms, np.nan, np.nan, np.nan) for utc_ms in hole] + new
        self._last_slot_ms = new[-1][0]
        self._slots.extend(new)
        return _samples(new)

    def _picture(self) -> bytes:
        """Everything, for a tab that knows nothing."""
        message = frames.Message(
            now_ms=self._utc_ms(),
            system=self.system(),
            roster=self.roster(),
            columns=self.columns(),
            samples=_samples(self._slots) if self._slots else None,
            events=[frames.happening(event) for event in self._events],
        )
        return encode("picture", message)


def _samples(slots: Iterable[tuple[int, float, float, float]]) -> frames.Samples:
    utc_ms, frequency_hz, power_w, target_w = zip(*slots, strict=True)
    return frames.Samples(
        t0_ms=utc_ms[0],
        step_ms=TICK_MS,
        frequency_mhz=frames.whole(frequency_hz, 1000),
        power_w=frames.whole(power_w),
        target_w=frames.whole(target_w),
    )
