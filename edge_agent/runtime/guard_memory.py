"""What the guard has counted, kept over restarts: an agent that starts again and again has no fresh budgets.

The file has ages, not instants, and they stand still while nobody runs: no clock that somebody might set is believed.
"""

import logging
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from math import isfinite
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from edge_agent.control.guard import BURST_SHARE, DAY_HOURS, HOUR_S, Guard, GuardLimits
from edge_agent.model.files import write_private

log = logging.getLogger(__name__)

FILE: Final = "guard.json"
GRAIN: Final = 50  # this part of a budget may be used before it is written down; a start takes it for used

_Amount = Annotated[float, Meta(ge=0.0)]


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    turns_ago_s: tuple[_Amount, ...]
    arms_ago_s: tuple[_Amount, ...]
    used_wh: tuple[tuple[Annotated[int, Meta(ge=0)], _Amount], ...]  # (hours ago, energy)
    moved_w: _Amount


class GuardMemory:
    """Of one agent, in its data folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._writer = ThreadPoolExecutor(1, "guard-memory")  # a slow disk is not waited for
        self._writing: Future[None] | None = None
        self._kept = Guard()
        self._late = b""  # what is to be written once the disk is done with the last

    def recall(self, limits: GuardLimits, now_s: float) -> tuple[Guard, str]:
        """The budgets as an earlier start left them, all but spent where they cannot be read; and the problem then."""
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=_Kept)
        except FileNotFoundError:
            return Guard(), ""
        except (msgspec.DecodeError, OSError) as error:
            problem = f"{self._path.name} cannot be read ({error}): for an hour the coordinator is not followed"
            return _spent(limits, now_s), problem
        hour = int(now_s / HOUR_S)
        used_wh = {hour - ago: wh for ago, wh in kept.used_wh if ago < DAY_HOURS}
        used_wh[hour] = used_wh.get(hour, 0.0) + _finite(limits.throughput_wh_per_day) / GRAIN
        return Guard(
            turns_s=tuple(now_s - ago_s for ago_s in kept.turns_ago_s),
            arms_s=tuple(now_s - ago_s for ago_s in kept.arms_ago_s),
            used_wh=tuple(used_wh.items()),
            moved_w=kept.moved_w + limits.mileage_w_per_hour * BURST_SHARE / GRAIN,
        ), ""

    def keep(self, guard: Guard, limits: GuardLimits, now_s: float) -> None:
        """Writes it down where so much was used since that a start would have to know."""
        kept = self._kept
        turned = guard.turns_s[-1:] != kept.turns_s[-1:]
        used = _sum(guard.used_wh) - _sum(kept.used_wh) >= limits.throughput_wh_per_day / GRAIN
        moved = guard.moved_w - kept.moved_w >= limits.mileage_w_per_hour * BURST_SHARE / GRAIN
        if not (turned or used or moved):
            return
        hour = int(now_s / HOUR_S)
        content = _Kept(
            turns_ago_s=tuple(now_s - at_s for at_s in guard.turns_s),
            arms_ago_s=tuple(now_s - at_s for at_s in guard.arms_s),
            used_wh=tuple((max(0, hour - at), wh) for at, wh in guard.used_wh),
            moved_w=guard.moved_w,
        )
        self._late = msgspec.json.encode(content)
        if self._writing is None or self._writing.done():
            self._kept = guard
            self._writing = self._writer.submit(self._write, self._late)
            self._late = b""

    def close(self) -> None:
        """Returns when what was to be kept is on the disk."""
        self._writer.shutdown()
        if self._late:
            self._write(self._late)

    def _write(self, content: bytes) -> None:
        try:
            write_private(self._path, content)
        except OSError as error:
            log.warning("what the guard has counted is not kept for the next start: %s", error)


def _spent(limits: GuardLimits, now_s: float) -> Guard:
    """Every budget used up, until an hour from now."""
    turns_s = (now_s,) * limits.turns_per_hour
    oldest = int(now_s / HOUR_S) - DAY_HOURS + 1
    return Guard(
        turns_s=turns_s,
        arms_s=turns_s,
        used_wh=((oldest, _finite(limits.throughput_wh_per_day)),),
        moved_w=limits.mileage_w_per_hour * (1.0 + BURST_SHARE),
    )


def _sum(used_wh: Iterable[tuple[int, float]]) -> float:
    return sum(wh for _, wh in used_wh)


def _finite(budget: float) -> float:
    return budget if isfinite(budget) else 0.0
