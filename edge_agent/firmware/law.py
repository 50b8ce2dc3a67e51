"""When a load on a relay is on: by the grid's frequency, the owner's comfort and the switch's limits, in integers.

The last word belongs, in this order, to: the temperature's upper bound (off); the minimum on and off times (no
change); a manual override; a lock-out after too many switchings (on, the load's own thermostat decides); the
temperature's lower bound (on); and then the service:

- "curve": a service's knots, as the agent's own law has them. The share due at this frequency is between 0 and all; the
  load is on or off; so each relay draws a threshold and sheds when the share reaches it. A thousand of them follow the
  curve. A negative share (too much generation) switches a load on that is otherwise off.
- "stages": sheds when frequency stays at or below `under_uhz` for `delay_ms` and a random time up to `spread_ms`.

Either returns when the reason has been gone for `return_ms` and a random time up to `return_spread_ms`, so that a
neighbourhood does not come back at once. Time without a frequency that may be acted upon never sheds and, while shed,
counts as the reason gone. Nothing here needs a gateway.
"""

from fixed import scale

AUTOMATIC, MANUAL_ON, MANUAL_OFF = 0, 1, 2
# Why the relay is as it is
REST, SHED, ABSORB, HOT, COLD, MANUAL, LOCKED, MINIMUM_TIME = 0, 1, 2, 3, 4, 5, 6, 7

FULL_PPM = 1_000_000
HYSTERESIS_PPM = 50_000
HOUR_MS = 3_600_000
LONGEST_MS = 1 << 29  # counters stop here, six days


def curve_ppm(knots, deviation_uhz):
    """Share due at this deviation, in parts of a million; `knots` is a flat list of deviation [uHz], share [ppm]."""
    count = len(knots)
    if deviation_uhz <= knots[0]:
        return knots[1]
    for i in range(2, count, 2):
        if deviation_uhz < knots[i]:
            x0 = knots[i - 2]
            y0 = knots[i - 1]
            return y0 + scale(knots[i + 1] - y0, deviation_uhz - x0, knots[i] - x0)
    return knots[count - 1]


class RelayLaw:
    """One relay. `step` once a cycle; `on` is what the relay shall be."""

    def __init__(self, settings, nominal_hz, seed):
        self._nominal_uhz = nominal_hz * 1_000_000
        self._knots = settings["knots_uhz_ppm"] if settings["service"] == "curve" else None
        self._under_uhz = settings["under_uhz"]
        self._return_uhz = settings["return_uhz"]
        self._delay_ms = settings["delay_ms"]
        self._spread_ms = settings["spread_ms"]
        self._back_ms = settings["return_ms"]
        self._back_spread_ms = settings["return_spread_ms"]
        self._least_on_ms = settings["least_on_ms"]
        self._least_off_ms = settings["least_off_ms"]
        self._hottest_dc = settings["hottest_dc"]
        self._coldest_dc = settings["coldest_dc"]
        self._most_an_hour = settings["most_switched_an_hour"]
        self._rest_on = settings["rest_on"]
        self._random = seed & 0x3FFFFFFF | 1
        self._answer = REST  # SHED or ABSORB while the service acts
        self._reason_ms = 0  # for how long there is one to act
        self._gone_ms = 0  # for how long there is none
        self._hour_ms = 0
        self._hour_switched = 0
        self._manual_ms = 0
        self.on = self._rest_on
        self.why = REST
        self.mode = AUTOMATIC
        self.share_ppm = 0
        self.state_ms = LONGEST_MS  # since the last change; nothing is known of before the start, where it may change
        self.locked_ms = 0
        self.switched = 0
        self._draw()

    def manual(self, mode, seconds):
        """A person's word, for so long."""
        self.mode = mode
        self._manual_ms = min(seconds, LONGEST_MS // 1000) * 1000

    def step(self, frequency_uhz, good, temperature_dc, dt_ms):
        """`frequency_uhz` only counts where it is `good`; `temperature_dc` in tenths of a degree, None: no sensor."""
        if self.mode != AUTOMATIC:
            self._manual_ms -= dt_ms
            if self._manual_ms <= 0:
                self.mode = AUTOMATIC
        self._serve(frequency_uhz, good, dt_ms)
        self._count(dt_ms)
        on, why = self._rest_on, REST
        if self._answer == SHED:
            on, why = False, SHED
        elif self._answer == ABSORB:
            on, why = True, ABSORB
        if temperature_dc is not None and temperature_dc < self._coldest_dc:
            on, why = True, COLD
        if self.locked_ms:
            on, why = self._rest_on, LOCKED
        if self.mode != AUTOMATIC:
            on, why = self.mode == MANUAL_ON, MANUAL
        hot = temperature_dc is not None and temperature_dc >= self._hottest_dc
        if on != self.on and self.state_ms < (self._least_on_ms if self.on else self._least_off_ms) and not hot:
            on, why = self.on, MINIMUM_TIME
        if hot:
            on, why = False, HOT
        if on != self.on:
            self._switch(on)
        self.why = why

    def _serve(self, frequency_uhz, good, dt_ms):
        wanted = REST
        if good and self._knots is not None:
            self.share_ppm = share = curve_ppm(self._knots, frequency_uhz - self._nominal_uhz)
            threshold = self._threshold_ppm - (HYSTERESIS_PPM if self._answer != REST else 0)
            if share > 0 and share >= threshold:
                wanted = SHED
            elif share < 0 and -share >= threshold:
                wanted = ABSORB
        elif good:
            self.share_ppm = 0
            limit = self._return_uhz if self._answer == SHED else self._under_uhz
            wanted = SHED if frequency_uhz <= limit else REST
        else:
            self.share_ppm = 0
        if self._answer == REST:
            self._reason_ms = self._reason_ms + dt_ms if wanted != REST else 0
            if wanted != REST and self._reason_ms > self._acts_after_ms:
                self._answer = wanted
                self._gone_ms = 0
        elif wanted == self._answer:
            self._gone_ms = 0
        else:
            self._gone_ms += dt_ms
            if self._gone_ms > self._returns_after_ms:
                self._answer = REST
                self._reason_ms = 0
                self._draw()

    def _count(self, dt_ms):
        self.state_ms = min(self.state_ms + dt_ms, LONGEST_MS)
        self.locked_ms = max(0, self.locked_ms - dt_ms)
        self._hour_ms += dt_ms
        if self._hour_ms >= HOUR_MS:
            self._hour_ms = self._hour_switched = 0

    def _switch(self, on):
        self.on = on
        self.state_ms = 0
        self.switched = self.switched + 1 & 0x3FFFFFFF
        self._hour_switched += 1
        if self._hour_switched >= self._most_an_hour:
            self.locked_ms = HOUR_MS
            self._hour_ms = self._hour_switched = 0

    def _draw(self):
        """This relay's own place among the others, for the next time."""
        self._threshold_ppm = max(1, self._below(FULL_PPM))
        self._acts_after_ms = (0 if self._knots is not None else self._delay_ms) + self._below(self._spread_ms)
        self._returns_after_ms = self._back_ms + self._below(self._back_spread_ms)

    def _below(self, limit):
        """An integer from 0 to limit, by a linear congruential generator of 15 bits a step (its products fit)."""
        if limit <= 0:
            return 0
        bits = 0
        for _ in range(2):
            self._random = (self._random % 32768 * 20077 + 12345 + self._random // 32768) & 0x3FFFFFFF
            bits = bits << 10 | self._random >> 8 & 1023
        return scale(bits, limit + 1, 1 << 20)
