"""A simulated home behind Modbus RTU: its registers as what a paced serial line asks."""

import struct

from hil.rigs.home import HomeRig
from hil.rigs.rtu_proxy import Serve
from hil.rigs.sunspec_map import BASE_ADDRESS

_WRITE = 16


def on_home(rig: HomeRig) -> Serve:
    """Answers as the home would; what it has no registers for with exception 2, other units' requests not at all."""

    def serve(request: bytes) -> bytes | None:
        unit, function, address, count = struct.unpack(">BBHH", request[:6])
        index, registers = address - BASE_ADDRESS, rig.registers
        if unit != rig.unit_id:
            return None
        if index < 0 or index + count > len(registers.map.registers):
            return bytes((unit, function | 0x80, 2))
        now_ms = rig.to_present()
        if function == _WRITE:
            registers.write(address, struct.unpack(f">{count}H", request[7:]), now_ms)
            rig.recorder.sample()
            return request[:6]
        registers.refresh(index, count)
        return request[:2] + struct.pack(f">B{count}H", 2 * count, *registers.map.registers[index : index + count])

    return serve
