"""What arrived against what was sent, site by site: how many frames, each once, and the sum of what they measured."""

from dataclasses import dataclass

import numpy as np

from cloud.model.telemetry import SAMPLES, Array
from cloud.store.history import History


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Frames, of all sites."""

    sent: int
    stored: int
    missing: int
    duplicate: int
    wrong_sites: int  # whose samples do not add up to what was sent

    @property
    def holds(self) -> bool:
        return not (self.missing or self.duplicate or self.wrong_sites) and self.sent == self.stored


def compare(history: History, sent: Array, grid_counts: Array) -> Comparison:
    """sent, grid_counts: int64 by slot: frames, and the sum of their samples of grid_power_w in counts."""
    stored, distinct, total = (np.zeros(len(sent), dtype=np.int64) for _ in range(3))
    with history.database.connected() as connection:
        history.view_samples(connection, "samples")
        for slot, samples, frames, counts in connection.execute(
            "SELECT slot, count(*), count(DISTINCT seq), sum(grid_power_w) FROM samples GROUP BY slot"
        ).fetchall():
            stored[slot], distinct[slot], total[slot] = samples // SAMPLES, frames, counts
    return Comparison(
        sent=int(sent.sum()),
        stored=int(stored.sum()),
        missing=int(np.maximum(sent - distinct, 0).sum()),
        duplicate=int((stored - distinct).sum()),
        wrong_sites=int(((stored == sent) & (total != grid_counts)).sum()),
    )
