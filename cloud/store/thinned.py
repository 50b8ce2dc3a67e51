"""Which telemetry frames sites merged into others, so that nobody misses them."""

from collections.abc import Iterator

import msgspec

from cloud.model.records import ThinnedFrames
from cloud.store.database import LedgerDatabase

_AT_ONCE = 500


class ThinnedBook(LedgerDatabase):
    """What sites told in events of the code telemetry.thinned."""

    def add_thinned(self, told: ThinnedFrames) -> None:
        """To be called once for each event."""
        self._insert("thinned_frames", told)

    def thinned_after(self, number: int) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
        """What was told after entry `number`, in order: number, the site's slot, first and last of each run."""
        while rows := self._execute(
            "SELECT told.number, sites.slot, told.runs FROM thinned_frames told JOIN sites ON sites.site = told.site "
            "WHERE told.number > ? ORDER BY told.number LIMIT ?",
            (number, _AT_ONCE),
        ).fetchall():
            for number, slot, runs in rows:
                yield number, slot, msgspec.json.decode(runs, type=list[tuple[int, int]])

    def thinned_by_slot(self) -> dict[int, int]:
        """How many frames of each site that told any."""
        found = self._execute(
            "SELECT sites.slot, sum(told.frames) FROM thinned_frames told JOIN sites ON sites.site = told.site "
            "GROUP BY sites.slot"
        ).fetchall()
        return {int(slot): int(frames) for slot, frames in found}
