"""Reads a rig's device-side recording and computes response times from it.

Definitions. All are taken at the device, on the rig's one clock.

- *Crossing*: the instant at which the frequency at the device passed a level. Frequency is a piecewise-linear function
  of time whose breakpoints are saved with the recording, so this is computed, not sampled.
- *Commanded*: the first register write at or after a crossing whose setpoint differs by more than a threshold from what
  held at the crossing: the setpoint then, or the power then if there was none. From this instant the plant moves, so
  commanded - crossing is the response time with the inverter's own lag and ramp left out.
- *Moved*: the first instant after a crossing at which the power register lies more than the threshold away from its
  value at the crossing; straight lines between samples, which are 10 ms apart or less. moved - crossing is the response
  time with the inverter's lag and ramp in it.
- *Level lag*, for a response that has no trigger (droop): the ideal law passes a power level at one instant, the power
  register passes the same level in the same direction at the first instant at or after it; the lag is between the two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hil.plant.frequency import Crossing, crossings

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRecording:
    """One home's samples, ordered by time: every tick and every accepted write. Powers positive towards the grid."""

    site: str
    t_ms: Array  # UTC
    frequency_hz: Array
    power_w: Array  # the inverter's power register, before rounding to 1 W
    setpoint_w: Array  # as asked, holds from its sample on; NaN: none
    soc: Array
    pv_w: Array
    load_w: Array
    reversions_ms: Array  # instants at which the reversion timer let go

    @property
    def grid_w(self) -> Array:
        """At the grid meter."""
        return self.power_w - self.load_w


@dataclass(frozen=True, slots=True)
class RigRecording:
    """What a rig saved."""

    frequency_utc_ms: Array  # breakpoints of the frequency function
    frequency_hz: Array
    homes: Mapping[str, DeviceRecording]  # by site

    def crossings(self, level_hz: float, *, from_ms: float = 0.0, to_ms: float = np.inf) -> list[Crossing]:
        """Exact instants at which the frequency at the devices passed a level, within a span [UTC ms]."""
        found = crossings(self.frequency_utc_ms, self.frequency_hz, level_hz)
        return [c for c in found if from_ms <= c.utc_ms <= to_ms]

    def frequency(self, utc_ms: Array) -> Array:
        """Frequency at instants [UTC ms]; where it jumps, the value after the jump."""
        times, levels = self.frequency_utc_ms, self.frequency_hz
        last = len(times) - 1
        before = np.clip(np.searchsorted(times, utc_ms, side="right") - 1, 0, last)
        after = np.minimum(before + 1, last)
        span = np.where(times[after] > times[before], times[after] - times[before], 1.0)
        share = np.clip((utc_ms - times[before]) / span, 0.0, 1.0)
        return np.asarray(levels[before] + (levels[after] - levels[before]) * share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """How a device answered one crossing. None: it did not within the time allowed."""

    site: str
    crossing: Crossing
    commanded_ms: float | None  # UTC
    moved_ms: float | None

    @property
    def to_command_ms(self) -> float | None:
        """From the crossing to the write that answers it: the inverter's own lag and ramp excluded."""
        return None if self.commanded_ms is None else self.commanded_ms - self.crossing.utc_ms

    @property
    def to_movement_ms(self) -> float | None:
        """From the crossing to the power register having moved: the inverter's lag and ramp included."""
        return None if self.moved_ms is None else self.moved_ms - self.crossing.utc_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelLag:
    """One passage of a power level by the ideal law, and the register's."""

    level_w: float
    rising: bool
    ideal_ms: float
    register_ms: float | None  # None: not within the time allowed

    @property
    def lag_ms(self) -> float | None:
        return None if self.register_ms is None else self.register_ms - self.ideal_ms


def load_recording(path: Path) -> RigRecording:
    """Reads what the rig's `save` wrote. Raises OSError, or ValueError for a file that is none."""
    with np.load(path) as file:
        columns = {name: file[name].astype(np.float64) for name in file.files}
    if "frequency/utc_ms" not in columns:
        raise ValueError(f"{path} is not a rig's recording: it has no frequency/utc_ms")
    sites = sorted({name.split("/")[0] for name in columns} - {"frequency"})
    homes = {}
    for site in sites:
        own = {name.split("/")[1]: values for name, values in columns.items() if name.startswith(f"{site}/")}
        homes[site] = DeviceRecording(site=site, **own)
    return RigRecording(columns["frequency/utc_ms"], columns["frequency/hz"], homes)


def responses(
    device: DeviceRecording, found: Sequence[Crossing], *, threshold_w: float, within_ms: float = 1000.0
) -> list[Response]:
    """How a device answered crossings that lie inside its recording. Raises ValueError for one that does not."""
    return [
        Response(
            site=device.site,
            crossing=crossing,
            commanded_ms=_commanded_ms(device, crossing.utc_ms, threshold_w, within_ms),
            moved_ms=_moved_ms(device, crossing.utc_ms, threshold_w, within_ms),
        )
        for crossing in found
    ]


def level_lags(
    device: DeviceRecording, ideal_ms: Array, ideal_w: Array, levels_w: Sequence[float], *, within_ms: float = 1000.0
) -> list[LevelLag]:
    """Lags of the power register behind an ideal law given as a curve (UTC ms, W), at every passage of some levels."""
    lags = []
    for level_w in levels_w:
        passed = crossings(device.t_ms, device.power_w, level_w)
        for ideal in crossings(ideal_ms, ideal_w, level_w):
            answer = next(
                (c.utc_ms for c in passed if c.falling == ideal.falling and c.utc_ms >= ideal.utc_ms),
                np.inf,
            )
            inside = answer <= ideal.utc_ms + within_ms
            lags.append(
                LevelLag(
                    level_w=level_w,
                    rising=not ideal.falling,
                    ideal_ms=ideal.utc_ms,
                    register_ms=answer if inside else None,
                )
            )
    return lags


def _commanded_ms(device: DeviceRecording, at_ms: float, threshold_w: float, within_ms: float) -> float | None:
    held = _last_before(device, at_ms)
    reference_w = device.setpoint_w[held]
    if np.isnan(reference_w):
        reference_w = np.interp(at_ms, device.t_ms, device.power_w)
    later = slice(held + 1, int(np.searchsorted(device.t_ms, at_ms + within_ms, side="right")))
    # NaN compares false: a release is no answer.
    answers = np.flatnonzero(np.abs(device.setpoint_w[later] - reference_w) > threshold_w)
    return float(device.t_ms[later][answers[0]]) if len(answers) else None


def _moved_ms(device: DeviceRecording, at_ms: float, threshold_w: float, within_ms: float) -> float | None:
    held = _last_before(device, at_ms)
    reference_w = float(np.interp(at_ms, device.t_ms, device.power_w))
    later = slice(held + 1, int(np.searchsorted(device.t_ms, at_ms + within_ms, side="right")))
    t = np.concatenate(([at_ms], device.t_ms[later]))
    away_w = np.abs(np.concatenate(([reference_w], device.power_w[later])) - reference_w)
    beyond = np.flatnonzero(away_w > threshold_w)
    if not len(beyond):
        return None
    i = int(beyond[0])
    share = (threshold_w - away_w[i - 1]) / (away_w[i] - away_w[i - 1])
    return float(t[i - 1] + share * (t[i] - t[i - 1]))


def _last_before(device: DeviceRecording, at_ms: float) -> int:
    index = int(np.searchsorted(device.t_ms, at_ms, side="right")) - 1
    if index < 0 or at_ms > device.t_ms[-1]:
        raise ValueError(f"{device.site}: the recording does not cover {at_ms:.0f}")
    return index
