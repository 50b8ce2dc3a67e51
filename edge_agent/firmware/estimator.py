"""Mains frequency out of voltage samples: over 100 ms, every 20 ms, in integers and without the heap.

1. Two passes over the window. Each mixes it with a carrier (I/Q) whose phase is zero in the middle of the window,
   averages over one period of the carrier, which removes direct current, the mirror at twice the frequency and all
   harmonics, and takes the slope of the phase that remains. The averages' weights are those of least squares with more
   at both ends: averages that overlap tell little of their own, and a small jump of the grid's phase, which is no
   change of frequency, then shows 1.1 times the least that it must, not 1.5 times. The second pass does so with what
   the first one's sine leaves over (one Gauss-Newton step), so the mirror's rest vanishes with the error.
2. The phase in the middle of the window advances by a known angle from one window to the next. A second's mean
   frequency is the phase over 0.9 s between the middles of two windows; the rate of change is a parabola fitted by
   least squares to the phases of 21 windows, 500 ms of samples.

Frequency is in microhertz, rate of change in microhertz a second, voltage in counts of the converter's 16 bits.
Sampling rates are multiples of 400 a second, up to 4 kS/s. Worst error of the arithmetic itself: 0.2 mHz of frequency
(see README.md).
"""

import array

from fixed import SIGN_SHIFT, angle, length, muldiv, root, scale, sines
from kernels import crossings, hop_sums, mix, slope, survey

HOPS = 5  # hops of 20 ms in a window
HOP_HZ = 50
LOWEST_UHZ = 44_900_000
HIGHEST_UHZ = 65_100_000
STEEPEST_UHZ_S = 10_000_000  # no grid changes faster
TURN = 1 << 24

# Why a frequency is not to be acted upon, as bits. CLIPPED alone is a remark.
SETTLING = 1  # the window is not full yet, or the last two estimates are not one frequency
DEAD = 2  # no voltage
LOW = 4  # below half the nominal voltage
JUMP = 8  # phase or voltage jumped inside the window
NOISY = 16  # what is left beside the fundamental is too much
RANGE = 32  # outside 45 to 65 Hz
STEEP = 64  # changes faster than any grid
OVERRUN = 128  # samples were lost
CLIPPED = 256
REMARKS = CLIPPED

SECOND_HOPS = 45  # between the middles of windows that span a second
ROCOF_HOPS = 20  # between those that span 500 ms
# A hop of 20 ms that stands off from the window's sine by more than this part of it, across (phase) or along (voltage)
JUMP_ACROSS = 20  # 2.9 degrees; less is no more than what a step of half a hertz leaves
JUMP_ALONG = 16


class Estimator:
    """Feed `samples` (a ring of one window, 16-bit unsigned) hop by hop: write `hop` samples from `at`, call `advance`.

    The results stand in the attributes until the next call.
    """

    def __init__(self, rate_hz, nominal_hz=50, rate_ppb=0):
        """`rate_ppb`: how much faster the converter samples than it says, in parts of 10**9 (a crystal's error)."""
        if rate_hz % 400 or not 400 <= rate_hz <= 4000:
            raise ValueError("rate_hz: a multiple of 400 from 400 to 4000")
        self.hop = rate_hz // HOP_HZ
        self.size = self.hop * HOPS
        self.samples = array.array("H", [32768] * self.size)
        self.at = 0  # where the next sample goes; also the oldest one of a full window
        self.rate_ppb = rate_ppb
        self._rate_hz = rate_hz
        self._nominal_uhz = nominal_hz * 1_000_000
        # Blocks of a millisecond where the rate allows: what lies above half their rate is averaged out.
        self._width = max(1, rate_hz // 1000)
        while self.hop % self._width:
            self._width -= 1
        self._blocks = self.size // self._width
        # Shifts that keep the first moment of full scale inside 31 bits; the second pass has a smaller remainder.
        bits = 0
        while (self._width * self._blocks * self._blocks * self._blocks // 15) >> bits:
            bits += 1
        self._coarse = bits - 2
        self._fine = bits - 5
        self._mix_p = array.array("i", [self._blocks, self._width, self.size] + [0] * 8)
        self._slope_p = array.array("i", [self._blocks, 0, 0, 1, 0, 0])
        self._survey_p = array.array("i", [self.size, 8, 65527])
        self._hop_p = array.array("i", [self._blocks, self._blocks // HOPS])
        self._hop_sums = array.array("i", [0] * (2 * HOPS))
        self._crossing_p = array.array("i", [self.size, 0, 0, 0])
        self._mixed = array.array("i", [0] * (2 * self._blocks))
        self._result = array.array("i", [0] * 5)
        self._advances = array.array("i", [0] * SECOND_HOPS)
        self._filled = 0  # hops in the window
        self._known = 0  # advances in a row
        self._next = 0  # where the next advance goes
        self._frequencies = array.array("i", [0] * ROCOF_HOPS)
        self._oldest = 0
        self._sum = 0  # of the advances known
        self._phase = -1  # in the middle of the last window
        self._energy = 0
        self._period = 0
        self._settling = 2
        self._carrier_uhz = 0
        self._jump_left = 0
        self.dead_counts = 1000  # amplitude below which the line is dead
        self.low_counts = 5000  # amplitude at half the nominal voltage
        self.middle = 32768  # direct current, in counts
        self.frequency_uhz = 0
        self.second_uhz = 0  # mean of the last second; 0: not known
        self.rocof_uhz_s = 0
        self.rocof_known = False
        self.amplitude = 0  # of the fundamental, counts
        self.rms = 0  # true RMS, counts times 16
        self.residual = 0  # beside the fundamental, in thousandths of it
        self.flags = SETTLING
        self.sequence = 0

    @property
    def good(self):
        return not self.flags & ~REMARKS

    def lost(self):
        """Samples are missing: what follows does not join what went before."""
        self._filled = 0
        self._phase = -1
        self._known = 0
        self.flags |= OVERRUN

    def advance(self):
        """Takes the hop that was written at `at` into account. True when the attributes are new."""
        self.at += self.hop
        if self.at == self.size:
            self.at = 0
        if self._filled < HOPS:
            self._filled += 1
            if self._filled < HOPS:
                return False
        self.sequence = (self.sequence + 1) & 0xFFFF
        flags = 0
        survey(self.samples, self._survey_p, self._result)
        mean = self._result[0] // self.size
        self.middle = mean if self._carrier_uhz == 0 else self.middle + (mean - self.middle) // 8
        if self._result[1] > self.size // 100:
            flags |= CLIPPED
        carrier_uhz = self._carrier_uhz or self._acquire()
        if carrier_uhz == 0:
            self.amplitude = self.rms = 0
            return self._without(flags | DEAD)
        return self._estimate(carrier_uhz, flags)

    def _estimate(self, carrier_uhz, flags):
        result = self._result
        carrier_uhz = self._pass(carrier_uhz, 0, 0, self._coarse, 65535, 4)
        cosine = self._to_counts(result[2], self._coarse)
        sine = self._to_counts(result[3], self._coarse)
        self.amplitude = length(cosine, sine) >> 3
        if self.amplitude < self.dead_counts:
            self.rms = 0
            return self._without(flags | DEAD)
        frequency_uhz = carrier_uhz + self._correction(cosine, sine, self._coarse)
        if not LOWEST_UHZ - 3_000_000 < frequency_uhz < HIGHEST_UHZ + 3_000_000:
            return self._without(flags | RANGE)
        cosine >>= 3
        sine >>= 3
        carrier_uhz = self._pass(frequency_uhz, cosine, sine, self._fine, 8191, 0)
        cosine = (cosine << 3) + self._to_counts(result[2], self._fine)
        sine = (sine << 3) + self._to_counts(result[3], self._fine)
        self.amplitude = length(cosine, sine) >> 3
        frequency_uhz = carrier_uhz + self._correction(cosine, sine, self._fine)
        self._measure_voltage()
        if self.amplitude < self.low_counts:
            flags |= LOW
        if self.residual > 250:
            flags |= NOISY
        if self._jumped(cosine, sine):
            self._jump_left = 2  # it may be too near the window's end to be seen
            self._phase = -1
            self._known = 0
        if self._jump_left:
            flags |= JUMP
            self._jump_left -= 1
        if not LOWEST_UHZ <= frequency_uhz <= HIGHEST_UHZ:
            flags |= RANGE
        if abs(frequency_uhz - self.frequency_uhz) > STEEPEST_UHZ_S // HOP_HZ + 100_000 and not self._settling:
            flags |= STEEP
        if flags & (NOISY | RANGE):
            return self._without(flags)
        if self._settling:
            self._settling -= 1
            flags |= SETTLING
        self._carrier_uhz = frequency_uhz
        self.frequency_uhz = frequency_uhz + scale(frequency_uhz, self.rate_ppb, 1_000_000_000)
        self._follow_phase(angle(cosine << 8, sine << 8), frequency_uhz)
        if abs(self.rocof_uhz_s) > STEEPEST_UHZ_S:
            flags |= STEEP
        self.flags = flags
        return True

    def _without(self, flags):
        """No frequency: start over, and believe it again only when a window's worth of estimates agree."""
        self.flags = flags | SETTLING
        self._carrier_uhz = 0
        self._settling = 2
        self._phase = -1
        self._known = 0
        self._jump_left = 0
        self.frequency_uhz = self.second_uhz = self.rocof_uhz_s = 0
        self.rocof_known = False
        return True

    def _acquire(self):
        """A first frequency from zero crossings, 0 where there are none."""
        p = self._crossing_p
        p[1] = self.at
        p[2] = self.middle
        p[3] = self.dead_counts >> 1
        crossings(self.samples, p, self._result)
        found = self._result[0] - 1
        if found < 2:
            return 0
        uhz = muldiv(found * self._rate_hz, 64_000_000, self._result[2] - self._result[1])
        return uhz if LOWEST_UHZ - 3_000_000 < uhz < HIGHEST_UHZ + 3_000_000 else 0

    def _pass(self, carrier_uhz, cosine, sine, shift, limit, thin):
        """Mixes the window and leaves moments in `_result`; returns the carrier as its whole steps make it."""
        p = self._mix_p
        step = muldiv(carrier_uhz, 1 << 28, self._rate_hz * 250_000)
        p[3] = self.at
        p[4] = step
        p[5] = thin
        p[6] = cosine
        p[7] = sine
        p[8] = shift
        p[9] = limit
        p[10] = self.middle
        self._energy = mix(self.samples, p, self._mixed, sines, SIGN_SHIFT)
        q = self._slope_p
        self._period = muldiv(self._rate_hz * 256, 1_000_000, carrier_uhz) // self._width
        q[1] = self._period >> 8
        q[2] = self._period & 255
        n = self._blocks - q[1]
        q[5] = max(1, q[1] // 3)
        q[4] = 2 * n * (n + 1) // (3 * q[5])
        slope(self._mixed, q, self._result, SIGN_SHIFT)
        return muldiv(step, self._rate_hz * 250_000, 1 << 28)

    def _to_counts(self, total, shift):
        """The sine's amplitude in counts times 8 out of the sum of n averages over `_period` / 256 blocks:
        total * 2**shift / (2**13 * n * period / 256 * width) * 8."""
        return scale(total, 1 << (shift - 2), self._result[4] * self._period * self._width)

    def _across(self, real, imaginary, cosine, sine, amplitude):
        """The part of (real, imaginary) at right angles to the signal."""
        a = scale(imaginary, abs(cosine), amplitude)
        b = scale(real, abs(sine), amplitude)
        return (a if cosine >= 0 else -a) - (b if sine >= 0 else -b)

    def _correction(self, cosine, sine, shift):
        """Microhertz from the carrier to the signal. With the moment's D part across the signal, n averages over P
        blocks of w samples, each average a step of m = -n+1, -n+3 .. n-1 from the middle, of weight m and, at the ends,
        p[4] of `slope` more:
        df = 10**6 / (2 pi) * D * 2 * rate * 2**shift / (amplitude * w**2 * 2**13 * P * sum (m * weight))."""
        result = self._result
        amplitude = length(cosine, sine)  # counts times 8
        across = self._across(result[0], result[1], cosine, sine, amplitude)  # moment / 8
        n = result[4]
        weight = muldiv(
            n * (n * n - 1) // 3 + 2 * self._slope_p[5] * (n - self._slope_p[5]) * self._slope_p[4],
            self._period * self._width * self._width,
            256,
        )
        gain = muldiv(self._rate_hz * 159_155, 1 << (shift - 6), weight)
        return scale(across, gain, amplitude)

    def _jumped(self, cosine, sine):
        """Whether a hop stands off from the window's sine in phase, more than the steepest ramp would make it, or in
        voltage, as where a line dies away."""
        sums = self._hop_sums
        hop_sums(self._mixed, self._hop_p, sums, SIGN_SHIFT)
        amplitude = length(cosine, sine)
        # amplitude in units of the sums: * 2**13 / 2**fine * width * blocks a hop / 8
        full = muldiv(amplitude, (self.hop << 10) >> self._fine, 1)
        for hop in range(HOPS):
            real = sums[hop]
            imaginary = sums[HOPS + hop]
            if abs(self._across(real, imaginary, cosine, sine, amplitude)) > full // JUMP_ACROSS:
                return True
            if abs(self._across(-imaginary, real, cosine, sine, amplitude)) > full // JUMP_ALONG:
                return True
        return False

    def _measure_voltage(self):
        rest = muldiv(self._energy, 256, self.size)
        square = muldiv(self.amplitude, self.amplitude, 2) + rest
        whole = root(square)
        self.rms = whole * 16 + (square - whole * whole) * 8 // max(1, whole)
        self.residual = root(rest) * 1414 // self.amplitude

    def _follow_phase(self, phase, frequency_uhz):
        """Takes the phase in the middle of the window, in turns times 2**24, into the second's mean and the RoCoF."""
        if self._phase >= 0:
            expected = muldiv(frequency_uhz, TURN, HOP_HZ * 1_000_000)
            off = (phase - self._phase - expected) & (TURN - 1)
            advance = expected + (off - TURN if off >= TURN >> 1 else off)
            advances = self._advances
            if self._known == SECOND_HOPS:
                self._sum -= advances[self._next]
            else:
                self._known += 1
            self._sum += advance
            advances[self._next] = advance
            self._next = self._next + 1 if self._next < SECOND_HOPS - 1 else 0
        else:
            self._known = self._next = self._sum = 0
        self._phase = phase
        if self._known == SECOND_HOPS:
            uhz = muldiv(self._sum, HOP_HZ * 1_000_000, SECOND_HOPS * TURN)
            self.second_uhz = uhz + scale(uhz, self.rate_ppb, 1_000_000_000)
        else:
            self.second_uhz = 0
        self.rocof_known = self._known >= ROCOF_HOPS
        if self.rocof_known:
            # Six parts of the parabola and one of the chord weigh the samples almost as least squares would.
            chord = (frequency_uhz - self._frequencies[self._oldest]) * 5 // 2
            self.rocof_uhz_s = (6 * self._parabola() + chord) // 7
        else:
            self.rocof_uhz_s = 0
        self._frequencies[self._oldest] = frequency_uhz
        self._oldest = self._oldest + 1 if self._oldest < ROCOF_HOPS - 1 else 0

    def _parabola(self):
        """Twice the square term of the parabola through the phases of the last 21 middles, in microhertz a second.

        Phases count from their mean slope, in turns * 2**20; weights 3 k**2 - 110, k = -10 .. 10, with sum of squares
        201 894; 2 * 3 / 201894 * 50**2 * 10**6 / 2**20 = 0.0708549.
        """
        advances = self._advances
        at = self._next - ROCOF_HOPS
        if at < 0:
            at += SECOND_HOPS
        start = at
        mean = 0
        for _ in range(ROCOF_HOPS):
            mean += advances[at]
            at = at + 1 if at < SECOND_HOPS - 1 else 0
        mean //= ROCOF_HOPS
        at = start
        deviation = 0
        sum = 0
        for k in range(-9, 11):
            deviation += advances[at] - mean
            at = at + 1 if at < SECOND_HOPS - 1 else 0
            if abs(deviation) > TURN >> 1:
                return 2 * STEEPEST_UHZ_S
            sum += (3 * k * k - 110) * (deviation >> 4)
        return scale(sum, 708_549, 10_000_000)
