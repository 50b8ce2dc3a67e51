"""Modbus RTU: one serial line, one owner task, as many units as hang on it.

RTU has no transaction id: whatever arrives after a request is all there is to tell whose answer it is. So only the
owner task speaks, one request at a time; an answer counts only with the unit, the function, the length (for a write
also the address and the value) of the request and a good CRC; and after a request that was not answered nobody speaks
until its answer has come after all, or the device's longest reply time has passed.
"""

import asyncio
import contextlib
import logging
import os
import termios

import serial

from edge_agent.drivers.rtu_frames import Request, character_s, gap_s, reading, writing
from edge_agent.drivers.transaction import ModbusRejected, Pacing, Table, Write, WriteAllowance
from edge_agent.model.config import SerialSettings
from edge_agent.model.devices import DeviceFault, DeviceTimeout

_log = logging.getLogger(__name__)

_PARITY = {"none": serial.PARITY_NONE, "even": serial.PARITY_EVEN, "odd": serial.PARITY_ODD}
# What setting up a port can raise: no such port or none of ours, a baudrate it cannot, a line that has gone.
PORT_ERRORS = (OSError, ValueError, termios.error)
_SILENT_BEFORE_REST = 3  # time-outs in a row after which a unit is left alone for a while: the others want the line
_REST_S = 2.0
_REOPEN_FIRST_S = 0.1
_REOPEN_LAST_S = 5.0


class SerialLine:
    """One serial port and the only task that speaks on it."""

    def __init__(self, path: str, settings: SerialSettings) -> None:
        self.path = path
        self.settings = settings
        self._character_s = character_s(settings.baudrate, settings.parity, settings.stop_bits)
        self._gap_s = gap_s(settings.baudrate, self._character_s)
        self._port: serial.Serial | None = None
        self._heard = bytearray()
        self._something = asyncio.Event()  # was heard, or the port has gone
        self._waiting: list[Request] = []
        self._asked = asyncio.Event()
        self._busy_until_s = 0.0  # the last character on the line ends
        self._may_speak_s: dict[int, float] = {}  # unit -> after its pause
        self._echoes = False
        self._reopen_s, self._reopen_delay_s = 0.0, _REOPEN_FIRST_S
        self._owner: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Opens the port and starts the owner. Raises one of PORT_ERRORS where the port cannot be used."""
        if self._port is None:
            self._open_port()
        if self._owner is None:
            self._owner = asyncio.get_running_loop().create_task(self._own(), name=f"own {self.path}")

    async def ask(self, request: Request) -> bytes:
        """The answer without its CRC. Raises DeviceTimeout."""
        self._waiting.append(request)
        self._asked.set()
        return await request.answer

    async def close(self) -> None:
        if self._owner is not None:
            self._owner.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._owner
            self._owner = None
        self._close_port()
        self._refuse_waiting("closed")

    # ---- the owner

    async def _own(self) -> None:
        while True:
            request = self._next()
            if request is not None:
                try:
                    await self._serve(request)
                finally:  # also when the line is closed meanwhile: nobody waits for an answer that cannot come
                    self._fail(request, "closed")
                continue
            self._asked.clear()
            now_s = self._now_s()
            due_s = min((self._may_speak_s.get(r.unit_id, now_s) for r in self._waiting), default=None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if due_s is None else max(0.0, due_s - now_s)):
                    await self._asked.wait()

    def _next(self) -> Request | None:
        """The first of those whose unit has had its pause."""
        self._waiting = [request for request in self._waiting if not request.answer.done()]
        now_s = self._now_s()
        for index, request in enumerate(self._waiting):
            if self._may_speak_s.get(request.unit_id, now_s) <= now_s:
                return self._waiting.pop(index)
        return None

    async def _serve(self, request: Request) -> None:
        if self._port is None and not self._reopened():
            self._fail(request, f"{self.path} is not there")
            return
        await self._silence()
        try:
            self._send(request.frame)
        except OSError as error:
            self._lose()
            self._fail(request, f"{self.path} cannot be written to ({error})")
            return
        answer_time_s = request.answer_size * self._character_s
        sent_s = self._busy_until_s
        answer = await self._hear(request, sent_s + request.timeout_s + answer_time_s)
        if answer is not None:
            if not request.writes:
                self._echoes = self._heard.startswith(request.frame)
            if not request.answer.done():
                request.answer.set_result(answer)
        elif self._port is None:
            self._fail(request, f"{self.path} has gone")
        else:
            noise = f", only {len(self._heard)} bytes that are none" if self._heard else ""
            self._fail(request, f"no answer on {self.path}{noise}")
            await self._hear(request, sent_s + request.pacing.latest_reply_s + answer_time_s)
        self._may_speak_s[request.unit_id] = self._now_s() + request.pacing.after(write=request.writes)

    async def _silence(self) -> None:
        """Waits until nothing has been on the line for as long as frames are apart, and forgets what was heard."""
        while (wait_s := self._busy_until_s + self._gap_s - self._now_s()) > 0:
            self._something.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._something.wait()
            if self._port is None:
                break
        self._heard.clear()

    def _send(self, frame: bytes) -> None:
        if self._port is None or os.write(self._port.fileno(), frame) != len(frame):
            raise OSError("the port takes no more bytes")
        self._busy_until_s = self._now_s() + len(frame) * self._character_s

    async def _hear(self, request: Request, until_s: float) -> bytes | None:
        """The answer, if it comes in time and the port stays."""
        while self._port is not None:
            answer = request.find(bytes(self._heard), echoed=self._echoes)
            if answer is not None:
                return answer
            self._something.clear()
            try:
                async with asyncio.timeout(max(0.0, until_s - self._now_s())):
                    await self._something.wait()
            except TimeoutError:
                return None
        return None

    @staticmethod
    def _fail(request: Request, why: str) -> None:
        if not request.answer.done():
            request.answer.set_exception(DeviceTimeout(why))

    def _refuse_waiting(self, why: str) -> None:
        for request in self._waiting:
            self._fail(request, why)
        self._waiting.clear()

    # ---- the port

    def _open_port(self) -> None:
        settings = self.settings
        self._port = serial.Serial(
            self.path,
            settings.baudrate,
            parity=_PARITY[settings.parity],
            stopbits=settings.stop_bits,
            timeout=0,
            exclusive=True,
        )
        os.set_blocking(self._port.fileno(), False)
        asyncio.get_running_loop().add_reader(self._port.fileno(), self._readable)

    def _close_port(self) -> None:
        if self._port is not None:
            asyncio.get_running_loop().remove_reader(self._port.fileno())
            with contextlib.suppress(OSError):
                self._port.close()
            self._port = None

    def _readable(self) -> None:
        if self._port is None:
            return
        try:
            data = os.read(self._port.fileno(), 4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._heard += data
            self._busy_until_s = max(self._busy_until_s, self._now_s())
        else:
            self._lose()
        self._something.set()

    def _lose(self) -> None:
        self._close_port()
        self._reopen_s = self._now_s() + self._reopen_delay_s

    def _reopened(self) -> bool:
        if self._now_s() < self._reopen_s:
            return False
        try:
            self._open_port()
        except PORT_ERRORS:
            self._reopen_delay_s = min(2 * self._reopen_delay_s, _REOPEN_LAST_S)
            self._reopen_s = self._now_s() + self._reopen_delay_s
            return False
        self._reopen_delay_s = _REOPEN_FIRST_S
        return True

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()


class SerialLines:
    """The serial lines in use: devices of one port share it."""

    def __init__(self) -> None:
        self._lines: dict[str, tuple[SerialLine, int]] = {}  # real path -> line, and how many use it

    def take(self, name: str, path: str, settings: SerialSettings) -> SerialLine:
        """The line of a port; `give_back` it. Raises DeviceFault where another device uses it with other settings."""
        real = os.path.realpath(path)
        line, users = self._lines.get(real) or (SerialLine(path, settings), 0)
        if line.settings != settings:
            raise DeviceFault(
                f"device {name}: {path} is in use with {line.settings}, and this device asks for {settings}; all "
                "devices of one serial line need the same baudrate, parity and stop_bits"
            )
        self._lines[real] = (line, users + 1)
        return line

    async def give_back(self, line: SerialLine) -> None:
        real = next((key for key, (known, _) in self._lines.items() if known is line), None)
        if real is None:
            return
        users = self._lines[real][1] - 1
        if users:
            self._lines[real] = (line, users)
        else:
            del self._lines[real]
            await line.close()


class SerialConnection:
    """Registers of one unit on a serial line. Offers what ModbusConnection offers."""

    def __init__(
        self,
        *,
        name: str,
        lines: SerialLines,
        path: str,
        settings: SerialSettings,
        unit_id: int,
        timeout_s: float,
        writable: WriteAllowance,
        pacing: Pacing,
    ) -> None:
        """timeout_s: from the end of the request to the beginning of the answer; the wire's own time comes on top.

        Raises DeviceFault where another device uses the port with other settings.
        """
        self.unit_id = unit_id
        self._name = name
        self._lines = lines
        self._line = lines.take(name, path, settings)
        self._where = path
        self._timeout_s = timeout_s
        self._writable = writable
        self._pacing = pacing
        self._silent = 0  # time-outs in a row
        self._rests_until_s = float("-inf")
        self._lost = False  # told so, and not yet told that it answers again
        self._closed = False

    async def connect(self) -> None:
        """Raises DeviceTimeout where the port cannot be opened."""
        try:
            self._line.open()
        except PORT_ERRORS as error:
            raise DeviceTimeout(
                f"device {self._name}: cannot open {self._where}: {error}; check serial and baudrate, that the adapter "
                "is plugged in, and that this user may use it (group dialout)"
            ) from error

    async def read(self, address: int, count: int, what: object, table: Table = Table.HOLDING) -> list[int]:
        """`count` registers or bits from `address`. Raises DeviceTimeout, ModbusRejected naming `what`."""
        doing = f"reading {what} at {address}"
        data = (await self._ask(doing, reading(self.unit_id, table, address, count)))[3:]
        if table.bits:
            return [data[index // 8] >> (index % 8) & 1 for index in range(count)]
        return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]

    async def write(self, address: int, registers: list[int], what: object, function: Write = Write.MULTIPLE) -> None:
        """Writes from `address` in one transaction. Raises DeviceTimeout, DeviceRejected naming `what`."""
        doing = f"writing {what} at {address}"
        self._writable.check(f"device {self._name}: {doing}", function, address, len(registers))
        await self._ask(doing, writing(self.unit_id, function, address, registers))

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._lines.give_back(self._line)

    async def _ask(self, doing: str, how: tuple[bytes, int, bytes]) -> bytes:
        now_s = asyncio.get_running_loop().time()
        doing = f"device {self._name}: {doing}"
        if self._closed:
            raise DeviceTimeout(f"device {self._name}: closed")
        if now_s < self._rests_until_s:
            raise DeviceTimeout(f"{doing}: unit {self.unit_id} has been silent and is asked again shortly")
        frame, size, head = how
        request = Request(
            frame=frame, answer_size=size, answer_head=head, timeout_s=self._timeout_s, pacing=self._pacing
        )
        try:
            answer = await self._line.ask(request)
        except DeviceTimeout as error:
            self._note_silence()
            raise DeviceTimeout(f"{doing}: unit {self.unit_id}, within {self._timeout_s} s: {error}") from error
        self._note_answer()
        if answer[1] & 0x80:
            raise ModbusRejected(doing, answer[2])
        return answer

    def _note_silence(self) -> None:
        self._silent += 1
        if self._silent < _SILENT_BEFORE_REST:
            return
        self._rests_until_s = asyncio.get_running_loop().time() + _REST_S
        if not self._lost:
            self._lost = True
            _log.warning("device lost: device=%s at=%s unit=%d", self._name, self._where, self.unit_id)

    def _note_answer(self) -> None:
        self._silent = 0
        if self._lost:
            self._lost = False
            _log.info("device answers again: device=%s at=%s unit=%d", self._name, self._where, self.unit_id)
