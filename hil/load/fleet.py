"""Frames of many simulated sites, thousands at a time: a site's power is a function of its number and the time.

Each site lives one of the recorded homes (hil/data, Fontana: hours of load and PV, played at the wall clock's hour),
scaled by its own size, with its own appliances' noise. Weather is a region's: clouds come and go for all its sites at
once (first-order autoregression by the minute). Half of the sites have a battery that covers what PV leaves of the load
while it lasts. Frequency is the recorded ten minutes, the same for all.

The bytes are canonical frames (protos/frame.py) inside a vpp.v1.Batch, filled column by column into one numpy record,
so that making them costs a fraction of what reading them does.
"""

from typing import Final

import numpy as np

from cloud.model.telemetry import NARROW, POINTS, SAMPLES, Array
from hil.data import recordings
from hil.data.recordings import HOMES
from protos import frame

INTERVAL_MS: Final = 1000
FRAME_MS: Final = INTERVAL_MS * SAMPLES
REGIONS: Final = 32
_NOISES: Final = 1 << 20  # prepared samples
_MINUTES: Final = 24 * 60
_STEP_SHARE: Final = 0.06  # of frames in which an appliance is switched
_BLOCK_BYTES: Final = frame.NARROW_BLOCK_BYTES
RECORD: Final = np.dtype(
    [
        ("entry_tag", "u1"),
        ("entry_length", "u1", (2,)),
        ("site_tag", "u1"),
        ("site", "<u4"),
        ("seq_tag", "u1"),
        ("seq", "<u4"),
        ("t0_tag", "u1"),
        ("t0_ms", "<u8"),
        ("layout_tag", "u1"),
        ("layout", "<u4"),
        ("block_tag", "u1"),
        ("block_length", "u1", (2,)),
        ("block", NARROW, (len(POINTS),)),
    ]
)
_SIZE: Final = frame.HEADER_BYTES + _BLOCK_BYTES
assert RECORD.itemsize == _SIZE + 3, "a Batch's entry around a canonical frame"  # noqa: S101


class SimulatedFleet:
    """Sites 0 to `sites` - 1. The same seed gives the same fleet.

    noon_ms: an instant at which it is to be noon in the recording.
    """

    def __init__(self, sites: int, *, noon_ms: int, seed: int = 1) -> None:
        self._shift_ms = (12 * 3_600_000 - noon_ms) % (24 * 3_600_000)
        draw = np.random.default_rng(seed)
        homes = [recordings.fontana_home(number) for number in range(1, HOMES + 1)]
        self._load_w = np.array([home.load_wh for home in homes], dtype=np.float32)  # mean power of the hour
        self._pv_w_per_kw = np.array([home.pv_w_per_kw for home in homes], dtype=np.float32)
        self._home = draw.integers(0, HOMES, sites, dtype=np.int8)
        self._region = draw.integers(0, REGIONS, sites, dtype=np.int8)
        self._size = np.exp(draw.normal(0.0, 0.4, sites)).astype(np.float32)
        self._pv_kw = np.where(draw.random(sites) < 0.7, draw.uniform(2, 12, sites), 0).astype(np.float32)
        self._battery_w = np.where(draw.random(sites) < 0.5, draw.uniform(2000, 6000, sites), 0).astype(np.float32)
        self._soc = draw.uniform(0.2, 0.9, sites).astype(np.float32)
        clouds = np.empty((REGIONS, _MINUTES))
        state = draw.normal(0.0, 1.0, REGIONS)
        for minute in range(_MINUTES):
            state = 0.97 * state + np.sqrt(1 - 0.97**2) * draw.normal(0.0, 1.0, REGIONS)
            clouds[:, minute] = 1 / (1 + np.exp(-1.5 * state - 1.0))
        self._clouds = clouds.astype(np.float32)
        frequency_hz = recordings.grid_ten_minutes().frequency_hz * 50.0 / 60.0
        self._frequency = np.rint(frequency_hz * 1000).astype(np.int32)
        # A frame's noise is a window somewhere in a long record, so that no two are alike.
        self._noise, self._volts = (
            np.lib.stride_tricks.sliding_window_view(
                np.rint(draw.normal(0.0, spread, _NOISES + SAMPLES)).astype(np.int16), SAMPLES - 1
            )
            for spread in (12.0, 3.0)
        )
        self._draw = draw

    def records(self, site: Array, seq: int, t0_ms: int) -> Array:
        """RECORD [n]: the frames number `seq` of the sites, with ten samples from t0_ms on."""
        number = len(site)
        local_ms = t0_ms + self._shift_ms
        hour = local_ms // 3_600_000 % self._load_w.shape[1]
        share = local_ms % 3_600_000 / 3_600_000
        after = (hour + 1) % self._load_w.shape[1]
        home = self._home[site]
        noise, noise_of_pv = self._draw.integers(0, _NOISES, (2, number))
        load = self._load_w[home, hour] * self._size[site] * np.exp(0.02 * self._noise[noise, 0].astype(np.float32))
        sun = self._pv_w_per_kw[:, hour] * (1 - share) + self._pv_w_per_kw[:, after] * share
        pv = sun[home] * self._pv_kw[site] * self._clouds[self._region[site], t0_ms // 60_000 % _MINUTES]
        battery = np.clip(load - pv, -self._battery_w[site], self._battery_w[site])
        soc = self._soc[site]
        battery[((soc <= 0.1) & (battery > 0)) | ((soc >= 0.95) & (battery < 0))] = 0.0
        self._soc[site] = np.clip(soc - battery * (SAMPLES / 3600 / 10_000), 0.0, 1.0)
        second = t0_ms // 1000 % (len(self._frequency) - SAMPLES)
        frequency = self._frequency[second : second + SAMPLES]

        rows = np.empty(number, dtype=RECORD)
        rows["entry_tag"], rows["site_tag"], rows["seq_tag"] = 0x0A, 0x0D, 0x15
        rows["t0_tag"], rows["layout_tag"], rows["block_tag"] = 0x19, 0x25, 0x7A
        rows["entry_length"] = (_SIZE & 0x7F | 0x80, _SIZE >> 7)
        rows["block_length"] = (_BLOCK_BYTES & 0x7F | 0x80, _BLOCK_BYTES >> 7)
        rows["site"], rows["seq"], rows["t0_ms"], rows["layout"] = site, seq, t0_ms, frame.NARROW[INTERVAL_MS]
        block = rows["block"]
        inverter = pv + battery
        base, offsets = block["base"], block["offsets"]
        for index, column in enumerate((inverter - load, inverter, soc * 10_000, None, 2300 - load / 200, pv)):
            base[:, index] = frequency[0] if column is None else column
        appliances = self._noise[noise]
        switched = np.flatnonzero(self._draw.random(number) < _STEP_SHARE)
        appliances[switched, 4:] -= self._draw.integers(200, 2500, (len(switched), 1)).astype(np.int16)
        gusts = self._noise[noise_of_pv] // 2 * (pv > 0)[:, None]
        offsets[:, 0] = appliances + gusts
        offsets[:, 1] = offsets[:, 5] = gusts
        offsets[:, 2] = 0
        offsets[:, 3] = frequency[1:] - frequency[0]
        offsets[:, 4] = self._volts[noise]
        return rows


def grid_counts(rows: Array) -> Array:
    """int64 [n]: the sum of each frame's samples of grid_power_w, in counts: what the history must add up to."""
    first = rows["block"][:, 0]
    total: Array = first["base"].astype(np.int64) * SAMPLES + first["offsets"].sum(axis=1, dtype=np.int64)
    return total
