"""Integer arithmetic of the estimator: sines, angles and products, in words of 32 bits.

Viper functions work on machine words and put nothing on the heap. Words have 32 bits on the boards, so inside one
every intermediate stays within 2**31; what leaves one for ordinary code stays within 2**30, from where on a board
would put an integer on the heap. `firmware_tests` runs the same source with integers that refuse to be larger.

Angles are turns times 2**30. Sines are in units of 1/16384 and kept with 32768 added, because viper reads 16-bit
elements without sign; 32-bit elements it reads without sign where words have 64 bits, which SIGN_SHIFT undoes.
"""

import array
import math
import sys

import micropython

SIGN_SHIFT = 32 if sys.implementation.name == "micropython" and sys.maxsize > 0x7FFFFFFF else 0
SINES = 1024  # a turn; linear between two of them errs by less than 5e-6

sines = array.array(
    "H", [32768 + round(16384 * math.sin(2 * math.pi * i / SINES)) for i in range(SINES + SINES // 4 + 1)]
)
# atan(2**-i) in turns times 2**24, for the rotations of `angle`
_arcs = array.array("i", [round(math.atan(2.0**-i) / (2 * math.pi) * 2**24) for i in range(20)])


@micropython.viper
def muldiv(a: int, b: int, c: int) -> int:
    """a * b // c for 0 <= a, b < 2**30, 0 < c < 2**30 and a result below 2**30; 2**30 - 1 where it would be more."""
    a1 = a >> 15
    a0 = a & 0x7FFF
    b1 = b >> 15
    b0 = b & 0x7FFF
    middle = a1 * b0 + a0 * b1
    low = a0 * b0 + ((middle & 0x7FFF) << 15)
    high = a1 * b1 + (middle >> 15) + (low >> 30)
    low = low & 0x3FFFFFFF
    if high >= c:
        return 0x3FFFFFFF
    quotient = 0
    for _ in range(30):
        high = (high << 1) | ((low >> 29) & 1)
        low = (low << 1) & 0x3FFFFFFF
        quotient = quotient << 1
        if high >= c:
            high = high - c
            quotient = quotient | 1
    return quotient


def scale(value, b, c):
    """value * b // c, rounded towards zero, for a value of either sign."""
    return muldiv(value, b, c) if value >= 0 else -muldiv(-value, b, c)


@micropython.viper
def _angle(x: int, y: int, arcs) -> int:
    arcs_ = ptr32(arcs)
    turned = 0
    if x < 0:
        x = 0 - x
        y = 0 - y
        turned = 1 << 23
    sum = 0
    for i in range(20):
        dx = x >> i
        dy = y >> i
        if y >= 0:
            x = x + dy
            y = y - dx
            sum = sum + arcs_[i]
        else:
            x = x - dy
            y = y + dx
            sum = sum - arcs_[i]
    return (sum + turned) & 0xFFFFFF


def angle(x, y):
    """The angle of (x, y), both within 2**28, in turns times 2**24, 0 to 2**24 - 1; errs by less than 30 for vectors
    longer than 2**20."""
    return _angle(x, y, _arcs)


@micropython.viper
def _length(x: int, y: int) -> int:
    if x < 0:
        x = 0 - x
    if y < 0:
        y = 0 - y
    # The rotations of an angle lengthen by 1.646760; 0.607253 undoes it, as 19898 / 32768.
    for i in range(16):
        dx = x >> i
        dy = y >> i
        if y >= 0:
            x = x + dy
            y = y - dx
        else:
            x = x - dy
            y = y + dx
    return (x >> 15) * 19898 + (((x & 0x7FFF) * 19898) >> 15)


def length(x, y):
    """The length of (x, y), both within 2**28."""
    return _length(x, y)


@micropython.viper
def root(value: int) -> int:
    """The square root of 0 <= value < 2**30, rounded down."""
    result = 0
    bit = 1 << 28
    while bit > value:
        bit = bit >> 2
    while bit != 0:
        if value >= result + bit:
            value = value - result - bit
            result = (result >> 1) + bit
        else:
            result = result >> 1
        bit = bit >> 2
    return result
