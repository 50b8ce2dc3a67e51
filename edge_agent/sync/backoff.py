"""Waiting between attempts: longer each time, and never two agents in step."""

import random


class Backoff:
    """Delays that double from `first_s` to `cap_s`, each drawn from its upper half.

    The draw keeps thousands of agents from coming back in the same instant after an outage.
    """

    def __init__(self, first_s: float, cap_s: float) -> None:
        self._first_s = first_s
        self._cap_s = cap_s
        self._delay_s = first_s
        self._random = random.Random()  # seeded by the system: agents differ

    def next_s(self) -> float:
        """How long to wait before the next attempt [s]."""
        delay_s = self._delay_s
        self._delay_s = min(self._cap_s, 2.0 * delay_s)
        return self._random.uniform(0.5 * delay_s, delay_s)

    def reset(self) -> None:
        """After a success: begin with `first_s` again."""
        self._delay_s = self._first_s
