"""Whether a site delivered what it had sold: its measured power against what its frequency or a signal asked for."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cloud.dispatch.expected import envelope, expected_share, held
from cloud.dispatch.scores import SCORERS, SHORTEST_S
from protos.services import Service

Array = npt.NDArray[np.float64]

_ROUNDING = 1e-9
ACTIVE_SHARE = 1e-3
"""A sample is one of activation where more than a thousandth of the contracted power was due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What became of one site's part of an award. Shares are of the contracted power."""

    error: float  # mean distance outside the envelope over the samples of activation, or by the operator's own score
    activation_samples: int
    samples: int  # in the delivery period
    samples_outside: int  # of them: outside the envelope, by however little, whether anything was due or not
    samples_missing: int  # of them: power or frequency not measured
    energy_wh: int  # beyond the baseline during activation, positive towards the grid
    expected_share: Array  # what was due, per sample
    delivered_share: Array  # what was measured beyond the baseline, per sample; NaN: not measured

    @property
    def availability(self) -> float:
        """Share of the delivery period with good telemetry."""
        return 1.0 - self.samples_missing / self.samples if self.samples else 0.0


def verify(
    service: Service,
    *,
    contracted_w: float,
    rated_power_w: float,
    baseline_w: Array,
    power_w: Array,
    frequency_hz: Array,
    dt_s: float,
    left_s: Array | None = None,
) -> Verification:
    """Judges one site over a delivery period.

    One value a sample, `dt_s` apart, the first at delivery start: scheduled and measured power at the inverter's AC
    terminals, and frequency measured at the site (the signal's share where the service follows one); NaN where nothing
    was measured. What was not measured counts against the site: a sample of activation without power is as wrong as a
    sample can be (a whole contracted power outside; more is not counted), one without any frequency before it likewise.
    left_s: what the storage had left, for services with a reserve mode (`cloud.dispatch.reserve_mode.seconds_left`);
    None: enough. An operator's own score (`cloud.dispatch.scores`) takes the envelope's place in what is long enough.
    Raises ValueError for arrays of different length or no contracted power.
    """
    if contracted_w <= 0:
        raise ValueError("contracted power must be positive")
    if not baseline_w.shape == power_w.shape == frequency_hz.shape:
        raise ValueError("baseline, power and frequency have one value a sample")
    due = expected_share(service, frequency_hz, dt_s, rated_power_w / contracted_w, left_s)
    performance = service.performance
    lower, upper = envelope(due, dt_s, performance.delay_s, 0.0)
    blind = ~np.isfinite(held(frequency_hz, np.nan))
    active = (np.maximum(np.abs(lower), np.abs(upper)) > ACTIVE_SHARE) | blind
    delivered = (power_w - baseline_w) / contracted_w
    missing = ~np.isfinite(delivered) | ~np.isfinite(frequency_hz)
    outside = np.maximum(lower - performance.tolerance_pu - delivered, delivered - upper - performance.tolerance_pu)
    outside = np.where(np.isfinite(delivered) & ~blind, np.clip(outside, 0.0, 1.0), 1.0)
    activation = int(active.sum())
    energy_wh = float(np.nansum((power_w - baseline_w)[active]) * dt_s / 3600)
    error = float(outside[active].mean()) if activation else 0.0
    if performance.score in SCORERS and due.size * dt_s >= SHORTEST_S:
        error = SCORERS[performance.score](due, delivered, dt_s)
    return Verification(
        error=error,
        activation_samples=activation,
        samples_outside=int((outside > _ROUNDING).sum()),
        samples=int(power_w.size),
        samples_missing=int(missing.sum()),
        energy_wh=round(energy_wh),
        expected_share=due,
        delivered_share=delivered,
    )
