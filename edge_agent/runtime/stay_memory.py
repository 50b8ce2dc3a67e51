"""What vehicles have got since they came, kept over a restart of the agent: a night's energy is not counted twice.

Only for as long as nobody can well have put another vehicle there; after that an agent counts from nothing, and the
vehicle gets more than it needs rather than less. How much of what it was offered the last one took is kept for ever.
"""

import logging
import math
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from edge_agent.control.stay import Stay, Wants
from edge_agent.model.files import write_private

log = logging.getLogger(__name__)

FILE: Final = "stays.json"
EVERY_S: Final = 60.0
SAME_VEHICLE_MS: Final = 600_000
_DAY_MS, _SUMMER_TIME_MS = 86_400_000, 3_600_000

_Amount = Annotated[float, Meta(ge=0.0)]


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    at_ms: int  # UTC
    plugged: bool
    drawn_wh: _Amount
    session_wh: _Amount | None
    energy_wh: _Amount | None  # as wanted
    ready_at_ms: int | None
    share: Annotated[float, Meta(ge=0.0, le=1.0)]


class StayMemory:
    """Of one agent, in its data folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._writer = ThreadPoolExecutor(1, "stay-memory")  # a slow disk is not waited for
        self._writing: Future[None] | None = None
        self._kept: dict[str, _Kept] | None = None  # by charger; None: not read yet
        self._written_s = -math.inf

    def recall(self, charger: str, wants: Wants | None, now_s: float, utc_ms: int) -> Stay:
        """The stay at a charger as an earlier start left it, as far as that can still be so.

        wants: what the owner wants of a vehicle that comes now; where that is another wish than before, it counts.
        """
        kept = self._known().get(charger)
        if kept is None:
            return Stay(at_s=now_s)
        if not kept.plugged or not 0 <= utc_ms - kept.at_ms <= SAME_VEHICLE_MS:
            return Stay(at_s=now_s, share=kept.share)
        if wants is not None and kept.energy_wh == wants.energy_wh and kept.ready_at_ms is not None:
            before_ms = (wants.ready_at_ms - kept.ready_at_ms) % _DAY_MS
            if min(before_ms, _DAY_MS - before_ms) <= _SUMMER_TIME_MS:  # the same time of day: the day may be past
                wants = Wants(energy_wh=wants.energy_wh, ready_at_ms=kept.ready_at_ms)
        return Stay(
            at_s=now_s,
            plugged=True,
            drawn_wh=kept.drawn_wh,
            session_wh=kept.session_wh if kept.session_wh is not None else math.nan,
            wants=wants,
            share=kept.share,
        )

    def keep(self, charger: str, stay: Stay, now_s: float, utc_ms: int) -> None:
        """Writes it down now and then, and when a vehicle comes or goes."""
        known = self._known()
        before = known.get(charger)
        known[charger] = _Kept(
            at_ms=utc_ms,
            plugged=stay.plugged,
            drawn_wh=stay.drawn_wh,
            session_wh=stay.session_wh if not math.isnan(stay.session_wh) else None,
            energy_wh=stay.wants.energy_wh if stay.wants is not None else None,
            ready_at_ms=stay.wants.ready_at_ms if stay.wants is not None else None,
            share=stay.share,
        )
        news = before is None or before.plugged is not stay.plugged
        idle = self._writing is None or self._writing.done()
        if idle and (news or now_s - self._written_s >= EVERY_S):
            self._written_s = now_s
            self._writing = self._writer.submit(self._write, msgspec.json.encode(known))

    def close(self) -> None:
        """Returns when what is known is on the disk."""
        self._writer.shutdown()
        if self._kept:
            self._write(msgspec.json.encode(self._kept))

    def _known(self) -> dict[str, _Kept]:
        if self._kept is None:
            self._kept = {}
            try:
                self._kept = msgspec.json.decode(self._path.read_bytes(), type=dict[str, _Kept])
            except FileNotFoundError:
                pass
            except (msgspec.DecodeError, OSError) as error:
                log.warning("%s cannot be read (%s): vehicles' energy is counted from nothing", self._path, error)
        return self._kept

    def _write(self, content: bytes) -> None:
        try:
            write_private(self._path, content)
        except OSError as error:
            log.warning("vehicles' energy is not kept for the next start: %s", error)
