"""When the site's supply function is told to the coordinator: when it has changed, and before it runs out."""

from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.control.bounds import Storage, believable_soc
from edge_agent.control.energy import CHARGE_EFFICIENCY, DISCHARGE_EFFICIENCY
from edge_agent.model.supply import SupplyFunction
from edge_agent.model.values import PowerBounds, Snapshot
from protos.vpp.v1 import local_pb2, supply_pb2

VALID_S = 300
RENEW_S = 120.0
SELDOM_S = 10.0  # a change is told no more often than this
CHANGED = 0.02  # of the inverter's rating; a smaller change of power is none

_NOTHING = SupplyFunction.constant(0.0)


@dataclass(frozen=True, slots=True)
class _Told:
    function: SupplyFunction
    at_s: float
    stands: bool  # False: it was withdrawn


class SupplyReport:
    """Tells the function, and that there is none any more."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._told: _Told | None = None
        self._seq = 0

    def offer(self, function: SupplyFunction | None, storage: Storage | None, snapshot: Snapshot, utc_ms: int) -> None:
        """This cycle's function; None where the site cannot say or may not act. utc_ms: the coordinator's.

        What an inverter without storage could give nobody knows: it follows a price, and offers nothing.
        """
        if function is None or storage is None or not storage.present or snapshot.bounds is None:
            if self._told is not None and self._told.stands:
                self._tell(_NOTHING, None, (0.0, 0.0), snapshot.at_s, utc_ms)
            return
        function = function.clipped(snapshot.bounds)  # it may be as old as a second
        told = self._told
        if told is not None and told.stands:
            age_s = snapshot.at_s - told.at_s
            if age_s < SELDOM_S:
                return
            if age_s < RENEW_S and not _differs(told.function, function, CHANGED * storage.nameplate.rated_power_w):
                return
        self._tell(function, snapshot.bounds, _energy_wh(storage, snapshot), snapshot.at_s, utc_ms)

    def _tell(
        self,
        function: SupplyFunction,
        bounds: PowerBounds | None,
        energy_wh: tuple[float, float],
        now_s: float,
        utc_ms: int,
    ) -> None:
        # Strictly increasing over restarts, too: it is told less often than once a second.
        self._seq = max(self._seq + 1, utc_ms // 1000)
        message = supply_pb2.SupplyFunction(
            seq=self._seq,
            at_ms=utc_ms,
            valid_s=VALID_S if bounds is not None else 1,
            lower_w=round(bounds.lower_w) if bounds is not None else 0,
            upper_w=round(bounds.upper_w) if bounds is not None else 0,
            energy_up_wh=round(energy_wh[0]),
            energy_down_wh=round(energy_wh[1]),
            ticks=[ticks for ticks, _ in function.points],
            power_w=[round(power_w) for _, power_w in function.points],
        )
        self._send(local_pb2.ToSync(supply=message).SerializeToString())
        self._told = _Told(function, now_s, bounds is not None)


def _differs(one: SupplyFunction, other: SupplyFunction, by_w: float) -> bool:
    """Whether the two differ by more than so much at any price."""
    prices = {ticks for each in (one, other) for ticks, _ in each.points}
    return any(
        abs(one.power_w(ticks, share) - other.power_w(ticks, share)) > by_w for ticks in prices for share in (0.0, 1.0)
    )


def _energy_wh(storage: Storage, snapshot: Snapshot) -> tuple[float, float]:
    """What the storage can still give and take at the AC terminals [Wh]."""
    charge, capacity_wh = believable_soc(snapshot.soc), storage.nameplate.storage_capacity_wh
    if charge is None:
        return 0.0, 0.0
    return (
        max(0.0, charge - storage.soc_min) * capacity_wh * DISCHARGE_EFFICIENCY,
        max(0.0, storage.soc_max - charge) * capacity_wh / CHARGE_EFFICIENCY,
    )
