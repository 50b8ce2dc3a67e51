"""For tests and rigs: a group whose sites are dealt to several workers, which answer by their messages at once."""

from collections.abc import Collection, Sequence

import numpy as np

from cloud.dispatch.prices import Array, PriceGrid
from cloud.dispatch.rows import Rows
from cloud.dispatch.share import Ask, Share, Telemetry, Told
from cloud.dispatch.steering import Cycle, Steering, answer
from cloud.dispatch.summary import from_messages, from_steer, to_messages, to_steer
from cloud.dispatch.tree import Limits
from protos.vpp.v1.steer_pb2 import Share as ShareMessage
from protos.vpp.v1.steer_pb2 import Steer

_CYCLE_MS = 2000


class Split:
    """Steering and its shares. Arrays are of all sites, by their order."""

    def __init__(
        self,
        rows: Rows,
        node: Array,
        names: Sequence[str],
        parents: Sequence[int],
        *,
        grid: PriceGrid,
        cycle_s: float,
        workers: int = 1,
    ) -> None:
        """Sites are dealt to the workers in turn."""
        self._grid = grid
        self._sites = [np.arange(number, rows.sites, workers) for number in range(workers)]
        self.shares = [
            Share(rows.take(sites), node[sites], len(names), grid=grid, cycle_s=cycle_s) for sites in self._sites
        ]
        self.steering = Steering(names, parents, [f"w{n}" for n in range(workers)], grid=grid, cycle_s=cycle_s)
        self._rows = rows
        self.now_ms = 1_800_000_000_000
        self.dead: Collection[int] = ()
        self.bytes = 0  # of the last answers

    @property
    def deviating(self) -> Array:
        """bool [n]: sites that are not counted on."""
        found = np.zeros(self._rows.sites, dtype=bool)
        for sites, share in zip(self._sites, self.shares, strict=True):
            found[sites] = share.deviating
        return found

    def open(self, target_w: float, limits: Limits) -> Cycle:
        return answer(self.steering.open(target_w, limits, self.now_ms), self._ask)

    def cycle(
        self, changed: Array, news: Rows, offers: Array, telemetry: Telemetry, target_w: float, limits: Limits
    ) -> Cycle:
        """changed, news: sites that told a function since the last cycle. offers: bool, whose function holds."""
        self.now_ms += _CYCLE_MS
        self._seen = changed, news, offers, telemetry
        return answer(self.steering.cycle(target_w, limits, self.now_ms), self._ask)

    def _ask(self, ask: Ask) -> list[Told]:
        names = self.steering.names
        asked = from_steer(Steer.FromString(to_steer(ask, names).SerializeToString()))
        self.bytes, told = 0, []
        for number, (sites, share) in enumerate(zip(self._sites, self.shares, strict=True)):
            if number in self.dead:
                continue
            if asked.step:
                self._step(sites, share, asked)
            parts = to_messages(
                share.tell(f"w{number}", self.now_ms, np.zeros(len(names)), asked), activation="a", sequence=1
            )
            data = [part.SerializeToString() for part in parts]
            self.bytes += sum(map(len, data))
            told.append(from_messages([ShareMessage.FromString(one) for one in data], len(names), self._grid))
        return told

    def _step(self, sites: Array, share: Share, ask: Ask) -> None:
        changed, news, offers, telemetry = self._seen
        mine = np.isin(changed, sites)
        share.step(
            np.searchsorted(sites, changed[mine]),
            news.take(np.flatnonzero(mine)),
            offers[sites],
            Telemetry(telemetry.power_w[sites], telemetry.quiet_s[sites]),
            ask,
        )
