"""The board: the only file that knows one. RP2040 and RP2350, ESP32 (S3, C3), and the unix VM as a simulated board.

A Board has an `adc`, a `uart`, a relay, a temperature sensor, a watchdog and random numbers.
Wiring of the boards is in README.md. The unix VM's board is described by `board.json` in its folder: "uart" (path of a
pty), "adc" ("tcp:PORT" of 127.0.0.1, or "file:PATH", played at its own rate; 16-bit samples), and optionally "relay",
"temperature" and "watchdog" (paths of files) and "restart_code".
"""

import os
import sys
import time

import micropython

RP2 = sys.platform == "rp2"
ESP32 = sys.platform == "esp32"
UNIX = sys.platform == "linux"

WATCHDOG_MS = 2000


@micropython.viper
def widen(source, begin: int, wrap: int, target, at: int, count: int, shift: int):
    """Copies `count` little-endian samples from `begin` of a ring of `wrap` samples, as 16-bit ones."""
    source_ = ptr8(source)
    target_ = ptr16(target)
    for i in range(count):
        j = begin + i
        if j >= wrap:
            j = j - wrap
        target_[at + i] = (int(source_[j + j]) | (int(source_[j + j + 1]) << 8)) << shift


if RP2:
    import machine
    import rp2
    import uctypes

    class _Adc:
        """The converter free-runs from its own 48 MHz clock; DMA carries its results into a ring by itself."""

        RING = 512  # samples; 1024 bytes, which the DMA wraps at

        def __init__(self, rate_hz):
            wide = machine.ADC(26)  # sets the pin up
            wide.read_u16()
            rp2350 = "RP2350" in str(sys.implementation)
            base = 0x400A0000 if rp2350 else 0x4004C000
            memory = bytearray(4 * self.RING)
            first = -uctypes.addressof(memory) % (2 * self.RING)
            self._ring = memoryview(memory)[first : first + 2 * self.RING]
            machine.mem32[base + 0x10] = (48_000_000 // rate_hz - 1) << 8
            machine.mem32[base + 0x08] = 1 << 24 | 1 << 3 | 1  # request DMA from one sample up
            self._dma = rp2.DMA()
            # A channel prints as DMA(n), and tells its number in no other way; its count stands at 8 of its registers.
            self._left = 0x50000000 + 0x40 * int(str(self._dma)[4:-1]) + 8
            self._control = self._dma.pack_ctrl(
                size=1, inc_read=False, inc_write=True, ring_sel=True, ring_size=10, treq_sel=48 if rp2350 else 36
            )
            self._fifo = base + 0x0C
            self._arm()
            machine.mem32[base] = 1 << 3 | 1  # go on for ever, on channel 0 (GP26)

        def _arm(self):
            self._dma.config(read=self._fifo, write=self._ring, count=0x0FFFFE00, ctrl=self._control, trigger=True)
            self._taken = 0

        def poll(self, estimator):
            """1: a hop was put at the estimator's place, 0: not yet, -1: samples were lost."""
            waiting = 0x0FFFFE00 - (machine.mem32[self._left] & 0x0FFFFFFF) - self._taken
            if waiting > self.RING - estimator.hop or self._taken > 0x0FFFF000:
                self._dma.active(0)
                self._arm()
                return -1
            if waiting < estimator.hop:
                return 0
            widen(self._ring, self._taken % self.RING, self.RING, estimator.samples, estimator.at, estimator.hop, 4)
            self._taken += estimator.hop
            return 1

    class _Uart:
        latency_us = 0

        def __init__(self, baud):
            # Pins and driver-enable of the RS-485 transceiver are in README.md.
            self._uart = machine.UART(0, baud, tx=machine.Pin(0), rx=machine.Pin(1), rxbuf=512, timeout=0)
            self._enable = machine.Pin(2, machine.Pin.OUT, value=0)

        def receive(self, buffer):
            return (self._uart.readinto(buffer) or 0) if self._uart.any() else 0

        def send(self, data):
            self._enable.value(1)
            self._uart.write(data)
            self._uart.flush()
            self._enable.value(0)

    class Board:
        def __init__(self, folder, rate_hz, baud):
            self.adc = _Adc(rate_hz)
            self.uart = _Uart(baud)
            self._relay = machine.Pin(3, machine.Pin.OUT, value=0)
            self._watchdog = machine.WDT(timeout=WATCHDOG_MS)

        def relay(self, on):
            self._relay.value(1 if on else 0)

        def temperature_dc(self):
            return None

        def feed(self):
            self._watchdog.feed()

        def rest(self, milliseconds):
            machine.idle()

        def restart(self):
            machine.reset()

        def seed(self):
            return int.from_bytes(os.urandom(3), "little")


if ESP32:
    import array

    import machine

    class _Adc:
        """A hardware timer takes a sample; what the port's scheduler cannot keep up with counts as lost."""

        RING = 1024

        def __init__(self, rate_hz):
            self._ring = array.array("H", [0] * self.RING)
            self._adc = machine.ADC(machine.Pin(1), atten=machine.ADC.ATTN_11DB)
            self._written = 0
            self._taken = 0
            self._period_us = 1_000_000 // rate_hz
            self._last_us = time.ticks_us()
            self._late = False
            self._timer = machine.Timer(0)
            self._timer.init(freq=rate_hz, mode=machine.Timer.PERIODIC, callback=self._sample)

        def _sample(self, _):
            now_us = time.ticks_us()
            if time.ticks_diff(now_us, self._last_us) > 2 * self._period_us:
                self._late = True
            self._last_us = now_us
            self._ring[self._written % self.RING] = self._adc.read_u16()
            self._written = self._written + 1 & 0xFFFFFF

        def poll(self, estimator):
            """1: a hop was put at the estimator's place, 0: not yet, -1: samples were lost."""
            waiting = self._written - self._taken & 0xFFFFFF
            if self._late or waiting > self.RING - estimator.hop:
                self._late = False
                self._taken = self._written
                return -1
            if waiting < estimator.hop:
                return 0
            widen(self._ring, self._taken % self.RING, self.RING, estimator.samples, estimator.at, estimator.hop, 0)
            self._taken = self._taken + estimator.hop & 0xFFFFFF
            return 1

    class _Uart:
        latency_us = 0

        def __init__(self, baud):
            self._uart = machine.UART(1, baud, tx=17, rx=18, rxbuf=512, timeout=0)
            self._enable = machine.Pin(8, machine.Pin.OUT, value=0)

        def receive(self, buffer):
            return (self._uart.readinto(buffer) or 0) if self._uart.any() else 0

        def send(self, data):
            self._enable.value(1)
            self._uart.write(data)
            self._uart.flush()
            self._enable.value(0)

    class Board:
        def __init__(self, folder, rate_hz, baud):
            self.adc = _Adc(rate_hz)
            self.uart = _Uart(baud)
            self._relay = machine.Pin(10, machine.Pin.OUT, value=0)
            self._watchdog = machine.WDT(timeout=WATCHDOG_MS)

        def relay(self, on):
            self._relay.value(1 if on else 0)

        def temperature_dc(self):
            return None

        def feed(self):
            self._watchdog.feed()

        def rest(self, milliseconds):
            machine.idle()

        def restart(self):
            machine.reset()

        def seed(self):
            return int.from_bytes(os.urandom(3), "little")


if UNIX:
    import json
    import select
    import socket
    import termios

    class _Adc:
        """Samples from a socket as they come, or from a file at its own rate."""

        def __init__(self, where, rate_hz, poller):
            kind, _, name = where.partition(":")
            self._source = None
            self._file = None
            self._due_us = time.ticks_us()
            if kind == "tcp":
                self._source = socket.socket()
                self._source.connect(socket.getaddrinfo("127.0.0.1", int(name))[0][-1])
                self._source.setblocking(False)
                poller.register(self._source, select.POLLIN)
            else:
                self._file = open(name, "rb")
            self._poller = poller
            self._raw = None
            self._one = bytearray(1)
            self._have = 0

        def poll(self, estimator):
            """1: a hop was put at the estimator's place, 0: not yet, -1: samples were lost."""
            if self._raw is None:
                self._raw = bytearray(2 * estimator.hop)
            if self._file is not None:
                now_us = time.ticks_us()
                if time.ticks_diff(now_us, self._due_us) < 20_000:
                    return 0
                self._due_us = time.ticks_add(self._due_us, 20_000)
                if self._file.readinto(self._raw) != len(self._raw):
                    return 0
            elif self._source is None or not self._receive():
                return 0
            widen(self._raw, 0, estimator.hop, estimator.samples, estimator.at, estimator.hop, 0)
            return 1

        def _receive(self):
            if self._have == 0:
                count = self._source.readinto(self._raw)
                if count == 0:  # unplugged
                    self._poller.unregister(self._source)
                    self._source.close()
                    self._source = None
                    return False
                self._have = count or 0
            else:
                while self._have < len(self._raw) and self._source.readinto(self._one):
                    self._raw[self._have] = self._one[0]
                    self._have += 1
            if self._have < len(self._raw):
                return False
            self._have = 0
            return True

    class _Uart:
        latency_us = 8000  # for which this process may be kept from reading

        def __init__(self, path, poller):
            self._file = open(path, "r+b")
            termios.setraw(self._file.fileno())
            self._one = bytearray(1)
            self._ready = select.poll()
            self._ready.register(self._file, select.POLLIN)
            poller.register(self._file, select.POLLIN)

        def receive(self, buffer):
            count = 0
            while count < len(buffer) and self._waiting() and self._file.readinto(self._one):
                buffer[count] = self._one[0]
                count += 1
            return count

        def _waiting(self):
            for _, event in self._ready.ipoll(0):
                return event & select.POLLIN
            return 0

        def send(self, data):
            self._file.write(data)

    class Board:
        def __init__(self, folder, rate_hz, baud):
            with open(folder + "/board.json") as file:
                wiring = json.load(file)
            self._poller = select.poll()
            self.adc = _Adc(wiring["adc"], rate_hz, self._poller)
            self.uart = _Uart(wiring["uart"], self._poller)
            self._relay = open(wiring["relay"], "wb") if "relay" in wiring else None
            self._thermometer = open(wiring["temperature"], "rb") if "temperature" in wiring else None
            self._watchdog = open(wiring["watchdog"], "wb") if "watchdog" in wiring else None
            self._text = bytearray(8)
            self._fed_ms = time.ticks_ms()
            self._restart_code = wiring.get("restart_code", 75)

        def relay(self, on):
            if self._relay is not None:
                self._relay.seek(0)
                self._relay.write(b"1" if on else b"0")
                self._relay.flush()

        def temperature_dc(self):
            """Tenths of a degree as text in the file; None without one."""
            if self._thermometer is None:
                return None
            self._thermometer.seek(0)
            count = self._thermometer.readinto(self._text)
            value = 0
            digits = 0
            for i in range(count):
                if 48 <= self._text[i] <= 57:
                    value = value * 10 + self._text[i] - 48
                    digits += 1
            if not digits:
                return None
            return -value if self._text[0] == 45 else value

        def feed(self):
            """A watchdog that was starved bites at the next feeding: later than a real one, but it bites."""
            now_ms = time.ticks_ms()
            if time.ticks_diff(now_ms, self._fed_ms) > WATCHDOG_MS:
                self.restart()
            self._fed_ms = now_ms
            if self._watchdog is not None:
                self._watchdog.seek(0)
                self._watchdog.write(b"fed")
                self._watchdog.flush()

        def rest(self, milliseconds):
            """Until something has come, or so long."""
            for _ in self._poller.ipoll(milliseconds):
                return

        def restart(self):
            sys.exit(self._restart_code)

        def seed(self):
            return int.from_bytes(os.urandom(3), "little")
