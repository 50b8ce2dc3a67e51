"""What a fuzz target is."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One parser and what must hold of it, whatever the bytes.

    `one` takes the bytes and returns; everything that it raises is a finding. Refusals that the parser documents are
    caught inside, what it takes is checked against what it promises.
    """

    name: str
    faces: str  # who can send it these bytes
    one: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    longest: int = 4096  # bytes


def must(holds: bool, finding: str) -> None:
    """Raises AssertionError with the finding where it does not hold."""
    if not holds:
        raise AssertionError(finding)
