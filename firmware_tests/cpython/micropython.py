"""What firmware sources take from MicroPython, for running the same sources on CPython."""

import builtins
import time


def viper(function):
    """A plain function here; what viper knows by itself is made known to all."""
    return function


def _same(buffer):
    return buffer


time.ticks_ms = lambda: time.monotonic_ns() // 1_000_000 & 0x3FFFFFFF
time.ticks_us = lambda: time.monotonic_ns() // 1000 & 0x3FFFFFFF
time.ticks_add = lambda ticks, delta: ticks + delta & 0x3FFFFFFF
time.ticks_diff = lambda a, b: (a - b + 0x20000000 & 0x3FFFFFFF) - 0x20000000
for _name in ("ptr8", "ptr16", "ptr32"):
    setattr(builtins, _name, _same)
