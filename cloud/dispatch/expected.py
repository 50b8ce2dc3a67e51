"""What an armed service should deliver, by the judge's own law: numpy only, and not a line of the agent's controller.

A share is a part of the contracted power, positive towards the grid. A Curve is interpolated, nothing within its
insensitivity, capped at the contracted power and passed through a ramp or a first-order lag that covers 90 % of a step
in `response_90_s` (IEEE 1547-2018 6.5.2.7; p(t) = end + (begin - end) 10^(-t/T)). A Trigger asks for all of it from
the first sample at or beyond the threshold until full delivery and hold time are over, then ramps back, then needs its
rearm time; how long the response may take to get there is the performance delay's business, not the law's. An Inertia
asks for -(2 H / f0) df/dt, the slope taken by least squares over its window, and for nothing before a whole window was
measured. A curve with a reserve mode follows the deviation less its mean while the storage has little left. Where the
frequency was not measured (NaN) a curve and an inertia keep to the last one known, and a trigger does not act. A Signal
asks for what was last broadcast, within its direction, approached along its ramp; what is passed for a frequency is the
signal's share there.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cloud.dispatch.reserve_mode import LiveReserveMode, taken_off_hz
from protos.services import Curve, Inertia, Service, Signal, Trigger

Array = npt.NDArray[np.float64]


def expected_share(
    service: Service,
    frequency_hz: npt.ArrayLike,
    dt_s: float,
    rating_over_contracted: float = 1.0,
    left_s: Array | None = None,
) -> Array:
    """Share due at each of a run of samples `dt_s` apart, armed from the first one on.

    rating_over_contracted: the inverter's rating over the contracted power; used by laws that refer to the rating.
    left_s: what the storage has left at each sample (see `seconds_left`); None: enough.
    """
    frequency = np.asarray(frequency_hz, dtype=np.float64)
    if service.curve is not None:
        known = held(frequency, service.nominal_hz)
        mode = service.curve.reserve_mode
        if mode is not None and left_s is not None:
            known = known - taken_off_hz(mode, known - service.nominal_hz, left_s, dt_s)
        target = curve_share(service, service.curve, known, rating_over_contracted)
        if service.curve.ramp_pu_per_s is not None:
            return _ramped(target, service.curve.ramp_pu_per_s * dt_s)
        return _lagged(target, _retained(service.curve, dt_s))
    if service.trigger is not None:
        return _triggered(service.trigger, frequency, dt_s, _phases(service, service.trigger))
    if service.inertia is not None:
        slope = _slopes(held(frequency, np.nan), dt_s, service.inertia.window_s)
        return _inertia_share(service, service.inertia, slope, rating_over_contracted)
    if service.signal is not None:
        asked = signal_share(service.signal, held(frequency, 0.0))
        return asked if service.signal.ramp_pu_per_s is None else _ramped(asked, service.signal.ramp_pu_per_s * dt_s)
    raise ValueError(f"service {service.id}: neither a curve nor a trigger nor an inertia nor a signal")


def envelope(share: Array, dt_s: float, delay_s: float, tolerance: float) -> tuple[Array, Array]:
    """Lowest and highest share that counts as delivered at each sample.

    The response may stand where the law stood at any moment of [t - delay, t] (at nothing before the first sample,
    where the service is armed), and one sample later as well: a frequency sampled every `dt_s` shows a crossing up to
    that much after it happened, and an agent that looks more often answers it before the judge can see it.
    """
    if not share.size:
        return share.copy(), share.copy()
    behind = int(np.ceil(delay_s / dt_s - 1e-9))
    padded = np.concatenate((np.zeros(behind), share, share[-1:]))
    windows = np.lib.stride_tricks.sliding_window_view(padded, behind + 2)
    return windows.min(axis=1) - tolerance, windows.max(axis=1) + tolerance


class LiveTarget:
    """The same law a step at a time, for many sites at once: what each should deliver now."""

    def __init__(self, service: Service, rating_over_contracted: npt.ArrayLike) -> None:
        self._service = service
        self._ratio = np.atleast_1d(np.asarray(rating_over_contracted, dtype=np.float64))
        self._share = np.zeros(self._ratio.shape)
        self._frequency = np.full(self._ratio.shape, np.nan)  # the last one known
        self._since = np.full(self._ratio.shape, np.inf)  # since the trigger acted [s]
        self._window: list[tuple[float, Array]] = []  # (instant, frequencies) that the slope is taken from
        self._now_s = 0.0
        mode = service.curve.reserve_mode if service.curve is not None else None
        self._mode = LiveReserveMode(mode, self._ratio.size) if mode is not None else None

    def step(self, frequency_hz: npt.ArrayLike, dt_s: float, left_s: npt.ArrayLike = np.inf) -> Array:
        """Shares due now, `dt_s` after the last step; one frequency a site, NaN where it is not known.

        left_s: what each site's storage has left (see `seconds_left`).
        """
        frequency = np.broadcast_to(np.asarray(frequency_hz, dtype=np.float64), self._ratio.shape)
        self._frequency = np.where(np.isfinite(frequency), frequency, self._frequency)
        service = self._service
        if service.curve is not None:
            self._share = self._follow(service.curve, dt_s, left_s)
        elif service.trigger is not None:
            trigger, phases = service.trigger, _phases(service, service.trigger)
            self._since = self._since + dt_s
            ready = self._since >= phases.away_s - 1e-9
            self._since = np.where(ready & _beyond(trigger, frequency), 0.0, self._since)
            self._share = _after_trigger(trigger, self._since, phases)
        elif service.inertia is not None:
            slope = self._slope(service.inertia.window_s, dt_s)
            self._share = _inertia_share(service, service.inertia, slope, self._ratio)
        elif service.signal is not None:
            gap = signal_share(service.signal, np.nan_to_num(self._frequency)) - self._share
            most = np.inf if service.signal.ramp_pu_per_s is None else service.signal.ramp_pu_per_s * dt_s
            self._share = self._share + np.clip(gap, -most, most)
        return self._share.copy()

    def _follow(self, curve: Curve, dt_s: float, left_s: npt.ArrayLike) -> Array:
        nominal_hz = float(self._service.nominal_hz)
        known = np.where(np.isfinite(self._frequency), self._frequency, nominal_hz)
        if self._mode is not None:
            known = known - self._mode.step(known - nominal_hz, np.broadcast_to(left_s, known.shape), dt_s)
        gap = curve_share(self._service, curve, known, self._ratio) - self._share
        if curve.ramp_pu_per_s is not None:
            most = curve.ramp_pu_per_s * dt_s
            return self._share + np.clip(gap, -most, most)
        return self._share + (1 - _retained(curve, dt_s)) * gap

    def _slope(self, window_s: float, dt_s: float) -> Array:
        """Of the last window's line, NaN where it is not known for so long [Hz/s]."""
        self._now_s += dt_s
        self._window.append((self._now_s, self._frequency))
        while len(self._window) > 1 and self._now_s - self._window[1][0] >= window_s - 1e-9:
            del self._window[0]
        times = np.array([instant for instant, _ in self._window])
        if self._now_s - times[0] < window_s - 1e-9:
            return np.full(self._ratio.shape, np.nan)
        weights: Array = (times - times.mean()) / np.square(times - times.mean()).sum()
        slope: Array = weights @ np.stack([frequencies for _, frequencies in self._window])
        return slope


def curve_share(service: Service, curve: Curve, frequency_hz: Array, rating_over_contracted: npt.ArrayLike) -> Array:
    """Share that the curve asks for at a steady frequency."""
    deviations, shares = np.asarray(curve.knots, dtype=np.float64).T
    deviation = frequency_hz - service.nominal_hz
    share: Array = np.interp(deviation, deviations, shares)
    if curve.insensitivity_hz > 0:
        share = np.where(np.abs(deviation) <= curve.insensitivity_hz + 1e-9, 0.0, share)
    ratio = np.asarray(rating_over_contracted, dtype=np.float64) if curve.reference == "rating" else 1.0
    capped: Array = np.clip(share * ratio, -1.0, 1.0)
    return capped


def signal_share(signal: Signal, share: Array) -> Array:
    """What a signal asks for before any ramp."""
    lowest, highest = (0.0 if signal.direction == "up" else -1.0), (0.0 if signal.direction == "down" else 1.0)
    asked: Array = np.clip(share, lowest, highest)
    return asked


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


def _ramped(target: Array, most: float) -> Array:
    """Each value as near its target as it comes by changing by `most` a sample, from 0."""
    level, levels = 0.0, []
    for due in target.tolist():
        level += min(max(due - level, -most), most)
        levels.append(level)
    return np.array(levels)


@dataclass(frozen=True, slots=True)
class _Phases:
    """How long a trigger's phases last [s]."""

    full_s: float
    release_s: float
    rearm_s: float

    @property
    def away_s(self) -> float:
        """From the crossing until it may act again."""
        return self.full_s + self.release_s + self.rearm_s


def _phases(service: Service, trigger: Trigger) -> _Phases:
    full_s = service.timing.full_delivery_s + trigger.hold_s
    return _Phases(full_s, 1 / trigger.release_pu_per_s, trigger.rearm_s)


def _beyond(trigger: Trigger, frequency: Array) -> npt.NDArray[np.bool_]:
    return frequency <= trigger.threshold_hz if trigger.under_hz is not None else frequency >= trigger.threshold_hz


def _after_trigger(trigger: Trigger, since_s: Array, phases: _Phases) -> Array:
    size = np.clip(1 - np.maximum(since_s - phases.full_s, 0.0) * trigger.release_pu_per_s, 0.0, 1.0)
    return size if trigger.under_hz is not None else -size


def _triggered(trigger: Trigger, frequency: Array, dt_s: float, phases: _Phases) -> Array:
    share = np.zeros(frequency.size)
    beyond = np.flatnonzero(_beyond(trigger, frequency))
    away = int(np.ceil(phases.away_s / dt_s - 1e-9))
    position = 0
    while position < beyond.size:
        at = int(beyond[position])
        since_s = np.arange(min(away, share.size - at), dtype=np.float64) * dt_s
        share[at : at + away] = _after_trigger(trigger, since_s, phases)
        position = int(np.searchsorted(beyond, at + away))
    return share


def _inertia_share(service: Service, inertia: Inertia, slope: Array, rating_over_contracted: npt.ArrayLike) -> Array:
    ratio = np.asarray(rating_over_contracted, dtype=np.float64) if inertia.reference == "rating" else 1.0
    share = -2.0 * inertia.constant_s / service.nominal_hz * np.nan_to_num(slope) * ratio
    return np.clip(share, -1.0, 1.0)


def _slopes(frequency: Array, dt_s: float, window_s: float) -> Array:
    """Slope of the line through the window that ends at each sample; NaN before there is a whole one [Hz/s]."""
    count = max(2, int(np.ceil(window_s / dt_s - 1e-9)) + 1)
    slopes = np.full(frequency.size, np.nan)
    if frequency.size >= count:
        around = (np.arange(count) - (count - 1) / 2) * dt_s
        windows = np.lib.stride_tricks.sliding_window_view(frequency, count)
        slopes[count - 1 :] = windows @ (around / np.square(around).sum())
    return slopes
