"""What may be written to a microcontroller that runs our firmware: its vendor models 64910 and 64912, nothing else."""

from edge_agent.drivers.sunspec.access import WritableRegisters, write_points
from edge_agent.drivers.sunspec.layout import ModelMap

_CLOCK_MS = 1 << 32


class SunSpecMicrocontroller:
    """The writable half of a meter or a relay of `edge_agent/firmware`."""

    def __init__(self, registers: WritableRegisters, fast: ModelMap) -> None:
        """fast: its model 64910."""
        self._registers = registers
        self._fast = fast

    async def write_clock(self, clock_ms: int) -> None:
        await write_points(self._registers, {self._fast.fields["Clk"]: clock_ms % _CLOCK_MS})
