"""When the site's supply function is told to the coordinator: when it has changed, and before it runs out."""

from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.control.bounds import Storage, believable_soc
from edge_agent.control.energy import CHARGE_EFFICIENCY, DISCHARGE_EFFICIENCY
from edge_agent.model.supply import SupplyFunction
from edge_agent.model.values import PowerBounds, Snapshot
from edge_agent.runtime.flexible import FlexibleUnits
from protos.vpp.v1 import local_pb2, supply_pb2

VALID_S = 300
RENEW_S = 120.0
SELDOM_S = 10.0  # a change is told no more often than this
CHANGED = 0.02  # of all ratings together; a smaller change of power is none
LARGE = 0.2  # likewise; a change as large, by a new schedule or a service, is told at once
LARGE_SELDOM_S = 60.0  # but no more often than this

_NOTHING = SupplyFunction.constant(0.0)


@dataclass(frozen=True, slots=True)
class _Told:
    function: SupplyFunction
    at_s: float
    stands: bool  # False: it was withdrawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Able:
    """What a site can do now."""

    bounds: PowerBounds
    rated_w: float
    energy_up_wh: float = 0.0  # to give, at the AC terminals
    energy_down_wh: float = 0.0  # to take


class SupplyReport:
    """Tells the function, and that there is none any more."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._told: _Told | None = None
        self._seq = 0
        self._large_s = float("-inf")  # when one was last told at once

    def offer(self, function: SupplyFunction | None, able: Able | None, now_s: float, utc_ms: int) -> None:
        """This cycle's function; None where the site cannot say or may not act. utc_ms: the coordinator's."""
        if function is None or able is None:
            if self._told is not None and self._told.stands:
                self._tell(_NOTHING, None, now_s, utc_ms)
            return
        function = function.clipped(able.bounds)  # it may be as old as a second
        told = self._told
        if told is not None and told.stands:
            age_s = now_s - told.at_s
            if age_s < SELDOM_S:
                if now_s - self._large_s < LARGE_SELDOM_S or not _differs(
                    told.function, function, LARGE * able.rated_w
                ):
                    return
                self._large_s = now_s
            if age_s < RENEW_S and not _differs(told.function, function, CHANGED * able.rated_w):
                return
        self._tell(function, able, now_s, utc_ms)

    def _tell(self, function: SupplyFunction, able: Able | None, now_s: float, utc_ms: int) -> None:
        bounds = able.bounds if able is not None else None
        # Strictly increasing over restarts, too: it is told less often than once a second.
        self._seq = max(self._seq + 1, utc_ms // 1000)
        message = supply_pb2.SupplyFunction(
            seq=self._seq,
            at_ms=utc_ms,
            valid_s=VALID_S if bounds is not None else 1,
            lower_w=round(bounds.lower_w) if bounds is not None else 0,
            upper_w=round(bounds.upper_w) if bounds is not None else 0,
            energy_up_wh=round(able.energy_up_wh) if able is not None else 0,
            energy_down_wh=round(able.energy_down_wh) if able is not None else 0,
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


def able(storage: Storage | None, snapshot: Snapshot, flexible: FlexibleUnits) -> Able | None:
    """What the site can do now, inverter, chargers and loads together; None where that is not known.

    storage: of an inverter that can be steered; None: there is none.
    """
    others, others_w, needed_wh = flexible.bounds(), flexible.rated_w, flexible.needed_wh
    if storage is None:
        return Able(bounds=others, rated_w=others_w, energy_down_wh=needed_wh) if others_w else None
    if snapshot.bounds is None:
        return None
    up_wh, down_wh = _energy_wh(storage, snapshot)
    return Able(
        bounds=PowerBounds(
            lower_w=snapshot.bounds.lower_w + others.lower_w, upper_w=snapshot.bounds.upper_w + others.upper_w
        ),
        rated_w=storage.nameplate.rated_power_w + others_w,
        energy_up_wh=up_wh,
        energy_down_wh=down_wh + needed_wh,
    )


def _energy_wh(storage: Storage, snapshot: Snapshot) -> tuple[float, float]:
    """What the storage can still give and take at the AC terminals [Wh]."""
    if not storage.present:
        return 0.0, 0.0
    charge, capacity_wh = believable_soc(snapshot.soc), storage.nameplate.storage_capacity_wh
    if charge is None:
        return 0.0, 0.0
    return (
        max(0.0, charge - storage.soc_min) * capacity_wh * DISCHARGE_EFFICIENCY,
        max(0.0, storage.soc_max - charge) * capacity_wh / CHARGE_EFFICIENCY,
    )
