"""A regulation contract scored from what was broadcast and from the history, against PJM's published values."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cloud.dispatch.scoring import LATE_MS, Scorer
from cloud.gateway.intents import body_text
from cloud.model.regulation import RegulationRecord
from cloud.model.telemetry import HOLE, POINTS, SAMPLES, Array, Frames
from cloud.store.history import History
from cloud.store.ledger import Ledger
from cloud.store.segments import Position
from protos import services
from protos.vpp.v1 import intent_pb2

START_MS = 1_790_001_000_000
WAVE = np.sin(2 * np.pi * np.arange(90) / 60)  # of 10 s each
LENGTH_MS = 10_000 * len(WAVE)
CONTRACTED = {"s0": 6_000, "s1": 4_000}
SCHEDULED_W, BEFORE_W = 700.0, -250.0  # of the one, of the other, which has no schedule
TOLD = RegulationRecord(
    regulation_id="regulation-1",
    group="g",
    service_id="pjm-regd",
    service_version=1,
    service_toml=services.text("pjm-regd"),
    power_w=sum(CONTRACTED.values()),
    start_ms=START_MS - 5_000,
    end_ms=START_MS + LENGTH_MS,
    actor="me",
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.add_regulation(TOLD)
        for site, contracted_w in CONTRACTED.items():
            ledger.add_site(site, ("g",), 1)
            arm = intent_pb2.ArmService(award_id=TOLD.regulation_id, contracted_w=contracted_w, group="g")
            record(ledger, site, "service", arm)
        schedule = intent_pb2.Schedule(start_ms=START_MS - 60_000, mtu_s=900, inverter_power_w=[int(SCHEDULED_W)] * 2)
        record(ledger, "s0", "schedule", schedule)
        signals = np.rint(np.repeat(WAVE, 5) * 1e6).astype(int).tolist()
        ledger.add_signals(TOLD.regulation_id, [(START_MS + 2_000 * n, value) for n, value in enumerate(signals)])
        yield ledger


def record(ledger: Ledger, site: str, kind: str, body: intent_pb2.ArmService | intent_pb2.Schedule) -> None:
    ledger.record_intent(
        site, kind, valid_from_ms=START_MS - 60_000, expires_ms=TOLD.end_ms, body=body_text(body), now_ms=TOLD.start_ms
    )


def measured(shares: Array, *, late_s: int, gain: float = 1.0, silent: bool = False) -> Frames:
    """Samples of a second from a minute before on: each site gives its part of the signal, so much later."""
    seconds = np.arange(-60, LENGTH_MS // 1000)
    block = (seconds - late_s) // 10
    share = np.where(block >= 0, shares[np.clip(block, 0, None)], 0.0)
    share[seconds < 0] = 0.0
    bases = {0: SCHEDULED_W, 1: BEFORE_W}
    parts = []
    for slot, contracted_w in enumerate(CONTRACTED.values()):
        power_w = np.rint(bases[slot] + gain * contracted_w * share).reshape(-1, SAMPLES)
        counts = np.full((len(power_w), len(POINTS), SAMPLES), HOLE, dtype=np.int32)
        counts[:, POINTS.index("inverter_power_w")] = power_w
        if silent and slot == 1:
            counts[seconds.reshape(-1, SAMPLES)[:, 0] >= 0] = HOLE
        number = len(power_w)
        t0_ms = START_MS + 1000 * seconds.reshape(-1, SAMPLES)[:, 0]
        parts.append(Frames(np.zeros(number, int), np.full(number, slot), 1 + np.arange(number), t0_ms,
                            np.full(number, 1000), counts))  # fmt: skip
    return Frames.joined(parts)


@pytest.mark.parametrize(
    ("late_s", "gain", "correlation", "delay", "precision"),
    [
        # Reference: services 1.9, as in test_scores.
        pytest.param(0, 1.0, 1.0, 1.0, 1.0, id="identical"),
        pytest.param(0, 0.5, 1.0, 1.0, 0.5, id="half"),
        pytest.param(30, 1.0, 1.0, 0.9, 0.70299, id="30 s late"),
    ],
)
async def test_what_the_group_did_is_scored_by_the_published_rule(
    tmp_path: Path, ledger: Ledger, late_s: int, gain: float, correlation: float, delay: float, precision: float
) -> None:
    history = History(tmp_path / "history")
    history.append(0, Position(0, 1, 1), 1, measured(WAVE, late_s=late_s, gain=gain))
    now_ms = TOLD.end_ms + LATE_MS + 1
    await Scorer(ledger, history, lambda: now_ms).look()
    found = ledger.regulation(TOLD.regulation_id)
    assert found is not None
    assert (found.correlation, found.delay, found.precision) == pytest.approx((correlation, delay, precision), abs=2e-3)
    assert found.score == pytest.approx((correlation + delay + precision) / 3, abs=2e-3)
    assert found.coverage == pytest.approx(1.0)
    assert (found.scored_ms, found.signals) == (now_ms, 450)
    assert ledger.unscored(now_ms) == []


async def test_a_site_that_was_not_measured_gave_nothing(tmp_path: Path, ledger: Ledger) -> None:
    history = History(tmp_path / "history")
    history.append(0, Position(0, 1, 1), 1, measured(WAVE, late_s=0, silent=True))
    await Scorer(ledger, history, lambda: TOLD.end_ms + LATE_MS + 1).look()
    found = ledger.regulation(TOLD.regulation_id)
    assert found is not None
    assert (found.precision, found.coverage) == pytest.approx((0.6, 0.5), abs=2e-3)


async def test_nothing_is_scored_before_late_telemetry_had_its_time_nor_where_nothing_was_broadcast(
    tmp_path: Path, ledger: Ledger
) -> None:
    history = History(tmp_path / "history")
    await Scorer(ledger, history, lambda: TOLD.end_ms + LATE_MS).look()
    assert ledger.regulation(TOLD.regulation_id) == replace(TOLD, signals=450)
    ledger.add_regulation(replace(TOLD, regulation_id="regulation-2", end_ms=TOLD.start_ms + 1))
    await Scorer(ledger, history, lambda: TOLD.end_ms).look()
    other = ledger.regulation("regulation-2")
    assert other is not None
    assert (other.score, other.note) == (None, "nothing was broadcast")
