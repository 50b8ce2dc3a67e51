"""Reading and writing single points, outside the poller's picture: neighbours in one transaction."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from edge_agent.drivers.sunspec import codec
from edge_agent.drivers.sunspec.codec import Value
from edge_agent.drivers.sunspec.layout import Field
from edge_agent.drivers.sunspec.plan import Image, plan_reads, to_bytes, to_registers


class WritableRegisters(Protocol):
    """Where registers are read from and written to. Both raise DeviceTimeout, DeviceRejected."""

    async def read(self, address: int, count: int, what: object) -> list[int]: ...

    async def write(self, address: int, registers: list[int], what: object) -> None: ...


async def read_points(registers: WritableRegisters, fields: Iterable[Field]) -> dict[Field, Value | None]:
    """Raw values as the device has them now. Raises DeviceTimeout, DeviceRejected."""
    fields = tuple(fields)
    image = Image()
    for block in plan_reads(fields, across_models=False):
        image.store(block, to_bytes(await registers.read(block.address, block.count, block)))
    return {field: image.raw(field) for field in fields}


async def write_points(registers: WritableRegisters, values: Mapping[Field, int]) -> None:
    """Writes raw values in the order given; points that follow each other in the map go in one transaction.

    Raises DeviceTimeout, DeviceRejected naming the points; ValueError where a value does not fit its point.
    """
    run: list[Field] = []
    for field in values:
        if run and field.address != run[-1].end:
            await _write_run(registers, run, values)
            run = []
        run.append(field)
    if run:
        await _write_run(registers, run, values)


async def _write_run(registers: WritableRegisters, run: list[Field], values: Mapping[Field, int]) -> None:
    data = b"".join(codec.encode(field.point.type, field.point.size, values[field]) for field in run)
    await registers.write(run[0].address, to_registers(data), ", ".join(map(str, run)))
