"""How well groups followed the signals that were broadcast to them: from what was broadcast and the history.

A group's response is what its sites that were told a part measured at the inverter, less their baseline: the schedule
in force, or where there was none the mean power of the minute before. What was not measured is no response. PJM's
services are scored by PJM's rule on the signal as it was broadcast, others by the judge of settlement
(cloud.dispatch.verification) on the group's sum.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np
from google.protobuf.json_format import Parse

from cloud.dispatch.scores import SHORTEST_S, pjm_score
from cloud.dispatch.verification import Array, verify
from cloud.model.regulation import RegulationRecord
from cloud.store.errors import HistoryError
from cloud.store.history import History
from cloud.store.ledger import Ledger
from cloud.store.regulations import Signal
from protos import services
from protos.vpp.v1 import intent_pb2

log = logging.getLogger(__name__)

BUCKET_MS: Final = 2000
BEFORE_MS: Final = 60_000
LATE_MS: Final = 45_000  # telemetry may come so late
_LOOK_S: Final = 10.0
_MILLION: Final = 1e6


class Scorer:
    """Of the coordinator that leads: scores what is over, once."""

    def __init__(self, ledger: Ledger, history: History, utc_ms: Callable[[], int]) -> None:
        self._ledger = ledger
        self._history = history
        self._utc_ms = utc_ms

    async def run(self) -> None:
        """For ever. Raises LedgerError."""
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_S)

    async def look(self) -> None:
        """Scores what has been over for a while."""
        now_ms = self._utc_ms()
        for regulation in await asyncio.to_thread(self._ledger.unscored, now_ms - LATE_MS):
            try:
                found = await asyncio.to_thread(scored, self._ledger, self._history, regulation)
            except (HistoryError, OSError) as error:
                log.warning("regulation %s cannot be scored yet: %s", regulation.regulation_id, error)
                continue
            await asyncio.to_thread(self._ledger.put_score, found, now_ms)


def scored(ledger: Ledger, history: History, regulation: RegulationRecord) -> RegulationRecord:
    """The regulation with its score, or why it has none. Raises LedgerError, HistoryError, OSError."""
    service = services.parse(regulation.service_toml)
    parts = ledger.regulated(regulation)
    signals = ledger.regulation_signals(regulation.regulation_id)
    if not signals or not parts:
        return replace(regulation, note="nothing was broadcast" if not signals else "no site took part")
    begin_ms = signals[0][0] // BUCKET_MS * BUCKET_MS
    buckets = max(1, (regulation.end_ms - begin_ms) // BUCKET_MS)
    slots = np.array(sorted(slot for slot, _ in parts.values()), dtype=np.int64)
    names = {slot: site for site, (slot, _) in parts.items()}
    planned = {slot: _planned(ledger, names[slot], begin_ms, buckets) for slot in slots.tolist()}
    response_w, known = _response(history, slots, planned, begin_ms, buckets)
    share = _held(signals, begin_ms, buckets)
    dt_s = BUCKET_MS / 1000
    verdict = verify(
        service,
        contracted_w=regulation.power_w,
        rated_power_w=regulation.power_w,
        baseline_w=np.zeros(buckets),
        power_w=response_w,
        frequency_hz=share,
        dt_s=dt_s,
    )
    found = replace(
        regulation, score=round(1.0 - verdict.error, 6), coverage=round(float(known.mean()) / len(slots), 6)
    )
    if service.performance.score != "pjm" or buckets * dt_s < SHORTEST_S:
        return found
    by_operator = pjm_score(share, verdict.delivered_share, dt_s)
    return replace(
        found,
        score=round(by_operator.score, 6),
        correlation=round(by_operator.correlation, 6),
        delay=round(by_operator.delay, 6),
        precision=round(by_operator.precision, 6),
    )


def _held(signals: list[Signal], begin_ms: int, buckets: int) -> Array:
    """float64 [buckets]: the share that was broadcast last before the end of each."""
    at_ms = np.array([at for at, _ in signals])
    ends = begin_ms + BUCKET_MS * (np.arange(buckets) + 1)
    newest = np.searchsorted(at_ms, ends, side="left") - 1
    values = np.array([value for _, value in signals]) / _MILLION
    return np.asarray(values[np.maximum(newest, 0)], dtype=np.float64)


def _planned(ledger: Ledger, site: str, begin_ms: int, buckets: int) -> Array:
    """float64 [buckets]: the site's schedule in force [W]; NaN where there was none."""
    at_ms = begin_ms + BUCKET_MS * np.arange(buckets)
    power_w = np.full(buckets, np.nan)
    for record in ledger.schedules(site, begin_ms, begin_ms + BUCKET_MS * buckets):
        schedule = Parse(record.body, intent_pb2.Intent()).schedule
        values = np.array(schedule.inverter_power_w, dtype=np.float64)
        unit = (at_ms - schedule.start_ms) // (1000 * schedule.mtu_s)
        in_force = (at_ms >= max(record.valid_from_ms, record.issued_ms)) & (at_ms < record.expires_ms)
        inside = in_force & (unit >= 0) & (unit < len(values))
        power_w[inside] = values[unit[inside]]
    return power_w


def _response(
    history: History, slots: np.ndarray, planned: Mapping[int, Array], begin_ms: int, buckets: int
) -> tuple[Array, Array]:
    """float64 [buckets], twice: power beyond the baseline of all sites [W], and how many sites were measured."""
    end_ms = begin_ms + BUCKET_MS * buckets
    total_w, known = np.zeros(buckets), np.zeros(buckets)
    before = {slot: _Mean() for slot in planned}
    for batch in history.samples(slots, begin_ms - BEFORE_MS, end_ms, ["inverter_power_w"]):
        columns = [batch.column(name).to_numpy(zero_copy_only=False) for name in batch.schema.names]
        slot, t_ms, interval_ms, power_w = columns
        for number in np.unique(slot).tolist():  # by site and time: what was before comes first
            mine = (slot == number) & np.isfinite(power_w)
            early = mine & (t_ms < begin_ms)
            before[number].add(power_w[early])
            chosen = mine & (t_ms >= begin_ms)
            bucket = (t_ms[chosen] - begin_ms) // BUCKET_MS
            weight = interval_ms[chosen] / BUCKET_MS
            base_w = np.where(np.isnan(planned[number]), before[number].value, planned[number])[bucket]
            total_w += np.bincount(bucket, (power_w[chosen] - base_w) * weight, buckets)
            known += np.bincount(bucket, weight, buckets)
    return total_w, known


class _Mean:
    """Of what was added; 0 of nothing."""

    def __init__(self) -> None:
        self._total, self._count = 0.0, 0

    def add(self, values: Array) -> None:
        self._total, self._count = self._total + float(values.sum()), self._count + len(values)

    @property
    def value(self) -> float:
        return self._total / self._count if self._count else 0.0
