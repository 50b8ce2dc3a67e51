"""A simulated home behind Modbus RTU: its registers as what a paced serial line asks."""

import struct

from hil.rigs.device_registers import IllegalAddress, IllegalValue
from hil.rigs.home import HomeRig
from hil.rigs.rtu_proxy import Serve
from hil.rigs.sunspec_map import BASE_ADDRESS

_READ, _WRITE = 3, 16
_ILLEGAL_FUNCTION, _ILLEGAL_ADDRESS, _ILLEGAL_VALUE = 1, 2, 3


def on_home(rig: HomeRig) -> Serve:
    """Answers functions 3 and 16 as the home would over TCP, and other units' requests not at all."""

    def serve(request: bytes) -> bytes | None:
        unit, function, address, count = struct.unpack(">BBHH", request[:6])
        index, registers = address - BASE_ADDRESS, rig.registers
        if unit != rig.unit_id:
            return None

        def refused(code: int) -> bytes:
            return bytes((unit, function | 0x80, code))

        if function not in (_READ, _WRITE):
            return refused(_ILLEGAL_FUNCTION)
        if index < 0 or index + count > len(registers.map.registers):
            return refused(_ILLEGAL_ADDRESS)
        now_ms = rig.to_present()
        if function == _WRITE:
            try:
                registers.write(address, struct.unpack(f">{count}H", request[7:]), now_ms)
            except IllegalAddress:
                return refused(_ILLEGAL_ADDRESS)
            except IllegalValue:
                return refused(_ILLEGAL_VALUE)
            rig.recorder.sample()
            return request[:6]
        registers.refresh(index, count)
        return request[:2] + struct.pack(f">B{count}H", 2 * count, *registers.map.registers[index : index + count])

    return serve
