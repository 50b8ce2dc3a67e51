"""Decides what, if anything, of a setpoint may reach the device. Small, pure, and the last word.

What it lets through is finite, inside the device's fresh bounds, no further from the last power than the ramp allows,
and not expired. Where ramp and bounds contradict each other the bounds win: they are what the device can stand.
"""

from dataclasses import replace
from math import isfinite

from edge_agent.model.values import Applied, Clipped, PowerBounds, Refused, Setpoint, Verdict


def admit(
    request: Setpoint,
    bounds: PowerBounds | None,
    *,
    previous_w: float | None,
    ramp_w_per_s: float | None,
    dt_s: float,
    now_s: float,
) -> Verdict:
    """The verdict on a setpoint.

    Args:
        request: what is asked.
        bounds: what the device can hold now; None where nobody knows, which refuses everything.
        previous_w: the power last admitted [W]; None before the first, which the ramp then does not limit.
        ramp_w_per_s: greatest change of power [W/s]; None: no limit.
        dt_s: since `previous_w` was admitted [s].
        now_s: monotonic.
    """
    if bounds is None:
        return Refused("no fresh bounds")
    if not bounds.lower_w <= bounds.upper_w or not isfinite(bounds.lower_w) or not isfinite(bounds.upper_w):
        return Refused("bounds are not a finite range")
    if not isfinite(request.power_w):
        return Refused("power is not finite")
    if not now_s < request.expires_s:  # so written that a clock or an expiry that is no number refuses too
        return Refused("setpoint expired")
    power_w, by = request.power_w, ""
    if ramp_w_per_s is not None and previous_w is not None:
        step_w = ramp_w_per_s * dt_s
        if not isfinite(previous_w) or not isfinite(step_w) or ramp_w_per_s < 0 or dt_s < 0:
            return Refused("ramp cannot be kept: it, its time or the previous power is not a number")
        limited_w = max(previous_w - step_w, min(previous_w + step_w, power_w))
        if limited_w != power_w:
            power_w, by = limited_w, "ramp"
    bounded_w = bounds.clip(power_w)
    if bounded_w != power_w:
        power_w, by = bounded_w, "device bounds"
    if power_w == request.power_w:
        return Applied(request)
    return Clipped(replace(request, power_w=power_w), asked_w=request.power_w, by=by)
