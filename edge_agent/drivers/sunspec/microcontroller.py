"""What may be written to a microcontroller that runs our firmware: its vendor models 64910 and 64912, nothing else."""

import zlib
from typing import Final

from edge_agent.drivers.sunspec.access import WritableRegisters, read_points, write_points
from edge_agent.drivers.sunspec.layout import Field, ModelMap
from edge_agent.drivers.sunspec.plan import to_registers
from edge_agent.model.devices import DeviceRejected, UpdateState, UpdateStatus

UPDATE_MODEL: Final = 64912
_CLOCK_MS = 1 << 32
_VERIFY, _SWITCH, _CONFIRM = 1, 2, 3
_WHY = (
    "",
    "it did not arrive whole (CRC-32)",
    "it is no firmware image",
    "its signature is not that of the device's update_key",
    "the device has no update_key in its settings",
    "it is for another board",
    "it is no firmware for this program",
    "its version is below the device's minimum_version",
    "a file is not what the manifest says",
    "the flash memory cannot be written",
    "",
)
_ROLLED_BACK = 10
_STATUS = ("St", "Why", "Have", "VMaj", "VMin", "VPat", "VerMs")


class SunSpecMicrocontroller:
    """The writable half of a meter or a relay of `edge_agent/firmware`."""

    def __init__(self, name: str, registers: WritableRegisters, fast: ModelMap, update: ModelMap | None) -> None:
        """fast: its model 64910. update: 64912, which the oldest firmware does not have."""
        self._name = name
        self._registers = registers
        self._fast = fast
        self._update = update

    @property
    def update_chunk_bytes(self) -> int:
        return 2 * self._point("Data").point.size

    async def write_clock(self, clock_ms: int) -> None:
        await write_points(self._registers, {self._fast.fields["Clk"]: clock_ms % _CLOCK_MS})

    async def read_update(self) -> UpdateStatus:
        raw = await read_points(self._registers, [self._point(name) for name in _STATUS])
        number = {field.path: value if isinstance(value, int) else 0 for field, value in raw.items()}
        return UpdateStatus(
            state=UpdateState(number["St"]),
            why=_WHY[number["Why"]] if number["Why"] < len(_WHY) else f"reason {number['Why']}",
            rolled_back=number["Why"] == _ROLLED_BACK,
            have=number["Have"],
            version=(number["VMaj"], number["VMin"], number["VPat"]),
            verify_s=number["VerMs"] / 1e3,
        )

    async def begin_update(self, image: bytes) -> None:
        await write_points(self._registers, {self._point("Size"): len(image), self._point("Crc"): zlib.crc32(image)})

    async def write_update(self, offset: int, data: bytes) -> None:
        first, whole = self._point("Off"), data.ljust(self.update_chunk_bytes, b"\0")
        head = offset.to_bytes(4, "big") + len(data).to_bytes(2, "big")
        await self._registers.write(first.address, to_registers(head + whole), "a chunk of firmware")

    async def verify_update(self) -> None:
        await self._command(_VERIFY)

    async def switch_update(self) -> None:
        await self._command(_SWITCH)

    async def confirm_update(self) -> None:
        await self._command(_CONFIRM)

    async def _command(self, number: int) -> None:
        await write_points(self._registers, {self._point("Cmd"): number})

    def _point(self, name: str) -> Field:
        if self._update is None:
            raise DeviceRejected(f"device {self._name}: its firmware has no model {UPDATE_MODEL} and takes no update")
        return self._update.fields[name]
