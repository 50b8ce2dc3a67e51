"""One Modbus TCP connection. The only module that meets pymodbus, whose interface changes between minor versions."""

import asyncio
import contextlib
import logging
import struct
from collections.abc import AsyncIterator, Iterator

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusException, ModbusIOException
from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.register_message import ReadHoldingRegistersResponse

from edge_agent.drivers.transaction import ModbusRejected, Pacing, Table, Write, WriteAllowance
from edge_agent.model.devices import DeviceRejected, DeviceTimeout

_log = logging.getLogger(__name__)

# A device that stays silent this often in a row gets a fresh connection: its socket may be half dead.
_TIMEOUTS_BEFORE_RECONNECT = 3
_RECONNECT_FIRST_S = 0.1
_RECONNECT_LAST_S = 5.0


class _Registers(ReadHoldingRegistersResponse):
    """The reply that a control cycle waits for: unpacked at once, where pymodbus goes register by register and then
    writes them all into a log line that nobody reads."""

    def decode(self, data: bytes) -> None:
        if (length := data[0]) >= len(data):
            raise ModbusIOException(f"byte_count {length} > length of packet {len(data)}", self.function_code)
        self.registers = list(struct.unpack_from(f">{length // 2}H", data, 1))

    def __str__(self) -> str:
        return f"{len(self.registers)} registers"


class ModbusConnection:
    """Registers of one unit behind one TCP connection.

    One transaction at a time. A lost connection is made anew in the background; until it stands every call fails at
    once, so that a dead device does not hold up a control cycle for longer than one time-out.
    """

    def __init__(
        self,
        *,
        name: str,
        host: str,
        port: int,
        unit_id: int,
        timeout_s: float,
        writable: WriteAllowance,
        pacing: Pacing = Pacing(),  # noqa: B008  (frozen)
    ) -> None:
        self._name = name
        self._where = f"{host}:{port}"
        self.unit_id = unit_id
        self._timeout_s = timeout_s
        self._writable = writable
        self._pacing = pacing
        self._free_s = float("-inf")  # when the device may be asked again
        # pymodbus logs each late reply with a dump of its last frames; what matters is raised.
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
        self._host, self._port = host, port
        self._client = self._new_client()
        self._lock = asyncio.Lock()
        self._silent = 0  # time-outs in a row
        self._lost = False  # told so, and not yet told that it answers again
        self._reconnecting: asyncio.Task[None] | None = None
        self._closed = False

    async def connect(self) -> None:
        """Raises DeviceTimeout where nobody listens."""
        if not await self._dial():
            raise DeviceTimeout(
                f"device {self._name}: cannot connect to {self._where} within {self._timeout_s} s; "
                "check host and port, and that Modbus TCP is enabled on the device"
            )

    async def read(self, address: int, count: int, what: object, table: Table = Table.HOLDING) -> list[int]:
        """`count` registers or bits from `address`. Raises DeviceTimeout, ModbusRejected naming `what`."""
        doing = f"reading {what} at {address}"
        async with self._turn(doing):
            match table:
                case Table.HOLDING:
                    reply = await self._client.read_holding_registers(address, count=count, device_id=self.unit_id)
                case Table.INPUT:
                    reply = await self._client.read_input_registers(address, count=count, device_id=self.unit_id)
                case Table.COIL:
                    reply = await self._client.read_coils(address, count=count, device_id=self.unit_id)
                case Table.DISCRETE:
                    reply = await self._client.read_discrete_inputs(address, count=count, device_id=self.unit_id)
        self._check(reply, doing)
        if table.bits:
            return [int(bit) for bit in reply.bits[:count]]
        if len(reply.registers) != count:
            raise DeviceRejected(
                f"device {self._name}: {doing}: {count} registers asked, {len(reply.registers)} answered"
            )
        return list(reply.registers)

    async def write(self, address: int, registers: list[int], what: object, function: Write = Write.MULTIPLE) -> None:
        """Writes from `address` in one transaction. Raises DeviceTimeout, DeviceRejected naming `what`."""
        doing = f"writing {what} at {address}"
        self._writable.check(f"device {self._name}: {doing}", function, address, len(registers))
        async with self._turn(doing, write=True):
            match function:
                case Write.MULTIPLE:
                    reply = await self._client.write_registers(address, registers, device_id=self.unit_id)
                case Write.SINGLE:
                    reply = await self._client.write_register(address, registers[0], device_id=self.unit_id)
                case Write.COIL:
                    reply = await self._client.write_coil(address, bool(registers[0]), device_id=self.unit_id)
        self._check(reply, doing)

    async def close(self) -> None:
        self._closed = True
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reconnecting
        self._drop()

    def _new_client(self) -> AsyncModbusTcpClient:
        # pymodbus' own retries and reconnection would hold up or hide what the control loop must know at once.
        client = AsyncModbusTcpClient(
            self._host,
            port=self._port,
            timeout=self._timeout_s,
            retries=0,
            reconnect_delay=0,
            trace_connect=self._connection_changed,
        )
        client.register(_Registers)
        return client

    def _connection_changed(self, connected: bool) -> None:
        # pymodbus would wait out the time-out of a request whose connection has gone.
        answer = self._client.ctx.response_future
        if not connected and self._lock.locked() and not answer.done():
            answer.set_exception(ConnectionException("connection lost"))

    def _drop(self) -> None:
        # Aborted, not closed: a peer that takes no bytes any more would keep a closing socket open for minutes.
        if isinstance(self._client.ctx.transport, asyncio.WriteTransport):
            self._client.ctx.transport.abort()
        self._client.close()

    def _require_connection(self) -> None:
        if self._closed:
            raise DeviceTimeout(f"device {self._name}: closed")
        if not self._client.connected:
            self._lose("connection lost")
            raise DeviceTimeout(f"device {self._name}: not connected to {self._where}; connecting anew")

    @contextlib.asynccontextmanager
    async def _turn(self, doing: str, *, write: bool = False) -> AsyncIterator[None]:
        """One transaction: alone on the connection, and not before the device has had its pause."""
        loop = asyncio.get_running_loop()
        async with self._lock:
            if (wait_s := self._free_s - loop.time()) > 0:
                await asyncio.sleep(wait_s)
            self._require_connection()
            try:
                with self._told(doing):
                    yield
            finally:
                self._free_s = loop.time() + self._pacing.after(write=write)

    @contextlib.contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (ModbusException, TimeoutError, OSError) as error:
            self._silent += 1
            if not self._client.connected or self._silent >= _TIMEOUTS_BEFORE_RECONNECT:
                self._lose("no answer")
            raise DeviceTimeout(
                f"device {self._name}: {doing}: no answer from {self._where} unit {self.unit_id} "
                f"within {self._timeout_s} s"
            ) from error
        self._silent = 0
        if self._lost:
            self._lost = False
            _log.info("device answers again: device=%s at=%s", self._name, self._where)

    def _check(self, reply: ModbusPDU, doing: str) -> None:
        if reply.isError():
            raise ModbusRejected(f"device {self._name}: {doing}", reply.exception_code)

    def _lose(self, why: str) -> None:
        if not self._lost:
            self._lost = True
            _log.warning("device lost: device=%s at=%s because=%s", self._name, self._where, why)
        if self._reconnecting is None or self._reconnecting.done():
            self._drop()
            self._reconnecting = asyncio.create_task(self._reconnect(), name=f"reconnect {self._name}")

    async def _reconnect(self) -> None:
        delay_s = _RECONNECT_FIRST_S
        while not await self._dial():
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, _RECONNECT_LAST_S)

    async def _dial(self) -> bool:
        # A new client each time: the old one would take the end of its old socket for the end of the new one.
        self._client = self._new_client()
        try:
            async with asyncio.timeout(self._timeout_s):
                connected = await self._client.connect()
        except (ModbusException, TimeoutError, OSError):
            connected = False
        if connected:
            self._silent = 0
        else:
            self._drop()
        return connected
