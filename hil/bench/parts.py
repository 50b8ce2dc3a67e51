"""A bench of several parts: what fails is named, and costs the figures of no other part."""

from collections.abc import Callable, Mapping
from typing import Any

from hil.run.chain import Say

Part = Callable[[], Mapping[str, Any]]


def measured(parts: Mapping[str, Part], say: Say) -> tuple[dict[str, Any], dict[str, str]]:
    """The figures of the parts that could be measured, and why the others could not, by part."""
    figures: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for name, part in parts.items():
        say(f"bench: {name}")
        try:
            figures |= part()
        except Exception as error:  # whatever it is, the other parts have figures
            failed[name] = str(error) or type(error).__name__
            say(f"bench: {name} failed: {failed[name]}")
    return figures, failed
