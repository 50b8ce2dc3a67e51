"""The crystal's error, from the gateway's clock.

The gateway writes its own monotonic milliseconds now and then. Between two writes far enough apart the converter's
count of samples says how fast it really samples. Jitter of the line counts once: 5 ms over an hour are 1.4 ppm, 70 uHz.
"""

import time

from fixed import scale

SHORTEST_MS = 600_000  # 5 ms of jitter are 8 ppm, or 0.4 mHz
LONGEST_MS = 1 << 29
MOST_PPB = 500_000  # no crystal is that far off; the gateway's clock was changed


class Calibration:
    """`hop` for every hop of 20 ms, `clock` for every write of the gateway; `rate_ppb` is the result."""

    def __init__(self, rate_ppb):
        self.rate_ppb = rate_ppb
        self.span_ms = 0
        self._hops = 0
        self._hop_ms = time.ticks_ms()
        self._since = None

    def hop(self):
        self._hops += 1
        self._hop_ms = time.ticks_ms()

    def lost(self):
        """Samples were lost: the count says nothing any more."""
        self._since = None
        self._hops = 0
        self.span_ms = 0

    def clock(self, high, low):
        """The gateway's milliseconds, as two 16-bit words."""
        sampled_ms = self._hops * 20 + time.ticks_diff(time.ticks_ms(), self._hop_ms)
        if self._since is not None:
            high0, low0, sampled0_ms = self._since
            highs = (high - high0) & 0xFFFF
            if highs < LONGEST_MS >> 16:
                self._judge((highs << 16) + low - low0, sampled_ms - sampled0_ms)
                return
        self._since = (high, low, sampled_ms)
        self.span_ms = 0

    def _judge(self, gateway_ms, sampled_ms):
        if gateway_ms < SHORTEST_MS:
            if gateway_ms < 0 or abs(sampled_ms - gateway_ms) > 1000:
                self.lost()
            else:
                self.span_ms = gateway_ms
            return
        ppb = scale(sampled_ms - gateway_ms, 1_000_000_000, gateway_ms)
        if abs(ppb) > MOST_PPB:
            self.lost()
            return
        self.span_ms = gateway_ms
        self.rate_ppb = ppb
