"""Slows down guessing: after a number of failures within a window, a key is locked until the oldest one is past it."""

from collections import OrderedDict, deque
from collections.abc import Callable


class Lockout:
    """Failures by key (an account or an address), in memory: a restart forgives.

    The number of keys kept is bounded, the least recently failed goes first, so that made-up names cannot fill memory.
    """

    def __init__(self, *, failures: int, window_s: float, monotonic_s: Callable[[], float], keys: int = 10_000) -> None:
        self._failures = failures
        self._window_s = window_s
        self._monotonic_s = monotonic_s
        self._keys = keys
        self._failed_at_s: OrderedDict[str, deque[float]] = OrderedDict()

    def locked_for_s(self, key: str) -> float:
        """How long `key` stays locked [s]; 0 when it may try."""
        failed_at_s = self._failed_at_s.get(key)
        if failed_at_s is None or len(failed_at_s) < self._failures:
            return 0.0
        return max(0.0, failed_at_s[0] + self._window_s - self._monotonic_s())

    def failed(self, key: str) -> None:
        """Counts a failure."""
        self._failed_at_s.setdefault(key, deque(maxlen=self._failures)).append(self._monotonic_s())
        self._failed_at_s.move_to_end(key)
        while len(self._failed_at_s) > self._keys:
            self._failed_at_s.popitem(last=False)

    def succeeded(self, key: str) -> None:
        """Forgets the failures of `key`."""
        self._failed_at_s.pop(key, None)
