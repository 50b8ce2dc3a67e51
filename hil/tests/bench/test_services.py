"""Services in closed loop: the whole agent in virtual time on the simulated plant, against the services' own limits."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cloud.dispatch.scores import pjm_score
from hil.bench.closed_loop import CONTRACTED_W, Trace, run
from hil.bench.services import (
    DEEP,
    FINE_S,
    Programme,
    bench_services,
    directions,
    pct_outside,
    player,
    programme,
    signal_player,
    timing,
)
from hil.cli import main
from hil.data.recordings import grid_ten_minutes, pjm_rega, underfrequency_event
from protos import services

# The bench plays these as well; a quarter of an hour's hold and minutes of delivery are long for a test.
LONG = {"ercot-ffr", "fcr-n", "afrr", "afrr-up", "afrr-down"}


@pytest.mark.parametrize("service_id", [s for s in services.shipped() if s not in LONG])
async def test_each_service_keeps_its_timing_and_its_envelope(service_id: str) -> None:
    service = services.load(service_id)
    for sign in directions(service):
        planned = programme(service, sign)
        assert planned.due * sign > 0.1, "the programme asks for something"
        trace = await run(service_id, planned.followed, planned.ends_s, sample_s=FINE_S)
        measured = timing(trace, planned)
        assert measured.initiation_s <= service.timing.initiation_s
        assert measured.full_delivery_s <= service.timing.full_delivery_s
        assert measured.overshoot_pu <= service.timing.overshoot_pu
        assert pct_outside(service, trace.every(0.1)) == 0
        assert abs(trace.share[-1]) < 0.01, "and back"


@pytest.mark.parametrize("service_id", ["gb-dc", "fcr-d-up", "nordic-ffr-495-5s", "synthetic-inertia-60"])
async def test_the_recorded_event_three_times_as_deep_stays_in_the_envelope(service_id: str) -> None:
    service = services.load(service_id)
    event = underfrequency_event().between(60.0, 100.0)
    trace = await run(service_id, player(event, service.nominal_hz, DEEP), event.duration_s)
    assert trace.share.max() > 0.05
    assert pct_outside(service, trace) == 0


async def test_recorded_regulation_is_followed_to_the_operators_liking() -> None:
    """Fifteen minutes of RegA, most of the way up and down; the bench plays two hours."""
    service = services.load("pjm-rega")
    trace = await run("pjm-rega", signal_player(pjm_rega(1).between(11_700.0, 12_600.0)), 900.0)
    assert trace.share.max() - trace.share.min() > 1.4, "it asks for a lot"
    assert pjm_score(trace.followed, trace.share, trace.dt_s).score >= 0.98
    assert pct_outside(service, trace) == 0


async def test_ramp_limits_hold_at_the_device() -> None:
    """DR up: an eighth of the contract a second; a fast reserve lets go with a fifth of it a second, no faster."""
    for service_id, steepest in (("gb-dr-low", 0.125), ("nordic-ffr-497-5s", 0.2)):
        planned = programme(services.load(service_id), 1.0)
        trace = await run(service_id, planned.followed, planned.ends_s)
        over_a_second = trace.share[10:] - trace.share[:-10]
        slowest = -over_a_second.min() if service_id.startswith("nordic") else over_a_second.max()
        assert slowest == pytest.approx(steepest, abs=0.05 * 0.2 + 1e-6), "a cycle's worth of the ramp"


async def test_a_fast_reserve_holds_lets_go_and_acts_again(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(services.text("nordic-ffr-497-5s").replace("rearm_s = 888.7", "rearm_s = 4.0"))
    dips = ((2.013, 2.5), (14.0, 14.5), (20.0, 20.5))  # acts; still recovering until 17.313 s; acts again
    trace = await run(str(own), lambda at_s: 49.65 if any(begin <= at_s < end for begin, end in dips) else 50.0, 35.0)
    at_s = np.arange(trace.share.size) * 0.1
    assert trace.share[(at_s > 2.2) & (at_s < 8.2)] == pytest.approx(1.0, abs=0.01)
    assert trace.share[(at_s > 13.6) & (at_s < 20.0)] == pytest.approx(0.0, abs=0.01)
    assert trace.share[(at_s > 20.2) & (at_s < 26.2)] == pytest.approx(1.0, abs=0.01)
    assert pct_outside(services.load(str(own)), trace) == 0


async def test_a_storage_nearly_empty_answers_around_the_mean(tmp_path: Path) -> None:
    """FCR at a steady 49.9 Hz with 4 minutes left: half the contract fades with the mean, and a new dip is answered."""
    own = tmp_path / "own.toml"
    own.write_text(
        services.text("fcr").replace("mean_s = 300.0", "mean_s = 20.0").replace("delay_s = 30.0", "delay_s = 0.5")
    )
    charge = 0.1 + 240 / 3600 * 2000 / 10_000
    trace = await run(str(own), lambda at_s: 49.9 if at_s < 50 else 49.8, 52.0, soc=charge, baseline_w=0)
    assert trace.share[10] == pytest.approx(0.5, abs=0.05)
    assert trace.share[400] == pytest.approx(0.0, abs=0.04), "within the tolerance in which the storage recovers"
    assert trace.share[510] == pytest.approx(0.5, abs=0.06)
    assert pct_outside(services.load(str(own)), trace) == 0
    assert pct_outside(services.load(str(own)), replace(trace, soc=np.full(trace.soc.size, 0.5))) > 50


def test_the_measures_see_what_is_wrong() -> None:
    """A made-up device: first movement after 0.4 s, 20 % too much, there after 1.2 s."""
    service = services.load("gb-dc-low")
    planned = Programme(
        followed=lambda at_s: 49.5 if at_s >= 1.0 else 50.0, leaves_s=1.0, observed_s=4.0, ends_s=4.0, due=1.0
    )
    at_s = np.arange(0.0, 4.0, FINE_S)
    share = np.interp(at_s, [1.39, 1.8, 2.0, 2.2], [0.0, 1.2, 1.2, 1.0])
    frequency = np.array([planned.followed(float(instant)) for instant in at_s])
    trace = Trace(dt_s=FINE_S, followed=frequency, share=share, soc=np.full(at_s.size, 0.5), soc_limits=(0.1, 0.95))
    measured = timing(trace, planned)
    assert measured.initiation_s == pytest.approx(0.4, abs=0.011)
    assert measured.full_delivery_s == pytest.approx(1.2, abs=0.021)
    assert measured.overshoot_pu == pytest.approx(0.2)
    assert not measured.within(service)
    assert pct_outside(service, trace.every(0.1)) > 5
    nothing = replace(trace, share=np.zeros(at_s.size))
    assert timing(nothing, planned).initiation_s == timing(nothing, planned).full_delivery_s == float("inf")
    assert pct_outside(service, nothing.every(0.1)) == pytest.approx(100 * 20 / 40)  # all but the second it may take


def test_figures_of_a_service() -> None:
    said: list[str] = []
    figures = bench_services(["gb-dm-high"], say=said.append)
    assert figures["service_envelope_pct_outside"] == 0
    assert (figures["services_within_timing"], figures["services"]) == (1, 1)
    assert set(figures["by_service"]["gb-dm-high"]["envelope_pct_outside"]) == {"high", "event", "event_deep", "day"}
    assert len(said) == 1


def test_a_service_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "services", "--service", "gb-dx"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("vpp-hil: service 'gb-dx' is unknown")
    assert error.count("\n") == 1


async def test_a_storage_short_of_its_energy_recovers_without_spoiling_what_it_delivers() -> None:
    """FCR-N always moves; ten recorded minutes with too little energy and with enough: always in tolerance."""
    service, day = services.load("fcr-n"), grid_ten_minutes()
    played = player(day, service.nominal_hz)
    short, enough = [await run("fcr-n", played, day.duration_s, soc=soc, baseline_w=0) for soc in (0.2, 0.5)]
    recovered_wh = ((short.soc[-1] - short.soc[0]) - (enough.soc[-1] - enough.soc[0])) * 10_000
    most_wh = 0.8 * service.performance.tolerance_pu * CONTRACTED_W * day.duration_s / 3600
    assert 0.5 * most_wh < recovered_wh < 1.1 * most_wh
    assert pct_outside(service, short) == 0
