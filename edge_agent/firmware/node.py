"""What meter and relay have in common: one loop that takes samples, answers requests and feeds the watchdog.

Nothing in the loop is put on the heap. The watchdog is fed only by a loop that also gets samples or has noticed that it
gets none.
"""

import gc
import json
import time

from calibration import Calibration
from estimator import OVERRUN, SETTLING, Estimator
from hal import Board
from modbus import Server
from settings import SettingsError, load
from store import Store
from sunspec import Bank

VERSION = "0.1.0"
BOOTS_TO_SAFE = 3  # starts in a row that did not last
HEALTHY_MS = 60_000  # a start that lasts so long was a good one
BLIND_MS = 100  # without samples for so long there is no frequency
SLOW_MS = 1000


class Node:
    """A meter; with a law, also a relay."""

    def __init__(self, folder, make_law=None):
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
        self.board = Board(folder, s["rate_hz"], s["baud"])
        self.estimator = Estimator(s["rate_hz"], s["nominal_hz"], s["rate_ppb"])
        counts = 1_414_214 * s["nominal_v"] // s["microvolt_per_count"]  # amplitude at nominal voltage
        self.estimator.low_counts = counts // 2
        self.estimator.dead_counts = max(20, counts // 10)
        self.law = make_law(s, self.board.seed()) if make_law is not None and not self.safe else None
        model = "meter" if make_law is None else "relay"
        self.bank = Bank(model, s["serial"], VERSION, s["unit"], s["nominal_hz"], self.law is not None, self)
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
        self._saved_ppb = s["rate_ppb"]

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
            self._act(20)
        elif got < 0:
            self._blind()
        elif time.ticks_diff(now_ms, self._hop_ms) >= BLIND_MS:
            self._hop_ms = now_ms
            self._blind()
            self._act(BLIND_MS)
        else:
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
        was = law.on
        law.step(self.estimator.frequency_uhz, self.estimator.good, self._temperature_dc, dt_ms)
        if law.on != was:
            self.board.relay(law.on)
        self.bank.show_relay(law, self._temperature_dc)

    def _slowly(self, now_ms):
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
