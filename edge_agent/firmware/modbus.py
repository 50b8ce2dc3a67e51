"""A Modbus RTU server: function codes 3, 4, 6 and 16, broadcast, exceptions, frames told apart by silence.

Nothing is written unless unit, length and CRC of a frame are right and every register of the write takes its value.
A frame that is damaged, cut off or two at once is dropped at the next silence, and the following one is understood.
"""

import time

import micropython

ILLEGAL_FUNCTION = 1
ILLEGAL_ADDRESS = 2
ILLEGAL_VALUE = 3
MOST_READ = 125
MOST_WRITTEN = 123


@micropython.viper
def crc16(frame, count: int) -> int:
    """Modbus' CRC of the first `count` bytes; it is sent low byte first."""
    frame_ = ptr8(frame)
    crc = 0xFFFF
    for i in range(count):
        crc = crc ^ int(frame_[i])
        for _ in range(8):
            if crc & 1:
                crc = (crc >> 1) ^ 0xA001
            else:
                crc = crc >> 1
    return crc


def gap_us(baud):
    """Silence that ends a frame: 3.5 characters of 11 bits, and from 19200 baud up the standard's 1750 us."""
    return 38_500_000 // baud if baud <= 19200 else 1750


class Server:
    """`poll` it as often as possible; it answers through `uart` out of `bank`.

    `bank` has `base` (address of the first register), `words` (array of 16-bit registers), `refresh()` (called before
    registers are read), `writable(address)` and `check(address, value)` for one register, `write(address, value)`, and
    `written(address, count)` after all of a request.
    """

    def __init__(self, uart, bank, unit, baud):
        self._uart = uart
        self._bank = bank
        self._unit = unit
        self._gap_us = gap_us(baud)
        # How long a frame that is not complete may be waited for. A board's UART tells silence from its own clock; a
        # process may be kept from reading for longer than a frame's gap.
        self._patience_us = self._gap_us + uart.latency_us
        self._chunk = bytearray(32)
        self._frame = bytearray(256)
        self._reply = bytearray(256)
        self._view = memoryview(self._reply)
        self._views = [self._view] * 257  # of a reply's length; made once each
        self._length = 0
        self._last_us = 0
        self._checked = 0  # the length that was found to be no frame
        self.requests = 0  # understood and for this unit
        self.damaged = 0  # dropped

    def poll(self, now_us):
        """Takes what has come; answers when a frame is complete and the line has been silent."""
        count = self._uart.receive(self._chunk)
        if count:
            if self._length and time.ticks_diff(now_us, self._last_us) > self._patience_us:
                self._drop()
            self._last_us = now_us
            for i in range(count):
                if self._length < 256:
                    self._frame[self._length] = self._chunk[i]
                self._length += 1
            return
        if not self._length:
            return
        silent_us = time.ticks_diff(now_us, self._last_us)
        if silent_us < self._gap_us:
            return
        if self._length != self._checked:
            self._checked = self._length
            if 4 <= self._length <= 256 and self._whole():
                length = self._length
                self._length = self._checked = 0
                self._take(length)
                return
        if silent_us >= self._patience_us:
            self._drop()

    def _drop(self):
        self._length = self._checked = 0
        self.damaged += 1

    def _whole(self):
        frame = self._frame
        n = self._length
        return crc16(frame, n - 2) == frame[n - 2] | frame[n - 1] << 8

    def _take(self, n):
        frame = self._frame
        unit = frame[0]
        if unit != self._unit and unit != 0:
            return
        self.requests += 1
        function = frame[1]
        address = frame[2] << 8 | frame[3]
        value = frame[4] << 8 | frame[5]
        if function == 3 or function == 4:
            length = self._read(n, address, value)
        elif function == 6:
            length = self._write_one(n, address, value)
        elif function == 16:
            length = self._write_many(n, address, value)
        else:
            length = -ILLEGAL_FUNCTION
        if unit == 0:
            return
        reply = self._reply
        reply[0] = unit
        if length < 0:
            reply[1] = function | 0x80
            reply[2] = -length
            length = 3
        else:
            reply[1] = function
        crc = crc16(reply, length)
        reply[length] = crc & 0xFF
        reply[length + 1] = crc >> 8
        length += 2
        if self._views[length] is self._view:
            self._views[length] = self._view[:length]
        self._uart.send(self._views[length])

    def _read(self, n, address, count):
        bank = self._bank
        if n != 8 or not 1 <= count <= MOST_READ:
            return -ILLEGAL_VALUE
        first = address - bank.base
        if first < 0 or first + count > len(bank.words):
            return -ILLEGAL_ADDRESS
        if self._frame[0] == 0:
            return 0
        bank.refresh()
        reply = self._reply
        reply[2] = 2 * count
        for i in range(count):
            word = bank.words[first + i]
            reply[3 + 2 * i] = word >> 8
            reply[4 + 2 * i] = word & 0xFF
        return 3 + 2 * count

    def _write_one(self, n, address, value):
        if n != 8:
            return -ILLEGAL_VALUE
        refused = self._refused(address, value)
        if refused:
            return -refused
        self._bank.write(address, value)
        self._bank.written(address, 1)
        return self._echo()

    def _write_many(self, n, address, count):
        frame = self._frame
        if n < 11 or not 1 <= count <= MOST_WRITTEN or frame[6] != 2 * count or n != 9 + 2 * count:
            return -ILLEGAL_VALUE
        for i in range(count):
            refused = self._refused(address + i, frame[7 + 2 * i] << 8 | frame[8 + 2 * i])
            if refused:
                return -refused
        for i in range(count):
            self._bank.write(address + i, frame[7 + 2 * i] << 8 | frame[8 + 2 * i])
        self._bank.written(address, count)
        return self._echo()

    def _refused(self, address, value):
        if not self._bank.writable(address):
            return ILLEGAL_ADDRESS
        return 0 if self._bank.check(address, value) else ILLEGAL_VALUE

    def _echo(self):
        for i in range(2, 6):
            self._reply[i] = self._frame[i]
        return 6
