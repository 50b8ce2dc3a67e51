"""What firmware sources take from MicroPython, for running the same sources on CPython."""

import builtins


def viper(function):
    """A plain function here; what viper knows by itself is made known to all."""
    return function


def _same(buffer):
    return buffer


for _name in ("ptr8", "ptr16", "ptr32"):
    setattr(builtins, _name, _same)
