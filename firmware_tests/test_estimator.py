"""The estimator against waveforms whose frequency is known, on the VM and on CPython."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firmware_tests.waveforms import AMPLITUDE, mains, middles, phase_of, write
from hil.data.recordings import wuhan_mains

SETTLING, DEAD, LOW, JUMP, NOISY, RANGE, STEEP, CLIPPED = 1, 2, 4, 8, 16, 32, 64, 256
ARGUMENTS = (50, 5000, 1000)


def table(rows: list[list[Any]]) -> dict[str, np.ndarray]:
    names = ("hz", "second_hz", "rocof", "flags", "rms", "residual")
    columns = zip(*[[np.nan if value is None else value for value in row] for row in rows], strict=True)
    out = dict(zip(names, (np.array(column, float) for column in columns), strict=True))
    for name in ("hz", "second_hz", "rocof"):
        out[name] = out[name] / 1e6
    out["good"] = (out["flags"].astype(int) & ~CLIPPED) == 0
    return out


def steady(hz: float, rate_hz: int, seconds: float = 1.5) -> np.ndarray:
    return phase_of(lambda t: np.full_like(t, hz), rate_hz, seconds)[1]


@pytest.mark.parametrize("hz", [45.0, 49.99, 50.0, 55.5, 61.7, 65.0])
def test_the_arithmetic_itself_errs_by_less_than_a_fifth_of_a_millihertz(
    on_both: Any, tmp_path: Path, hz: float
) -> None:
    file = write(tmp_path / "w", mains(steady(hz, 4000), 4000, harmonics=False))
    out = table(on_both("estimate.py", 4000, *ARGUMENTS, file))
    settled = slice(3, None)
    assert np.abs(out["hz"][settled] - hz).max() < 200e-6
    assert np.abs(out["second_hz"][out["second_hz"] > 0] - hz).max() < 10e-6
    assert np.abs(out["rocof"][22:]).max() < 1e-3


@pytest.mark.parametrize(
    ("snr_db", "p999_mhz", "second_mhz", "rocof_hz_s"),
    # services section 2: the class limit is 5 mHz, reachable in 100 ms from about 50 dB up
    [(60, 2.0, 0.3, 0.002), (50, 5.0, 1.0, 0.0055), (40, 16.0, 2.0, 0.016)],
)
def test_noise_and_harmonics(
    on_both: Any, tmp_path: Path, snr_db: float, p999_mhz: float, second_mhz: float, rocof_hz_s: float
) -> None:
    errors, seconds, rocofs = [], [], []
    for seed, hz in enumerate(np.linspace(47.0, 62.0, 5)):
        file = write(tmp_path / "w", mains(steady(hz, 4000), 4000, snr_db=snr_db, seed=seed))
        out = table(on_both("estimate.py", 4000, *ARGUMENTS, file))
        assert out["good"][3:].all()
        errors.append(out["hz"][3:] - hz)
        seconds.append(out["second_hz"][out["second_hz"] > 0] - hz)
        rocofs.append(out["rocof"][25:])
    assert np.percentile(np.abs(np.concatenate(errors)), 99.9) * 1000 < p999_mhz
    assert np.abs(np.concatenate(seconds)).max() * 1000 < second_mhz
    assert np.abs(np.concatenate(rocofs)).max() < rocof_hz_s


@pytest.mark.parametrize("rate_hz", [400, 4000])
@pytest.mark.parametrize("nominal_hz", [50, 60])
def test_both_grids_at_both_sampling_rates(on_both: Any, tmp_path: Path, rate_hz: int, nominal_hz: int) -> None:
    """A drifting grid at 50 dB, which dies and comes back at another phase."""
    t, turns = phase_of(lambda t: nominal_hz + 0.3 * np.sin(2 * np.pi * 0.2 * t), rate_hz, 6.0)
    turns[t > 4.0] += 0.37
    voltage = mains(turns, rate_hz, snr_db=50)
    away = (t > 3.5) & (t < 4.0)
    voltage[away] = np.random.default_rng(2).normal(0, 0.003, away.sum())
    file = write(tmp_path / "w", voltage)
    out = table(on_both("estimate.py", rate_hz, nominal_hz, *ARGUMENTS[1:], file))
    at = middles(len(out["hz"]), rate_hz)
    error_hz = out["hz"] - (nominal_hz + 0.3 * np.sin(2 * np.pi * 0.2 * at))
    whole = ((at > 0.2) & (at < 3.44)) | (at > 4.25)
    assert out["good"][whole].all()
    # A tenth of the samples lets 3.2 times the noise through.
    assert np.abs(error_hz[whole]).max() < (0.006 if rate_hz == 4000 else 0.02)
    assert not out["good"][(at > 3.56) & (at < 3.94)].any()
    assert np.abs(error_hz[out["good"] & (at > 0.1)]).max() < 0.1
    assert (out["rms"][at > 4.25] / 16).mean() == pytest.approx(AMPLITUDE / np.sqrt(2), rel=0.01)


@pytest.mark.parametrize("slope", [-5.0, 5.0])
def test_ramps(on_both: Any, tmp_path: Path, slope: float) -> None:
    t, turns = phase_of(lambda t: 50.0 + slope * np.clip(t - 0.5, 0, 0.8), 4000, 1.6)
    out = table(on_both("estimate.py", 4000, *ARGUMENTS, write(tmp_path / "w", mains(turns, 4000))))
    at = middles(len(out["hz"]), 4000)
    inside = (at > 0.56) & (at < 1.24)
    assert out["good"][inside].all()
    assert np.abs(out["hz"] - (50.0 + slope * (at - 0.5)))[inside].max() < 0.006
    full = (at > 1.0) & (at < 1.24)  # 500 ms of ramp
    assert np.abs(out["rocof"][full] - slope).max() < 0.02
    assert t[-1] > at[-1]


def test_a_step_is_there_when_the_window_is_past_it(on_both: Any, tmp_path: Path) -> None:
    _, turns = phase_of(lambda t: np.where(t < 0.6, 50.0, 49.5), 4000, 1.2)
    out = table(on_both("estimate.py", 4000, *ARGUMENTS, write(tmp_path / "w", mains(turns, 4000))))
    at = middles(len(out["hz"]), 4000)
    assert out["good"][3:].all()
    assert np.abs(out["hz"][at > 0.66] - 49.5).max() < 0.002
    assert (np.abs(np.diff(out["hz"][3:])) < 0.3).all()


@pytest.mark.parametrize("degrees", [10.0, -20.0, 60.0, 150.0])
def test_no_action_on_a_phase_jump(on_both: Any, tmp_path: Path, degrees: float) -> None:
    turns = steady(50.0, 4000, 1.8)
    turns[2500:] += degrees / 360
    out = table(on_both("estimate.py", 4000, *ARGUMENTS, write(tmp_path / "w", mains(turns, 4000))))
    flags = out["flags"].astype(int)
    assert ((flags & (JUMP | NOISY | STEEP | RANGE)) != 0).any()
    good = out["good"].copy()
    good[:3] = False
    # Before the jump is plain to see the newest samples weigh little in the slope.
    assert np.abs(out["hz"][good] - 50.0).max() < 0.1
    assert good[-20:].all()


def test_a_dead_line_has_no_frequency_and_comes_back(on_both: Any, tmp_path: Path) -> None:
    voltage = mains(steady(50.0, 4000, 2.0), 4000, snr_db=50)
    voltage[2000:5000] = np.random.default_rng(1).normal(0, 0.002, 3000)
    out = table(on_both("estimate.py", 4000, *ARGUMENTS, write(tmp_path / "w", voltage)))
    at = middles(len(out["hz"]), 4000)
    assert out["good"][(at > 0.15) & (at < 0.44)].all()
    dead = (at > 0.55) & (at < 1.2)
    assert (out["flags"][dead].astype(int) & DEAD).all()
    assert (out["hz"][dead] == 0).all()
    disturbed = out["good"] & (at > 0.1)
    assert np.abs(out["hz"][disturbed] - 50.0).max() < 0.1
    assert out["good"][at > 1.45].all()


def test_a_sag_below_half_is_said_and_a_smaller_one_is_ridden_through(on_both: Any, tmp_path: Path) -> None:
    voltage = mains(steady(49.9, 4000, 2.4), 4000)
    voltage[2000:4000] *= 0.7
    voltage[6000:8000] *= 0.3
    out = table(on_both("estimate.py", 4000, 50, int(AMPLITUDE / 2), 1000, write(tmp_path / "w", voltage)))
    at = middles(len(out["hz"]), 4000)
    assert out["good"][(at > 0.56) & (at < 0.94)].all()
    deep = (at > 1.56) & (at < 1.94)
    assert (out["flags"][deep].astype(int) & LOW).all()
    assert np.abs(out["hz"][out["good"] & (at > 0.1)] - 49.9).max() < 0.1
    assert np.abs(out["rms"][deep] / 16 - 0.3 * AMPLITUDE / np.sqrt(2)).max() < 5


@pytest.mark.parametrize("kind", ["flicker", "offset", "clipped"])
def test_what_mains_does_besides(on_both: Any, tmp_path: Path, kind: str) -> None:
    voltage = mains(steady(50.02, 4000, 2.0), 4000, snr_db=60)
    t = np.arange(len(voltage)) / 4000
    amplitude, offset = AMPLITUDE, 0.0
    if kind == "flicker":
        voltage *= 1 + 0.03 * np.sin(2 * np.pi * 8.8 * t)
    elif kind == "offset":
        offset = 4000.0
    else:
        amplitude = 36_000.0
    out = table(on_both("estimate.py", 4000, *ARGUMENTS, write(tmp_path / "w", voltage, amplitude, offset)))
    assert out["good"][3:].all()
    assert np.abs(out["hz"][3:] - 50.02).max() < 0.005
    assert bool((out["flags"][3:].astype(int) & CLIPPED).all()) is (kind == "clipped")


@pytest.mark.parametrize("rate_hz", [400, 4000])
def test_vm_and_cpython_estimate_the_same(on_vm: Any, on_cpython: Any, tmp_path: Path, rate_hz: int) -> None:
    _, turns = phase_of(lambda t: 50.0 + np.where(t < 0.5, 0.3, -0.4 * (t - 0.5)), rate_hz, 1.2)
    turns[int(rate_hz * 0.9) :] += 0.1
    file = write(tmp_path / "w", mains(turns, rate_hz, snr_db=50))
    ours = on_vm("estimate.py", rate_hz, *ARGUMENTS, file)
    assert len(ours) > 50
    assert ours == on_cpython("estimate.py", rate_hz, *ARGUMENTS, file)


@pytest.mark.parametrize("rate_hz", [400, 4000])
def test_every_intermediate_fits_a_32_bit_word(on_cpython: Any, tmp_path: Path, rate_hz: int) -> None:
    """Full scale, clipped, jumping, dead and noise: nothing exceeds 2**31 inside viper, 2**30 outside."""
    _, turns = phase_of(lambda t: 45.0 + 20.0 * t, rate_hz, 1.0)
    turns[rate_hz // 2 :] += 0.5
    voltage = mains(turns, rate_hz, snr_db=30)
    voltage[rate_hz * 7 // 10 : rate_hz * 8 // 10] = 0
    for amplitude in (30_000.0, 60_000.0):
        assert on_cpython("small.py", rate_hz, write(tmp_path / "w", voltage, amplitude)) == [46]
    loud = np.random.default_rng(3).choice([-1.0, 1.0], rate_hz // 2)
    assert on_cpython("small.py", rate_hz, write(tmp_path / "w", loud, 40_000.0)) == [21]


def test_ten_thousand_cycles_take_nothing_from_the_heap(on_vm: Any) -> None:
    (found,) = on_vm("heap.py", 4000, 10_000)
    assert found["bytes"] == 0
    assert found["answers"] == 10_060
    assert found["heap"] < 120_000


@pytest.mark.parametrize(
    ("number", "rms_mhz", "max_mhz"),
    # services section 2, I/Q over 100 ms: 1.5 and 8.9 on a clean recording, 6.5 and 24 on the noisy one. The clean one
    # holds a small phase jump of the grid itself at 171.9 s, which counts: no estimate may be left out.
    [(100, 1.5, 8.9), (60, 6.5, 24.0)],
)
def test_recorded_mains(on_both: Any, tmp_path: Path, number: int, rms_mhz: float, max_mhz: float) -> None:
    recording = wuhan_mains(number)
    file = write(tmp_path / "w", recording.counts, amplitude=16_000 / np.abs(recording.counts).max())
    out = table(on_both("estimate.py", recording.rate_hz, *ARGUMENTS, file))
    assert out["good"][3:].all()
    at = middles(len(out["hz"]), recording.rate_hz)
    known = (at > recording.time_s[0]) & (at < recording.time_s[-1]) & (np.arange(len(at)) > 2)
    error = out["hz"][known] - np.interp(at[known], recording.time_s, recording.frequency_hz)
    assert np.sqrt(np.mean(error**2)) * 1000 < rms_mhz
    assert np.abs(error).max() * 1000 < max_mhz
    middle = at - 0.45  # of the second
    known = (out["second_hz"] > 0) & (middle > recording.time_s[0]) & (middle < recording.time_s[-1])
    error = out["second_hz"][known] - np.interp(middle[known], recording.time_s, recording.frequency_hz)
    assert np.abs(error).max() * 1000 < 2.0


def test_what_the_estimator_is_not_made_for_is_refused(on_both: Any, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="a multiple of 400"):
        on_both("estimate.py", 1000, *ARGUMENTS, tmp_path / "none")
