"""What a relay senses beside the mains: a thermistor, and a person's finger."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hil.rigs.firmware_node import FirmwareNode


def test_a_thermistor_by_its_own_equation(on_both: Any, tmp_path: Path) -> None:
    """R = R25 exp(B (1/T - 1/T25)) forwards, through the divider; what comes back is the temperature."""
    program = tmp_path / "thermistors.py"
    celsius = np.arange(-30, 111, 10)
    ohm = 10_000 * np.exp(3950 * (1 / (celsius + 273.15) - 1 / 298.15))
    counts = [round(n) for n in 65536 * ohm / (ohm + 4700)]
    program.write_text(
        "import json\nfrom thermistor import temperature_dc\n"
        f"print(json.dumps([temperature_dc(n, 4700, 10000, 3950) for n in {[*counts, 0, 65535]}]))\n"
    )
    (told,) = on_both(program)
    assert told[-2:] == [None, None]  # shorted, broken
    assert [tenths / 10 for tenths in told[:-2]] == pytest.approx(celsius.tolist(), abs=0.11)


def test_samples_are_taken_out_of_a_ring_by_steps(on_vm: Any, tmp_path: Path) -> None:
    """As a converter that measures mains and thermistor in turns leaves them, round the ring's end."""
    program = tmp_path / "widened.py"
    program.write_text(
        "import array, json\nfrom hal import widen\n"
        "ring, taken = array.array('H', range(16)), array.array('H', [0] * 8)\n"
        "widen(ring, 12, 16, taken, 1, 4, 4 | 1 << 4)\n"
        "print(json.dumps(list(taken)))\n"
        "widen(ring, 14, 16, taken, 0, 4, 0)\n"
        "print(json.dumps(list(taken)))\n"
    )
    assert on_vm(program) == [[0, 12 * 16, 14 * 16, 0, 2 * 16, 0, 0, 0], [14, 15, 0, 1, 2 * 16, 0, 0, 0]]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


async def test_a_finger_overrides_the_relay_and_ends_that(tmp_path: Path) -> None:
    relay = {"least_on_ms": 0, "least_off_ms": 0}
    settings = {"unit": 1, "program": "relay", "relay": relay}
    async with FirmwareNode(tmp_path, settings, lambda t: 32768 + 17_000 * np.cos(2 * np.pi * 50 * t)) as node:
        await until(lambda: node.relay is True)
        seen = []
        for state in (False, True):
            (tmp_path / "button").write_bytes(b"1")
            await until(lambda state=state: node.relay is state)
            (tmp_path / "button").write_bytes(b"0")
            await asyncio.sleep(0.2)  # as long as a finger is away
            seen.append(node.relay)
        assert seen == [False, True]  # letting go changes nothing


async def test_water_that_is_cold_is_heated_and_hot_water_is_not(tmp_path: Path) -> None:
    relay = {"least_on_ms": 0, "least_off_ms": 0, "rest_on": False}
    settings = {"unit": 1, "program": "relay", "relay": relay}
    async with FirmwareNode(tmp_path, settings, lambda t: 32768 + 17_000 * np.cos(2 * np.pi * 50 * t)) as node:
        heated = []
        for tenths, state in ((b"600", False), (b"-050", True), (b"805", False)):
            (tmp_path / "temperature").write_bytes(tenths)
            await until(lambda state=state: node.relay is state)
            heated.append(node.relay)
        assert heated == [False, True, False]
