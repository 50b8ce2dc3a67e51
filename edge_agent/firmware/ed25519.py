"""Verification of Ed25519 signatures (RFC 8032), a step at a time, so that the meter goes on meanwhile.

Strict, as OpenSSL is: scalars and points must be encoded in the one canonical way, and the equation holds without a
cofactor. Nothing here is secret, so nothing has to take the same time.
"""

from sha512 import digesting

P = (1 << 255) - 19
ORDER = (1 << 252) + 27742317777372353535851937790883648493
_D = 37095705934669439343138083508754565189542113879843219016388785533085940283555
_ROOT_OF_MINUS_ONE = 19681161376707505956807079304988542015446066515923890162744021073123829784752
_BASE_Y = 46316835694926478169428394003475163141307993866256225615783033603165251855960
_BITS_A_STEP = 4


def _power(base, exponent):
    result = 1
    for bit in range(254, -1, -1):
        result = result * result % P
        if exponent >> bit & 1:
            result = result * base % P
        if bit % 16 == 0:
            yield
    return result


def _unpacked(encoded):
    """The point (X, Y, Z, T) of an encoding; None where it is none."""
    y = int.from_bytes(encoded, "little")
    sign = y >> 255
    y &= (1 << 255) - 1
    if y >= P:
        return None
    above = (y * y - 1) % P
    below = (_D * y * y + 1) % P
    # The square root of above / below (RFC 8032, 5.1.3)
    cubed = below * below * below % P
    power = yield from _power(above * cubed * cubed * below % P, (P - 5) // 8)
    x = above * cubed * power % P
    check = below * x * x % P
    if check != above:
        if check != P - above:
            return None
        x = x * _ROOT_OF_MINUS_ONE % P
    if x == 0 and sign:
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


def _packed(point):
    x, y, z, _ = point
    inverse = yield from _power(z, P - 2)
    x = x * inverse % P
    y = y * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _add(p, q):
    a = (p[1] - p[0]) * (q[1] - q[0]) % P
    b = (p[1] + p[0]) * (q[1] + q[0]) % P
    c = 2 * p[3] * q[3] * _D % P
    d = 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _doubled(p):
    a = p[0] * p[0] % P
    b = p[1] * p[1] % P
    c = 2 * p[2] * p[2] % P
    h = a + b
    e = h - (p[0] + p[1]) * (p[0] + p[1]) % P
    g = a - b
    f = c + g
    return e * f % P, g * h % P, f * g % P, e * h % P


def verifying(key, signature, message):
    """A generator that does a little at a time and returns whether `signature` is that of `message` by `key`."""
    if len(key) != 32 or len(signature) != 64:
        return False
    scalar = int.from_bytes(signature[32:], "little")
    if scalar >= ORDER:
        return False
    public = yield from _unpacked(key)
    if public is None:
        return False
    digest = yield from digesting(signature[:32] + key + message)
    challenge = int.from_bytes(digest, "little") % ORDER
    base = yield from _unpacked(_BASE_Y.to_bytes(32, "little"))
    away = (P - public[0], public[1], 1, P - public[3])
    both = _add(base, away)
    # R = scalar * base - challenge * public, both from the highest bit down at once
    point = (0, 1, 1, 0)
    for bit in range(252, -1, -1):
        point = _doubled(point)
        which = (scalar >> bit & 1) | (challenge >> bit & 1) << 1
        if which:
            point = _add(point, (base, away, both)[which - 1])
        if bit % _BITS_A_STEP == 0:
            yield
    packed = yield from _packed(point)
    return packed == signature[:32]
