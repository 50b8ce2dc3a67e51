"""The SunSpec register map: common model, single-phase float meter (211), and three models of our own: 64910 for fast
values, 64911 for the relay (on a relay), 64912 for updates.

`models/*.json` define the vendor models in SunSpec's own form. Numbers are written as integers; what is not known
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
UPDATE_LENGTH = 87

# Offsets from a model's ID register
METER_A, METER_VOLTAGE, METER_HZ, METER_W = 2, 10, 26, 28
METER_EVENTS = 124
FAST_FLAGS, FAST_SEQUENCE, FAST_AGE, FAST_HZ, FAST_SECOND, FAST_ROCOF, FAST_MILLIVOLT = 3, 4, 5, 6, 8, 10, 12
FAST_RESIDUAL, FAST_NOMINAL, FAST_PPB, FAST_LOST, FAST_BOOTS, FAST_SAFE, FAST_HOP = 14, 15, 16, 18, 19, 20, 21
FAST_CLOCK, FAST_SPAN = 22, 24
RELAY_MODE, RELAY_MANUAL_S, RELAY_ON, RELAY_WHY, RELAY_TEMPERATURE, RELAY_SHARE = 3, 4, 5, 6, 7, 8
RELAY_STATE_S, RELAY_SWITCHED, RELAY_LOCKED_S = 9, 10, 12
UPDATE_STATE, UPDATE_WHY, UPDATE_COMMAND, UPDATE_SIZE, UPDATE_CRC, UPDATE_HAVE, UPDATE_VERSION = 3, 4, 5, 6, 8, 10, 12
UPDATE_FLOOR, UPDATE_SLOT, UPDATE_TRIAL_S, UPDATE_VERIFY_MS = 15, 18, 19, 20
UPDATE_OFFSET, UPDATE_BYTES, UPDATE_DATA, UPDATE_END = 22, 24, 25, 89

WINDOW_MIDDLE_MS = 50  # a frequency is that of the middle of its window


class Bank:
    """The registers. `listener` is told what a gateway writes: `clock(high, low)` its milliseconds in two words,
    `manual(mode, seconds)` a manual override, `update_begin(size, crc)`, `update_chunk(offset, data)` and
    `update_command(number)` what an update consists of."""

    def __init__(self, model, serial, version, unit, nominal_hz, relay, listener):
        self.base = BASE
        self._update = RELAY + 2 + RELAY_LENGTH if relay else RELAY
        self.words = array.array("H", [0] * (self._update + 2 + UPDATE_LENGTH + 2))
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
        self._head(self._update, 64912, UPDATE_LENGTH)
        words[self._update + 2] = 1
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

    def show_update(self, updater, slots, trial_s, verify_ms):
        """What a gateway that updates the node asks for."""
        words = self.words
        at = self._update
        words[at + UPDATE_STATE] = updater.state
        words[at + UPDATE_WHY] = updater.why
        self._put(at + UPDATE_HAVE, updater.have)
        for i in range(3):
            words[at + UPDATE_VERSION + i] = updater.version[i]
            words[at + UPDATE_FLOOR + i] = slots.floor[i]
        words[at + UPDATE_SLOT] = 0 if not slots.active else ord(slots.active) - 96
        words[at + UPDATE_TRIAL_S] = trial_s
        self._put(at + UPDATE_VERIFY_MS, verify_ms)

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
        at = offset - self._update
        if UPDATE_COMMAND <= at < UPDATE_HAVE or UPDATE_OFFSET <= at < UPDATE_END:
            return True
        return self._relay and (offset == RELAY + RELAY_MODE or offset == RELAY + RELAY_MANUAL_S)

    def check(self, address, value):
        offset = address - BASE
        if offset == RELAY + RELAY_MODE:
            return value <= 2
        if offset == RELAY + RELAY_MANUAL_S:
            return 1 <= value <= 65534
        if offset == self._update + UPDATE_COMMAND:
            return 1 <= value <= 4
        if offset == self._update + UPDATE_BYTES:
            return 1 <= value <= 2 * (UPDATE_END - UPDATE_DATA)
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
        if last >= self._update:
            self._written_update(first - self._update, last - self._update)

    def _written_update(self, first, last):
        """A size is taken with its checksum, a chunk with all that it consists of; less than that moves nothing."""
        words = self.words
        at = self._update
        if first <= UPDATE_SIZE and last >= UPDATE_CRC + 1:
            self._listener.update_begin(self._get(at + UPDATE_SIZE), self._get(at + UPDATE_CRC))
        if first <= UPDATE_OFFSET and last == UPDATE_END - 1:
            data = bytearray(2 * (UPDATE_END - UPDATE_DATA))
            for i in range(len(data)):
                data[i] = words[at + UPDATE_DATA + i // 2] >> (0 if i & 1 else 8) & 0xFF
            self._listener.update_chunk(self._get(at + UPDATE_OFFSET), data[: words[at + UPDATE_BYTES]])
        if first <= UPDATE_COMMAND <= last:
            self._listener.update_command(words[at + UPDATE_COMMAND])

    # ---- registers

    def _head(self, at, model, length):
        self.words[at] = model
        self.words[at + 1] = length

    def _text(self, at, registers, text):
        raw = text.encode()[: 2 * registers]
        for i in range(len(raw)):
            self.words[at + i // 2] |= raw[i] << (0 if i & 1 else 8)

    def _get(self, at):
        return self.words[at] << 16 | self.words[at + 1]

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
