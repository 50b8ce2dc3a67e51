"""What an armed service should deliver, by the judge's own law: numpy only, and not a line of the agent's controller.

A share is a part of the contracted power, positive towards the grid. A Curve is interpolated, capped at the contracted
power and passed through a first-order lag that covers 90 % of a step in `response_90_s` (IEEE 1547-2018 6.5.2.7;
p(t) = end + (begin - end) 10^(-t/T)). A Trigger asks for all of it from the first sample at or below the threshold
until full delivery and hold time are over, then ramps back, then needs its rearm time; how long the response may take
to get there is the performance delay's business, not the law's. Where the frequency was not measured (NaN) a curve
keeps to the last one known, and a trigger does not act.
"""

import numpy as np
import numpy.typing as npt

from protos.services import Curve, Service, Trigger

Array = npt.NDArray[np.float64]


def expected_share(
    service: Service, frequency_hz: npt.ArrayLike, dt_s: float, rating_over_contracted: float = 1.0
) -> Array:
    """Share due at each of a run of samples `dt_s` apart, armed from the first one on.

    rating_over_contracted: the inverter's rating over the contracted power; used by curves that refer to the rating.
    """
    frequency = np.asarray(frequency_hz, dtype=np.float64)
    if service.curve is not None:
        target = curve_share(service, service.curve, held(frequency, service.nominal_hz), rating_over_contracted)
        return _lagged(target, _retained(service.curve, dt_s))
    if service.trigger is not None:
        return _triggered(service.trigger, frequency, dt_s)
    raise ValueError(f"service {service.id}: neither a curve nor a trigger")


def envelope(share: Array, dt_s: float, delay_s: float, tolerance: float) -> tuple[Array, Array]:
    """Lowest and highest share that counts as delivered at each sample.

    The response may stand where the law stood at any moment of [t - delay, t], and one sample later as well: a
    frequency sampled every `dt_s` shows a crossing up to that much after it happened, and an agent that looks more
    often answers it before the judge can see it.
    """
    behind = int(np.ceil(delay_s / dt_s - 1e-9))
    padded = np.concatenate((np.full(behind, share[:1]) if share.size else share, share, share[-1:]))
    windows = np.lib.stride_tricks.sliding_window_view(padded, behind + 2) if share.size else padded.reshape(0, 1)
    return windows.min(axis=1, initial=np.inf) - tolerance, windows.max(axis=1, initial=-np.inf) + tolerance


class LiveTarget:
    """The same law a step at a time, for many sites at once: what each should deliver now."""

    def __init__(self, service: Service, rating_over_contracted: npt.ArrayLike) -> None:
        self._service = service
        self._ratio = np.atleast_1d(np.asarray(rating_over_contracted, dtype=np.float64))
        self._share = np.zeros(self._ratio.shape)
        self._frequency = np.full(self._ratio.shape, float(service.nominal_hz))
        self._since = np.full(self._ratio.shape, np.inf)  # since the trigger acted [s]

    def step(self, frequency_hz: npt.ArrayLike, dt_s: float) -> Array:
        """Shares due now, `dt_s` after the last step; one frequency a site, NaN where it is not known."""
        frequency = np.broadcast_to(np.asarray(frequency_hz, dtype=np.float64), self._ratio.shape)
        if self._service.curve is not None:
            curve = self._service.curve
            self._frequency = np.where(np.isfinite(frequency), frequency, self._frequency)
            target = curve_share(self._service, curve, self._frequency, self._ratio)
            retained = _retained(curve, dt_s)
            self._share = retained * self._share + (1 - retained) * target
        elif self._service.trigger is not None:
            trigger = self._service.trigger
            full_s, release_s = _phases(trigger)
            self._since = self._since + dt_s
            ready = self._since >= full_s + release_s + trigger.rearm_s - 1e-9
            self._since = np.where(ready & (frequency <= trigger.under_hz), 0.0, self._since)
            self._share = _after_trigger(trigger, self._since)
        return self._share.copy()


def curve_share(service: Service, curve: Curve, frequency_hz: Array, rating_over_contracted: npt.ArrayLike) -> Array:
    """Share that the curve asks for at a steady frequency."""
    deviations, shares = np.asarray(curve.knots, dtype=np.float64).T
    share: Array = np.interp(frequency_hz - service.nominal_hz, deviations, shares)
    ratio = np.asarray(rating_over_contracted, dtype=np.float64) if curve.reference == "rating" else 1.0
    capped: Array = np.clip(share * ratio, -1.0, 1.0)
    return capped


def held(values: Array, before: float) -> Array:
    """`values` with each NaN replaced by the last number before it, or `before` where there is none."""
    last = np.maximum.accumulate(np.where(np.isfinite(values), np.arange(values.size), -1))
    return np.where(last >= 0, values[np.maximum(last, 0)], before) if values.size else values


def _retained(curve: Curve, dt_s: float) -> float:
    """What a step leaves undone after dt_s."""
    return float(10 ** (-dt_s / curve.response_90_s)) if curve.response_90_s > 0 else 0.0


def _lagged(target: Array, retained: float) -> Array:
    """y[k] = retained y[k-1] + (1 - retained) target[k], y[-1] = 0, by doubling: log2(n) array operations."""
    result = (1 - retained) * target
    weight, shift = retained, 1
    while shift < result.size and weight > 1e-18:
        earlier = result[:-shift].copy()
        result[shift:] += weight * earlier
        weight, shift = weight * weight, shift * 2
    return result


def _phases(trigger: Trigger) -> tuple[float, float]:
    """Seconds at full power and seconds of ramp back."""
    return trigger.full_delivery_s + trigger.hold_s, 1 / trigger.release_pu_per_s


def _after_trigger(trigger: Trigger, since_s: Array) -> Array:
    full_s, _ = _phases(trigger)
    return np.clip(1 - np.maximum(since_s - full_s, 0.0) * trigger.release_pu_per_s, 0.0, 1.0)


def _triggered(trigger: Trigger, frequency: Array, dt_s: float) -> Array:
    share = np.zeros(frequency.size)
    below = np.flatnonzero(frequency <= trigger.under_hz)
    full_s, release_s = _phases(trigger)
    away = int(np.ceil((full_s + release_s + trigger.rearm_s) / dt_s - 1e-9))
    position = 0
    while position < below.size:
        at = int(below[position])
        since_s = np.arange(min(away, share.size - at), dtype=np.float64) * dt_s
        share[at : at + away] = _after_trigger(trigger, since_s)
        position = int(np.searchsorted(below, at + away))
    return share
