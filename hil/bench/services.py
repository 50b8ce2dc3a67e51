"""Each service in closed loop: a whole agent in virtual time on a simulated inverter, judged by the cloud.

What plays: a programme of the service's own (`programme`), the recorded under-frequency event, the same three times as
deep, and ten recorded minutes of an ordinary day; recordings in per unit, on the service's own nominal frequency. A
service that follows a signal gets its programme and recorded RegA (two hours, or two excerpts); PJM's own score is
taken of PJM's services.
The judge (`cloud.dispatch.verification`) gets what the device really did, a sample every 100 ms; a sample is outside
where the power leaves the service's delivery envelope while something was due.

Timing is taken at the device too, every 10 ms, from the instant the programme leaves nominal: initiation until power
has moved by 1 % of the contract, full delivery until it stays within 1 % of what is due, overshoot beyond that.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Final

import numpy as np

from cloud.dispatch.expected import expected_share
from cloud.dispatch.reserve_mode import seconds_left
from cloud.dispatch.scores import pjm_score
from cloud.dispatch.verification import verify
from edge_agent.runtime.testing import PLATE
from hil.bench.closed_loop import BASELINE_W, CONTRACTED_W, Array, Trace, run
from hil.data.recordings import FrequencyRecording, SignalRecording, grid_ten_minutes, pjm_rega, underfrequency_event
from hil.run.chain import Say
from hil.run.collect import machine
from protos import services
from protos.services import Service

TELEMETRY_S: Final = 0.1
FINE_S: Final = 0.01
NEAR_PU: Final = 0.01  # of the contracted power: moved, or arrived
DEEP: Final = 3.0
LEAVES_S: Final = 2.013  # bears no relation to the agent's cycle
SIGNAL_LEAVES_S: Final = 4.0  # when one is sent
RECORDED: Final = "pjm-rega"  # what the recorded signal is: an hour of it each day, of others' use an excerpt
HOUR_S: Final = 3600.0
EXCERPT_S: Final = 1200.0
LIVELY_S: Final = 3 * HOUR_S  # into the recording: it goes up and down
OBSERVED_S: Final = 3.0  # beyond what full delivery is allowed
FARTHEST_HZ: Final = 1.0
BEYOND_HZ: Final = 0.05  # a trigger's threshold
INERTIA_HZ_PER_S: Final = 0.5
INERTIA_LASTS_S: Final = 1.8
_RATIO: Final = PLATE.rated_power_w / CONTRACTED_W


@dataclass(frozen=True, slots=True, kw_only=True)
class Programme:
    """A frequency, or a signal, that asks for all a service has in one direction, and then lets it come back."""

    followed: Callable[[float], float]  # frequency [Hz] or signal at an instant [s], at rest before `leaves_s`
    leaves_s: float
    observed_s: float  # until here the target stands
    ends_s: float
    due: float  # share, once all is delivered


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What was measured on a programme."""

    initiation_s: float
    full_delivery_s: float
    overshoot_pu: float  # of the contracted power

    def within(self, service: Service) -> bool:
        limits = service.timing
        return (
            self.initiation_s <= limits.initiation_s
            and self.full_delivery_s <= limits.full_delivery_s
            and self.overshoot_pu <= limits.overshoot_pu
        )


def bench_services(references: Sequence[str], *, say: Say) -> dict[str, Any]:
    """The figures, by name; of every service that ships where none is named. Raises ServiceError."""
    asked = [(reference, services.load(reference)) for reference in references or services.shipped()]
    figures = {}
    # Time is virtual: what runs beside it changes nothing.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for (_, service), figure in zip(asked, pool.map(_measure, (reference for reference, _ in asked)), strict=True):
            figures[service.id] = figure
            say(
                f"{service.id:<22} outside {max(figure['envelope_pct_outside'].values()):6.3f} %   "
                f"first {figure['initiation_s']:7.3f} of {service.timing.initiation_s:g} s   "
                f"full {figure['full_delivery_s']:7.3f} of {service.timing.full_delivery_s:g} s   "
                f"overshoot {figure['overshoot_pu']:.4f} of {service.timing.overshoot_pu:g}"
            )
    pjm = [figure["pjm_score"] for figure in figures.values() if "pjm_score" in figure]
    return {
        **({"pjm_score": min(pjm)} if pjm else {}),
        "service_envelope_pct_outside": max(max(f["envelope_pct_outside"].values()) for f in figures.values()),
        "services_within_timing": sum(f["within_timing"] for f in figures.values()),
        "services": len(figures),
        "by_service": figures,
        "machine": machine(),
    }


def _measure(reference: str) -> dict[str, Any]:
    return asyncio.run(_one(reference, services.load(reference)))


async def _one(reference: str, service: Service) -> dict[str, Any]:
    outside: dict[str, float] = {}
    scores: dict[str, float] = {}
    timings = []
    for sign in directions(service):
        planned = programme(service, sign)
        trace = await run(reference, planned.followed, planned.ends_s, sample_s=FINE_S)
        timings.append(timing(trace, planned))
        outside["low" if sign > 0 else "high"] = pct_outside(service, trace.every(TELEMETRY_S))
    if service.signal is not None:
        for name, day in (("rega_1", 1), ("rega_2", 2)):
            lasts_s = HOUR_S if service.id == RECORDED else EXCERPT_S
            played = signal_player(pjm_rega(day).between(LIVELY_S, LIVELY_S + lasts_s))
            trace = await run(reference, played, lasts_s, sample_s=TELEMETRY_S)
            outside[name] = pct_outside(service, trace)
            if service.performance.score == "pjm":
                scores[name] = pjm_score(trace.followed, trace.share, trace.dt_s).score
    else:
        event, calm = underfrequency_event(), grid_ten_minutes()
        for name, recording, depth in (("event", event, 1.0), ("event_deep", event, DEEP), ("day", calm, 1.0)):
            played = player(recording, service.nominal_hz, depth)
            trace = await run(reference, played, recording.duration_s, sample_s=TELEMETRY_S)
            outside[name] = pct_outside(service, trace)
    return {
        **({"pjm_score": round(min(scores.values()), 4)} if scores else {}),
        "envelope_pct_outside": {name: round(pct, 4) for name, pct in outside.items()},
        "initiation_s": round(max(t.initiation_s for t in timings), 3),
        "full_delivery_s": round(max(t.full_delivery_s for t in timings), 3),
        "overshoot_pu": round(max(t.overshoot_pu for t in timings), 4),
        "within_timing": all(t.within(service) for t in timings),
    }


def directions(service: Service) -> list[float]:
    """+1 for power towards the grid, -1 for power out of it, as far as the service asks for them."""
    return [sign for sign, asked in zip((1.0, -1.0), service.directions, strict=True) if asked]


def programme(service: Service, sign: float) -> Programme:
    """The service's own programme; sign +1: at low frequency."""
    nominal_hz, full_s = float(service.nominal_hz), service.timing.full_delivery_s
    if service.inertia is not None:
        back_s = LEAVES_S + INERTIA_LASTS_S
        lowest_hz = nominal_hz - sign * INERTIA_HZ_PER_S * INERTIA_LASTS_S

        def fall(at_s: float) -> float:
            return float(np.interp(at_s, [LEAVES_S, back_s], [nominal_hz, lowest_hz]))

        due = _settled(service, [fall(LEAVES_S + k * FINE_S) for k in range(round(INERTIA_LASTS_S / FINE_S))], FINE_S)
        return Programme(followed=fall, leaves_s=LEAVES_S, observed_s=back_s, ends_s=back_s + OBSERVED_S, due=due)
    if service.signal is not None:
        observed_s = back_s = SIGNAL_LEAVES_S + full_s + OBSERVED_S
        return Programme(
            followed=lambda at_s: sign if SIGNAL_LEAVES_S <= at_s < back_s else 0.0,
            leaves_s=SIGNAL_LEAVES_S,
            observed_s=observed_s,
            ends_s=back_s + full_s + service.signal.interval_s + OBSERVED_S,
            due=sign,
        )
    if service.trigger is not None:
        trigger = service.trigger
        level_hz = trigger.threshold_hz - sign * BEYOND_HZ
        observed_s = LEAVES_S + full_s + trigger.hold_s
        back_s, ends_s = LEAVES_S + full_s, observed_s + 1 / trigger.release_pu_per_s + OBSERVED_S
        due = sign
    else:
        assert service.curve is not None, "protos.services.parse lets nothing else pass"  # noqa: S101
        knots = service.curve.knots
        farthest_hz = max(abs(knots[0][0]), abs(knots[-1][0]))
        level_hz = nominal_hz - sign * min(farthest_hz, FARTHEST_HZ)
        observed_s = back_s = LEAVES_S + full_s + OBSERVED_S
        ends_s = back_s + full_s + OBSERVED_S
        due = _settled(service, [level_hz] * 100, full_s)
    return Programme(
        followed=lambda at_s: level_hz if LEAVES_S <= at_s < back_s else nominal_hz,
        leaves_s=LEAVES_S,
        observed_s=observed_s,
        ends_s=ends_s,
        due=due,
    )


def timing(trace: Trace, planned: Programme) -> Timing:
    """How fast the device answered a programme; infinite where it did not."""
    at_s = np.arange(trace.share.size) * trace.dt_s
    observed = (at_s >= planned.leaves_s) & (at_s < planned.observed_s)
    at_s, share = at_s[observed] - planned.leaves_s, trace.share[observed] * np.sign(planned.due)
    due = abs(planned.due)
    moved = np.flatnonzero(share > NEAR_PU)
    away = np.flatnonzero(np.abs(share - due) > NEAR_PU)
    last = int(away[-1]) + 1 if away.size else 0
    return Timing(
        initiation_s=float(at_s[moved[0]]) if moved.size else float("inf"),
        full_delivery_s=float(at_s[last]) if last < at_s.size else float("inf"),
        overshoot_pu=max(0.0, float(share.max()) - due),
    )


def pct_outside(service: Service, trace: Trace) -> float:
    """Share of the samples outside the delivery envelope [%], as the judge counts them."""
    verdict = verify(
        service,
        contracted_w=CONTRACTED_W,
        rated_power_w=PLATE.rated_power_w,
        baseline_w=np.full(trace.share.shape, float(BASELINE_W)),
        power_w=BASELINE_W + trace.share * CONTRACTED_W,
        frequency_hz=trace.followed,
        dt_s=trace.dt_s,
        left_s=seconds_left(
            trace.soc,
            soc_min=trace.soc_limits[0],
            soc_max=trace.soc_limits[1],
            capacity_wh=PLATE.storage_capacity_wh,
            contracted_w=CONTRACTED_W,
            directions=service.directions,
        ),
    )
    return 100.0 * verdict.samples_outside / verdict.samples


def player(recording: FrequencyRecording, nominal_hz: float, depth: float = 1.0) -> Callable[[float], float]:
    """A recording on another grid: its deviation per unit, `depth` times as far from nominal."""
    times: Array = recording.time_s
    levels: Array = nominal_hz * (1.0 + depth * (recording.frequency_hz / 60.0 - 1.0))
    return lambda at_s: float(np.interp(at_s, times, levels))


def signal_player(recording: SignalRecording) -> Callable[[float], float]:
    """A recorded signal, each value until the next."""
    shares = recording.share.tolist()
    every_s = float(recording.time_s[1])
    return lambda at_s: float(shares[min(int(at_s / every_s + 1e-9), len(shares) - 1)])


def _settled(service: Service, frequency_hz: Sequence[float], dt_s: float) -> float:
    return float(expected_share(service, frequency_hz, dt_s, _RATIO)[-1])
