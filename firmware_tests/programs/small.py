"""small.py RATE FILE: the estimator with integers that refuse to be larger than a 32-bit board's. CPython only."""

import sys

import estimator as module
import fixed
from estimator import Estimator

INSIDE = 1 << 31


class Small(int):
    """An integer of a machine word."""


def _make(name):
    plain = getattr(int, name)

    def operation(self, *others):
        result = plain(self, *others)
        if result is NotImplemented or isinstance(result, bool):
            return result
        if not -INSIDE <= result < INSIDE:
            raise OverflowError(f"{name} of {int(self)} and {others}")
        return Small(result)

    return operation


for _name in ("add", "sub", "mul", "floordiv", "mod", "lshift", "rshift", "and", "or", "xor"):
    for _side in ("", "r"):
        setattr(Small, "__" + _side + _name + "__", _make("__" + _side + _name + "__"))
for _name in ("__neg__", "__abs__"):
    setattr(Small, _name, _make(_name))


class Words(list):
    """An array whose elements are machine words."""

    def __init__(self, values):
        super().__init__(Small(value) for value in values)

    def __setitem__(self, index, value):
        if not -INSIDE <= value < INSIDE:
            raise OverflowError(value)
        super().__setitem__(index, Small(value))


def array(_, values):
    return Words(values)


class _Arrays:
    array = staticmethod(array)


def bounded(function):
    """What leaves a function for ordinary code would be on a board's heap from 2**30 on."""

    def inner(*arguments):
        result = function(*arguments)
        if result is not None and not -(1 << 30) <= result < 1 << 30:
            raise OverflowError(function.__name__)
        return result if result is None else Small(result)

    return inner


module.array = _Arrays
module.sines = Words(fixed.sines)
fixed._arcs = Words(fixed._arcs)
for name in ("muldiv", "scale", "angle", "length", "root"):
    wrapped = bounded(getattr(fixed, name))
    setattr(fixed, name, wrapped)
    setattr(module, name, wrapped)
module.mix = bounded(module.mix)

estimator = Estimator(int(sys.argv[1]), 50)
estimates = 0
with open(sys.argv[2], "rb") as file:
    while len(hop := file.read(2 * estimator.hop)) == 2 * estimator.hop:
        for i in range(estimator.hop):
            estimator.samples[estimator.at + i] = hop[2 * i] | hop[2 * i + 1] << 8
        estimates += estimator.advance()
print(estimates)
