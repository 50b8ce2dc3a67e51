"""Decides what, if anything, of a setpoint may reach the device. Small, pure, and the last word.

What it lets through is finite, not expired, founded on a fresh reading of the device, no further from the last power
than the ramp allows, inside the owner's envelope at the grid connection, inside the nameplate and inside the
device's bounds of now. Where these contradict each other the later in this list wins: a device cannot give what it
has not, and the grid's limits matter more than a gentle ramp.
"""

from dataclasses import replace
from math import isfinite

from edge_agent.model.values import Applied, Clipped, PowerBounds, Refused, Setpoint, Verdict

FRESH_S = 1.0  # a device that was last read longer ago is not steered


def admit(
    request: Setpoint,
    bounds: PowerBounds | None,
    *,
    envelope: PowerBounds | None,
    rated_power_w: float,
    read_s: float,
    previous_w: float | None,
    ramp_w_per_s: float | None,
    dt_s: float,
    now_s: float,
) -> Verdict:
    """The verdict on a setpoint.

    Args:
        request: what is asked.
        bounds: what the device can hold now; None where nobody knows, which refuses everything.
        envelope: what the limits at the grid connection leave at the inverter now; None: there are none.
        rated_power_w: of the nameplate, a magnitude.
        read_s: monotonic instant at which the device was read.
        previous_w: the power last admitted [W]; None before the first, which the ramp then does not limit.
        ramp_w_per_s: greatest change of power [W/s]; None: no limit.
        dt_s: since `previous_w` was admitted [s].
        now_s: monotonic.
    """
    if bounds is None:
        return Refused("no fresh bounds")
    if not _is_range(bounds):
        return Refused("bounds are not a finite range")
    if envelope is not None and not _is_range(envelope):
        return Refused("envelope is not a finite range")
    if not rated_power_w > 0 or not isfinite(rated_power_w):
        return Refused("nameplate has no rated power")
    if not isfinite(request.power_w):
        return Refused("power is not finite")
    if not now_s < request.expires_s:  # so written that a clock or an expiry that is no number refuses too
        return Refused("setpoint expired")
    if not now_s - read_s <= FRESH_S:
        return Refused("device was not read lately")
    power_w, by = request.power_w, "ramp"
    if ramp_w_per_s is not None and previous_w is not None:
        step_w = ramp_w_per_s * dt_s
        if not isfinite(previous_w) or not isfinite(step_w) or ramp_w_per_s < 0 or dt_s < 0:
            return Refused("ramp cannot be kept: it, its time or the previous power is not a number")
        power_w = max(previous_w - step_w, min(previous_w + step_w, power_w))
    limits = [(PowerBounds(lower_w=-rated_power_w, upper_w=rated_power_w), "nameplate"), (bounds, "device bounds")]
    if envelope is not None:
        limits.insert(0, (envelope, "envelope"))
    for limit, name in limits:
        inside_w = limit.clip(power_w)
        if inside_w != power_w:
            power_w, by = inside_w, name
    if power_w == request.power_w:
        return Applied(request)
    return Clipped(replace(request, power_w=power_w), asked_w=request.power_w, by=by)


def _is_range(bounds: PowerBounds) -> bool:
    return isfinite(bounds.lower_w) and isfinite(bounds.upper_w) and bounds.lower_w <= bounds.upper_w
