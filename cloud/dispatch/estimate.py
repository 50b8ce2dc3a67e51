"""What a group would do at a price, by the functions that its sites told: for whoever must judge a price beforehand."""

from collections.abc import Callable
from typing import Final

from cloud.dispatch.prices import MILLION, Price
from cloud.dispatch.rows import powers_at
from cloud.fleet.groups import Groups
from cloud.fleet.supply import SupplyColumns
from cloud.store.ledger import Ledger
from protos.vpp.v1 import broadcast_pb2

_FRESH_MS: Final = 10_000


class GroupEstimate:
    """Of the fleet; looks at the registry anew every ten seconds."""

    def __init__(self, columns: SupplyColumns, ledger: Ledger, utc_ms: Callable[[], int]) -> None:
        self._columns = columns
        self._ledger = ledger
        self._utc_ms = utc_ms
        self._groups = Groups(())
        self._looked_ms = -_FRESH_MS

    def __call__(self, group: str, price: broadcast_pb2.Price) -> float | None:
        """Power [W]; None where no site of the group has a function in force."""
        now_ms = self._utc_ms()
        if now_ms - self._looked_ms >= _FRESH_MS:
            self._groups, self._looked_ms = Groups(self._ledger.sites()), now_ms
        slots = self._groups.slots(group)
        slots = slots[slots < self._columns.capacity]
        slots = slots[self._columns.in_force(now_ms)[slots]]
        if not len(slots):
            return None
        said = Price(price.ticks, price.step_share_e6 / MILLION, price.tick_fraction_e6 / MILLION)
        return float(powers_at(self._columns.rows.take(slots), self._columns.grid.position(said)).sum())
