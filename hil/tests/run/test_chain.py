"""The whole chain with real processes, sockets and broker."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from cloud.model.records import IntentState
from hil.rigs.recording import load_recording
from hil.run.chain import Chain, Timing
from hil.run.collect import book_keeping
from hil.run.command import play
from hil.run.processes import wait_until
from hil.run.report import summary, write_report

Start = Callable[[int], AbstractContextManager[Chain]]
SHORT = Timing(gate_closes_after_s=5, delivery_starts_after_s=10, quiet_before_s=4, quiet_after_s=4)


@pytest.mark.alone
def test_homes_answer_the_recorded_event_and_are_paid_for_it(running_chain: Start, tmp_path: Path) -> None:
    started = datetime.now(UTC)
    with running_chain(6) as running:
        results = play(running, SHORT, started=started, say=print)
        settled = [running.ledger.settlement(a.award_id) for a in running.ledger.awards()]
        shares = [s for a in running.ledger.awards() for s in running.ledger.award_shares(a.award_id)]

    assert results.failures == []
    assert {h.service_id for h in results.homes} == {"ercot-ffr", "ieee1547-droop"}
    assert sum(h.service_id == "ercot-ffr" for h in results.homes) == 3

    # What was paid is the recorded price for what was awarded, for the time it was held, by hand:
    hours = Decimal((results.delivery_end - results.delivery_start).total_seconds()) / 3600
    for award_share in shares:
        home = next(h for h in results.homes if h.site == award_share.site)
        full = Decimal(home.contracted_w) / 10**6 * Decimal("465.3") * hours
        assert abs(home.capacity_amount - full * home.performance_factor) <= Decimal("0.01")
    assert sum(s.total_amount for s in settled if s is not None) == sum(h.total_amount for h in results.homes)

    for home in results.homes:
        if home.service_id == "ercot-ffr":  # the recording falls below 59.85 Hz: all of it, once
            assert home.promised_w == home.contracted_w
            assert len(home.responses_ms) == 1
        else:  # IEEE 1547 at the recording's lowest 59.77 Hz, 5 kW rating: at most (59.964 - 59.77) / 3 of it
            assert 0 < home.promised_w < 5000 * (59.964 - 59.77) / 3
        assert home.delivered_w == pytest.approx(home.promised_w, abs=0.02 * home.contracted_w)
        assert min(home.responses_ms) >= 0

    assert np.nanmin(results.fleet.frequency_hz) == pytest.approx(59.772, abs=0.004)  # the recording's minimum
    report = tmp_path / "report.html"
    write_report(results, report)
    page = report.read_text()
    assert page.count("<svg") == 5
    assert not re.search(r'(src|href)="?https?:|<script|url\((?!#)', page.replace("http://www.w3.org", ""))
    assert all(home.site in page and home.site in summary(results) for home in results.homes)


@pytest.mark.parametrize("fault", ["coordinator and broker killed", "broker frozen"])
def test_thirty_seconds_without_the_coordinator_lose_and_double_nothing(running_chain: Start, fault: str) -> None:
    with running_chain(3) as running:
        running.start_rig()
        running.start_coordinator()
        running.register_homes()
        running.start_agents()
        running.wait_online()
        with running.without_coordinator(frozen=fault == "broker frozen"):
            silent_ms = round(_now_ms())
            before = {site: running.journal(site).frames_created for site in running.sites}
            wait_until(
                lambda: all(running.journal(s).frames_created >= before[s] + 30 for s in running.sites),
                "30 s of telemetry in the journals",
                within_s=90,
                processes=running.processes,
            )
            assert all(running.journal(site).frames_waiting >= 25 for site in running.sites)
        wait_until(
            lambda: all(running.journal(site).frames_waiting <= 1 for site in running.sites),
            "the journals are drained",
            within_s=90,
            processes=running.processes,
        )
        book = book_keeping(running)
        silence = running.history.read([0, 1, 2], silent_ms, silent_ms + 25_000, ["frequency_hz"])
    assert (book.missing, book.duplicate) == (0, 0)
    assert book.stored == book.sent
    assert book.bytes_per_value_wire <= 2.8
    assert np.isfinite(silence.columns["frequency_hz"]).mean() > 0.99  # it was measured all the same


def test_silence_ends_in_the_default_and_a_dead_agent_is_let_go_by_its_inverter(running_chain: Start) -> None:
    with running_chain(6) as running:
        running.start_rig()
        running.start_coordinator()
        running.register_homes()
        running.start_agents()
        running.wait_online()
        running.open_session(replace(SHORT, event_s=8))
        running.wait_armed()
        intents = {(i.site, i.kind): i for i in running.ledger.latest_intents()}
        last_expiry_ms = max(i.expires_ms for i in intents.values())
        assert all(i.state is IntentState.ACTIVE for i in intents.values())

        running.kill("agent-home-01")
        killed_ms = _now_ms()
        with running.without_coordinator(for_good=True):
            wait_until(
                lambda: _now_ms() > last_expiry_ms + 12_000,
                "the intents have run out",
                within_s=(last_expiry_ms - _now_ms()) / 1000 + 20,
                processes=running.processes,
            )
            recording = load_recording(running.save_recording())

    dead = recording.homes["home-01"]
    reverted = dead.reversions_ms[dead.reversions_ms > killed_ms - 1000]
    assert len(reverted) == 1  # its own timer, nobody else's doing
    assert np.isnan(dead.setpoint_w[-1])
    for site in running.sites[1:]:
        alive = recording.homes[site]
        assert len(alive.reversions_ms) == 0
        held = alive.t_ms < last_expiry_ms - 1000
        after = alive.t_ms > last_expiry_ms + 6000
        scheduled = alive.setpoint_w[held & (alive.t_ms > last_expiry_ms - 4000)]
        # The schedule holds to its last second: one value, or two where a market time unit ended just then.
        assert 1 <= len(set(scheduled)) <= 2
        # The default is self-consumption: the inverter follows the load, whatever the schedule had asked.
        assert np.median(np.abs(alive.grid_w[after])) < 20 + 0.1 * np.median(alive.load_w[after])


def _now_ms() -> float:
    return datetime.now(UTC).timestamp() * 1000
