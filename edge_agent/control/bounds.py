"""What an inverter can hold now, from its nameplate, the owner's limits of charge and the sun.

Generator reference: charging is negative. A hybrid's AC power is what its panels give plus what its storage discharges;
it curtails its panels when asked for less than they give, so the lower end counts none of them - unless it cannot below
zero: then they go on while it imports.
"""

from dataclasses import dataclass

from edge_agent.model.values import Nameplate, PowerBounds, Sample

# Over the last of the allowed charge the limit falls to nothing along a line: power does not chatter at the edge.
TAPER = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """The storage as the owner lets it be used."""

    nameplate: Nameplate
    soc_min: float  # 0..1, below which it is not discharged: the owner's limit, or what is kept for outages
    soc_max: float  # 0..1, above which it is not charged

    @property
    def present(self) -> bool:
        return self.nameplate.storage_capacity_wh > 0

    def discharge_limit_w(self, soc: float) -> float:
        """Power it can give now [W], a magnitude."""
        return self.nameplate.max_discharge_w * ramp((soc - self.soc_min) / TAPER)

    def charge_limit_w(self, soc: float) -> float:
        """Power it can take now [W], a magnitude."""
        return self.nameplate.max_charge_w * ramp((self.soc_max - soc) / TAPER)


def available(storage: Storage, soc: Sample, pv_power_w: Sample) -> PowerBounds | None:
    """What the inverter can hold now; None where its state of charge is not known.

    Panels whose power is not known count as dark. An inverter without storage is bounded by its rating only: what
    its panels give while curtailed says nothing about what they could give.
    """
    rated_w = storage.nameplate.rated_power_w
    if rated_w <= 0:
        return None
    if not storage.present:
        return PowerBounds(lower_w=0.0, upper_w=rated_w)
    charge = believable_soc(soc)
    if charge is None:
        return None
    pv_w = max(0.0, pv_power_w.good or 0.0)
    unthrottled_w = 0.0 if storage.nameplate.throttles_to_import else pv_w
    # Above zero every inverter throttles its panels.
    lower_w = min(0.0, unthrottled_w - storage.charge_limit_w(charge))
    return PowerBounds(
        lower_w=max(-rated_w, lower_w),
        upper_w=min(rated_w, pv_w + storage.discharge_limit_w(charge)),
    )


def believable_soc(soc: Sample) -> float | None:
    """The state of charge if it may be acted upon and can be true."""
    charge = soc.good
    return charge if charge is not None and 0.0 <= charge <= 1.0 else None


def ramp(share: float) -> float:
    """The share, no less than nothing and no more than all."""
    return max(0.0, min(1.0, share))
