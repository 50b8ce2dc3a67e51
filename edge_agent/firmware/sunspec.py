"""The SunSpec register map: common model, single-phase float meter (211), 64910 for fast values, 64911 for the relay.

`models/*.json` define the two vendor models in SunSpec's own form. Numbers are written as integers; what is not known
is written as SunSpec's "not implemented". A request is answered between two cycles, so it never sees half an update.
"""

import array
import time

from fixed import muldiv

BASE = 40000
COMMON = 2  # offsets of the models' first registers
METER = 70
FAST = 196
RELAY = 222
COMMON_LENGTH = 66
METER_LENGTH = 124
FAST_LENGTH = 24
RELAY_LENGTH = 12

# Offsets from a model's ID register
METER_A, METER_VOLTAGE, METER_HZ, METER_W = 2, 10, 26, 28
METER_EVENTS = 124
FAST_FLAGS, FAST_SEQUENCE, FAST_AGE, FAST_HZ, FAST_SECOND, FAST_ROCOF, FAST_MILLIVOLT = 3, 4, 5, 6, 8, 10, 12
FAST_RESIDUAL, FAST_NOMINAL, FAST_PPB, FAST_LOST, FAST_BOOTS, FAST_SAFE, FAST_HOP = 14, 15, 16, 18, 19, 20, 21
FAST_CLOCK, FAST_SPAN = 22, 24
RELAY_MODE, RELAY_MANUAL_S, RELAY_ON, RELAY_WHY, RELAY_TEMPERATURE, RELAY_SHARE = 3, 4, 5, 6, 7, 8
RELAY_STATE_S, RELAY_SWITCHED, RELAY_LOCKED_S = 9, 10, 12

WINDOW_MIDDLE_MS = 50  # a frequency is that of the middle of its window


class Bank:
    """The registers. `listener` is told what a gateway writes: `clock(high, low)` its milliseconds in two words,
    `manual(mode, seconds)` a manual override."""

    def __init__(self, model, serial, version, unit, nominal_hz, relay, listener):
        self.base = BASE
        self.words = array.array("H", [0] * ((RELAY + 2 + RELAY_LENGTH if relay else RELAY) + 2))
        self._relay = relay
        self._measured_ms = time.ticks_ms()
        self._listener = listener
        words = self.words
        words[0], words[1] = 0x5375, 0x6E53
        self._head(COMMON, 1, COMMON_LENGTH)
        self._text(COMMON + 2, 16, "Murmuration")
        self._text(COMMON + 18, 16, model)
        self._text(COMMON + 42, 8, version)
        self._text(COMMON + 50, 16, serial)
        words[COMMON + 66] = unit
        words[COMMON + 67] = 0x8000
        self._head(METER, 211, METER_LENGTH)
        for i in range(METER + 2, METER + METER_EVENTS, 2):
            self._no_float(i)
        self._head(FAST, 64910, FAST_LENGTH)
        words[FAST + 2] = 1
        words[FAST + FAST_NOMINAL] = nominal_hz
        words[FAST + FAST_HOP] = 20
        words[FAST + 25] = 0x8000
        if relay:
            self._head(RELAY, 64911, RELAY_LENGTH)
            words[RELAY + 2] = 1
            words[RELAY + RELAY_MANUAL_S] = 3600
            words[RELAY + 13] = 0x8000
        words[len(words) - 2] = 0xFFFF
        self.settle()

    def settle(self):
        """No estimate yet."""
        self._no_float(METER + METER_HZ)
        for offset in (FAST_HZ, FAST_SECOND, FAST_MILLIVOLT):
            self._put(FAST + offset, -1)
        self._unknown(FAST + FAST_ROCOF)
        self.words[FAST + FAST_FLAGS] = 1
        self.words[FAST + FAST_AGE] = 0xFFFF

    def publish(self, estimator, microvolt, middle_age_ms):
        """A new estimate; `microvolt` of one count, `middle_age_ms` what passed since its window's last sample."""
        words = self.words
        self._measured_ms = time.ticks_add(time.ticks_ms(), -WINDOW_MIDDLE_MS - middle_age_ms)
        words[FAST + FAST_FLAGS] = estimator.flags
        words[FAST + FAST_SEQUENCE] = estimator.sequence
        words[FAST + FAST_RESIDUAL] = min(estimator.residual, 65534)
        millivolt = muldiv(estimator.rms, microvolt, 16000)
        self._put(FAST + FAST_MILLIVOLT, millivolt)
        self._float(METER + METER_VOLTAGE, millivolt, 1000)
        self._float(METER + METER_VOLTAGE + 2, millivolt, 1000)
        uhz = estimator.frequency_uhz
        if uhz:
            self._put(FAST + FAST_HZ, uhz)
        else:
            self._put(FAST + FAST_HZ, -1)
        # The meter model has no place for quality: it shows a frequency only while that may be acted upon.
        if estimator.good:
            self._float(METER + METER_HZ, uhz, 1_000_000)
        else:
            self._no_float(METER + METER_HZ)
        self._put(FAST + FAST_SECOND, estimator.second_uhz or -1)
        if estimator.rocof_known:
            self._put(FAST + FAST_ROCOF, estimator.rocof_uhz_s)
        else:
            self._unknown(FAST + FAST_ROCOF)

    def show_health(self, rate_ppb, lost, boots, safe, span_s):
        words = self.words
        self._put(FAST + FAST_PPB, rate_ppb)
        words[FAST + FAST_LOST] = lost & 0xFFFF
        words[FAST + FAST_BOOTS] = boots & 0xFFFF
        words[FAST + FAST_SAFE] = 1 if safe else 0
        words[FAST + FAST_SPAN] = min(span_s, 65534)

    def show_relay(self, law, temperature_dc):
        words = self.words
        words[RELAY + RELAY_MODE] = law.mode
        words[RELAY + RELAY_ON] = 1 if law.on else 0
        words[RELAY + RELAY_WHY] = law.why
        words[RELAY + RELAY_TEMPERATURE] = 0x8000 if temperature_dc is None else temperature_dc & 0xFFFF
        words[RELAY + RELAY_SHARE] = law.share_ppm // 1000 & 0xFFFF
        words[RELAY + RELAY_STATE_S] = min(law.state_ms // 1000, 65534)
        self._put(RELAY + RELAY_SWITCHED, law.switched)
        words[RELAY + RELAY_LOCKED_S] = min(law.locked_ms // 1000, 65534)

    # ---- what the Modbus server asks

    def refresh(self):
        age_ms = time.ticks_diff(time.ticks_ms(), self._measured_ms)
        known = self.words[FAST + FAST_SEQUENCE] or self.words[FAST + FAST_AGE] != 0xFFFF
        if known:
            self.words[FAST + FAST_AGE] = min(age_ms, 65534) if age_ms >= 0 else 65534

    def writable(self, address):
        offset = address - BASE
        if offset == FAST + FAST_CLOCK or offset == FAST + FAST_CLOCK + 1:
            return True
        return self._relay and (offset == RELAY + RELAY_MODE or offset == RELAY + RELAY_MANUAL_S)

    def check(self, address, value):
        offset = address - BASE
        if offset == RELAY + RELAY_MODE:
            return value <= 2
        if offset == RELAY + RELAY_MANUAL_S:
            return 1 <= value <= 65534
        return True

    def write(self, address, value):
        self.words[address - BASE] = value

    def written(self, address, count):
        first = address - BASE
        last = first + count - 1
        words = self.words
        if first <= FAST + FAST_CLOCK + 1 <= last:
            self._listener.clock(words[FAST + FAST_CLOCK], words[FAST + FAST_CLOCK + 1])
        if self._relay and first <= RELAY + RELAY_MODE <= last:
            self._listener.manual(words[RELAY + RELAY_MODE], words[RELAY + RELAY_MANUAL_S])

    # ---- registers

    def _head(self, at, model, length):
        self.words[at] = model
        self.words[at + 1] = length

    def _text(self, at, registers, text):
        raw = text.encode()[: 2 * registers]
        for i in range(len(raw)):
            self.words[at + i // 2] |= raw[i] << (0 if i & 1 else 8)

    def _put(self, at, value):
        self.words[at] = value >> 16 & 0xFFFF
        self.words[at + 1] = value & 0xFFFF

    def _unknown(self, at):
        self.words[at] = 0x8000
        self.words[at + 1] = 0

    def _no_float(self, at):
        self.words[at] = 0x7FC0
        self.words[at + 1] = 0

    def _float(self, at, value, unit):
        """value / unit as IEEE 754 single, for value >= 0; below one unit it is written as zero."""
        if value < unit:
            self._put(at, 0)
            return
        power = 0
        while value >= unit << (power + 1):
            power += 1
        fraction = muldiv(value, 1 << (23 - power), unit) & 0x7FFFFF
        self.words[at] = (127 + power) << 7 | fraction >> 16
        self.words[at + 1] = fraction & 0xFFFF
