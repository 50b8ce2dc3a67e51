"""From the mains' waveform to the inverter: the meter on the VM, a paced serial line, the agent, a simulated home."""

import asyncio
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hil.plant.mains import FrequencySteps
from hil.rigs.metered_home import metered_home
from hil.run.processes import ChainError

SERVICE: Final = str(Path(__file__).parent / "step.toml")
CONTRACTED_W: Final = 3000
ANSWERED_PU: Final = 0.9


async def setpoint_times(folder: Path, count: int, *, gap_s: float = 0.45) -> NDArray[np.float64]:
    """From each step of the waveform to the acknowledged write of at least 90 % of what is due [ms].

    Steps are of 0.5 Hz and the service wants everything at 0.2 Hz, as a containment service would in such a step: the
    estimate is there before the window is past the step. Raises ChainError where a step is not answered.
    """
    steps = FrequencySteps(count, 60.0, 59.5, gap_s)
    loop = asyncio.get_running_loop()
    async with metered_home(folder, steps, nominal_hz=60, frequency=lambda _: 60.0) as home:
        started_s = home.node.started_s
        home.arm(SERVICE, CONTRACTED_W)
        await home.run_until(lambda: loop.time() - started_s >= steps.end_s, steps.end_s + 10.0)
        return _answers(steps, [(at_s - started_s, power_w) for at_s, power_w in home.writes])


def _answers(steps: FrequencySteps, writes: list[tuple[float, float]]) -> NDArray[np.float64]:
    times = []
    resting_w = float(np.median([power_w for at_s, power_w in writes if at_s < steps.at_s[0]]))  # the PV's
    for at_s, hz in zip(steps.at_s, steps.hz, strict=True):
        due = 1.0 if hz < 59.8 else 0.0
        answered_s = next(
            (
                when_s
                for when_s, power_w in writes
                if when_s > at_s and abs((power_w - resting_w) / CONTRACTED_W - due) <= 1 - ANSWERED_PU
            ),
            float("inf"),
        )
        if answered_s - at_s > steps.gap_s:
            raise ChainError(f"a step to {hz} Hz at {at_s:.3f} s was not answered: {len(writes)} writes")
        times.append(1000 * (answered_s - at_s))
    return np.array(times)
