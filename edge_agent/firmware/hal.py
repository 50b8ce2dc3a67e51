"""The board: the only file that knows one. RP2040 and RP2350, ESP32 (S3, C3), and the unix VM as a simulated board.

A Board has an `adc`, a `uart`, a relay, a push-button, a temperature sensor, a watchdog and random numbers; NAME is
what an update's manifest calls it, and `restart` starts it again.
Wiring of the boards is in README.md. The unix VM's board is described by `board.json` in its folder: "uart" (path of a
pty), "adc" ("tcp:PORT" of 127.0.0.1, or "file:PATH", played at its own rate; 16-bit samples), and optionally "relay",
"button", "temperature" and "watchdog" (paths of files).
"""

import os
import sys
import time

import micropython
from thermistor import temperature_dc

RP2 = sys.platform == "rp2"
ESP32 = sys.platform == "esp32"
UNIX = sys.platform == "linux"

WATCHDOG_MS = 2000


@micropython.viper
def widen(source, begin: int, wrap: int, target, at: int, count: int, how: int):
    """Copies `count` little-endian samples from `begin` of a ring of `wrap` samples, as 16-bit ones.

    how: the samples' shift to the left, plus 16 * (the samples from one to the next, less one).
    """
    source_ = ptr8(source)
    target_ = ptr16(target)
    shift = how & 15
    stride = (how >> 4) + 1
    j = begin
    for i in range(count):
        if j >= wrap:
            j = j - wrap
        target_[at + i] = (int(source_[j + j]) | (int(source_[j + j + 1]) << 8)) << shift
        j = j + stride


if RP2 or ESP32:
    import machine

    def restart():
        machine.reset()

    class _Uart:
        """RS-485: the driver is on while the board speaks."""

        latency_us = 0

        def __init__(self, number, baud, tx, rx, enable):
            self._uart = machine.UART(
                number, baud, tx=machine.Pin(tx), rx=machine.Pin(rx), rxbuf=512, txbuf=512, timeout=0
            )
            self._enable = machine.Pin(enable, machine.Pin.OUT, value=0)

        def receive(self, buffer):
            return (self._uart.readinto(buffer) or 0) if self._uart.any() else 0

        def send(self, data):
            self._enable.value(1)
            self._uart.write(data)
            self._uart.flush()
            self._enable.value(0)

    class _OneWire:
        """A DS18B20. A reading is that of the conversion which the last one began: asked once a second, it is done."""

        def __init__(self, pin):
            import ds18x20
            import onewire

            self._bus = ds18x20.DS18X20(onewire.OneWire(machine.Pin(pin)))
            self._address = None

        def temperature_dc(self):
            try:
                if self._address is None:
                    found = self._bus.scan()
                    self._address = found[0] if found else None
                    value = None
                else:
                    value = self._bus.read_temp(self._address)
                if self._address is not None:
                    self._bus.convert_temp()
            except Exception:  # what a bus without an answer raises differs from port to port
                self._address = None
                return None
            # 85 degrees, which a sensor that lost its power shows at first, are hot: the load stays off for that second
            return None if value is None else round(10 * value)

    class _Thermistor:
        def __init__(self, read_u16, settings):
            self._read_u16 = read_u16
            self._settings = settings

        def temperature_dc(self):
            s = self._settings
            return temperature_dc(self._read_u16(), s["series_ohm"], s["r25_ohm"], s["beta_k"])

    class Board:
        def __init__(self, folder, settings):
            sensor = settings["sensor"]
            self.adc = _Adc(settings["rate_hz"], sensor["kind"] == "thermistor")
            self.uart = _Uart(UART, settings["baud"], PIN_TX, PIN_RX, PIN_ENABLE)
            self._relay = machine.Pin(PIN_RELAY, machine.Pin.OUT, value=0)
            self._button = machine.Pin(PIN_BUTTON, machine.Pin.IN, machine.Pin.PULL_UP)
            self._sensor = None
            if sensor["kind"] == "ds18b20":
                self._sensor = _OneWire(PIN_ONE_WIRE)
            elif sensor["kind"] == "thermistor":
                self._sensor = _Thermistor(self.adc.thermistor_u16, sensor)
            self._watchdog = machine.WDT(timeout=WATCHDOG_MS)

        def relay(self, on):
            self._relay.value(1 if on else 0)

        def pressed(self):
            return self._button.value() == 0

        def temperature_dc(self):
            """Tenths of a degree; None without a sensor that answers."""
            return self._sensor.temperature_dc() if self._sensor is not None else None

        def feed(self):
            self._watchdog.feed()

        def rest(self, milliseconds):
            machine.idle()

        def seed(self):
            return int.from_bytes(os.urandom(3), "little")


if RP2:
    import rp2
    import uctypes

    NAME = "rp2350" if "RP2350" in str(sys.implementation) else "rp2040"
    UART, PIN_TX, PIN_RX, PIN_ENABLE, PIN_RELAY, PIN_ONE_WIRE, PIN_BUTTON = 0, 0, 1, 2, 3, 4, 5
    PIN_MAINS, PIN_THERMISTOR = 26, 27

    class _Adc:
        """The converter free-runs from its own 48 MHz clock; DMA carries its results into a ring by itself.

        With a thermistor it takes mains and thermistor in turns, at twice the rate.
        """

        RING = 1024  # samples; 2048 bytes, which the DMA wraps at
        COUNT = 0x0FFFFC00

        def __init__(self, rate_hz, thermistor):
            machine.ADC(PIN_MAINS)  # sets the pin up
            self._inputs = 1
            if thermistor:
                machine.ADC(PIN_THERMISTOR)
                self._inputs = 2
            rp2350 = NAME == "rp2350"
            self._base = base = 0x400A0000 if rp2350 else 0x4004C000
            memory = bytearray(4 * self.RING)
            first = -uctypes.addressof(memory) % (2 * self.RING)
            self._ring = memoryview(memory)[first : first + 2 * self.RING]
            # The divider has 16 bits: below 733 samples a second only each so-and-so-many one is taken.
            period = 48_000_000 // (rate_hz * self._inputs)
            thin = 1 + (period - 1) // 65536
            self._stride = thin * self._inputs
            self._how = 4 | (self._stride - 1) << 4
            machine.mem32[base + 0x10] = (period // thin - 1) << 8
            machine.mem32[base + 0x08] = 1 << 24 | 1 << 3 | 1  # request DMA from one sample up
            self._dma = rp2.DMA()
            # A channel prints as DMA(n), and tells its number in no other way; its count stands at 8 of its registers.
            self._left = 0x50000000 + 0x40 * int(str(self._dma)[4:-1]) + 8
            self._control = self._dma.pack_ctrl(
                size=1, inc_read=False, inc_write=True, ring_sel=True, ring_size=11, treq_sel=48 if rp2350 else 36
            )
            self._fifo = base + 0x0C
            self._arm()

        def _arm(self):
            """From an empty queue and with the mains first, so that each input's samples are known by their places."""
            base = self._base
            machine.mem32[base] = 1
            while not machine.mem32[base] >> 8 & 1:
                pass
            while machine.mem32[base + 0x08] >> 16 & 15:
                machine.mem32[self._fifo]
            self._dma.config(read=self._fifo, write=self._ring, count=self.COUNT, ctrl=self._control, trigger=True)
            self._taken = 0
            machine.mem32[base] = (3 << 16 if self._inputs == 2 else 0) | 1 << 3 | 1

        def poll(self, estimator):
            """1: a hop was put at the estimator's place, 0: not yet, -1: samples were lost."""
            hop = estimator.hop * self._stride
            waiting = self.COUNT - (machine.mem32[self._left] & 0x0FFFFFFF) - self._taken
            if waiting > self.RING - hop or self._taken > 0x0FFFF000:
                self._dma.active(0)
                self._arm()
                return -1
            if waiting < hop:
                return 0
            begin = self._taken % self.RING
            widen(self._ring, begin, self.RING, estimator.samples, estimator.at, estimator.hop, self._how)
            self._taken += hop
            return 1

        def thermistor_u16(self):
            at = 2 * ((self._taken - 1) % self.RING)
            return (self._ring[at] | self._ring[at + 1] << 8) << 4


if ESP32:
    import array

    C3 = "C3" in str(sys.implementation)
    NAME = "esp32-c3" if C3 else "esp32-s3"
    UART = 1
    PIN_TX, PIN_RX, PIN_ENABLE = (6, 7, 5) if C3 else (17, 18, 8)
    PIN_RELAY, PIN_ONE_WIRE, PIN_BUTTON = (10, 4, 3) if C3 else (10, 4, 5)
    PIN_MAINS, PIN_THERMISTOR = (1, 0) if C3 else (1, 2)

    class _Adc:
        """A hardware timer takes a sample; what the port's scheduler cannot keep up with counts as lost."""

        RING = 1024

        def __init__(self, rate_hz, thermistor):
            self._ring = array.array("H", [0] * self.RING)
            self._adc = machine.ADC(machine.Pin(PIN_MAINS), atten=machine.ADC.ATTN_11DB)
            if thermistor:
                self.thermistor_u16 = machine.ADC(machine.Pin(PIN_THERMISTOR), atten=machine.ADC.ATTN_11DB).read_u16
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

    NAME = "unix"
    RESTART_CODE = 75  # of a process that is to be started again

    def restart():
        sys.exit(RESTART_CODE)

    class Board:
        def __init__(self, folder, settings):
            with open(folder + "/board.json") as file:
                wiring = json.load(file)
            self._poller = select.poll()
            self.adc = _Adc(wiring["adc"], settings["rate_hz"], self._poller)
            self.uart = _Uart(wiring["uart"], self._poller)
            self._relay = open(wiring["relay"], "wb") if "relay" in wiring else None
            self._thermometer = open(wiring["temperature"], "rb") if "temperature" in wiring else None
            self._watchdog = open(wiring["watchdog"], "wb") if "watchdog" in wiring else None
            self._text = bytearray(8)
            self._fed_ms = time.ticks_ms()
            self._button = open(wiring["button"], "rb") if "button" in wiring else None

        def relay(self, on):
            if self._relay is not None:
                self._relay.seek(0)
                self._relay.write(b"1" if on else b"0")
                self._relay.flush()

        def pressed(self):
            """Whether the file begins with "1"."""
            if self._button is None:
                return False
            self._button.seek(0)
            return self._button.readinto(self._text) > 0 and self._text[0] == 49

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
                restart()
            self._fed_ms = now_ms
            if self._watchdog is not None:
                self._watchdog.seek(0)
                self._watchdog.write(b"fed")
                self._watchdog.flush()

        def rest(self, milliseconds):
            """Until something has come, or so long."""
            for _ in self._poller.ipoll(milliseconds):
                return

        def seed(self):
            return int.from_bytes(os.urandom(3), "little")
