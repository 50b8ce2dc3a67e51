"""A home's registers over Modbus TCP. The only module of `hil` that knows pymodbus' server.

Every request first brings the plant to the present, so a reading is never older than its request, and a setpoint moves
the plant from the instant its write arrives. Nothing here waits: pymodbus answers with the transaction id of the last
request it has seen on a connection, so requests must be finished in the order they came.
"""

import asyncio
import logging
from collections.abc import Callable

from pymodbus.constants import ExcCodes
from pymodbus.datastore import ModbusServerContext
from pymodbus.pdu import ExceptionResponse, ModbusPDU
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from hil.rigs.device_registers import DeviceRegisters, IllegalAddress, IllegalValue
from hil.rigs.sunspec_map import BASE_ADDRESS

_log = logging.getLogger(__name__)
_READ = frozenset({3, 6})  # 6 reads back what it wrote
_WRITE = frozenset({6, 16})


class ListenError(Exception):
    """The device cannot listen; says where and why."""


class HomeServer:
    """One home as a Modbus TCP device."""

    def __init__(
        self,
        registers: DeviceRegisters,
        *,
        unit_id: int,
        host: str,
        port: int,
        to_present: Callable[[], float],
        written: Callable[[], None],
    ) -> None:
        """`to_present` advances the plant and returns its instant [UTC ms]; `written` is told of accepted writes."""
        self.frozen = False  # a frozen device keeps its connections and answers nothing
        self.writes = 0  # write transactions received for registers of its own
        self._registers = registers
        self._unit_id = unit_id
        self._host, self._port = host, port
        self._to_present, self._written = to_present, written
        self._server: ModbusTcpServer | None = None

    @property
    def port(self) -> int:
        """The port it listens on, also where 0 was asked for."""
        listener = self._server.transport if self._server else None
        if not isinstance(listener, asyncio.Server):
            raise ListenError(f"{self._host}:{self._port} is not listening")
        return int(listener.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listens. Raises ListenError."""
        values = SimData(BASE_ADDRESS, values=self._registers.map.registers, datatype=DataType.REGISTERS)
        device = SimDevice(id=self._unit_id, simdata=[values], action=self._action)
        self._server = ModbusTcpServer(device, address=(self._host, self._port), trace_pdu=self._route)
        try:
            await self._server.serve_forever(background=True)
        except RuntimeError as error:
            self._server = None
            raise ListenError(
                f"cannot listen on {self._host}:{self._port}: the port is in use, or not this machine's address"
            ) from error

    async def stop(self) -> None:
        """Closes the listener and every connection."""
        if self._server is not None:
            await self._server.shutdown()  # type: ignore[no-untyped-call]
            self._server = None

    async def _action(
        self,
        function: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        written: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        if function not in (_READ if written is None else _WRITE):
            return ExcCodes.ILLEGAL_FUNCTION
        now_ms = self._to_present()
        if written is not None:
            self.writes += 1
            try:
                self._registers.write(address, [int(word) for word in written], now_ms)
            except IllegalAddress:
                return ExcCodes.ILLEGAL_ADDRESS
            except IllegalValue as refusal:
                _log.debug("write refused: address=%d %s", address, refusal)
                return ExcCodes.ILLEGAL_VALUE
            self._written()
            return None
        index = address - start
        self._registers.refresh(index, count)
        registers[index : index + count] = self._registers.map.registers[index : index + count]
        return None

    def _route(self, sending: bool, pdu: ModbusPDU) -> ModbusPDU:
        if sending:
            return pdu
        if self.frozen:
            return _Unheard()
        return pdu if pdu.dev_id == self._unit_id else _AbsentUnit(pdu)


class _Unheard(ModbusPDU):
    """A request that pymodbus takes for none: it is dropped without an answer."""

    def __bool__(self) -> bool:
        return False


class _AbsentUnit(ModbusPDU):
    """A request to a unit id nobody has. pymodbus would look it up and answer exception 4; a gateway answers 0x0B."""

    def __init__(self, request: ModbusPDU) -> None:
        super().__init__(dev_id=request.dev_id, transaction_id=request.transaction_id)
        self.function_code = request.function_code

    async def datastore_update(self, context: ModbusServerContext, device_id: int) -> ModbusPDU:
        return ExceptionResponse(self.function_code, ExcCodes.GATEWAY_NO_RESPONSE)
