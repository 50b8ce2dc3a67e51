"""Modbus RTU as it is on the wire: a paced pty before a server, byte for byte.

A pty knows no baud rate: what is written arrives at once. This proxy gives a client a pty on which every character
takes its time (start bit, eight data bits, parity, stop bits), frames are 3.5 characters apart, and the server takes
its time to turn round. It sees what a bus sees, and does to it what buses do: bit errors, lost and late replies, noise,
the echo of a two-wire adapter. A request that comes too early after the last frame, or into another one, is a
violation: it is written down, and nobody hears it.

The server is a function from request to reply (both without CRC), or hangs on the proxy's second pty.
"""

import asyncio
import contextlib
import os
import random
import termios
import tty
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pymodbus.framer.rtu import FramerRTU

from edge_agent.drivers.rtu_frames import character_s, gap_s
from edge_agent.model.config import SerialSettings

Serve = Callable[[bytes], bytes | None]

_PUMP_S: Final = 0.001  # how often characters are handed over; never before they are through the wire
_GAP_TOLERANCE_S: Final = 0.0002  # of a clock read in another place than the client's


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to one exchange."""

    lost_request: bool = False  # the server never hears it
    lost_reply: bool = False
    late_s: float = 0.0  # beyond the turn-round
    noise: bytes = b""  # on the line before the reply
    flipped_bits: tuple[int, ...] = ()  # of the reply, counted from its first bit


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """How often something happens where nothing is planned."""

    bit_error: float = 0.0  # a bit, either way
    lost_reply: float = 0.0  # a reply
    late_reply: float = 0.0  # a reply
    late_s: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One frame as it was on the line; times of the event loop's clock."""

    of_client: bool
    begin_s: float
    end_s: float
    data: bytes


@dataclass(slots=True)
class _Incoming:
    """A request that is still on its way."""

    begin_s: float
    end_s: float
    data: bytearray


@dataclass(slots=True)
class RtuProxy:
    """`async with RtuProxy(...) as proxy`: the client opens `proxy.path`."""

    settings: SerialSettings
    serve: Serve | None = None  # None: the server opens `server_path`
    turn_round_s: float = 0.004
    echo: bool = False
    rates: Rates = field(default_factory=Rates)
    seed: int = 0
    plan: deque[Fault] = field(default_factory=deque)  # of the next exchanges; then the rates apply
    heard: list[Heard] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    path: str = ""
    server_path: str = ""
    _random: random.Random = field(init=False)
    _fds: list[int] = field(default_factory=list)
    _client: int = -1
    _server: int = -1
    _request: _Incoming | None = None
    _line_free_s: float = float("-inf")
    _fault: Fault = field(default_factory=Fault)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def character_s(self) -> float:
        return character_s(self.settings.baudrate, self.settings.parity, self.settings.stop_bits)

    @property
    def gap_s(self) -> float:
        return gap_s(self.settings.baudrate, self.character_s)

    async def __aenter__(self) -> "RtuProxy":
        self._random = random.Random(self.seed)
        self._client, self.path = self._pty(self._from_client)
        if self.serve is None:
            self._server, self.server_path = self._pty(self._from_server)
        return self

    async def __aexit__(self, *_: object) -> None:
        for fd in (self._client, self._server):
            if fd >= 0:
                asyncio.get_running_loop().remove_reader(fd)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for fd in self._fds:
            os.close(fd)

    def _pty(self, arrived: Callable[[bytes], None]) -> tuple[int, str]:
        """Its own end, and where the other one opens."""
        ours, theirs = os.openpty()
        tty.setraw(theirs)
        os.set_blocking(ours, False)
        self._fds += [ours, theirs]  # theirs stays open, so that a client that comes and goes does not end the pty

        def readable() -> None:
            with contextlib.suppress(BlockingIOError):
                if data := os.read(ours, 4096):
                    arrived(data)

        asyncio.get_running_loop().add_reader(ours, readable)
        return ours, os.ttyname(theirs)

    # ---- the client speaks

    def _from_client(self, data: bytes) -> None:
        if self._spoken_otherwise():
            return  # noise, to whoever listens at another speed
        now_s = self._now_s()
        request = self._request
        if request is not None and now_s < request.end_s:  # the rest of a frame that came in two pieces
            request.data += data
            request.end_s += len(data) * self.character_s
            self._line_free_s = request.end_s
            return
        early_s = self._line_free_s + self.gap_s - now_s
        if early_s > _GAP_TOLERANCE_S:
            self.violations.append(f"a request {early_s * 1000:.2f} ms too early: {data.hex(' ')}")
            return
        self._request = _Incoming(now_s, now_s + len(data) * self.character_s, bytearray(data))
        self._line_free_s = self._request.end_s
        self._start(self._carry(self._request))

    def _spoken_otherwise(self) -> bool:
        """Whether the client's port is set to another speed; of parity a pty knows nothing."""
        speeds = {rate: getattr(termios, f"B{rate}") for rate in (9600, 19_200, 38_400, 57_600, 115_200)}
        spoken, mine = termios.tcgetattr(self._client)[4], speeds.get(self.settings.baudrate)
        return mine is not None and spoken in speeds.values() and spoken != mine

    async def _carry(self, request: _Incoming) -> None:
        """Lets a request pass through the wire, and the server hear it once the silence behind it is long enough."""
        if self.echo:
            self._start(self._pump(self._client, bytes(request.data), request.begin_s))
        while (wait_s := request.end_s + self.gap_s - self._now_s()) > 0:  # noqa: ASYNC110  (a frame may still grow)
            await asyncio.sleep(wait_s)
        data = bytes(request.data)
        self._request = None
        self.heard.append(Heard(of_client=True, begin_s=request.begin_s, end_s=request.end_s, data=data))
        self._fault = self._next_fault()
        if self._fault.lost_request:
            return
        data = self._disturbed(data)
        if self.serve is None:
            os.write(self._server, data)
        elif len(data) >= 4 and crc(data[:-2]) == data[-2:] and (reply := self.serve(data[:-2])) is not None:
            await self._reply(reply + crc(reply), self._fault, self._now_s() + self.turn_round_s)

    # ---- the server speaks

    def _from_server(self, data: bytes) -> None:
        self._start(self._reply(data, self._fault, self._now_s() + self.turn_round_s))

    async def _reply(self, data: bytes, fault: Fault, begin_s: float) -> None:
        if fault.lost_reply:
            return
        if (wait_s := begin_s + fault.late_s - self._now_s()) > 0:
            await asyncio.sleep(wait_s)
        flipped = bytearray(self._disturbed(data))
        for bit in fault.flipped_bits:
            flipped[bit // 8] ^= 0x80 >> bit % 8
        spoken = fault.noise + bytes(flipped)
        begin_s = self._now_s()
        self._line_free_s = begin_s + len(spoken) * self.character_s
        self.heard.append(Heard(of_client=False, begin_s=begin_s, end_s=self._line_free_s, data=spoken))
        await self._pump(self._client, spoken, begin_s)

    async def _pump(self, fd: int, data: bytes, begin_s: float) -> None:
        """Hands characters over as they come out of the wire."""
        done = 0
        while done < len(data):
            through = min(len(data), int((self._now_s() - begin_s) / self.character_s))
            if through > done:
                os.write(fd, data[done:through])
                done = through
            else:
                await asyncio.sleep(max(_PUMP_S, begin_s + (done + 1) * self.character_s - self._now_s()))

    # ---- what buses do

    def _next_fault(self) -> Fault:
        if self.plan:
            return self.plan.popleft()
        chance = self._random.random
        late = chance() < self.rates.late_reply
        return Fault(lost_reply=chance() < self.rates.lost_reply, late_s=self.rates.late_s if late else 0.0)

    def _disturbed(self, data: bytes) -> bytes:
        if not self.rates.bit_error:
            return data
        chance = self._random.random
        return bytes(byte ^ sum(1 << bit for bit in range(8) if chance() < self.rates.bit_error) for byte in data)

    def _start(self, what: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.get_running_loop().create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()


def crc(frame: bytes) -> bytes:
    """The CRC of a frame, by pymodbus: the driver under test has its own."""
    return FramerRTU.compute_CRC(frame).to_bytes(2, "big")
