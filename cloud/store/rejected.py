"""What telemetry was refused: counted by cause, the newest kept aside for a person to look at.

`rejected/part=<part>.json`, written by the part's worker beside its history.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from cloud.store.errors import HistoryError
from cloud.store.place import Place

KEPT: Final = 200  # of a part
MOST_BYTES: Final = 4096  # of one message
_NAME: Final = re.compile(r"part=(\d+)\.json")


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """A message of which something was not taken."""

    at_ms: int  # when it was read
    epoch: int
    sequence: int  # in the stream
    subject: str
    cause: str
    times: int  # frames of the message refused for it
    size: int  # bytes
    data: bytes  # the message's first bytes


class Book(msgspec.Struct, kw_only=True):
    """One part's."""

    counts: dict[str, int] = {}  # frames, or messages that hold none, by cause
    kept: list[Rejected] = []  # oldest first

    @property
    def last(self) -> tuple[int, int]:
        return (self.kept[-1].epoch, self.kept[-1].sequence) if self.kept else (-1, -1)


class RejectedBook:
    """For the one who writes the part: what is read a second time after a kill counts once."""

    def __init__(self, place: Place, part: int) -> None:
        self._place = place.folder("rejected")
        self._path = f"part={part}.json"
        self._book = _read(self._place, self._path) if part in _parts(self._place) else Book()
        self._saved = True

    def add(self, refused: Sequence[Rejected]) -> None:
        """Takes in what was refused, in stream order."""
        last = self._book.last
        news = [one for one in refused if (one.epoch, one.sequence) > last]
        if not news:
            return
        counts = Counter(self._book.counts)
        for one in news:
            counts[one.cause] += one.times
        self._book = Book(counts=dict(counts), kept=[*self._book.kept, *news][-KEPT:])
        self._saved = False

    def save(self) -> None:
        """Puts it on disk if it changed. Raises OSError."""
        if self._saved:
            return
        book, self._saved = self._book, True
        draft = self._place.draft("", f".{self._path}")
        try:
            draft.write_bytes(msgspec.json.encode(book))
            self._place.finish(draft, self._path)
        except BaseException:
            self._saved = False
            Place.discard(draft)
            raise


def read(place: Place) -> dict[int, Book]:
    """By part. Raises HistoryError, OSError."""
    folder = place.folder("rejected")
    return {part: _read(folder, f"part={part}.json") for part in _parts(folder)}


def _parts(folder: Place) -> list[int]:
    return sorted(int(match[1]) for file in folder.files() if (match := _NAME.fullmatch(file.path)))


def _read(folder: Place, path: str) -> Book:
    with folder.open(path) as file:
        text = file.read()
    try:
        return msgspec.json.decode(text, type=Book)
    except msgspec.DecodeError as error:
        raise HistoryError(
            f"{folder.full(path)}: damaged ({error}): remove it, it only holds what was refused"
        ) from error
