"""Who takes part, and every reason why not."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from cloud.config import OfferConfig
from cloud.markets.roster import LiveSites, call_roll
from cloud.model.records import Description, Site
from cloud.store.history import HistorySlice
from cloud.store.quarters import QUARTER_MS, QuarterHours

NOW_MS = 1_700_000_100_000
START_MS = NOW_MS // QUARTER_MS * QUARTER_MS
OFFERS = (
    OfferConfig(product="ffr", service="ercot-ffr", group="fast"),
    OfferConfig(product="droop", service="ieee1547-droop", group="droop"),
)
DESCRIPTION = Description(
    agent_version="1",
    rated_power_w=5_000.0,
    max_charge_w=5_000.0,
    max_discharge_w=5_000.0,
    storage_capacity_wh=10_000.0,
    soc_min=0.1,
    soc_max=0.95,
)
HOME = Site(slot=0, site="home-01", groups=("fast",), created_ms=1, enrolled_ms=2, description=DESCRIPTION)


class Past:
    def __init__(self, load_wh: float = 100.0) -> None:
        self.load_wh = load_wh
        self.asked: list[tuple[int, int, int]] = []

    def quarter_hours(self, slot: int, t0_ms: int, t1_ms: int) -> QuarterHours:
        self.asked.append((slot, t0_ms, t1_ms))
        start_ms = np.arange(t0_ms, t1_ms, QUARTER_MS)
        known = np.full(len(start_ms), self.load_wh)
        return QuarterHours(start_ms, known, known, np.ones(len(start_ms)))

    def read(self, slots: Sequence[int], t0_ms: int, t1_ms: int, points: Sequence[str]) -> HistorySlice:
        raise AssertionError("the roll needs no samples")


def live(soc: float = 0.5, silent_s: float = 1.0) -> LiveSites:
    return LiveSites(soc=np.array([soc]), last_seen_ms=np.array([NOW_MS - int(silent_s * 1000)]), now_ms=NOW_MS)


def test_a_member_comes_with_its_fortnight() -> None:
    past = Past()
    roster = call_roll([HOME], OFFERS, live(), past, START_MS)
    assert roster.left_out == {}
    (member,) = roster.members
    assert (member.state.site, member.offer.product, member.state.soc) == ("home-01", "ffr", 0.5)
    assert past.asked == [(0, START_MS - 14 * 86_400_000, START_MS)]
    assert len(member.state.load_wh) == 14 * 96


def test_power_is_sold_once() -> None:
    both = replace(HOME, groups=("droop", "fast"))
    assert [m.offer.product for m in call_roll([both], OFFERS, live(), Past(), START_MS).members] == ["ffr"]


@pytest.mark.parametrize(
    ("site", "seen", "past", "reason"),
    [
        pytest.param(replace(HOME, groups=("north",)), live(), Past(), "none of its groups", id="group"),
        pytest.param(replace(HOME, enrolled_ms=None), live(), Past(), "not enrolled", id="enrolment"),
        pytest.param(replace(HOME, description=None), live(), Past(), "not told yet", id="description"),
        pytest.param(
            replace(HOME, description=replace(DESCRIPTION, storage_capacity_wh=0.0)),
            live(),
            Past(),
            "no storage",
            id="pv",
        ),
        pytest.param(replace(HOME, slot=1), live(), Past(), "never heard of", id="unseen"),
        pytest.param(HOME, live(silent_s=16), Past(), "not online: silent for 16 s", id="silent"),
        pytest.param(HOME, live(soc=float("nan")), Past(), "state of charge", id="no state of charge"),
        pytest.param(HOME, live(), Past(float("nan")), "history import", id="no history"),
    ],
)
def test_left_out_with_a_reason(site: Site, seen: LiveSites, past: Past, reason: str) -> None:
    roster = call_roll([site], OFFERS, seen, past, START_MS)
    assert roster.members == ()
    assert reason in roster.left_out[site.site]
