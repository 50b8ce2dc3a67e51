"""Shares in whole units that add up exactly: the method of largest remainders.

Each party gets its exact share rounded down; what is left goes one unit each to the largest remainders, ties by name.
The result does not depend on the order in which the parties are given.
"""

from collections.abc import Mapping
from fractions import Fraction
from math import floor


def apportion(exact: Mapping[str, Fraction], total: int) -> dict[str, int]:
    """Whole shares that sum to `total`, each within one of its exact share.

    Raises ValueError where `total` is not the exact sum rounded to a whole number, up or down.
    """
    shares = {name: floor(share) for name, share in exact.items()}
    left = total - sum(shares.values())
    by_remainder = sorted(exact, key=lambda name: (shares[name] - exact[name], name))
    uneven = sum(1 for name in exact if shares[name] != exact[name])
    if not 0 <= left <= uneven:
        raise ValueError(f"shares sum to {sum(exact.values())}, which does not round to {total}")
    for name in by_remainder[:left]:
        shares[name] += 1
    return shares


def pro_rata(weights: Mapping[str, int], total: int) -> dict[str, int]:
    """`total` shared in proportion to whole weights; nobody gets more than its weight while total <= sum of weights.

    Raises ValueError for a negative total or weight, or where there is something to share and no weight.
    """
    whole = sum(weights.values())
    if total < 0 or any(weight < 0 for weight in weights.values()) or (whole == 0 and total > 0):
        raise ValueError(f"cannot share {total} over weights that sum to {whole}")
    return apportion({name: Fraction(total * weight, whole or 1) for name, weight in weights.items()}, total)
