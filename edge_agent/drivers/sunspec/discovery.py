"""What a device's SunSpec map holds: the models, where they stand, and what is wrong with the map.

The map begins with the marker "SunS" at one of three addresses and goes on as a chain: a model's ID, its length L,
L registers, the next model's ID, until the ID 0xFFFF.
"""

from dataclasses import dataclass
from typing import Protocol

from edge_agent.drivers.sunspec.definitions import GroupDef, load_model
from edge_agent.drivers.sunspec.layout import HEADER, LayoutError, ModelMap, count_points, lay_out
from edge_agent.model.devices import DeviceRejected, DeviceTimeout

BASES = (40000, 0, 50000)
MARKER = [0x5375, 0x6E53]  # "SunS"
END = 0xFFFF
_LAST_ADDRESS = 0xFFFF


class Registers(Protocol):
    """Where registers are read from."""

    async def read(self, address: int, count: int, what: object) -> list[int]:
        """Holding registers. Raises DeviceTimeout, DeviceRejected."""
        ...


class NoSunSpecMap(Exception):
    """No marker was found; says what stood at each address instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMap:
    """Every model that was found. `findings` are a map's faults, in words for whoever installs the device."""

    base: int
    model_ids: tuple[int, ...]  # all, in the order they stand, unknown ones too
    models: tuple[ModelMap, ...]  # those with a definition and a length
    findings: tuple[str, ...]

    def first(self, *model_ids: int) -> ModelMap | None:
        """The first model that has one of these numbers."""
        return next((model for model in self.models if model.model_id in model_ids), None)


async def discover(registers: Registers) -> DeviceMap:
    """Walks the map. Raises NoSunSpecMap, or DeviceTimeout where the device falls silent."""
    base = await _find_base(registers)
    scan = _Scan(registers)
    await scan.walk(base + len(MARKER))
    return DeviceMap(
        base=base, model_ids=tuple(scan.model_ids), models=tuple(scan.models), findings=tuple(scan.findings)
    )


async def _find_base(registers: Registers) -> int:
    seen: list[str] = []
    silent: DeviceTimeout | None = None
    for base in BASES:
        try:
            found = await registers.read(base, len(MARKER), "the SunSpec marker")
        except DeviceRejected as error:
            seen.append(f"at {base} {str(error).rsplit(': ', 1)[-1]}")
        except DeviceTimeout as error:
            # A gateway may swallow what it does not map, so the other addresses are tried before giving up.
            silent = error
        else:
            if found == MARKER:
                return base
            seen.append(f"at {base} 0x{found[0]:04X} 0x{found[1]:04X}")
    if silent is not None:
        raise silent
    raise NoSunSpecMap("; ".join(seen))


class _Scan:
    """One walk along the chain."""

    def __init__(self, registers: Registers) -> None:
        self._registers = registers
        self.model_ids: list[int] = []
        self.models: list[ModelMap] = []
        self.findings: list[str] = []

    async def walk(self, address: int) -> None:
        while address <= _LAST_ADDRESS:
            header = await self._header(address)
            if header is None:
                return
            model_id, length = header
            if model_id == 0:
                self._find(f"the map breaks off at {address}: model 0 where a model or the end (0xFFFF) belongs")
                return
            self.model_ids.append(model_id)
            definition = load_model(model_id)
            if length == 0:
                self._find(f"model {model_id} at {address} has length 0 and is left out")
            elif definition is not None and not await self._add(model_id, definition, address, length):
                return
            address += HEADER + length
        self._find(f"the map runs past the last address {_LAST_ADDRESS} without an end (0xFFFF)")

    async def _header(self, address: int) -> tuple[int, int] | None:
        """ID and length of the model at an address, None at the end of the map."""
        try:
            model_id, length = await self._registers.read(address, HEADER, "a model's ID and length")
        except DeviceRejected:
            # Some devices have no length after the end mark, and it is the last register there is.
            try:
                (model_id,) = await self._registers.read(address, 1, "a model's ID")
            except DeviceRejected as error:
                self._find(f"the map breaks off at {address} without an end (0xFFFF): {error}")
                return None
            if model_id != END:
                self._find(f"the map breaks off after the ID of model {model_id} at {address}")
            return None
        return None if model_id == END else (model_id, length)

    async def _add(self, model_id: int, definition: GroupDef, address: int, length: int) -> bool:
        """Lays a model out; False where the map breaks off inside it."""
        offsets = count_points(definition)
        try:
            counts = {
                name: (await self._registers.read(address + offset, 1, f"model {model_id} {name}"))[0]
                for name, offset in offsets.items()
                if offset < HEADER + length
            }
            # Its last register tells whether the device holds all that the length promises.
            await self._registers.read(address + HEADER + length - 1, 1, f"the end of model {model_id}")
        except DeviceRejected as error:
            self._find(f"the map breaks off inside model {model_id} at {address}, length {length}: {error}")
            return False
        counts = {name: count if count != 0xFFFF else 0 for name, count in counts.items()}
        try:
            model = lay_out(model_id, definition, length=length, counts=counts, address=address)
        except LayoutError as error:
            self._find(f"{error}; it is left out")
            return True
        if model.length != model.defined_length and not _is_short_common_model(model):
            self._find(
                f"model {model_id} at {address} says length {length}, its definition with this device's groups "
                f"has {model.defined_length}"
            )
        self.models.append(model)
        return True

    def _find(self, finding: str) -> None:
        self.findings.append(finding)


def _is_short_common_model(model: ModelMap) -> bool:
    """Model 1 may leave its last, padding register out."""
    return model.model_id == 1 and model.length == model.defined_length - 1
