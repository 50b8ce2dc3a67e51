"""Mains voltage as a converter sees it, in counts of 16 bits around 32768; for tests and their programs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
AMPLITUDE = 17_000.0
HARMONICS = ((3, 0.03), (5, 0.02), (7, 0.01))


def phase_of(frequency_hz: Callable[[Array], Array], rate_hz: int, seconds: float) -> tuple[Array, Array]:
    """Times and phase [turns], the integral of the frequency by its trapezium."""
    t = np.arange(int(rate_hz * seconds)) / rate_hz
    f = frequency_hz(t)
    turns = np.concatenate(([0.0], np.cumsum((f[1:] + f[:-1]) / 2) / rate_hz))
    return t, turns


def mains(turns: Array, rate_hz: int, *, snr_db: float | None = None, harmonics: bool = True, seed: int = 0) -> Array:
    """Voltage with harmonics that the sampling rate can show and white noise, in shares of the fundamental."""
    rng = np.random.default_rng(seed)
    voltage = np.cos(2 * np.pi * turns)
    if harmonics:
        for order, share in HARMONICS:
            if order * 65 < rate_hz / 2:
                voltage += share * np.cos(2 * np.pi * order * turns + rng.uniform(0, 2 * np.pi))
    if snr_db is not None:
        voltage += rng.normal(0, np.sqrt(0.5) * 10 ** (-snr_db / 20), len(turns))
    return voltage


def write(path: Path, voltage: Array, amplitude: float = AMPLITUDE, offset: float = 0.0) -> Path:
    counts = np.clip(np.round(32768 + offset + amplitude * voltage), 0, 65535)
    path.write_bytes(counts.astype("<u2").tobytes())
    return path


def middles(count: int, rate_hz: int) -> Array:
    """Times of the middles of the windows of that many estimates."""
    hop, size = rate_hz // 50, rate_hz // 10
    return (np.arange(count) * hop + (size - 1) / 2) / rate_hz
