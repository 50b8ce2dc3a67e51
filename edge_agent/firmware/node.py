"""What meter and relay have in common: one loop that takes samples, answers requests and feeds the watchdog.

Nothing in the loop is put on the heap. The watchdog is fed only by a loop that also gets samples or has noticed that it
gets none.
"""

import binascii
import gc
import json
import time

from calibration import Calibration
from estimator import OVERRUN, SETTLING, Estimator
from hal import NAME, Board, restart
from law import AUTOMATIC, MANUAL_OFF, MANUAL_ON
from modbus import Server
from settings import SettingsError, load
from store import Store
from sunspec import Bank
from update import TRIAL_MS, VERIFYING, Updater

VERSION = [0, 1, 0]  # of a factory's firmware; an update's is in its manifest
BOOTS_TO_SAFE = 3  # starts in a row that did not last
HEALTHY_MS = 60_000  # a start that lasts so long was a good one
BLIND_MS = 100  # without samples for so long there is no frequency
SLOW_MS = 1000
PRESSED_HOPS = 3  # a push-button that bounces is none


class Node:
    """A meter; with a law, also a relay."""

    def __init__(self, folder, slots, make_law=None):
        self._boots = Store(folder, "boots")
        raw = self._boots.load()
        self.boots = (raw[0] if raw else 0) + 1
        self.safe = self.boots > BOOTS_TO_SAFE
        self._boots.save(bytes((min(self.boots, 255),)))
        self.settings_store = Store(folder, "settings")
        self.refused = None
        try:
            # Safe mode keeps what it takes to be reached, and nothing that may have brought the node down.
            self.settings = load(self.settings_store.load())
        except SettingsError as error:
            self.refused = str(error)
            self.settings = load(None)
        s = self.settings
        self.board = Board(folder, s)
        self.estimator = Estimator(s["rate_hz"], s["nominal_hz"], s["rate_ppb"])
        counts = 1_414_214 * s["nominal_v"] // s["microvolt_per_count"]  # amplitude at nominal voltage
        self.estimator.low_counts = counts // 2
        self.estimator.dead_counts = max(20, counts // 10)
        self.law = make_law(s, self.board.seed()) if make_law is not None and not self.safe else None
        model = "meter" if make_law is None else "relay"
        version = slots.version or VERSION
        text = ".".join([str(part) for part in version])
        self.bank = Bank(model, s["serial"], text, s["unit"], s["nominal_hz"], self.law is not None, self)
        self.slots = slots
        key = binascii.unhexlify(s["update_key"]) if s["update_key"] else None
        self.updater = Updater(folder, slots, key, NAME, model, version)
        self._work_ms = self._verify_ms = 0
        self.calibration = Calibration(s["rate_ppb"])
        if self.law is not None:
            self.board.relay(self.law.on)
        elif make_law is not None:
            self.board.relay(s["relay"]["rest_on"])
        self.server = Server(self.board.uart, self.bank, s["unit"], s["baud"])
        self.lost = 0
        self._temperature_dc = self.board.temperature_dc()
        self._hop_ms = self._slow_ms = self._start_ms = time.ticks_ms()
        self._proven = False
        self._pressed = 0
        self._saved_ppb = s["rate_ppb"]
        self._show_update()

    def run(self):
        """For ever."""
        gc.collect()
        while True:
            self.turn(1)

    def turn(self, rest_ms):
        """One round: requests, samples, timers; rests while there is nothing to do."""
        self.server.poll(time.ticks_us())
        got = self.board.adc.poll(self.estimator)
        now_ms = time.ticks_ms()
        if got > 0:
            self._hop_ms = now_ms
            self.calibration.hop()
            if self.estimator.advance():
                took_ms = time.ticks_diff(time.ticks_ms(), now_ms)
                self.bank.publish(self.estimator, self.settings["microvolt_per_count"], took_ms)
                if self.estimator.good:
                    self.updater.good_cycle()
            self._act(20)
        elif got < 0:
            self._blind()
        elif time.ticks_diff(now_ms, self._hop_ms) >= BLIND_MS:
            self._hop_ms = now_ms
            self._blind()
            self._act(BLIND_MS)
        elif not self._update(now_ms):
            self.board.rest(rest_ms)
        if time.ticks_diff(now_ms, self._slow_ms) >= SLOW_MS:
            self._slow_ms = now_ms
            self._slowly(now_ms)
        self.board.feed()

    def clock(self, high, low):
        """The gateway says what its clock shows."""
        self.calibration.clock(high, low)

    def manual(self, mode, seconds):
        """The gateway passes a person's word on."""
        if self.law is not None:
            self.law.manual(mode, seconds)

    def update_begin(self, size, crc):
        self.updater.begin(size, crc)
        self._show_update()

    def update_chunk(self, offset, data):
        self.updater.chunk(offset, data)
        self._show_update()

    def update_command(self, number):
        self._work_ms = time.ticks_ms()
        self.updater.command(number)
        self._show_update()

    def _update(self, now_ms):
        """A little of an update's work; False where there is none."""
        updater = self.updater
        verifying = updater.state == VERIFYING
        if not updater.step():
            return False
        if verifying:
            self._verify_ms = time.ticks_diff(now_ms, self._work_ms)
        self._show_update()
        return True

    def _show_update(self):
        trial_s = max(0, TRIAL_MS - time.ticks_diff(time.ticks_ms(), self._start_ms)) // 1000
        self.bank.show_update(self.updater, self.slots, trial_s if self.slots.on_trial else 0, self._verify_ms)

    def _button(self, law):
        """A press overrides the relay by the opposite of what it is, or ends an override."""
        if not self.board.pressed():
            self._pressed = 0
            return
        self._pressed = min(self._pressed + 1, PRESSED_HOPS + 1)
        if self._pressed == PRESSED_HOPS:
            if law.mode != AUTOMATIC:
                law.manual(AUTOMATIC, 0)
            else:
                law.manual(MANUAL_OFF if law.on else MANUAL_ON, self.settings["button_s"])

    def _blind(self):
        self.lost += 1
        self.estimator.lost()
        self.estimator.flags = OVERRUN | SETTLING
        self.calibration.lost()
        self.bank.settle()

    def _act(self, dt_ms):
        law = self.law
        if law is None:
            return
        self._button(law)
        was = law.on
        law.step(self.estimator.frequency_uhz, self.estimator.good, self._temperature_dc, dt_ms)
        if law.on != was:
            self.board.relay(law.on)
        self.bank.show_relay(law, self._temperature_dc)

    def _slowly(self, now_ms):
        if self.slots.on_trial and time.ticks_diff(now_ms, self._start_ms) >= TRIAL_MS:
            self.updater.overdue()
        self._show_update()
        if self.updater.restart:
            restart()
        if self.law is not None:
            self._temperature_dc = self.board.temperature_dc()
        calibration = self.calibration
        self.estimator.rate_ppb = calibration.rate_ppb
        self.bank.show_health(calibration.rate_ppb, self.lost, self.boots, self.safe, calibration.span_ms // 1000)
        if not self._proven and time.ticks_diff(now_ms, self._start_ms) >= HEALTHY_MS:
            self._proven = True
            self._boots.save(bytes((0,)))
        # Once a span of an hour is there; a change of 1 ppm is worth a write to flash.
        if calibration.span_ms >= 3_600_000 and abs(calibration.rate_ppb - self._saved_ppb) >= 1000:
            self._saved_ppb = calibration.rate_ppb
            self.settings["rate_ppb"] = calibration.rate_ppb
            self.settings_store.save(json.dumps(self.settings).encode())
