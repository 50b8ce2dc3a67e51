"""SHA-512 (FIPS 180-4), which no port of MicroPython has: slow and small, a step at a time."""

MASK = (1 << 64) - 1
_ROUNDS_A_STEP = 8


def _primes(count):
    found = []
    number = 2
    while len(found) < count:
        if all(number % prime for prime in found):
            found.append(number)
        number += 1
    return found


def _root(value, degree):
    """The integer root of a value, rounded down."""
    low, high = 0, 1 << 80
    while low < high - 1:
        middle = (low + high) // 2
        if middle**degree <= value:
            low = middle
        else:
            high = middle
    return low


# The first 64 bits of the fractional parts of the primes' roots, as the standard defines its constants.
_START = tuple(_root(prime << 128, 2) & MASK for prime in _primes(8))
_K = tuple(_root(prime << 192, 3) & MASK for prime in _primes(80))


def _turn(x, n):
    return (x >> n | x << (64 - n)) & MASK


def digesting(message):
    """A generator that does a little at a time and returns the 64 bytes."""
    size = len(message)
    padded = bytes(message) + b"\x80" + bytes((111 - size) % 128) + (8 * size).to_bytes(16, "big")
    state = list(_START)
    for block in range(0, len(padded), 128):
        words = [int.from_bytes(padded[at : at + 8], "big") for at in range(block, block + 128, 8)]
        a, b, c, d, e, f, g, h = state
        for i in range(80):
            if i >= 16:
                x = words[(i + 1) % 16]
                y = words[(i + 14) % 16]
                words[i % 16] = (
                    words[i % 16]
                    + (_turn(x, 1) ^ _turn(x, 8) ^ x >> 7)
                    + words[(i + 9) % 16]
                    + (_turn(y, 19) ^ _turn(y, 61) ^ y >> 6)
                ) & MASK
            first = h + (_turn(e, 14) ^ _turn(e, 18) ^ _turn(e, 41)) + (e & f ^ (e ^ MASK) & g) + _K[i] + words[i % 16]
            second = (_turn(a, 28) ^ _turn(a, 34) ^ _turn(a, 39)) + (a & b ^ a & c ^ b & c)
            a, b, c, d, e, f, g, h = (first + second) & MASK, a, b, c, (d + first) & MASK, e, f, g
            if i % _ROUNDS_A_STEP == 0:
                yield
        ended = (a, b, c, d, e, f, g, h)
        state = [(state[i] + ended[i]) & MASK for i in range(8)]
    return b"".join([word.to_bytes(8, "big") for word in state])
