"""Which telemetry frames sites merged into others, so that nobody misses them."""

import msgspec

from cloud.model.records import ThinnedFrames
from cloud.store.database import LedgerDatabase


class ThinnedBook(LedgerDatabase):
    """What sites told in events of the code telemetry.thinned."""

    def add_thinned(self, told: ThinnedFrames) -> None:
        """To be called once for each event."""
        self._insert("thinned_frames", told)

    def thinned_after(self, number: int, *, limit: int = 500) -> list[tuple[int, int, list[tuple[int, int]]]]:
        """The first that were told after entry `number`: number, the site's slot, first and last of each run."""
        rows = self._execute(
            "SELECT told.number, sites.slot, told.runs FROM thinned_frames told JOIN sites ON sites.site = told.site "
            "WHERE told.number > ? ORDER BY told.number LIMIT ?",
            (number, limit),
        ).fetchall()
        return [(number, slot, msgspec.json.decode(runs, type=list[tuple[int, int]])) for number, slot, runs in rows]

    def thinned_by_slot(self) -> dict[int, int]:
        """How many frames of each site that told any."""
        found = self._execute(
            "SELECT sites.slot, sum(told.frames) FROM thinned_frames told JOIN sites ON sites.site = told.site "
            "GROUP BY sites.slot"
        ).fetchall()
        return {int(slot): int(frames) for slot, frames in found}
