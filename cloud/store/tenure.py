"""Who writes a part of the history: each writer begins where the one before had come; what that one adds later is void.

`<tier>/writers/part=<part>/<token>-<epoch>-<last>.json`: a writer's token, and up to which position its tier held rows
when it began. Tokens rise from one writer to the next, and a segment's name tells whose it is. So a writer that stood
still, was followed and does not know it cannot add a row: nobody reads a segment that is older than a tenure by its
token and beyond that tenure's beginning by its position.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from cloud.store.errors import Superseded
from cloud.store.place import Place

_NAME: Final = re.compile(r"part=(\d+)/(\d{13})\.(\d{12})-(\d{4})-(\d{15})\.json")
_KEPT: Final = 100  # of a part

Token = tuple[int, int]
NO_TOKEN: Final = (0, 0)  # of a writer that nobody can follow: one process alone has the history


@dataclass(frozen=True, slots=True)
class Writer:
    """token: the fence of its lease. name: what people know it by."""

    token: Token
    name: str


ALONE: Final = Writer(NO_TOKEN, "a process of its own")


@dataclass(frozen=True, slots=True, order=True)
class Tenure:
    """One writer's time with a part."""

    token: Token
    beginning: tuple[int, int]  # epoch and last sequence that the tier had
    path: str


class Holder(msgspec.Struct, frozen=True):
    """Whose a tenure is."""

    name: str
    began_ms: int = 0  # by its own clock


class Tenures:
    """The tenures of one tier. Raises OSError."""

    def __init__(self, tier: Place) -> None:
        self._place = tier.folder("writers")

    def of(self, part: int | None = None) -> dict[int, list[Tenure]]:
        """By part, oldest first."""
        found: dict[int, list[Tenure]] = {}
        for file in self._place.files("" if part is None else f"part={part}"):
            if match := _NAME.fullmatch(file.path):
                number, created_ms, revision, epoch, last = map(int, match.groups())
                found.setdefault(number, []).append(Tenure((created_ms, revision), (epoch, last), file.path))
        return {number: sorted(tenures) for number, tenures in found.items()}

    def check(self, part: int, writer: Writer) -> None:
        """Raises Superseded where somebody wrote the part after this writer began."""
        tenures = self.of(part).get(part, [])
        if tenures and tenures[-1].token > writer.token:
            raise Superseded(
                f"history {self._place}: part {part} is written by {self._holder(tenures[-1]).name}, who took it over "
                f"from {writer.name}"
            )

    def begin(self, part: int, writer: Writer, beginning: tuple[int, int]) -> None:
        """Enters a tenure, durably."""
        (created_ms, revision), (epoch, last) = writer.token, beginning
        name = f"{created_ms:013}.{revision:012}-{max(epoch, 0):04}-{max(last, 0):015}.json"
        draft = self._place.draft(f"part={part}", f".{name}")
        try:
            draft.write_bytes(msgspec.json.encode(Holder(writer.name, time.time_ns() // 1_000_000)))
            self._place.finish(draft, f"part={part}/{name}")
        except BaseException:
            Place.discard(draft)
            raise
        for old in self.of(part)[part][:-_KEPT]:
            self._place.remove(old.path)

    def last(self, part: int) -> Holder | None:
        """Who began to write the part last."""
        tenures = self.of(part).get(part)
        return self._holder(tenures[-1]) if tenures else None

    def _holder(self, tenure: Tenure) -> Holder:
        try:
            with self._place.open(tenure.path) as file:
                return msgspec.json.decode(file.read(), type=Holder)
        except (OSError, msgspec.DecodeError):
            return Holder("somebody unknown")


def is_void(token: Token, order: tuple[int, int], tenures: Sequence[Tenure]) -> bool:
    """Whether a segment of this token and position came after its writer had been followed."""
    return any(tenure.token > token and order > tenure.beginning for tenure in tenures)
